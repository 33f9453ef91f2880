"""`tterec config`: the settings."""

from __future__ import annotations

import click

from tterec.cli.options import database_option


@click.group()
def command() -> None:
    """Look at the settings.

    \b
    Example:
      tterec config show
    """


@command.command()
@database_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
def show(database_url: str | None, form: str) -> None:
    """Print every setting, its value and where it came from, secrets masked.

    The database is the first that is named of: --database-url, TTEREC_DATABASE_URL,
    DATABASE_URL, libpq's PG* variables; else it is the embedded one in TTEREC_HOME.

    \b
    Example:
      tterec config show --format json
    """
    from tterec import config

    settings = config.settings(database_url)
    if form == "json":
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(setting) for setting in settings], indent=2))
        return
    names = max(len(setting.name) for setting in settings)
    # A long path or URL pushes its own origin aside, not everybody's.
    values = min(max(len(setting.value) for setting in settings), 40)
    for setting in settings:
        click.echo(f"{setting.name:<{names}}  {setting.value:<{values}}  {setting.origin}")
