"""Text ids: each has a bigint of ours in `user_keys` or `item_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tterec.database.connection import Connection
from tterec.store.sources import Queries

_TABLES = {"user_id": "user_keys", "item_id": "item_keys"}


@dataclass(frozen=True, slots=True)
class Id:
    """An id column of the sources, `user_id` or `item_id`: bigint as it is, or text."""

    column: str
    is_text: bool

    @property
    def table(self) -> str:
        """The table that maps the text."""
        return f"tterec.{_TABLES[self.column]}"

    @property
    def value(self) -> str:
        """SQL: the bigint of a row of `s`, a source query; NULL without id, or without key."""
        return f"{_TABLES[self.column]}.{self.column}" if self.is_text else f"s.{self.column}"

    @property
    def join(self) -> str:
        """SQL: what `value` must be joined with."""
        if not self.is_text:
            return ""
        return f" LEFT JOIN {self.table} ON {_TABLES[self.column]}.key = s.{self.column}::text"

    @property
    def known(self) -> str:
        """SQL condition: the row has no id at all, or one that is known.

        A text id that came to its key after the snapshot is not known: it is read next time.
        """
        return f"(s.{self.column} IS NULL OR {self.value} IS NOT NULL)" if self.is_text else "true"

    def among(self, ids: Sequence[int]) -> str:
        """SQL condition: the row's id is one of these."""
        return f"{self.value} = ANY ('{{{','.join(map(str, ids))}}}'::bigint[])"

    def shown(self, connection: Connection, value: int) -> str:
        """An id as its owner knows it."""
        if not self.is_text:
            return str(value)
        row = connection.execute(
            f"SELECT key FROM {self.table} WHERE {self.column} = %s".encode(), (value,)
        ).fetchone()
        return repr(row[0]) if row else str(value)


def add_missing(connection: Connection, id_: Id, queries: Queries, feature_query: str) -> None:
    """Give every text id in the sources its bigint, in the order of the texts."""
    column = id_.column
    connection.execute(
        f"INSERT INTO {id_.table} (key)"
        f" SELECT found.key FROM (SELECT s.{column}::text AS key FROM (\n"
        f"{queries.interactions}\n) s UNION SELECT s.{column}::text FROM (\n{feature_query}\n) s"
        f") found WHERE found.key IS NOT NULL"
        f" AND NOT EXISTS (SELECT FROM {id_.table} known WHERE known.key = found.key)"
        f' ORDER BY found.key COLLATE "C" ON CONFLICT (key) DO NOTHING'.encode()
    )
