-- What serving asks of the tables of one generation. As functions of that generation's own, whose
-- queries name the tables, they are planned once a session, where dynamic SQL is planned at every
-- call: of 270,000 x 64, for 20 ratings and without second stage, that took a third of the time of
-- the whole list. `@generation@` is its number, `@extension@` the schema of the type vector.

-- The mean of the weighted history vectors of these items, and how many have one; the profile of
-- the user, if there is one. `@weights@` are vectors: each rating bucket's weight in every dimension.
CREATE OR REPLACE FUNCTION tterec.met_@generation@(
    user_id bigint, items bigint[], ratings real[],
    OUT history int, OUT mean @extension@.vector, OUT profile @extension@.vector)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    -- avg accumulates in float8, sum in float4.
    SELECT count(*), @extension@.avg(h.embedding OPERATOR(@extension@.*)
            (ARRAY[@weights@])[coalesce(floor(given.rating + 0.5)::int + 1, 12)]),
        (SELECT u.embedding FROM tterec.user_vectors_@generation@ u
        WHERE u.user_id = met_@generation@.user_id)
    INTO history, mean, profile
    FROM unnest(items, ratings) AS given (item_id, rating)
        JOIN tterec.history_vectors_@generation@ h ON h.item_id = given.item_id;
END
$$;

