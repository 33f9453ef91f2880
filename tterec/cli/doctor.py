"""`tterec doctor`: what is wrong with a database, and the mend."""

from __future__ import annotations

import click

from tterec.cli import logs
from tterec.cli.options import database_option


@click.command()
@database_option
@click.pass_context
def command(ctx: click.Context, database_url: str | None) -> None:
    """Look for what is wrong with the database; each finding comes with its mend.

    Exits 1 if there is a problem; notes are no problems. Changes nothing.

    \b
    Example:
      tterec doctor
    """
    from tterec.database import doctor
    from tterec.database.connection import Database

    findings = doctor.examine(Database.resolve(database_url))
    for finding in findings:
        click.echo(f"{'problem' if finding.problem else 'note'}: {finding.what}")
        click.echo(f"  mend: {finding.mend}")
    problems = sum(finding.problem for finding in findings)
    if problems:
        logs.error(f"{problems} problem{'s' * (problems > 1)} found")
        ctx.exit(1)
    click.echo("no problems")
