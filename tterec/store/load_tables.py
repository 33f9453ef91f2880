"""From staged records to tables: the SQL of a load, each statement within its transaction.

Nothing here touches a row that already says what the file says: a second load writes nothing.
An empty value never replaces a known one, except a rating's: there it means unrated.
"""

from __future__ import annotations

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.store.dialects import COLUMNS, FileKind

_TYPES = {"user_id": "bigint", "age": "smallint", "year": "smallint"} | {
    "rating": "real",
    "rated_at": "timestamptz",
}
_KEYS: dict[FileKind, tuple[str, ...]] = {
    "users": ("user_id",),
    "books": ("isbn",),
    "ratings": ("user_id", "isbn"),
}


def stage(kind: FileKind) -> str:
    """The name of the temporary table that a file of this kind is copied into."""
    return f"pg_temp.load_{kind}"


def create_stage(connection: Connection, kind: FileKind) -> None:
    """Create the temporary table: `line`, then the columns of the kind."""
    columns = ", ".join(f"{column} {_TYPES.get(column, 'text')}" for column in names(kind))
    _run(connection, f"CREATE TEMP TABLE load_{kind} (line bigint, {columns}) ON COMMIT DROP")


def create_rejected_stage(connection: Connection) -> None:
    """Create the temporary table that rejected records are copied into."""
    _run(
        connection,
        "CREATE TEMP TABLE load_rejected (file text, line bigint, reason text, raw text)"
        " ON COMMIT DROP",
    )


def names(kind: FileKind) -> tuple[str, ...]:
    """The columns of a kind of file, in the order of its rows."""
    return tuple(column.name for column in COLUMNS[kind])


def fold(connection: Connection, kind: FileKind) -> int:
    """Leave one staged record a key: the last one, its gaps filled from those before.

    Returns how many records were merged into a later one.
    """
    key = ", ".join(_KEYS[kind])
    folded = [
        f"(array_agg({name} ORDER BY line DESC){_known(name)})[1] AS {name}"
        for name in names(kind)
        if name not in _KEYS[kind]
    ]
    _run(
        connection,
        f"""
        CREATE TEMP TABLE load_{kind}_folded ON COMMIT DROP AS
        SELECT max(line) AS line, count(*) AS records, {key}, {", ".join(folded)}
        FROM {stage(kind)}
        WHERE ({key}) IN (SELECT {key} FROM {stage(kind)} GROUP BY {key} HAVING count(*) > 1)
        GROUP BY {key}
        """,
    )
    table = f"pg_temp.load_{kind}_folded"
    (merged,) = _row(connection, f"SELECT coalesce(sum(records - 1), 0)::bigint FROM {table}")
    if merged:
        columns = ", ".join(("line", *names(kind)))
        same = " AND ".join(f"s.{name} = f.{name}" for name in _KEYS[kind])
        _run(connection, f"DELETE FROM {stage(kind)} s USING {table} f WHERE {same}")
        _run(connection, f"INSERT INTO {stage(kind)} ({columns}) SELECT {columns} FROM {table}")
    return int(merged)


def _known(name: str) -> str:
    return "" if name == "rating" else f" FILTER (WHERE {name} IS NOT NULL)"


