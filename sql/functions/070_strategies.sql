-- Lists by the simpler methods that recommenders are compared with.

-- The weighted average of the embeddings of the items met, the most telling first: sum r e / sum r
-- over max_history of them. One without rating counts with the mean of the others, or 1 where none
-- is rated; where all would count 0, each counts 1. NULL where no item has a vector, or they cancel
-- out.
CREATE OR REPLACE FUNCTION tterec.weighted_average(
    generation int, items bigint[], ratings real[]) RETURNS @extension@.vector
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    model record;
    average @extension@.vector;
BEGIN
    SELECT m.dim, m.max_history INTO model
    FROM tterec.models m WHERE m.generation = weighted_average.generation;
    -- avg accumulates in float8, sum in float4; of weights with the mean 1 it is the average.
    EXECUTE format($query$
        WITH met AS (
            SELECT v.embedding, given.rating::float8 AS rating,
                coalesce(avg(given.rating::float8) OVER (), 1) AS mean
            FROM unnest($1, $2) AS given (item_id, rating)
                JOIN tterec.item_vectors_%s v ON v.item_id = given.item_id
        ), weighed AS (
            SELECT embedding, coalesce(rating, mean) AS weight,
                avg(coalesce(rating, mean)) OVER () AS mean
            FROM met
        )
        SELECT @extension@.avg(embedding OPERATOR(@extension@.*) array_fill(
            CASE WHEN mean = 0 THEN 1 ELSE weight / mean END::real, ARRAY[$3])::@extension@.vector)
        FROM weighed
        $query$, generation)
    INTO average
    USING items[1:model.max_history], ratings[1:model.max_history], model.dim;
    RETURN CASE WHEN @extension@.vector_norm(average) > 0 THEN average END;
END
$$;

-- The k most popular items of the cluster whose centre is nearest to a vector, then those of the
-- next nearest clusters, then those in none. score: popularity (0 to 10), less 10 for each cluster
-- that is nearer.
CREATE OR REPLACE FUNCTION tterec.popular_nearby(
    generation int, method text, query @extension@.vector, k int, excluded bigint[],
    filters jsonb)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    nearest int[];
    place int := 0;
    found int := 0;
    ids bigint[] := '{}';
    scores real[] := '{}';
    more record;
    among text := (SELECT 'AND p.item_id ' || condition FROM tterec.among(filters, k)
        WHERE filters IS NOT NULL);
BEGIN
    SELECT array_agg(d.cluster ORDER BY d.square, d.cluster) INTO nearest
    FROM (
        SELECT c.cluster,
            round(sum((u.centre::float8 - u.own) ^ 2)::numeric, 6) AS square
        FROM tterec.clusters c,
            unnest(c.centre, popular_nearby.query::real[]) AS u (centre, own)
        WHERE c.generation = popular_nearby.generation AND c.method = popular_nearby.method
        GROUP BY c.cluster
    ) d;
    IF nearest IS NULL THEN
        RAISE EXCEPTION 'generation % has no clusters by %', popular_nearby.generation,
            popular_nearby.method
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format('Run: tterec cluster --method %s', popular_nearby.method);
    END IF;
    WHILE found < k AND place <= cardinality(nearest) LOOP
        EXECUTE format($text$
            SELECT array_agg(p.item_id) AS ids, array_agg(p.score) AS scores, count(*) AS found
            FROM (
                SELECT p.item_id, round((p.score - 10 * $1)::numeric, 6)::real AS score
                FROM tterec.item_popularity p JOIN tterec.catalogue c ON c.item_id = p.item_id
                    LEFT JOIN tterec.item_clusters i ON i.generation = p.generation
                        AND i.method = $2 AND i.item_id = p.item_id
                WHERE p.generation = $3 AND p.item_id NOT IN (SELECT unnest($4))
                    AND i.cluster IS NOT DISTINCT FROM $5  -- NULL after the last
                    %s
                ORDER BY p.score DESC, p.item_id
                LIMIT $6
            ) p
            $text$, among)
        INTO more
        USING place, popular_nearby.method, popular_nearby.generation, excluded,
            nearest[place + 1], k - found;
        ids := ids || more.ids;
        scores := scores || more.scores;
        found := found + more.found;
        place := place + 1;
    END LOOP;
    RETURN QUERY EXECUTE format($text$
        SELECT g.place::int, g.item_id, c.isbn, c.title, g.score,
            round(-(v.embedding OPERATOR(@extension@.<#>) $3)::numeric, 6)::real, 'cluster'
        FROM unnest($1, $2) WITH ORDINALITY AS g (item_id, score, place)
            JOIN tterec.catalogue c ON c.item_id = g.item_id
            LEFT JOIN tterec.item_vectors_%s v ON v.item_id = g.item_id
        ORDER BY g.place
        $text$, generation)
    USING ids, scores, query;
END
$$;

-- The list by a strategy for somebody with this history, the most telling first.
CREATE OR REPLACE FUNCTION tterec.by_strategy(
    strategy text, items bigint[], ratings real[], k int, excluded bigint[], filters jsonb)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    model record;
    average @extension@.vector;
BEGIN
    IF strategy NOT IN ('weighted-average', 'cluster-kmeans', 'cluster-gmm', 'popular') THEN
        RAISE EXCEPTION 'the strategy % is unknown; choose weighted-average, cluster-kmeans, cluster-gmm or popular',
            quote_literal(strategy) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT m.generation, m.ef_search INTO model
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    IF FOUND AND strategy <> 'popular' THEN
        average := tterec.weighted_average(model.generation, items, ratings);
    END IF;
    IF average IS NULL THEN
        RETURN QUERY SELECT * FROM tterec.popular_without(k, excluded, filters);
    ELSIF strategy = 'weighted-average' THEN
        RETURN QUERY SELECT * FROM tterec.nearest(
            model.generation, average, k, excluded, model.ef_search, strategy, filters);
    ELSE
        RETURN QUERY SELECT * FROM tterec.popular_nearby(
            model.generation, substr(strategy, 9), average, k, excluded, filters);
    END IF;
END
$$;
