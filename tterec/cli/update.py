"""`tterec update`: the live generation, brought up to date."""

from __future__ import annotations

import sys

import click

from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.train import summary


@click.command("update")
@click.option("--fine-tune", is_flag=True, required=True, help="Go on training the live towers.")
@click.option("--epochs", type=int, metavar="N", help="At most N passes over what is learned.")
@click.option("--seed", type=int, metavar="N", help="Same seed, same data, same vectors.")
@click.option("--no-promote", is_flag=True, help="Publish the generation, but do not make it live.")
@database_option
def command(
    *,
    fine_tune: bool,  # noqa: ARG001 (required)
    epochs: int | None,
    seed: int | None,
    no_promote: bool,
    database_url: str | None,
) -> None:
    """Bring the live generation up to date.

    With --fine-tune its towers go on learning, from new interactions and a sample of the others,
    and are published as a new generation if they do better on validation.

    \b
    Examples:
      tterec update --fine-tune
      tterec update --fine-tune --epochs 2 --no-promote
    """
    from tterec import fine_tuning
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    try:
        with progress_on_stderr() as progress:
            tuned = fine_tuning.fine_tune(
                database, epochs=epochs, seed=seed, promote=not no_promote, progress=progress
            )
    except KeyboardInterrupt:
        click.echo("Stopped; nothing was published.", err=True)
        sys.exit(1)
    generation = tuned.generation
    if tuned.kept is not None:
        click.echo(f"Generation {generation.generation} stays live: {tuned.kept}")
        return
    click.echo(summary(generation))
    if not generation.active:
        click.echo(f"Make it live: tterec models promote {generation.generation}")
