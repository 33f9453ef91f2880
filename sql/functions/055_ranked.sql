-- What speaks in the second stage of a generation for somebody who has met these items (the most
-- telling first, those that count): a sparse vector over the places of items and traits. An item
-- counts with rating / 10, or the ranker's unrated weight where there is none, a trait with ln(1 +
-- the sum of these).
CREATE OR REPLACE FUNCTION tterec.heard(
    generation int, ranker jsonb, items bigint[], ratings real[])
RETURNS @extension@.sparsevec
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    met @extension@.sparsevec;
BEGIN
    EXECUTE format($text$
        WITH given AS MATERIALIZED (
            -- An item that a shop's query returns twice speaks once, with what tells most.
            SELECT DISTINCT ON (e.item_id)
                e.place, e.traits, coalesce(own.rating::float8 / 10, $3) AS voice
            FROM unnest($1, $2) WITH ORDINALITY AS own (item_id, rating, n)
                JOIN tterec.item_evidence_%s e ON e.item_id = own.item_id
            ORDER BY e.item_id, own.n
        ), speaking AS (
            -- An item that came after the training has no place: its traits speak.
            SELECT place, voice FROM given WHERE place IS NOT NULL
            UNION ALL
            SELECT trait, ln(1 + sum(voice)) FROM given, unnest(traits) trait GROUP BY trait
        )
        SELECT format('{%%s}/%%s', string_agg(place || ':' || voice, ','), $4)
        FROM (
            -- A sparse vector holds no more.
            SELECT place, voice FROM speaking WHERE voice > 0 ORDER BY voice DESC, place LIMIT 16000
        ) heard
        $text$, generation)
    INTO met USING items, ratings, (ranker ->> 'unrated_weight')::float8,
        (ranker ->> 'width')::int;
    RETURN met;
END
$$;

-- The k best items for somebody with this vector who has met these items (`own`, the most telling
-- first), best first, without the excluded, and of those that pass the filters; equal scores by id.
-- By the second stage, where the generation has one:
--
--     score = similarity weight * inner product + sum of the item's weights for the items met,
--         each times rating / 10, or the ranker's unrated weight where there is none, and for
--         their traits, each times ln(1 + the sum of these)
--
-- over the items that are nearest to the vector and those that the items met speak for most. The
-- weights are a sparse vector, and so is what was met: their sum is an inner product, too. Else
-- the inner product alone orders them.
CREATE OR REPLACE FUNCTION tterec.ranked(
    generation int, query @extension@.vector, k int, excluded bigint[], own bigint[],
    ratings real[], ef_search int, filters jsonb DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = strict_order
SET hnsw.ef_search = 100
AS $$
DECLARE
    ranker jsonb;
    telling bigint[];  -- those of `own` that count
    wanted bigint;
    ways text[];
    way text;
    among record;
    passing text;
    found bigint;
    met @extension@.sparsevec;
    ids bigint[];
    isbns text[];
    titles text[];
    scores real[];
    similarities real[];
BEGIN
    SELECT m.ranker, own[1:m.max_history], ranked.ratings[1:m.max_history]
    INTO ranker, telling, ratings
    FROM tterec.models m WHERE m.generation = ranked.generation;
    IF ranker IS NULL THEN
        RETURN QUERY SELECT * FROM tterec.nearest(
            generation, query, k, excluded, ef_search, 'history', filters);
        RETURN;
    END IF;
    wanted := greatest(k, (ranker ->> 'candidates')::int);
    -- As in tterec.nearest: the scan is for when the index comes back with too few, or is asked
    -- for more than it is good for.
    ways := CASE WHEN wanted <= 1000 THEN '{index,scan}' ELSE '{scan}' END;
    IF filters IS NOT NULL THEN
        SELECT * INTO among FROM tterec.among(filters);
        passing := ' AND v.item_id ' || among.condition;
        IF among.few THEN
            ways := '{scan}';
        END IF;
    END IF;
    -- Restored on return, by the SET clauses above. A scan finds no more items than this at once.
    PERFORM set_config('hnsw.ef_search',
        least(greatest(ranked.ef_search, wanted, 1), 1000)::text, true);
    met := tterec.heard(generation, ranker, telling, ratings);
    FOREACH way IN ARRAY ways LOOP
        EXECUTE format($text$
            WITH near AS MATERIALIZED (
                -- Scores that differ by less than their rounding rank by id, across the last place.
                SELECT item_id
                FROM (
                    SELECT v.item_id, v.embedding OPERATOR(@extension@.<#>) $1 AS distance
                    FROM tterec.item_vectors_%1$s v
                        JOIN tterec.catalogue c ON c.item_id = v.item_id
                    WHERE v.item_id <> ALL ($2)%3$s
                    ORDER BY %2$s(v.embedding OPERATOR(@extension@.<#>) $1), v.item_id
                    LIMIT $4 + 5
                ) found
                ORDER BY round(-distance::numeric, 6) DESC, item_id
                LIMIT $4
            ), candidates AS MATERIALIZED (
                SELECT item_id FROM near
                UNION
                SELECT unnest(e.leads) FROM tterec.item_evidence_%1$s e WHERE e.item_id = ANY ($3)
            ), scored AS MATERIALIZED (
                SELECT c.item_id,
                    -(v.embedding OPERATOR(@extension@.<#>) $1) AS similarity,
                    -(e.weights OPERATOR(@extension@.<#>) $5) AS evidence
                FROM candidates c
                    JOIN tterec.item_vectors_%1$s v ON v.item_id = c.item_id
                    JOIN tterec.item_evidence_%1$s e ON e.item_id = c.item_id
                WHERE c.item_id <> ALL ($2)%3$s
            ), ordered AS (
                SELECT item_id, round((evidence + $6 * similarity)::numeric, 6)::real AS score,
                    round(similarity::numeric, 6)::real AS similarity
                FROM scored
                ORDER BY score DESC, item_id
            )
            -- Sorted first, so that only k items are looked up.
            SELECT (SELECT count(*) FROM near), array_agg(f.item_id), array_agg(f.isbn),
                array_agg(f.title), array_agg(f.score), array_agg(f.similarity)
            FROM (
                SELECT o.item_id, c.isbn, c.title, o.score, o.similarity
                FROM ordered o JOIN tterec.catalogue c ON c.item_id = o.item_id
                ORDER BY o.score DESC, o.item_id
                LIMIT $7
            ) f
            $text$,
            generation,
            CASE way WHEN 'scan' THEN '0 + ' END,  -- the same order, but the index has it not
            passing)
        INTO found, ids, isbns, titles, scores, similarities
        USING query, excluded, telling, wanted, met, (ranker ->> 'similarity_weight')::float8, k;
        EXIT WHEN found >= wanted;
    END LOOP;
    RETURN QUERY
        SELECT r.place::int, r.item_id, r.isbn, r.title, r.score, r.similarity, 'history'
        FROM unnest(ids, isbns, titles, scores, similarities) WITH ORDINALITY
            AS r (item_id, isbn, title, score, similarity, place);
END
$$;
