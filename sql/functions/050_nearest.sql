-- How far an index scan has to look, at least `ef_search`, that it need not look a second time, from
-- the start, for the last few: for `wanted` items, five that may be ties, one more that tells that
-- there are no more ties, and those of the excluded that are probably near by: on Book-Crossing half
-- to three quarters of what a user has met.
CREATE OR REPLACE FUNCTION tterec.search_width(ef_search int, wanted bigint, excluded int)
RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(1000, greatest(ef_search, wanted + 6 + least(excluded * 3 / 4, 2 * wanted)))::int
$$;

-- Whether somebody has met so many that most of what is near by is excluded, for a list of `wanted`:
-- see tterec.beyond_<generation> in sql/generation/serving.sql. On Book-Crossing a search of the HNSW
-- index for 200 found what is left of all as well and as fast up to 800 excluded; behind thousands it
-- took 70 ms, or, ended after some 600, left out most.
CREATE OR REPLACE FUNCTION tterec.met_most(excluded int, wanted bigint)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT excluded >= 4 * greatest(wanted, 200)
$$;

-- A query for the items of the catalogue ($3 of them) that are nearest to a vector ($1), without
-- the excluded ($2); passing: a condition on v.item_id. Its text names the generation's table.
CREATE OR REPLACE FUNCTION tterec.near_query(generation int, passing text, scan boolean)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT pg_catalog.format($text$
        SELECT array_agg(item_id), array_agg(distance)
        FROM (
            SELECT item_id, distance
            FROM (
                SELECT v.item_id, v.embedding OPERATOR(@extension@.<#>) $1 AS distance
                FROM tterec.item_vectors_%s v
                    JOIN tterec.catalogue c ON c.item_id = v.item_id
                WHERE v.item_id NOT IN (SELECT unnest($2))%s
                ORDER BY %s(v.embedding OPERATOR(@extension@.<#>) $1)
                FETCH FIRST ($3) ROWS WITH TIES
            ) found
            ORDER BY distance, item_id
            LIMIT $3
        ) near
        $text$,
        generation,
        passing,
        CASE WHEN scan THEN '0 + ' END)  -- the same order, but the index has it not
$function$;

-- The k items of the catalogue with the greatest inner product with a vector, best first, without
-- the excluded, which ascend, and of those that pass the filters; equal scores by id. `origin` is what
-- the column source says.
CREATE OR REPLACE FUNCTION tterec.nearest(
    generation int, query @extension@.vector, k int, excluded bigint[], ef_search int, origin text,
    filters jsonb DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = strict_order
SET hnsw.ef_search = 100
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    -- Scores that differ by less than their rounding rank by id, across the k-th place too; and
    -- a few items may have left the catalogue.
    wanted CONSTANT bigint := k::bigint + 5;
    -- Each way is dearer than the one before, and taken where that came back with fewer than k.
    -- near: by the index, planned once a session, as it is the generation's own function; the
    -- catalogue is asked afterwards. beyond: the same by the other index.
    -- catalogue: both together, where many items near by have left the catalogue.
    -- scan: all vectors, where the index stops short (a user has rated whatever is near), or k
    -- is more than it is good for, or few items pass the filters.
    ways text[] := CASE WHEN k <= 1000 THEN '{near,catalogue,scan}' ELSE '{scan}' END;
    way text;
    among record;
    passing text;
    found bigint;
    ids bigint[];
    distances float8[];
    isbns text[];
    titles text[];
    scores real[];
BEGIN
    IF k = 0 THEN
        RETURN;
    END IF;
    IF filters IS NOT NULL THEN
        SELECT * INTO among FROM tterec.among(filters, wanted);
        passing := ' AND v.item_id ' || among.condition;
        ways := CASE WHEN k <= 1000 AND NOT among.few THEN '{catalogue,scan}' ELSE '{scan}' END;
    ELSIF k <= 1000 AND tterec.met_most(cardinality(excluded), k) THEN
        ways := '{beyond,scan}';
    END IF;
    -- Restored on return, by the SET clauses above.
    way := set_config('hnsw.ef_search',
        tterec.search_width(nearest.ef_search, k, cardinality(excluded))::text, true);
    FOREACH way IN ARRAY ways LOOP
        CONTINUE WHEN way = 'catalogue' AND found < wanted;
        IF way IN ('near', 'beyond') THEN
            EXECUTE format('SELECT * FROM tterec.%s_%s($1, $2, $3)', way, generation)
            INTO ids, distances USING query, excluded, wanted;
        ELSE
            EXECUTE tterec.near_query(generation, passing, way = 'scan')
            INTO ids, distances USING query, excluded, wanted;
        END IF;
        found := coalesce(cardinality(ids), 0);
        SELECT array_agg(r.item_id), array_agg(r.isbn), array_agg(r.title), array_agg(r.score)
        INTO ids, isbns, titles, scores
        FROM (
            -- Sorted first, so that only k items are looked up.
            SELECT c.item_id, c.isbn, c.title, n.score
            FROM (
                SELECT item_id, (round(distance * -1e6) / 1e6 + 0.0)::real AS score
                FROM unnest(ids, distances) AS n (item_id, distance)
                ORDER BY score DESC, item_id
            ) n JOIN tterec.catalogue c ON c.item_id = n.item_id
            ORDER BY n.score DESC, n.item_id
            LIMIT k
        ) r;
        EXIT WHEN cardinality(ids) >= k;
    END LOOP;
    RETURN QUERY
        SELECT place::int, r.item_id, r.isbn, r.title, r.score, r.score, origin
        FROM unnest(ids, isbns, titles, scores) WITH ORDINALITY
            AS r (item_id, isbn, title, score, place);
END
$$;
