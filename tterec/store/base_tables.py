"""The tables under the source views of a shop's own queries, and what notes their changes."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import errors as pg
from psycopg import sql

from tterec.database.connection import Connection
from tterec.store import change_queue

_TRIGGER = "tterec_changed"

# A view's rule depends on the tables and views that it reads.
_UNDER_THE_VIEWS = """
    WITH RECURSIVE read AS (
        SELECT oid FROM pg_class WHERE oid IN ('tterec.source_interactions'::regclass,
            'tterec.source_users'::regclass, 'tterec.source_items'::regclass)
        UNION
        SELECT d.refobjid
        FROM read JOIN pg_rewrite w ON w.ev_class = read.oid
            JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> read.oid
    )
    SELECT n.nspname, c.relname, c.relkind, EXISTS (
        SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgfoid IN ('tterec.note_changes'::regproc,
            'tterec.note_change_of_source'::regproc) AND t.tgenabled <> 'D')
    FROM read JOIN pg_class c ON c.oid = read.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind <> 'v'
    ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Watched:
    """Tables whose changes are noted, and those whose changes are not, by qualified name."""

    noted: list[str]
    unnoted: list[str]


def watch(connection: Connection) -> Watched:
    """Have the changes of the tables under the source views noted, where this role may.

    A foreign table, and a materialized view, which changes without a statement, cannot be.
    """
    noted, unnoted = [], []
    for schema, table, kind, has_one in connection.execute(_UNDER_THE_VIEWS).fetchall():
        name = sql.Identifier(schema, table)
        shown = f"{schema}.{table}"
        if not has_one and (kind not in ("r", "p") or not _add_trigger(connection, name)):
            unnoted.append(shown)
        else:
            noted.append(shown)
    return Watched(noted, unnoted)


def _add_trigger(connection: Connection, table: sql.Identifier) -> bool:
    try:
        with connection.transaction():
            # Who cannot have the table at once leaves it: no writer of the shop is held up.
            connection.execute("SELECT set_config('lock_timeout', '2s', true)")
            connection.execute(
                sql.SQL(
                    "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE"
                    " ON {} FOR EACH STATEMENT EXECUTE FUNCTION tterec.note_change_of_source()"
                ).format(sql.Identifier(_TRIGGER), table)
            )
            change_queue.everything(connection)  # what came before was not noted
    except (pg.InsufficientPrivilege, pg.LockNotAvailable):
        return False
    return True
