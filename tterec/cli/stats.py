"""`tterec stats`: how the live generation is doing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from tterec.cli.columns import in_columns
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr

if TYPE_CHECKING:
    from tterec.stats import RecallDrift, Stale, StaleLists, Stats


@click.command("stats")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
@database_option
def command(*, style: str, database_url: str | None) -> None:
    """Show how the live generation is doing: calls, recall, what is stale, sizes, the queue.

    Calls and their times are Postgres' own, where track_functions is on (one that Postgres writes
    into the query that calls it, as it does with recommend, counts as what it calls). Recall is
    measured now, on up to 50 users, and compared with what it was at the promotion. Writes
    nothing; the role tterec_reader may ask, and a replica answers.

    \b
    Examples:
      tterec stats
      tterec stats --format json
    """
    from tterec import stats
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    with progress_on_stderr() as progress:
        found = stats.stats(database, progress)
    if style == "json":
        click.echo(json.dumps(as_json(found), indent=2))
    else:
        click.echo("\n".join(lines(found)))


def as_json(found: Stats) -> dict[str, object]:
    """All of it, with the shares that are stale."""
    from dataclasses import asdict

    shares = {
        name: asdict(stale) | {"share": round(stale.share, 6)}
        for name, stale in (("users", found.users), ("books", found.books), ("lists", found.lists))
        if stale is not None
    }
    return asdict(found) | shares


def lines(found: Stats) -> Iterator[str]:
    """The table, for people: of 80 columns unless names are long."""
    if found.live is None:
        yield "No generation is live; run: tterec train"
    else:
        before = found.live.previous
        yield (
            f"Generation {found.live.generation} is live since {found.live.promoted_at}"
            + (f"; before it: {before}" if before is not None else "")
        )
    if found.replica:
        yield "This server is a replica."
    if found.recall is not None:
        yield _recall(found.recall)
    for name, stale in (("users", found.users), ("books", found.books)):
        if stale is not None:
            yield _stale(name, stale)
    if found.lists is not None:
        yield _lists(found.lists)
    if found.queue is not None:
        yield _queue(found)
    last = found.last_update
    if last is not None:
        yield f"last update: {last.at}, generation {last.generation}, {last.seconds:,.1f} s"
    elif "last_update" not in found.unseen:
        yield "last update: none yet"
    yield from _tables(found)
    for name, reason in found.unseen.items():
        yield f"{name.replace('_', ' ')}: not seen: {reason}"
    if found.to_track is not None:
        yield "  to count calls in sessions that begin later, a superuser runs in psql:"
        yield f"  {found.to_track}"


def _recall(recall: RecallDrift) -> str:
    line = f"recall@{recall.k} of the index: {recall.now:.4f} on {recall.users} users now, "
    if recall.then is None:
        return f"{line}not measured at promotion"
    return f"{line}{recall.then:.4f} at promotion ({recall.now - recall.then:+.4f})"


def _lists(lists: StaleLists) -> str:
    line = f"stale lists: {lists.stale:,} of {lists.total:,} ({lists.share:.1%})"
    if lists.missing:
        line += f", {lists.missing:,} user{'s' * (lists.missing != 1)} without"
    return line + ("; run: tterec precompute" if lists.stale or lists.missing else "")


def _stale(name: str, stale: Stale) -> str:
    mend = "; run: tterec update" if stale.stale else ""
    return f"stale {name}: {stale.stale:,} of {stale.total:,} ({stale.share:.1%}){mend}"


def _queue(found: Stats) -> str:
    assert found.queue is not None
    age = found.queue.oldest_seconds
    line = f"queue: {found.queue.rows:,} row{'s' * (found.queue.rows != 1)}"
    if age is not None:
        line += f", the oldest {age:,.0f} s old"
    if found.worker_listens is not None:
        line += "; a worker listens" if found.worker_listens else "; no worker listens"
    return line


def _tables(found: Stats) -> Iterator[str]:
    if found.functions:
        yield from _table(
            ("function", "calls", "total ms", "self ms", "mean ms"),
            [
                (
                    one.function,
                    f"{one.calls:,}",
                    f"{one.total_ms:,.1f}",
                    f"{one.self_ms:,.1f}",
                    f"{one.total_ms / max(one.calls, 1):,.2f}",
                )
                for one in found.functions
            ],
        )
    elif found.functions is not None and found.track_functions != "none":
        yield f"functions: no call counted yet (track_functions = {found.track_functions})"
    if found.indexes:
        yield from _table(
            ("index", "generation", "MB", "scans"),
            [
                (one.index, str(one.generation), f"{one.bytes / 1e6:,.1f}", f"{one.scans:,}")
                for one in found.indexes
            ],
        )
    dead = [one for one in found.dead_tuples or () if one.dead]
    if dead:
        yield from _table(
            ("table", "rows", "dead", "last autovacuum"),
            [
                (one.table, f"{one.live:,}", f"{one.dead:,}", one.last_autovacuum or "-")
                for one in dead
            ],
        )
    elif found.dead_tuples is not None:
        yield "dead tuples: none"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield in_columns([head, *rows])
