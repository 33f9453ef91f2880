"""A caller's search_path, temporary tables and operators of their own fool no function.

Before each path that a caller may set stands a schema with an operator, a function and a type of
every name and signature that Postgres itself has; whatever touches one of them fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from psycopg import errors as pg

from tests.conftest import create_database, url_of
from tests.integration.generations import random_ranker
from tests.integration.test_train import CONFIG, SHOP
from tterec import clustering, pipeline, precomputing
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.store import evidence_table, generations

# What can be called from a caller's own schema is made by the caller: the reader.
EVIL = """
    CREATE SCHEMA evil AUTHORIZATION tterec_reader;
    SET ROLE tterec_reader;
    SET LOCAL check_function_bodies = off;  -- no type of Postgres is too odd
    DO $make$
    DECLARE
        one record;
        made text;
    BEGIN
        FOR one IN
            SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS pg_catalog.int4 LANGUAGE plpgsql AS '
                '%L', p.proname, p.arguments, 'BEGIN RAISE EXCEPTION ''fooled''; END') AS statement
            FROM (
                SELECT DISTINCT p.proname,
                    (SELECT coalesce(string_agg(format('%s.%I', n.nspname, t.typname), ', '
                            ORDER BY a.place), '')
                        FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
                            JOIN pg_type t ON t.oid = a.type
                            JOIN pg_namespace n ON n.oid = t.typnamespace) AS arguments
                FROM pg_proc p
                WHERE p.pronamespace IN ('pg_catalog'::regnamespace, %(extension)s::regnamespace)
                    AND p.prokind IN ('f', 'a', 'w') AND NOT EXISTS (
                        SELECT FROM unnest(p.proargtypes) a JOIN pg_type t ON t.oid = a
                        WHERE t.typtype = 'p' AND t.typname NOT LIKE 'any_%%')
            ) p
            UNION ALL  -- those of any number of arguments
            SELECT DISTINCT format('CREATE FUNCTION evil.%I(VARIADIC anyarray) RETURNS int4 '
                'LANGUAGE plpgsql AS %L', p.proname, 'BEGIN RAISE EXCEPTION ''fooled''; END')
            FROM pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::regnamespace
                AND (p.provariadic <> 0 OR p.proargtypes[0] = '"any"'::regtype)
            UNION ALL
            SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L;'
                ' CREATE OPERATOR evil.%s (FUNCTION = evil.%I%s%s)',
                'operator_' || o.oid,
                concat_ws(', ', l.name, r.name), 'pg_catalog.bool',
                'BEGIN RAISE EXCEPTION ''fooled''; END', o.oprname, 'operator_' || o.oid,
                ', LEFTARG = ' || l.name, ', RIGHTARG = ' || r.name)
            FROM pg_operator o LEFT JOIN LATERAL (
                    SELECT format('%s.%I', n.nspname, t.typname) AS name
                    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                    WHERE t.oid = o.oprleft) l ON true
                LEFT JOIN LATERAL (
                    SELECT format('%s.%I', n.nspname, t.typname) AS name
                    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                    WHERE t.oid = o.oprright) r ON true
            WHERE o.oprnamespace IN ('pg_catalog'::regnamespace, %(extension)s::regnamespace)
            UNION ALL
            SELECT format('CREATE DOMAIN evil.%I AS pg_catalog.int4 CHECK (false)', t.typname)
            FROM pg_type t
            WHERE t.typnamespace IN ('pg_catalog'::regnamespace, %(extension)s::regnamespace)
                AND t.typtype = 'b' AND t.typname NOT LIKE '\\_%%'
        LOOP
            EXECUTE one.statement;
        END LOOP;
        -- Tables of every name that ours and the catalogue have, and nothing in them.
        FOR one IN
            SELECT DISTINCT ON (c.relname) c.relname, c.oid::regclass AS name
            FROM pg_class c
            WHERE c.relnamespace IN ('tterec'::regnamespace, 'pg_catalog'::regnamespace)
                AND c.relkind IN ('r', 'v')
        LOOP
            EXECUTE format('CREATE TABLE evil.%I (only_this int)', one.relname);
        END LOOP;
    END
    $make$;
    RESET ROLE;
"""
TEMPORARY = """
    DO $make$
    DECLARE
        one record;
    BEGIN
        FOR one IN SELECT relname FROM pg_catalog.pg_class
            WHERE relnamespace = 'evil'::pg_catalog.regnamespace AND relkind = 'r'
        LOOP
            EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE %I (only_this int)', one.relname);
        END LOOP;
    END
    $make$;
    CREATE TYPE pg_temp.text AS (only_this int);
    CREATE TYPE pg_temp.jsonb AS (only_this int);
    CREATE TYPE pg_temp.float8 AS (only_this int);
    CREATE FUNCTION pg_temp.unnest(pg_catalog.anyarray) RETURNS SETOF pg_catalog.int4
        LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fooled''; END';
