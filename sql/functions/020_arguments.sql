-- Checks of what callers pass, with messages that say what to pass instead.

CREATE OR REPLACE FUNCTION tterec.checked_k(k int) RETURNS int
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF k < 0 THEN
        RAISE EXCEPTION 'k = % is negative; ask for 0 or more books', k
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN coalesce(k, 10);
END
$$;

-- The type of the users' ids in the interactions query: `int8`, `text`, `uuid`, ... A domain
-- counts as what it is based on.
CREATE OR REPLACE FUNCTION tterec.user_id_type() RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE based AS (
        SELECT a.atttypid AS type
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = 'tterec.source_interactions'::pg_catalog.regclass
            AND a.attname = 'user_id'
        UNION ALL
        SELECT t.typbasetype FROM based JOIN pg_catalog.pg_type t ON t.oid = based.type
        WHERE t.typbasetype <> 0
    )
    SELECT t.typname
    FROM based JOIN pg_catalog.pg_type t ON t.oid = based.type AND t.typbasetype = 0
$$;

-- The id behind a user's name: in a shop with text ids what tterec numbered it, where the text
-- '123' is not the user numbered 123; else the number that the text is. NULL: nobody, or, with
-- text ids, somebody who came after the last training or update.
CREATE OR REPLACE FUNCTION tterec.user_id_of(name text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    digits text := btrim(name);
BEGIN
    IF tterec.user_id_type() NOT IN ('int2', 'int4', 'int8') THEN
        RETURN (SELECT k.user_id FROM tterec.user_keys k WHERE k.key = name);
    ELSIF digits ~ '^[+-]?[0-9]{1,19}$'
        AND digits::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        RETURN digits::bigint;
    END IF;
    RETURN NULL;
END
$$;