class Target:
    """The tables users, books and ratings, and which of them are this load's alone.

    A table without rows is locked against other writers while it is filled: then nothing can
    conflict, and plain INSERTs save a tenth to a third of the time. Where it cannot be locked at
    once, and on tables in use, ON CONFLICT meets what apps insert meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._alone = {table for table in _KEYS if self._locked_empty(table)}

    def _locked_empty(self, table: FileKind) -> bool:
        if not self._is_empty(table):
            return False
        try:
            with self._connection.transaction():
                self._run(f"LOCK TABLE tterec.{table} IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        except (pg.LockNotAvailable, pg.InsufficientPrivilege):
            return False
        return self._is_empty(table)

    def _is_empty(self, table: FileKind) -> bool:
        statement = f"SELECT NOT EXISTS (SELECT FROM tterec.{table})"
        return self._connection.execute(statement.encode()).fetchone() == (True,)

    def _run(self, statement: str) -> int:
        return _run(self._connection, statement)

    def _on_conflict(self, table: FileKind, clause: str) -> str:
        return "" if table in self._alone else f"ON CONFLICT {clause}"

    def merge_rows(self, kind: FileKind) -> tuple[int, int]:
        """Bring staged users or books into their table. Returns (new rows, changed rows)."""
        (key,) = _KEYS[kind]
        table, values = f"tterec.{kind}", [name for name in names(kind) if name != key]
        differs = " OR ".join(
            f"(s.{name} IS NOT NULL AND s.{name} IS DISTINCT FROM t.{name})" for name in values
        )
        changed = self._run(
            f"""
            UPDATE {table} t SET {", ".join(f"{n} = coalesce(s.{n}, t.{n})" for n in values)}
            FROM {stage(kind)} s WHERE s.{key} = t.{key} AND ({differs})
            """
        )
        columns = ", ".join((key, *values))
        filled = ", ".join(f"{n} = coalesce(excluded.{n}, t.{n})" for n in values)
        # In the file's order: book ids, which break ties in rankings, are the same every time.
        new = self._run(
            f"""
            INSERT INTO {table} AS t ({columns})
            SELECT {columns} FROM {stage(kind)} s
            WHERE NOT EXISTS (SELECT FROM {table} known WHERE known.{key} = s.{key})
            ORDER BY s.line
            {self._on_conflict(kind, f"({key}) DO UPDATE SET {filled}")}
            """
        )
        return new, changed

    def add_stubs(self) -> int:
        """Add the books that only staged ratings name, with their ISBN and nothing else."""
        return self._run(
            f"""
            INSERT INTO tterec.books (isbn)
            SELECT isbn FROM {stage("ratings")} s
            WHERE NOT EXISTS (SELECT FROM tterec.books b WHERE b.isbn = s.isbn)
            GROUP BY isbn ORDER BY min(line)
            {self._on_conflict("books", "(isbn) DO NOTHING")}
            """
        )

    def add_users(self) -> int:
        """Add the users that only staged ratings name, with their id and nothing else."""
        return self._run(
            f"""
            INSERT INTO tterec.users (user_id)
            SELECT DISTINCT user_id FROM {stage("ratings")} s
            WHERE NOT EXISTS (SELECT FROM tterec.users u WHERE u.user_id = s.user_id)
            {self._on_conflict("users", "(user_id) DO NOTHING")}
            """
        )

    def describe(self) -> None:
        """Let the planner know the tables that were empty; autovacuum follows minutes later."""
        for table in sorted(self._alone):
            self._run(f"ANALYZE tterec.{table}")

    def merge_ratings(self) -> tuple[int, int]:
        """Bring staged ratings into their table. Returns (new rows, changed rows)."""
        staged = f"{stage('ratings')} s JOIN tterec.books b ON b.isbn = s.isbn"
        changed, unknown = 0, "true"
        if "ratings" not in self._alone:
            changed = self._run(
                f"""
                UPDATE tterec.ratings t
                SET rating = s.rating, rated_at = coalesce(s.rated_at, t.rated_at)
                FROM {staged}
                WHERE t.user_id = s.user_id AND t.book_id = b.book_id
                  AND (s.rating IS DISTINCT FROM t.rating
                       OR (s.rated_at IS NOT NULL AND s.rated_at IS DISTINCT FROM t.rated_at))
                """
            )
            unknown = """NOT EXISTS (
                SELECT FROM tterec.ratings known
                WHERE known.user_id = s.user_id AND known.book_id = b.book_id)"""
        replaced = "rating = excluded.rating, rated_at = coalesce(excluded.rated_at, t.rated_at)"
        # rated_at is written even where it is NULL: the column's default would call it now.
        # In the order of the key, its index grows at one end: a quarter less time.
        new = self._run(
            f"""
            INSERT INTO tterec.ratings AS t (user_id, book_id, rating, rated_at)
            SELECT s.user_id, b.book_id, s.rating, s.rated_at FROM {staged}
            WHERE {unknown}
            ORDER BY s.user_id, b.book_id
            {self._on_conflict("ratings", f"(user_id, book_id) DO UPDATE SET {replaced}")}
            """
        )
        return new, changed


def first_unknown(connection: Connection) -> tuple[int, str] | None:
    """The first staged rating's line whose book or user is in no table, and which it is."""
    row = connection.execute(
        f"""
        SELECT line, CASE WHEN user_id IN (SELECT user_id FROM tterec.users)
            THEN 'book ' || isbn || ' is in no books file'
            ELSE 'user ' || user_id || ' is in no users file' END
        FROM {stage("ratings")} s
        WHERE NOT EXISTS (SELECT FROM tterec.books b WHERE b.isbn = s.isbn)
           OR NOT EXISTS (SELECT FROM tterec.users u WHERE u.user_id = s.user_id)
        ORDER BY line LIMIT 1
        """.encode()
    ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def keep_rejected(connection: Connection) -> None:
    """Bring staged rejected records into tterec.rejected_rows, each once."""
    _run(
        connection,
        """
        INSERT INTO tterec.rejected_rows (file, line, reason, raw, raw_md5)
        SELECT file, line, reason, raw, md5(raw) FROM pg_temp.load_rejected s
        WHERE NOT EXISTS (
            SELECT FROM tterec.rejected_rows known
            WHERE (known.file, known.line, known.raw_md5) = (s.file, s.line, md5(s.raw)))
        ORDER BY file, line
        ON CONFLICT (file, line, raw_md5) DO NOTHING
        """,
    )


def advance_user_ids(connection: Connection) -> None:
    """Move the identity of tterec.users past the ids that were loaded, never back.

    Absurdly large ids are passed over: behind the largest bigint there is no next id.
    """
    _run(
        connection,
        """
        SELECT setval(sequence, newest) FROM (
            SELECT pg_get_serial_sequence('tterec.users', 'user_id')::regclass AS sequence,
                   max(user_id) AS newest
            FROM tterec.users WHERE user_id < 2::numeric ^ 62) s
        WHERE newest > coalesce(pg_sequence_last_value(sequence), 0)
        """,
    )


def _run(connection: Connection, statement: str) -> int:
    # Every part of a statement is a name from COLUMNS, none is a caller's.
    return connection.execute(statement.encode()).rowcount


def _row(connection: Connection, statement: str) -> tuple[int, ...]:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None  # an aggregate always returns one
    return row
