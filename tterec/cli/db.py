"""`tterec db`: the schema, and the embedded server."""

from __future__ import annotations

import click

from tterec.cli import logs
from tterec.cli.options import database_option


@click.group()
def command() -> None:
    """Set up the database, and look after the embedded one.

    \b
    Example:
      tterec db upgrade
    """


@command.command()
@database_option
def upgrade(database_url: str | None) -> None:
    """Bring the schema, views and SQL functions to this version; all of it or nothing.

    \b
    Example:
      tterec db upgrade --database-url postgresql://owner@db.example.org/shop
    """
    from tterec import pipeline
    from tterec.database import roles, schema
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    with database.connect() as connection:
        before = schema.current(connection)
    pipeline.upgrade(database)
    with database.connect() as connection:
        after, missing = schema.current(connection), roles.missing_reader(connection)
    if before == after:
        logs.say(f"The schema was at {after} already; views and functions are current.")
    else:
        logs.say(f"The schema is at {after} now (before: {before or 'none'}).")
    if missing:
        logs.say(
            f"This role may not create the role {roles.READER}; if other programs are to read "
            f"recommendations through it, a DBA must run:\n  {missing}"
        )


@command.command()
@database_option
def current(database_url: str | None) -> None:
    """Print the revision of the database's schema, or none.

    \b
    Example:
      tterec db current
    """
    from tterec.database import schema
    from tterec.database.connection import Database

    with Database.resolve(database_url).connect() as connection:
        click.echo(schema.current(connection) or "none")


@command.command()
@database_option
@click.pass_context
def check(ctx: click.Context, database_url: str | None) -> None:
    """Compare tables, views and functions with those of this version; exit 1 if they differ.

    \b
    Example:
      tterec db check
    """
    from tterec.database import schema
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    with database.connect() as connection:
        schema.require_current(connection)
    found = schema.differences(database)
    if not found:
        click.echo("ok")
        return
    for line in found:
        click.echo(line)
    logs.error("the schema is not this version's; run: tterec db upgrade")
    ctx.exit(1)


@command.command()
@database_option
def start(database_url: str | None) -> None:
    """Start the embedded server, if it does not run; it stays until `tterec db stop`.

    \b
    Example:
      tterec db start
    """
    from tterec.database import embedded

    _only_embedded(database_url)
    embedded.ensure_running()
    now = embedded.status()
    logs.say(f"The embedded Postgres {now.version} runs, pid {now.pid}.")


@command.command()
@database_option
def stop(database_url: str | None) -> None:
    """Stop the embedded server, ending all its sessions; the data stay.

    \b
    Example:
      tterec db stop
    """
    from tterec.database import embedded

    _only_embedded(database_url)
    stopped = embedded.stop()
    logs.say(
        "The embedded Postgres is stopped." if stopped else "The embedded Postgres did not run."
    )


@command.command()
@database_option
def status(database_url: str | None) -> None:
    """Say which database is meant, whether it runs, and what it has; starts nothing.

    \b
    Example:
      tterec db status
    """
    from tterec import config, urls
    from tterec.database import embedded
    from tterec.database.connection import EMBEDDED, Database

    target = config.database_target(database_url)
    if target.url is not None:
        database = Database(target.url, target.origin)
        _print({"database": f"{database.masked} ({target.origin})", **_contents(database)})
        return
    now = embedded.status()
    lines = {
        "database": f"embedded Postgres{f' {now.version}' if now.version else ''}, "
        + (f"running, pid {now.pid}" if now.pid else "stopped"),
        "home": str(now.home),
        "data": str(now.data_directory),
        "log": str(now.log),
    }
    if now.url is not None:
        lines |= {"url": urls.mask_password(now.url), **_contents(Database(now.url, EMBEDDED))}
    _print(lines)


@command.command()
@database_option
def url(database_url: str | None) -> None:
    """Print the database's libpq URL, password included; starts the embedded server if needed.

    \b
    Example:
      psql "$(tterec db url)"
    """
    from tterec import config
    from tterec.database import embedded
    from tterec.database.connection import environment_url

    target = config.database_target(database_url)
    if target.url is None:
        click.echo(embedded.ensure_running())
    else:
        click.echo(target.url or environment_url())


def _contents(database: object) -> dict[str, str]:
    from tterec.database import pgvector, schema
    from tterec.database.connection import Database

    assert isinstance(database, Database)
    with database.connect() as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
        assert row is not None
        return {
            "server": f"Postgres {row[0]}, reachable",
            "pgvector": pgvector.installed(connection) or "not installed in this database",
            "schema": schema.current(connection) or "none; run: tterec db upgrade",
        }


def _only_embedded(database_url: str | None) -> None:
    from tterec import config
    from tterec.database import embedded
    from tterec.errors import InvalidArgument

    target = config.database_target(database_url)
    # The demo's database, say, is one of several in the embedded server.
    if target.url is not None and not embedded.is_meant_by(target.url):
        raise InvalidArgument(
            f"{target.origin} names a server that is not tterec's to start or stop; "
            "use its own service manager, or unset it to mean the embedded server"
        )


def _print(lines: dict[str, str]) -> None:
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        click.echo(f"{name:<{width}}  {value}")
