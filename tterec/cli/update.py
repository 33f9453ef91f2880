"""`tterec update`: the live generation, brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tterec.cli import logs
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops
from tterec.cli.train import summary
from tterec.errors import InvalidArgument

if TYPE_CHECKING:
    from tterec.database.connection import Database


@click.command("update")
@click.option("--fine-tune", is_flag=True, help="Go on training the live towers.")
@click.option("--epochs", type=int, metavar="N", help="At most N passes over what is learned.")
@click.option("--seed", type=int, metavar="N", help="Same seed, same data, same vectors.")
@click.option("--no-promote", is_flag=True, help="Publish the generation, but do not make it live.")
@database_option
def command(
    *,
    fine_tune: bool,
    epochs: int | None,
    seed: int | None,
    no_promote: bool,
    database_url: str | None,
) -> None:
    """Bring the live generation up to date.

    New and changed books and users are embedded by its towers; deleted ones are removed, users
    from every table. Ratings need no update: they count at once. Nobody is held up, and an update
    that was stopped goes on where it was.

    With --fine-tune the towers go on learning instead, from new interactions and a sample of the
    others, and are published as a new generation if they do better on validation. The other
    options are for it.

    \b
    Examples:
      tterec update
      tterec update --fine-tune
      tterec update --fine-tune --epochs 2 --no-promote
    """
    if not fine_tune and (no_promote or (epochs, seed) != (None, None)):
        raise InvalidArgument("--epochs, --seed and --no-promote are for --fine-tune; add it")
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    if fine_tune:
        _fine_tune(database, epochs, seed, promote=not no_promote)
        return
    from tterec import updating

    kept = "what was done is kept; the next update goes on from there"
    with stops(kept), progress_on_stderr() as progress:
        done = updating.update(database, progress)
    logs.note("generation", generation=done.generation, live=True)
    click.echo(str(done))


def _fine_tune(database: Database, epochs: int | None, seed: int | None, *, promote: bool) -> None:
    from tterec import fine_tuning

    with stops("nothing was published"), progress_on_stderr() as progress:
        tuned = fine_tuning.fine_tune(
            database, epochs=epochs, seed=seed, promote=promote, progress=progress
        )
    generation = tuned.generation
    logs.note("generation", generation=generation.generation, live=generation.active)
    if tuned.kept is not None:
        click.echo(f"Generation {generation.generation} stays live: {tuned.kept}")
        return
    click.echo(summary(generation))
    if not generation.active:
        click.echo(f"Make it live: tterec models promote {generation.generation}")
