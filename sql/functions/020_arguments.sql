-- Checks of what callers pass, with messages that say what to pass instead.

CREATE OR REPLACE FUNCTION tterec.checked_k(k int) RETURNS int
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF k < 0 THEN
        RAISE EXCEPTION 'k = % is negative; ask for 0 or more books', k
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN coalesce(k, 10);
END
$$;

-- The id behind a user's name in a shop with text ids; the number that the text is in a shop with
-- numbers. A text that is neither is nobody: NULL.
CREATE OR REPLACE FUNCTION tterec.user_id_of(user_id text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    found bigint;
    digits text := btrim(user_id_of.user_id);
BEGIN
    SELECT k.user_id INTO found FROM tterec.user_keys k WHERE k.key = user_id_of.user_id;
    -- In a shop with text ids the text '123' is not the user whom tterec numbered 123.
    IF found IS NULL AND digits ~ '^[+-]?[0-9]{1,19}$' AND EXISTS (
        SELECT FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = 'tterec.source_interactions'::pg_catalog.regclass
            AND a.attname = 'user_id' AND a.atttypid = ANY ('{int2,int4,int8}'::pg_catalog.regtype[])
    ) AND digits::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        found := digits::bigint;
    END IF;
    RETURN found;
END
$$;
