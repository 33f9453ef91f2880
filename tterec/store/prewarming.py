"""Reads a generation into the server's cache, so that its first callers need not wait for disks."""

from __future__ import annotations

from contextlib import suppress

from psycopg import Error, sql

from tterec.database.connection import Connection, Database
from tterec.database.pgvector import extension_schema
from tterec.errors import TterecError
from tterec.store.vector_tables import EVIDENCE, table

# What a recommendation reads at random, the most of it first: a cache that is too small for all has
# the first.
_READ = {
    "item_vectors": "sum({schema}.vector_dims(embedding))",
    EVIDENCE: "sum({schema}.l2_norm(weights))",
    "history_vectors": "sum({schema}.vector_dims(embedding))",
    "user_vectors": "sum({schema}.vector_dims(embedding))",
}
# The cache has other things to hold: ratings, titles.
_SHARE = 0.8
# A wide search meets thousands of pages of the index: 30 met all but 0.1% of those of 270,000 x 64.
_SEARCHES = 30
_PAGES_A_SEARCH = 1500
_TIMEOUT = "60s"


def prewarm(database: Database, generation: int) -> None:
    """Read a generation's index and tables, as far as they fit into the cache.

    By `pg_prewarm`, where this role may, else by queries. It is a favour, to be asked before the
    generation is promoted: what goes wrong is left.
    """
    with suppress(TterecError, Error), database.connect(autocommit=True) as connection:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (_TIMEOUT,))
        prewarmer = _prewarmer(connection)
        room = _cache_bytes(connection) * _SHARE
        for kind in _READ:
            relations = _relations(connection, kind, generation)
            for name, size, method in relations:
                if (room := room - size) < 0:
                    return
                if prewarmer is not None:
                    connection.execute(
                        sql.SQL("SELECT {}(%s::regclass)").format(prewarmer), (name,)
                    )
                elif method == "hnsw":
                    _search(connection, generation, size)
                elif method == "ivfflat":
                    _read_lists(connection, generation)
            if relations and prewarmer is None:
                _scan(connection, kind, generation)


def _prewarmer(connection: Connection) -> sql.Identifier | None:
    row = connection.execute(
        "SELECT n.nspname, p.proname FROM pg_extension e"
        " JOIN pg_depend d ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass"
        " JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass"
        " JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE e.extname = 'pg_prewarm' AND p.proname = 'pg_prewarm'"
        " AND has_function_privilege(p.oid, 'EXECUTE')"
    ).fetchone()
    return None if row is None else sql.Identifier(*row)


def _cache_bytes(connection: Connection) -> int:
    row = connection.execute(
        "SELECT setting::bigint * current_setting('block_size')::bigint FROM pg_settings"
        " WHERE name = 'shared_buffers'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _relations(connection: Connection, kind: str, generation: int) -> list[tuple[str, int, str]]:
    """The indexes of a table, HNSW first, and the table: name, bytes, and access method."""
    rows = connection.execute(
        "WITH base AS (SELECT to_regclass(%s) AS oid)"
        " SELECT c.oid::regclass::text, pg_relation_size(c.oid), a.amname"
        " FROM base JOIN pg_index i ON i.indrelid = base.oid"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
        " UNION ALL SELECT oid::regclass::text, pg_table_size(oid), 'heap' FROM base"
        " WHERE oid IS NOT NULL",
        (f"tterec.{kind}_{generation}",),
    ).fetchall()
    found = [(str(name), int(size), str(method)) for name, size, method in rows]
    return sorted(found, key=lambda relation: relation[2] != "hnsw")


def _scan(connection: Connection, kind: str, generation: int) -> None:
    """Read a table by its key: the plain scan of one that is large keeps nothing in the cache."""
    read = sql.SQL(_READ[kind]).format(schema=extension_schema(connection))
    key = sql.Identifier("user_id" if kind == "user_vectors" else "item_id")
    with connection.transaction():
        connection.execute(
            "SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan',"
            " 'enable_bitmapscan', 'enable_sort']) name"
        )
        connection.execute(
            sql.SQL("SELECT {} FROM (SELECT * FROM {} ORDER BY {}) by_key").format(
                read, table(kind, generation), key
            )
        )


def _read_lists(connection: Connection, generation: int) -> None:
    """Read the second index, by a search of all of its lists."""
    schema, name = extension_schema(connection), table("item_vectors", generation)
    row = connection.execute(
        sql.SQL("SELECT {}.vector_dims(embedding) FROM {} LIMIT 1").format(schema, name)
    ).fetchone()
    if row is None:
        return
    with connection.transaction():
        connection.execute(
            "SELECT set_config('ivfflat.probes', '32768', true),"
            " set_config('enable_sort', 'off', true)"
        )
        connection.execute(
            sql.SQL(
                "SELECT FROM {table}"
                " ORDER BY embedding::{schema}.halfvec({dim}) OPERATOR({schema}.<#>)"
                " (SELECT embedding::{schema}.halfvec({dim}) FROM {table} LIMIT 1) LIMIT 1"
            ).format(table=name, schema=schema, dim=sql.Literal(row[0]))
        )


def _search(connection: Connection, generation: int, size: int) -> None:
    """Search the index from items all over the catalogue."""
    schema, name = extension_schema(connection), table("item_vectors", generation)
    pages = size // 8192
    with connection.transaction():
        connection.execute(sql.SQL("SELECT '[1]'::{}.vector").format(schema))
        connection.execute(
            "SELECT set_config('hnsw.ef_search', '1000', true),"
            " set_config('enable_sort', 'off', true)"
        )
        connection.execute(
            sql.SQL(
                "SELECT sum(n) FROM ("
                " SELECT embedding FROM {table} WHERE item_id IN ("
                "  SELECT item_id FROM {table} ORDER BY hashint8(item_id) LIMIT {searches})"
                ") asked, LATERAL ("
                " SELECT count(*) AS n FROM ("
                "  SELECT FROM {table} v"
                "  ORDER BY v.embedding OPERATOR({schema}.<#>) asked.embedding LIMIT 1000) found"
                ") searched"
            ).format(
                table=name,
                schema=schema,
                searches=sql.Literal(_SEARCHES + pages // _PAGES_A_SEARCH),
            )
        )