"""
PATHS = ("evil", "evil, pg_catalog", "pg_temp, evil, pg_catalog, tterec", "pg_temp, pg_catalog")

LIST = "ARRAY[1, 7]::bigint[], ARRAY[9, 8]::real[]"
VECTOR = "tterec.user_vector(1)"
FILTERS = "tterec.filters(NULL, '{0000000001}', 'author 1', NULL, 1951, 2000, 1)"
RANKER = "(SELECT ranker FROM tterec.models WHERE generation OPERATOR(pg_catalog.=) 1)"
CALLS = {
    "among": [f"among({FILTERS}, 10)", f"among({FILTERS}, NULL)"],
    "by_strategy": [
        f"by_strategy('{name}', {LIST}, 5, '{{3}}', NULL)"
        for name in ("weighted-average", "cluster-kmeans", "popular")
    ],
    "checked_k": ["checked_k(7)", "checked_k(NULL)"],
    "crc32_of": ["crc32_of('Straße')"],
    "embed": [f"embed(1, {LIST})", "embed(2, '{}', '{}')"],
    "embed_profile": ['embed_profile(\'{"age": 34, "location": "Lima, Peru"}\')'],
    "entries": ["entries('{1:0.5,3:2}/4')"],
    "explain": ["explain(1, '0000000004')", "explain('1', '0000000004')"],
    "explain_after": [f"explain_after(1, {LIST}, '0000000004')"],
    "expected_rows": ["expected_rows('SELECT FROM tterec.books')"],
    "few": ["few(10, 40000)"],
    "filter_query": [f"filter_query({FILTERS})"],
    "filters": ["filters('{1}', '{2}', 'a', 'b', 1, 2, 3)"],
    "fresh_list": ["fresh_list(1)"],
    "heard": [f"heard(1, {RANKER}, {LIST})"],
    "heard_1": [f"heard_1({LIST}, 0.5, 100)"],
    "history_digest": ["history_digest(1)"],
    "history_of": [
        "history_of(1)",
        "history_of(1000000)",
        "history_of('1')",
        "history_of('nobody')",
    ],
    "item_id_of": ["item_id_of('0000000004')"],
    "leads_1": ["leads_1('{1, 7}', '{2}', '{3}')"],
    "listed": ["listed(1, 5)", "listed(2, 5)"],
    "listed_among": [f"listed_among(500, 5, {FILTERS})"],
    "met_1": [f"met_1(1, {LIST})"],
    "beyond_1": [f"beyond_1({VECTOR}, '{{3}}', 5)"],
    "met_most": ["met_most(900, 10)"],
    "near_1": [f"near_1({VECTOR}, '{{3}}', 5)"],
    "near_query": ["near_query(1, ' AND true', false)", "near_query(1, NULL, true)"],
    "nearest": [
        f"nearest(1, {VECTOR}, 5, '{{3}}', 100, 'history')",
        f"nearest(1, {VECTOR}, 5, '{{3}}', 100, 'history', {FILTERS})",
    ],
    "normalised_text": ["normalised_text('  STRASSE  ß İ ')"],
    "popular_books": ["popular_books(5)", "popular_books(5, author => 'Author 1')"],
    "popular_nearby": [f"popular_nearby(1, 'kmeans', {VECTOR}, 5, '{{3}}', NULL)"],
    "popular_without": ["popular_without(5, '{3}')", f"popular_without(5, '{{3}}', {FILTERS})"],
    "popularity": ["popularity()"],
    "profile_numbers": [
        "profile_numbers('a', 'number', '3', 1)",
        "profile_numbers('a', 'boolean', 'true', 1)",
        "profile_numbers('a', 'date', '\"2024-02-29\"', 1)",
        "profile_numbers('a', 'vector', '[1, 2]', 2)",
    ],
    "profile_texts": [
        "profile_texts('a', 'text', '\"A b\"')",
        "profile_texts('a', 'texts', '[\"A b\"]')",
    ],
    "ranked": [
        f"ranked(1, {VECTOR}, 5, '{{3}}', {LIST}, 100)",
        f"ranked(1, {VECTOR}, 5, '{{3}}', {LIST}, 100, {FILTERS})",
    ],
    "recommend": [
        "recommend(1)",
        "recommend('1')",
        "recommend(1, 5, min_year => 1960, author => 'author 1')",
        "recommend('1', 5, true, NULL, '{0000000001}')",
        "recommend(1, strategy => 'cluster-kmeans')",
        "recommend(1000000)",
    ],
    "recommend_after": [f"recommend_after(1, {LIST}, '{{3, 4}}', 5, true, NULL, NULL)"],
    "recommend_for_books": ["recommend_for_books('{0000000004}', '{9}', 5)"],
    "recommend_for_profile": ["recommend_for_profile('{\"age\": 34}', 5)"],
    "recommend_live": [
        f"recommend_live({user}, 5, true, NULL, NULL, NULL, NULL, 1960, NULL, NULL, NULL)"
        for user in ("1, NULL", "1, '1'")
    ],
    "score": ["score(1, '0000000004')", "score('1', '0000000004')"],
    "score_after": [f"score_after(1, {LIST}, '0000000004')"],
    "scored_1": [
        f"scored_1({VECTOR}, '{{2}}', '{{-0.5}}', '{{4}}', tterec.heard(1, {RANKER}, {LIST}), 0.5)"
    ],
    "search_width": ["search_width(40, 10, 5)"],
    "similar_books": ["similar_books('0000000004', 5)"],
    "similar_to": ["similar_to('0000000004', 5)"],
    "source_type": ["source_type('tterec.source_items', '{isbn,item_id}')"],
    "spelled": [
        f"spelled('{{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,no}}', '{name}')"
        for name in ("uuid", "bpchar", "text")
    ],
    "spelled_isbns": ["spelled_isbns('{0000000004}')"],
    "spelled_names": ["spelled_names('{1}')"],
    "untouched": ["untouched(1, 1, 0, NULL, NULL)"],
    "user_id_of": ["user_id_of(' 12 ')"],
    "user_id_type": ["user_id_type()"],
    "user_vector": ["user_vector(1)", "user_vector('1')"],
    "weighted_average": [f"weighted_average(1, {LIST})"],
    "word_buckets": ["word_buckets('one two three', 100)"],
}
RAISES = {"refuse_value": ["refuse_value('a', '1', 'a text')"]}
DEFINERS = {"queue_everything", "queue_ids", "note_changes", "note_change_of_source"}


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Database:
    """A shop with a generation that has a second stage, clusters, and the caller's own schema."""
    database = Database(url_of(server, create_database(server, template)))
    with database.connect() as connection:
        connection.execute(SHOP)
        # Without a history: filters choose from a list by similarity alone.
        connection.execute("INSERT INTO tterec.users VALUES (500, 'lima, peru', 30)")
    pipeline.train(database, CONFIG)
    clustering.cluster(database, clusters=3)
    with database.connect() as connection:
        # Training keeps a second stage only where it does better on validation.
        ranker = random_ranker(np.arange(1, 61), candidates=30)
        evidence_table.create(connection, 1, ranker)
        described = json.dumps(generations._ranking(ranker))
        connection.execute("UPDATE tterec.models SET ranker = %s", (described,))
        row = connection.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
        assert row is not None
        connection.execute(EVIL.replace("%(extension)s", f"'{row[0]}'").replace("%%", "%").encode())
        connection.execute(f"GRANT SELECT, INSERT ON tterec.ratings TO {READER}".encode())
    precomputing.precompute(database)
    return database