-- The items nearest to a vector, by the index, without the excluded; nearest first, equal ones by
-- id. Items that have left the catalogue are among them.
CREATE OR REPLACE FUNCTION tterec.near_@generation@(
    query @extension@.vector, excluded bigint[], wanted bigint,
    OUT ids bigint[], OUT distances float8[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_sort = off  -- the index has the order: never a scan of all vectors
AS $$
BEGIN
    -- NOT IN: by a hash, where thousands may be excluded. Postgres 16 takes the index for an order by
    -- the distance alone: equal ones are all fetched, and sorted by id afterwards.
    SELECT array_agg(n.item_id), array_agg(n.distance) INTO ids, distances
    FROM (
        SELECT f.item_id, f.distance
        FROM (
            SELECT v.item_id, v.embedding OPERATOR(@extension@.<#>) query AS distance
            FROM tterec.item_vectors_@generation@ v
            WHERE v.item_id NOT IN (SELECT unnest(excluded))
            ORDER BY v.embedding OPERATOR(@extension@.<#>) query
            FETCH FIRST (wanted) ROWS WITH TIES
        ) f
        ORDER BY f.distance, f.item_id
        LIMIT wanted
    ) n;
END
$$;

-- The same where hundreds are excluded, which are most of what is near by: by the second index, which
-- reads whole lists of items that are near to each other, and more of them where these hold too few.
-- Its order is that of half precision; the distances of what it finds are exact. A generation of few
-- items has no such index: all are scored, those of the catalogue. `excluded` ascend.
CREATE OR REPLACE FUNCTION tterec.beyond_@generation@(
    query @extension@.vector, excluded bigint[], wanted bigint,
    OUT ids bigint[], OUT distances float8[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_sort = off
SET jit = off  -- before Postgres 18 the last sort, turned off, has a cost that calls for it
SET ivfflat.iterative_scan = relaxed_order
SET ivfflat.probes = @probes@
AS $$
BEGIN
    IF pg_catalog.to_regclass('tterec.@ivf@') IS NULL THEN
        EXECUTE tterec.near_query(@generation@, NULL, true)
        INTO ids, distances USING query, excluded, wanted;
        RETURN;
    END IF;
    SELECT array_agg(n.item_id), array_agg(n.distance) INTO ids, distances
    FROM (
        SELECT f.item_id, f.embedding OPERATOR(@extension@.<#>) query AS distance
        FROM (
            SELECT v.item_id, v.embedding
            FROM tterec.item_vectors_@generation@ v
            -- By bisection: to make a hash of thousands takes as long as the search. Sub-queries,
            -- as a parameter's array would be copied for every item.
            WHERE (SELECT excluded)[width_bucket(v.item_id, (SELECT excluded))]
                IS DISTINCT FROM v.item_id
            -- Of length 1, which changes no order: half precision holds neither long nor short ones.
            ORDER BY v.embedding::@extension@.halfvec(@dim@) OPERATOR(@extension@.<#>)
                @extension@.l2_normalize(query)::@extension@.halfvec(@dim@)
            FETCH FIRST (wanted) ROWS WITH TIES
        ) f
        ORDER BY distance, f.item_id
        LIMIT wanted
    ) n;
END
$$;

-- See tterec.heard.
CREATE OR REPLACE FUNCTION tterec.heard_@generation@(
    items bigint[], ratings real[], unrated_weight float8, width int)
RETURNS @extension@.sparsevec
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET extra_float_digits = 1  -- voices go by their text: a caller's would round them
AS $$
BEGIN
    RETURN (
        WITH given AS MATERIALIZED (
            -- An item that a shop's query returns twice speaks once, with what tells most.
            SELECT DISTINCT ON (e.item_id)
                e.place, e.traits, coalesce(own.rating::float8 / 10, unrated_weight) AS voice
            FROM unnest(items, ratings) WITH ORDINALITY AS own (item_id, rating, n)
                JOIN tterec.item_evidence_@generation@ e ON e.item_id = own.item_id
            ORDER BY e.item_id, own.n
        ), speaking AS (
            -- An item that came after the training has no place: its traits speak.
            SELECT place, voice FROM given WHERE place IS NOT NULL
            UNION ALL
            SELECT trait, ln(1 + sum(voice)) FROM given, unnest(traits) trait GROUP BY trait
        )
        SELECT format('{%s}/%s', string_agg(place || ':' || voice, ','), width)
        FROM (
            -- A sparse vector holds no more.
            SELECT place, voice FROM speaking WHERE voice > 0 ORDER BY voice DESC, place LIMIT 16000
        ) heard
    );
END
$$;

-- The items that those met, the most telling first, speak for most, but for those near by and the
-- excluded, which ascend. Only the first @leaders@ are asked, of those that can say something.
CREATE OR REPLACE FUNCTION tterec.leads_@generation@(
    own bigint[], near bigint[], excluded bigint[])
RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN ARRAY(
        SELECT led.item_id
        FROM (
            SELECT unnest(asked.leads) AS item_id
            FROM (
                SELECT e.leads
                FROM (
                    SELECT o.item_id, min(o.n) AS n
                    FROM unnest(own) WITH ORDINALITY AS o (item_id, n)
                    GROUP BY o.item_id
                    ORDER BY n  -- so that the limit may end the join
                ) met JOIN tterec.item_evidence_@generation@ e ON e.item_id = met.item_id
                ORDER BY met.n
                LIMIT @leaders@
            ) asked
            EXCEPT SELECT unnest(near)
        ) led
        WHERE (SELECT excluded)[width_bucket(led.item_id, (SELECT excluded))]  -- as above
            IS DISTINCT FROM led.item_id);
END
$$;

-- The scores in the second stage of items near by (`near`, with their distances) and of others
-- (`led`); the best first, equal ones by id.
CREATE OR REPLACE FUNCTION tterec.scored_@generation@(
    query @extension@.vector, near bigint[], distances float8[], led bigint[],
    met @extension@.sparsevec, similarity_weight float8,
    OUT ids bigint[], OUT scores real[], OUT similarities float8[])
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    SELECT array_agg(s.item_id), array_agg(s.score), array_agg(s.similarity)
    INTO ids, scores, similarities
    FROM (
        -- In float8: a detour by numeric takes as long as all of the rest.
        SELECT c.item_id, c.similarity, (round(
            (similarity_weight * c.similarity + c.evidence) * 1e6) / 1e6 + 0.0)::real AS score
        FROM (
            SELECT n.item_id, -n.distance AS similarity,
                -(e.weights OPERATOR(@extension@.<#>) met) AS evidence
            FROM unnest(near, distances) AS n (item_id, distance)
                JOIN tterec.item_evidence_@generation@ e ON e.item_id = n.item_id
            UNION ALL
            -- Each by its own pass over the index, in its order: of thousands, a search for each of
            -- them would take a quarter of the time of the whole list.
            SELECT v.item_id, v.similarity, e.evidence
            FROM (
                SELECT v.item_id, -(v.embedding OPERATOR(@extension@.<#>) query) AS similarity
                FROM tterec.item_vectors_@generation@ v
                WHERE v.item_id = ANY (led)
                OFFSET 0
            ) v JOIN (
                SELECT e.item_id, -(e.weights OPERATOR(@extension@.<#>) met) AS evidence
                FROM tterec.item_evidence_@generation@ e
                WHERE e.item_id = ANY (led)
                OFFSET 0
            ) e ON e.item_id = v.item_id
        ) c
        ORDER BY score DESC, c.item_id
    ) s;
END
$$;
