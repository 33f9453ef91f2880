-- Filters: which items a list may hold. Callers pass them as parameters, each by itself; to the
-- functions that make lists they go as one value.

-- The filters that are given, as one value; NULL where none is.
CREATE OR REPLACE FUNCTION tterec.filters(
    only_isbns text[], without_isbns text[], author text, publisher text,
    min_year int, max_year int, min_ratings int)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF min_ratings < 0 THEN
        RAISE EXCEPTION 'min_ratings = % is negative; ask for 0 or more', min_ratings
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN nullif(
        jsonb_strip_nulls(jsonb_build_object(
            'only_isbns', array_remove(only_isbns, NULL),
            'without_isbns', nullif(array_remove(without_isbns, NULL), '{}'),
            'author', author, 'publisher', publisher,
            'min_year', min_year, 'max_year', max_year, 'min_ratings', nullif(min_ratings, 0))),
        '{}');
END
$$;

-- A query of the ids (item_id) of the items that pass the filters, as of now. Its text is made
-- here, from column names and quoted values; nothing of it is a caller's.
--
-- Authors and publishers are equal as lower(btrim(...)); with a text[] one element has to be. Years
-- are numbers, or those of dates. Where a value is NULL the item does not pass. `min_ratings` counts
-- interactions, with and without rating: those of the live generation's item_popularity, or now
-- where no generation is live.
CREATE OR REPLACE FUNCTION tterec.filter_query(filters jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    types jsonb;  -- of the columns of the items query, a domain's what it is based on
    arrays text[];
    live int;
    id text := 's.item_id';
    isbn text;
    year text;
    source text := 'tterec.source_items s';
    conditions text[] := '{true}';
    wanted record;
BEGIN
    WITH RECURSIVE based AS (
        SELECT a.attnum, a.attname, a.atttypid AS type
        FROM pg_attribute a
        WHERE a.attrelid = 'tterec.source_items'::regclass AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, t.typbasetype FROM based b JOIN pg_type t ON t.oid = b.type
        WHERE t.typbasetype <> 0
    )
    SELECT jsonb_object_agg(b.attname, t.oid::regtype ORDER BY b.attnum),
        array_agg(b.attname) FILTER (WHERE t.typcategory = 'A')
    INTO types, arrays
    FROM based b JOIN pg_type t ON t.oid = b.type AND t.typbasetype = 0;
    isbn := CASE WHEN types ? 'isbn' THEN 's.isbn::text' ELSE 's.item_id::text' END;
    IF types ->> 'item_id' <> ALL ('{smallint,integer,bigint}'::text[]) THEN
        id := 'k.item_id';
        source := source || ' JOIN tterec.item_keys k ON k.key = s.item_id::text';
    END IF;
    year := CASE
        WHEN types ->> 'year' IN ('smallint', 'integer', 'bigint', 'real', 'double precision',
            'numeric') THEN 's.year'
        WHEN types ->> 'year' IN ('date', 'timestamp without time zone',
            'timestamp with time zone') THEN 'extract(year FROM s.year)'
    END;
    FOR wanted IN
        SELECT f.key AS name, f.value #>> '{}' AS value,
            CASE WHEN f.key IN ('min_year', 'max_year') THEN 'year' ELSE f.key END AS column_name
        FROM jsonb_each(filters) f
        ORDER BY f.key
    LOOP
        IF wanted.column_name IN ('author', 'publisher', 'year')
            AND NOT types ? wanted.column_name THEN
            RAISE EXCEPTION 'the items query returns no column %, by which % filters; it returns %',
                wanted.column_name, wanted.name,
                (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = 'tterec.source_items'::regclass AND attnum > 0
                    AND NOT attisdropped)
                USING ERRCODE = 'undefined_column',
                    HINT = format('Add it to the items query, or name a column so: ... AS %s',
                        wanted.column_name);
        END IF;
        IF wanted.column_name = 'year' AND year IS NULL THEN
            RAISE EXCEPTION 'the column year of the items query is %, by which % cannot filter; '
                'make it a number or a date', types ->> 'year', wanted.name
                USING ERRCODE = 'datatype_mismatch';
        END IF;
        conditions := conditions || CASE
            WHEN wanted.name IN ('only_isbns', 'without_isbns') THEN format(
                CASE wanted.name
                    WHEN 'only_isbns' THEN '%s = ANY (%L::text[])' ELSE '%s <> ALL (%L::text[])' END,
                isbn,
                tterec.spelled_isbns(ARRAY(SELECT jsonb_array_elements_text(filters -> wanted.name))))
            WHEN wanted.name = 'min_ratings' THEN NULL  -- below
            WHEN wanted.column_name = 'year' THEN format(
                '%s %s %s', year, CASE wanted.name WHEN 'min_year' THEN '>=' ELSE '<=' END,
                wanted.value::int)
            WHEN wanted.column_name = ANY (arrays) THEN format(
                'EXISTS (SELECT FROM unnest(s.%I) one WHERE lower(btrim(one::text)) = %L)',
                wanted.column_name, lower(btrim(wanted.value)))
            ELSE format('lower(btrim(s.%I::text)) = %L',
                wanted.column_name, lower(btrim(wanted.value)))
        END;
    END LOOP;
    IF filters ? 'min_ratings' THEN
        SELECT generation INTO live FROM tterec.active_model;
        conditions := conditions || CASE
            WHEN live IS NULL THEN format(
                '%s IN (SELECT item_id FROM tterec.interactions GROUP BY item_id'
                ' HAVING count(*) >= %s)', id, filters ->> 'min_ratings')
            ELSE format(
                '%s IN (SELECT item_id FROM tterec.item_popularity WHERE generation = %s'
                ' AND interactions >= %s)', id, live, filters ->> 'min_ratings')
        END;
    END IF;
    RETURN format('SELECT %s AS item_id FROM %s WHERE %s', id, source,
        array_to_string(array_remove(conditions, NULL), ' AND '));
END
$$;

-- How many items can pass that scoring them all is no dearer than finding `wanted` of them by the
-- index, which comes across one that passes in every catalogue / passing. Of 40,000 and of 270,000 x
-- 64, one that the index comes across costs some 6 times as much as one that is scored, so that both
-- ways cost the same where passing = 6 * wanted * catalogue / passing: see
-- tests/benchmarks/filters.py.
CREATE OR REPLACE FUNCTION tterec.few(wanted bigint, catalogue float8) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(sqrt(6 * greatest(wanted, 1) * greatest(catalogue, 1)), 1e6)::int
$$;

-- How many rows the planner expects of a query. (To Postgres no EXPLAIN is read-only.)
CREATE OR REPLACE FUNCTION tterec.expected_rows(query text) RETURNS float8
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN plan #>> '{0,Plan,Plan Rows}';
END
$$;

-- Which items pass the filters, as what follows an item id in a condition: `v.item_id IN (...)`; and
-- whether they are few, for a list of `wanted`: then all are scored, else an index finds those
-- wanted. `wanted` NULL: for a list by the live generation's second stage. A few ids are named, one
-- by one, so that the query need not be asked twice.
CREATE OR REPLACE FUNCTION tterec.among(
    filters jsonb, wanted bigint, OUT condition text, OUT few boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    query text := tterec.filter_query(filters);
    named CONSTANT int := 2000;  -- of more the text costs more than the query
    most int;
    ids bigint[];
BEGIN
    SELECT tterec.few(
        coalesce(wanted, (m.ranker ->> 'candidates')::bigint, 10),
        (m.counts ->> 'item_vectors')::float8)
    INTO most
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    most := coalesce(most, 2000);
    -- Where the planner expects many more, they are not even counted.
    IF tterec.expected_rows(query) <= 3::float8 * most THEN
        EXECUTE format('SELECT array_agg(item_id) FROM (%s LIMIT $1) matching', query)
        INTO ids USING most + 1;
        ids := coalesce(ids, '{}');
    END IF;
    few := coalesce(cardinality(ids) <= most, false);
    condition := CASE
        WHEN few AND cardinality(ids) <= named THEN format('= ANY (%L::bigint[])', ids)
        ELSE format('IN (%s)', query) END;
END
$$;