@pytest.fixture
def caller(shop: Database) -> Iterator[Connection]:
    """The reader, whose session has temporary tables of all names."""
    with shop.connect(autocommit=True) as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute(TEMPORARY)
        yield connection


def results(connection: Connection, path: str, call: str) -> list[tuple[object, ...]]:
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL search_path = {path}".encode())
        return connection.execute(f"SELECT * FROM tterec.{call}".encode()).fetchall()


def ours(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT p.proname FROM pg_catalog.pg_proc p"
        " WHERE p.pronamespace = 'tterec'::pg_catalog.regnamespace"
    )
    return {str(name) for (name,) in rows}


def test_every_function_of_the_catalogue_is_called_here(caller: Connection) -> None:
    assert ours(caller) == CALLS.keys() | RAISES.keys() | DEFINERS


def test_the_callers_schema_would_fool_who_trusts_it(caller: Connection) -> None:
    caller.execute("SET search_path = evil, pg_catalog")
    for query in ("SELECT 1 = 1", "SELECT count(*)", "SELECT 'a' || 'b'", "SELECT now()"):
        with pytest.raises(pg.Error, match=r"fooled|evil|aggregate"):
            caller.execute(query.encode())


@pytest.mark.parametrize("path", PATHS)
def test_every_function_returns_the_same_under_a_hostile_path(
    caller: Connection, path: str
) -> None:
    for calls in CALLS.values():
        for call in calls:
            wild = call.replace("::bigint[]", "::pg_catalog.int8[]")
            wild = wild.replace("::real[]", "::pg_catalog.float4[]")
            found = results(caller, path, wild)
            assert found == results(caller, "pg_catalog", call), call
            assert found, call
    for call in RAISES["refuse_value"]:
        with pytest.raises(pg.InvalidParameterValue, match="pass a text"):
            results(caller, path, call)


@pytest.mark.parametrize("path", PATHS)
def test_a_trigger_with_its_owners_rights_runs_none_of_the_callers_functions(
    shop: Database, caller: Connection, path: str
) -> None:
    caller.execute(f"SET search_path = {path}".encode())
    caller.execute(
        "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (90, 3, 7)"
        " ON CONFLICT DO NOTHING"
    )
    caller.execute("SET search_path = pg_catalog")
    caller.execute("RESET ROLE; DELETE FROM tterec.ratings WHERE user_id = 90 AND book_id = 3")
    with shop.connect() as connection:
        queued = connection.execute("SELECT kind, id FROM tterec.changes").fetchall()
        connection.execute("DELETE FROM tterec.changes")
    assert ("interaction", 3) in queued
