-- The k items of the catalogue with the greatest inner product with a vector, best first, without
-- the excluded; equal scores by id. HNSW finds candidates; where it stops short (a user who has
-- rated all that is near, k above what it visits), a scan of all vectors finds the rest.
CREATE OR REPLACE FUNCTION tterec.nearest(
    generation int, query @extension@.vector, k int, excluded bigint[], ef_search int, origin text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET hnsw.iterative_scan = strict_order
SET hnsw.ef_search = 100
AS $$
DECLARE
    -- Both orders are the same; only the first is one that the index knows.
    by_index CONSTANT text := 'v.embedding OPERATOR(@extension@.<#>) $1';
    by_scan CONSTANT text := '0 + (v.embedding OPERATOR(@extension@.<#>) $1)';
    -- Scores that differ less than their rounding are ordered by id, across the k-th place too.
    spare CONSTANT int := 5;
    template CONSTANT text := $query$
        SELECT array_agg(item_id), array_agg(isbn), array_agg(title), array_agg(score)
        FROM (
            SELECT item_id, isbn, title, score
            FROM (
                SELECT v.item_id, c.isbn, c.title,
                    round(-(v.embedding OPERATOR(@extension@.<#>) $1)::numeric, 6)::real AS score
                FROM tterec.item_vectors_%1$s v JOIN tterec.catalogue c ON c.item_id = v.item_id
                WHERE v.item_id <> ALL ($2)
                ORDER BY %2$s, v.item_id
                LIMIT $3::bigint + %3$s
            ) candidates
            ORDER BY score DESC, item_id
            LIMIT $3
        ) ranked
        $query$;
    most_by_index CONSTANT int := 1000;
    ids bigint[];
    isbns text[];
    titles text[];
    scores real[];
BEGIN
    IF k <= most_by_index THEN
        -- Restored on return, by the SET clauses above.
        PERFORM set_config(
            'hnsw.ef_search', greatest(least(nearest.ef_search, 1000), 1)::text, true);
        EXECUTE format(template, generation, by_index, spare)
            INTO ids, isbns, titles, scores USING query, excluded, k;
    END IF;
    IF coalesce(cardinality(ids), 0) < k THEN
        EXECUTE format(template, generation, by_scan, spare)
            INTO ids, isbns, titles, scores USING query, excluded, k;
    END IF;
    RETURN QUERY
        SELECT place::int, r.item_id, r.isbn, r.title, r.score, r.score, origin
        FROM unnest(ids, isbns, titles, scores) WITH ORDINALITY
            AS r (item_id, isbn, title, score, place);
END
$$;
