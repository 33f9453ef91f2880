-- A user's interactions: the most telling (newest, then highest rated, then by id), as many as the live
-- generation counts, and the ids of all (`met`, ascending).
--
-- Of thousands, the order of all takes longer than to read them twice: the ids alone, in the order of
-- the index, and the most telling.
CREATE OR REPLACE FUNCTION tterec.history_of(
    user_id bigint, OUT items bigint[], OUT ratings real[], OUT met bigint[])
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan  -- a plan of its own would take longer than the query
AS $$
DECLARE
    most CONSTANT bigint := (
        SELECT m.max_history
        FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation);
BEGIN
    SELECT coalesce(array_agg(told.item_id), '{}'), coalesce(array_agg(told.rating), '{}')
    INTO items, ratings
    FROM (
        SELECT i.item_id, i.rating
        FROM tterec.user_interactions i
        WHERE i.user_id = history_of.user_id
        ORDER BY i.rated_at DESC NULLS LAST, i.rating DESC NULLS LAST, i.item_id
        LIMIT most + 1
    ) told;
    IF cardinality(items) > most THEN
        items := items[:most];
        ratings := ratings[:most];
        met := ARRAY(
            SELECT i.item_id FROM tterec.user_interactions i
            WHERE i.user_id = history_of.user_id
            ORDER BY i.item_id);
    ELSE
        met := ARRAY(SELECT unnest(items) AS item_id ORDER BY item_id);
    END IF;
END
$$;

-- The same under a user's name. With text ids it is read by the name itself, so that who came a
-- moment ago, and has no number yet, has one too.
CREATE OR REPLACE FUNCTION tterec.history_of(
    name text, OUT items bigint[], OUT ratings real[], OUT met bigint[])
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id_type CONSTANT text := tterec.user_id_type();
    most CONSTANT bigint := (
        SELECT m.max_history
        FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation);
BEGIN
    IF id_type IN ('int2', 'int4', 'int8') THEN
        SELECT h.items, h.ratings, h.met INTO items, ratings, met
        FROM tterec.history_of(tterec.user_id_of(history_of.name)) h;
        RETURN;
    END IF;
    items := '{}';
    ratings := '{}';
    IF id_type IN ('text', 'varchar') THEN
        SELECT coalesce(array_agg(told.item_id), '{}'), coalesce(array_agg(told.rating), '{}')
        INTO items, ratings
        FROM (
            SELECT i.item_id, i.rating
            FROM tterec.named_interactions i
            WHERE i.name = history_of.name
            ORDER BY i.rated_at DESC NULLS LAST, i.rating DESC NULLS LAST, i.item_id
            LIMIT most + 1
        ) told;
    ELSIF pg_input_is_valid(history_of.name, id_type) THEN
        -- Compared as what it is: a shop's index on uuid knows no text.
        EXECUTE format($query$
            SELECT coalesce(array_agg(told.item_id), '{}'), coalesce(array_agg(told.rating), '{}')
            FROM (
                SELECT i.item_id, i.rating
                FROM tterec.named_interactions i
                WHERE i.name = $1::pg_catalog.%I
                ORDER BY i.rated_at DESC NULLS LAST, i.rating DESC NULLS LAST, i.item_id
                LIMIT $2 + 1
            ) told
            $query$, id_type)
        INTO items, ratings USING history_of.name, most;
    END IF;
    IF cardinality(items) > most THEN
        items := items[:most];
        ratings := ratings[:most];
        EXECUTE format($query$
            SELECT ARRAY(
                SELECT i.item_id FROM tterec.named_interactions i
                WHERE i.name = $1::pg_catalog.%I
                ORDER BY i.item_id)
            $query$, id_type)
        INTO met USING history_of.name;
    ELSE
        met := ARRAY(SELECT unnest(items) AS item_id ORDER BY item_id);
    END IF;
END
$$;

-- The user tower in SQL. A user's vector is the profile (that of the user, else the generation's
-- default) plus the weighted history vectors of the items, over the root of their number;
-- divided by its norm where the generation's vectors are unit vectors.
--
-- items and ratings: the history, the most telling first; max_history of them count. `vector` is
-- NULL where no generation is live, where nothing is known of the user, or where it has no
-- direction. `history` is how many items had a vector.
CREATE OR REPLACE FUNCTION tterec.embed(
    user_id bigint, items bigint[], ratings real[],
    OUT generation int, OUT ef_search int, OUT vector @extension@.vector, OUT history int,
    OUT ranker jsonb)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    model record;
    mean @extension@.vector;
    profile @extension@.vector;
BEGIN
    SELECT m.generation, m.dim, m.normalised, m.max_history, m.default_profile, m.ef_search,
        m.ranker
    INTO model
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    generation := model.generation;
    ef_search := model.ef_search;
    ranker := model.ranker;
    EXECUTE format('SELECT * FROM tterec.met_%s($1, $2, $3)', generation)
    INTO history, mean, profile
    USING user_id, items[1:model.max_history], ratings[1:model.max_history];
    IF history > 0 THEN
        vector := coalesce(profile, model.default_profile::@extension@.vector)
            OPERATOR(@extension@.+) (mean OPERATOR(@extension@.*)
                array_fill(sqrt(history)::real, ARRAY[model.dim])::@extension@.vector);
    ELSE
        vector := profile;
    END IF;
    IF @extension@.vector_norm(vector) = 0 THEN
        vector := NULL;
    ELSIF model.normalised THEN
        vector := @extension@.l2_normalize(vector);
    END IF;
END
$$;
