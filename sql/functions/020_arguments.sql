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

-- The type of the first of these columns that a source view has: `int8`, `text`, `uuid`, ... A domain
-- counts as what it is based on.
CREATE OR REPLACE FUNCTION tterec.source_type(source regclass, columns name[]) RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE based AS (
        (SELECT a.atttypid AS type
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = source AND a.attname = ANY (columns)
        ORDER BY array_position(columns, a.attname)
        LIMIT 1)
        UNION ALL
        SELECT t.typbasetype FROM based JOIN pg_catalog.pg_type t ON t.oid = based.type
        WHERE t.typbasetype <> 0
    )
    SELECT t.typname
    FROM based JOIN pg_catalog.pg_type t ON t.oid = based.type AND t.typbasetype = 0
$$;

-- The type of the users' ids in the interactions query.
CREATE OR REPLACE FUNCTION tterec.user_id_type() RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tterec.source_type('tterec.source_interactions', '{user_id}')
$$;

-- Texts as ids of this type are written: a uuid has many spellings, a char may have blanks after it.
-- Of other types they stay as they are, and so does what is no id.
CREATE OR REPLACE FUNCTION tterec.spelled(texts text[], type name) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF type = 'uuid' THEN
        texts := ARRAY(
            SELECT CASE WHEN pg_input_is_valid(t.one, 'uuid') THEN t.one::uuid::text ELSE t.one END
            FROM unnest(texts) WITH ORDINALITY AS t (one, place)
            ORDER BY t.place);
    ELSIF type = 'bpchar' THEN
        texts := ARRAY(
            SELECT t.one::bpchar::text
            FROM unnest(texts) WITH ORDINALITY AS t (one, place)
            ORDER BY t.place);
    END IF;
    RETURN texts;
END
$$;

-- Names of users as tterec.user_keys has them.
CREATE OR REPLACE FUNCTION tterec.spelled_names(names text[]) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tterec.spelled(names, tterec.user_id_type())
$$;

-- ISBNs as tterec.catalogue has them: those of a shop without such a column are its items' ids.
CREATE OR REPLACE FUNCTION tterec.spelled_isbns(isbns text[]) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tterec.spelled(isbns, tterec.source_type('tterec.source_items', '{isbn,item_id}'))
$$;

-- The id behind a user's name: in a shop with text ids what tterec numbered it, where the text
-- '123' is not the user numbered 123; else the number that the text is. NULL: nobody, or, with
-- text ids, somebody who came after the last training or update.
CREATE OR REPLACE FUNCTION tterec.user_id_of(name text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id_type CONSTANT name := tterec.user_id_type();
    digits text := btrim(name);
BEGIN
    IF id_type NOT IN ('int2', 'int4', 'int8') THEN
        name := (tterec.spelled(ARRAY[name], id_type))[1];
        RETURN (SELECT k.user_id FROM tterec.user_keys k WHERE k.key = name);
    ELSIF digits ~ '^[+-]?[0-9]{1,19}$'
        AND digits::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        RETURN digits::bigint;
    END IF;
    RETURN NULL;
END
$$;

-- The id of the item with this ISBN, the smallest of several; an error where there is none.
CREATE OR REPLACE FUNCTION tterec.item_id_of(isbn text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    spelled CONSTANT text := (tterec.spelled_isbns(ARRAY[isbn]))[1];
    found bigint;
BEGIN
    SELECT min(c.item_id) INTO found FROM tterec.catalogue c WHERE c.isbn = spelled;
    IF found IS NULL THEN
        RAISE EXCEPTION 'there is no book with ISBN % in the catalogue', coalesce(isbn, 'NULL')
            USING ERRCODE = 'no_data_found',
                HINT = 'Look it up: SELECT isbn, title FROM tterec.catalogue WHERE title ILIKE ''%word%''';
    END IF;
    RETURN found;
END
$$;
