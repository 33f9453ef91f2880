-- The user tower in SQL. A user's vector is the profile (that of the user, else the generation's
-- default) plus the weighted history vectors of the items, over the root of their number;
-- divided by its norm where the generation's vectors are unit vectors.
--
-- items and ratings: the history, the most telling first; max_history of them count. `vector` is NULL where no generation
-- is live, where nothing is known of the user, or where it has no direction. `history` is how
-- many items had a vector.
CREATE OR REPLACE FUNCTION tterec.embed(
    user_id bigint, items bigint[], ratings real[],
    OUT generation int, OUT ef_search int, OUT vector @extension@.vector, OUT history int)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    model record;
BEGIN
    SELECT m.generation, m.dim, m.normalised, m.max_history, m.history_weights, m.default_profile,
        m.ef_search
    INTO model
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    generation := model.generation;
    ef_search := model.ef_search;
    -- avg accumulates in float8, sum in float4. One product a bucket, not one a book.
    EXECUTE format($query$
        WITH buckets AS (
            SELECT bucket, count(*) AS n, @extension@.avg(h.embedding) AS mean
            FROM (
                SELECT item_id, coalesce(floor(rating + 0.5)::int + 1, 12) AS bucket
                FROM unnest($2, $3) AS given (item_id, rating)
            ) given JOIN tterec.history_vectors_%1$s h ON h.item_id = given.item_id
            GROUP BY bucket
        ), history AS (
            SELECT coalesce(sum(n), 0)::int AS n FROM buckets
        ), profile AS (
            SELECT (SELECT embedding FROM tterec.user_vectors_%1$s WHERE user_id = $1) AS embedding
        )
        SELECT history.n, CASE
            WHEN history.n > 0 THEN
                coalesce(profile.embedding, $5::@extension@.vector)
                OPERATOR(@extension@.+) (
                    SELECT @extension@.sum(mean OPERATOR(@extension@.*) array_fill(
                        ($4[bucket] * buckets.n / sqrt(history.n))::real, ARRAY[$6]
                    )::@extension@.vector)
                    FROM buckets
                )
            ELSE profile.embedding
        END
        FROM history, profile
        $query$, generation)
    INTO history, vector
    USING user_id, items[1:model.max_history], ratings[1:model.max_history], model.history_weights, model.default_profile, model.dim;
    IF @extension@.vector_norm(vector) = 0 THEN
        vector := NULL;
    ELSIF model.normalised THEN
        vector := @extension@.l2_normalize(vector);
    END IF;
END
$$;

-- A user's interactions, the most telling first: newest, then highest rated, then by id.
CREATE OR REPLACE FUNCTION tterec.history(user_id bigint, OUT items bigint[], OUT ratings real[])
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT coalesce(array_agg(item_id ORDER BY rated_at DESC NULLS LAST, rating DESC NULLS LAST, item_id), '{}'),
        coalesce(array_agg(rating ORDER BY rated_at DESC NULLS LAST, rating DESC NULLS LAST, item_id), '{}')
    FROM tterec.interactions i WHERE i.user_id = history.user_id
$$;
