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
    EXECUTE format('SELECT tterec.heard_%s($1, $2, $3, $4)', generation)
    INTO met USING items, ratings, (ranker ->> 'unrated_weight')::float8,
        (ranker ->> 'width')::int;
    RETURN met;
END
$$;

-- The k best items for somebody with this vector who has met these items (`own`, the most telling
-- first), best first, without the excluded, which ascend, and of those that pass the filters; equal
-- scores by id.
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
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ranker jsonb;
    telling bigint[];  -- those of `own` that count
    wanted bigint;
    ways text[] := '{near,catalogue,scan}';  -- as in tterec.nearest
    way text;
    among record;
    passing text;
    near bigint[];
    led bigint[];
    found bigint;
    distances float8[];
    ids bigint[];
    scores real[];
    similarities float8[];
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
    IF filters IS NOT NULL THEN
        SELECT * INTO among FROM tterec.among(filters, wanted);
        passing := ' AND v.item_id ' || among.condition;
        ways := CASE WHEN among.few THEN '{scan}' ELSE '{catalogue,scan}' END;
    END IF;
    IF wanted > 1000 THEN
        ways := '{scan}';
    ELSIF filters IS NULL AND tterec.met_most(cardinality(excluded), wanted) THEN
        ways := '{beyond,scan}';
    END IF;
    -- Restored on return, by the SET clauses above.
    way := set_config('hnsw.ef_search',
        tterec.search_width(ranked.ef_search, wanted, cardinality(excluded))::text, true);
    FOREACH way IN ARRAY ways LOOP
        CONTINUE WHEN way = 'catalogue' AND found < wanted + 5;
        IF way IN ('near', 'beyond') THEN
            EXECUTE format('SELECT * FROM tterec.%s_%s($1, $2, $3)', way, generation)
            INTO near, distances USING query, excluded, wanted + 5;
        ELSE
            EXECUTE tterec.near_query(generation, passing, way = 'scan')
            INTO near, distances USING query, excluded, wanted + 5;
        END IF;
        found := coalesce(cardinality(near), 0);
        -- Scores that differ by less than their rounding rank by id, across the last place.
        SELECT array_agg(n.item_id), array_agg(n.distance) INTO near, distances
        FROM (
            SELECT n.item_id, n.distance
            FROM unnest(near, distances) AS n (item_id, distance)
                JOIN tterec.catalogue c ON c.item_id = n.item_id
            ORDER BY round(n.distance * 1e6), n.item_id
            LIMIT wanted
        ) n;
        EXIT WHEN cardinality(near) >= wanted;
    END LOOP;
    EXECUTE format('SELECT tterec.leads_%s($1, $2, $3)', generation)
    INTO led USING telling, near, excluded;
    IF passing IS NOT NULL THEN
        EXECUTE format(
            'SELECT array_agg(v.item_id) FROM unnest($1) AS v (item_id) WHERE true%s', passing)
        INTO led USING led;
    END IF;
    EXECUTE format('SELECT * FROM tterec.scored_%s($1, $2, $3, $4, $5, $6)', generation)
    INTO ids, scores, similarities
    USING query, near, distances, led, tterec.heard(generation, ranker, telling, ratings),
        (ranker ->> 'similarity_weight')::float8;
    RETURN QUERY
        SELECT row_number() OVER (ORDER BY s.score DESC, s.item_id)::int, c.item_id::bigint,
            c.isbn, c.title, s.score, (round(s.similarity * 1e6) / 1e6 + 0.0)::real, 'history'
        FROM (
            -- Sorted first, so that only k items are looked up.
            SELECT s.item_id, s.score, s.similarity
            FROM unnest(ids, scores, similarities) AS s (item_id, score, similarity)
            ORDER BY s.score DESC, s.item_id
        ) s JOIN tterec.catalogue c ON c.item_id = s.item_id
        ORDER BY s.score DESC, s.item_id
        LIMIT k;
END
$$;
