-- The user tower in SQL, for somebody of whom only features are known.

-- A value that is not what the feature is: the error for it.
CREATE OR REPLACE FUNCTION tterec.refuse_value(name text, value jsonb, wanted text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% = % is not %; pass %, or null', name, value, wanted, wanted
        USING ERRCODE = 'invalid_parameter_value';
END
$$;

-- The numbers of a value of a feature that is a number, boolean, date or vector; NULL where they
-- are unknown.
CREATE OR REPLACE FUNCTION tterec.profile_numbers(name text, kind text, value jsonb, width int)
RETURNS float8[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type CONSTANT text := coalesce(jsonb_typeof(value), 'null');
    most CONSTANT numeric := 1.7976931348623157e308;
    numbers numeric[];
    parts text[];
    first date;
BEGIN
    IF type = 'null' THEN
        RETURN NULL;
    ELSIF kind = 'boolean' THEN
        IF type <> 'boolean' THEN
            PERFORM tterec.refuse_value(name, value, 'true or false');
        END IF;
        RETURN ARRAY[(value = 'true'::jsonb)::int::float8];
    ELSIF kind = 'date' THEN
        parts := regexp_match(value #>> '{}',
            '^([0-9]{4})-(0[1-9]|1[0-2])-([0-9]{2})([T ].*)?$');
        IF type <> 'string' OR parts IS NULL OR parts[1] = '0000' THEN
            PERFORM tterec.refuse_value(name, value, 'a date, such as "2024-12-31"');
        END IF;
        first := make_date(parts[1]::int, parts[2]::int, 1);
        IF parts[3]::int NOT BETWEEN 1
            AND extract(day FROM first + interval '1 month' - interval '1 day') THEN
            PERFORM tterec.refuse_value(name, value, 'a date, such as "2024-12-31"');
        END IF;
        RETURN ARRAY[(first - date '1970-01-01' + parts[3]::int - 1)::float8];
    ELSIF kind = 'number' THEN
        IF type <> 'number' OR abs(value::numeric) > most THEN
            PERFORM tterec.refuse_value(name, value, 'a number');
        END IF;
        RETURN ARRAY[CASE WHEN abs(value::numeric) < 1e-300 THEN 0 ELSE value::float8 END];
    END IF;
    IF type <> 'array' OR EXISTS (
        SELECT FROM jsonb_array_elements(value) e WHERE jsonb_typeof(e) <> 'number'
    ) THEN
        PERFORM tterec.refuse_value(name, value, 'a list of numbers');
    ELSIF jsonb_array_length(value) <> width THEN
        RAISE EXCEPTION '% has % numbers, training saw %; pass % numbers, or null',
            name, jsonb_array_length(value), width, width
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    numbers := ARRAY(
        SELECT e::numeric FROM jsonb_array_elements(value) WITH ORDINALITY AS a (e, n) ORDER BY n);
    -- A vector's numbers are real, and what is infinite there is unknown.
    IF 3.4028235e38 < ANY (SELECT abs(n) FROM unnest(numbers) n) THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(
        SELECT CASE WHEN abs(u.n) < 1.5e-45 THEN 0 ELSE u.n::real::float8 END
        FROM unnest(numbers) WITH ORDINALITY AS u (n, place) ORDER BY u.place);
END
$$;

-- The distinct texts of a value of a feature that is a text or a list of texts.
CREATE OR REPLACE FUNCTION tterec.profile_texts(name text, kind text, value jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type CONSTANT text := coalesce(jsonb_typeof(value), 'null');
BEGIN
    IF type = 'null' THEN
        RETURN '{}';
    ELSIF kind = 'text' THEN
        IF type <> 'string' THEN
            PERFORM tterec.refuse_value(name, value, 'a text');
        END IF;
        value := jsonb_build_array(value);
    ELSIF type <> 'array' OR EXISTS (
        SELECT FROM jsonb_array_elements(value) e WHERE jsonb_typeof(e) <> 'string'
    ) THEN
        PERFORM tterec.refuse_value(name, value, 'a list of texts');
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT t.plain
        FROM (SELECT tterec.normalised_text(e) AS plain FROM jsonb_array_elements_text(value) e) t
        WHERE t.plain <> '');
END
$$;

-- The vector of somebody with these features and no history. NULL where no generation is live, and
-- where nothing is known: no feature is named, or all of those named are null.
CREATE OR REPLACE FUNCTION tterec.embed_profile(
    profile jsonb, OUT generation int, OUT ef_search int, OUT vector @extension@.vector)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    model record;
    feature record;
    given jsonb := coalesce(profile, '{}');
    wrong text;
    total @extension@.vector;
    numbers float8[];
    texts text[];
    tokens text[];
    matched bigint;
    mean @extension@.vector;
BEGIN
    IF jsonb_typeof(given) <> 'object' THEN
        RAISE EXCEPTION 'the profile is not an object; pass one such as {"age": 34}'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT m.generation, m.dim, m.normalised, m.default_profile, m.ef_search
    INTO model
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF to_regclass(format('tterec.profile_tokens_%s', model.generation)) IS NULL THEN
        RAISE EXCEPTION 'generation % was published by an older tterec and cannot embed a profile; run: tterec train',
            model.generation USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT min(key) INTO wrong
    FROM jsonb_object_keys(given) key
    WHERE key NOT IN (
        SELECT c.name FROM tterec.profile_columns c WHERE c.generation = model.generation);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the user tower knows no feature ''%''; it knows: %', wrong, coalesce((
            SELECT string_agg(c.name, ', ' ORDER BY c.name COLLATE "C")
            FROM tterec.profile_columns c WHERE c.generation = model.generation), 'none')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    total := model.default_profile::@extension@.vector;
    FOR feature IN
        SELECT c.* FROM tterec.profile_columns c
        WHERE c.generation = model.generation ORDER BY c.name COLLATE "C"
    LOOP
        IF feature.mean IS NOT NULL THEN
            numbers := tterec.profile_numbers(
                feature.name, feature.kind, given -> feature.name, cardinality(feature.mean));
            -- Standardised, clipped, a vector's numbers together weighing as much as one; then
            -- whether they are missing.
            numbers := ARRAY(
                SELECT CASE WHEN numbers IS NULL THEN 0 ELSE
                    greatest(least((numbers[i] - feature.mean[i]) / feature.scale[i], 4), -4)
                        / sqrt(cardinality(feature.mean)) END::real
                FROM generate_series(1, cardinality(feature.mean)) i
                ORDER BY i
            ) || ARRAY[(numbers IS NULL)::int::float8];
            SELECT total OPERATOR(@extension@.+) array_agg(s.sum ORDER BY s.place)::@extension@.vector
            INTO total
            FROM (
                SELECT (w.n - 1) % model.dim AS place,
                    sum(w.weight * numbers[(w.n - 1) / model.dim + 1])::real AS sum
                FROM unnest(feature.weights) WITH ORDINALITY AS w (weight, n)
                GROUP BY 1
            ) s;
            CONTINUE;
        END IF;
        texts := tterec.profile_texts(feature.name, feature.kind, given -> feature.name);
        FOR way IN 1..2 LOOP
            -- The values that training saw, then the buckets of the words.
            tokens := CASE WHEN way = 1 THEN ARRAY(SELECT md5(t) FROM unnest(texts) t)
                ELSE ARRAY(
                    SELECT DISTINCT b::text
                    FROM unnest(texts) t, unnest(tterec.word_buckets(t, feature.buckets)) b
                    WHERE feature.buckets > 0) END;
            CONTINUE WHEN cardinality(tokens) = 0;
            -- Each counts with one over the root of their number. avg accumulates in float8.
            EXECUTE format($query$
                SELECT count(*), @extension@.avg(embedding) FROM tterec.profile_tokens_%s
                WHERE name = $1 AND token = ANY ($2)
                $query$, model.generation)
            INTO matched, mean USING feature.name, tokens;
            CONTINUE WHEN matched = 0;
            total := total OPERATOR(@extension@.+) (mean OPERATOR(@extension@.*)
                array_fill(sqrt(matched)::real, ARRAY[model.dim])::@extension@.vector);
        END LOOP;
    END LOOP;
    generation := model.generation;
    ef_search := model.ef_search;
    IF jsonb_strip_nulls(given) = '{}' OR @extension@.vector_norm(total) = 0 THEN
        RETURN;
    END IF;
    vector := CASE WHEN model.normalised THEN @extension@.l2_normalize(total) ELSE total END;
END
$$;

CREATE OR REPLACE FUNCTION tterec.recommend_for_profile(
    profile jsonb, k int DEFAULT 10,
    only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL, author text DEFAULT NULL,
    publisher text DEFAULT NULL, min_year int DEFAULT NULL, max_year int DEFAULT NULL,
    min_ratings int DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted int := tterec.checked_k(k);
    embedded record;
    filters jsonb := tterec.filters(
        only_isbns, without_isbns, author, publisher, min_year, max_year, min_ratings);
BEGIN
    SELECT * INTO embedded FROM tterec.embed_profile(profile);
    IF embedded.vector IS NULL THEN
        RETURN QUERY SELECT * FROM tterec.popular_without(wanted, '{}', filters);
    ELSE
        RETURN QUERY SELECT * FROM tterec.nearest(
            embedded.generation, embedded.vector, wanted, '{}', embedded.ef_search, 'profile',
            filters);
    END IF;
END
$$;

COMMENT ON FUNCTION tterec.recommend_for_profile IS
    'The k best books for somebody of whom features are known. Example: SELECT * FROM tterec.recommend_for_profile(''{"age": 34}'')';
