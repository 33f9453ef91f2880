"""`tterec train`: both towers, a generation of vectors, and its promotion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tterec.cli import logs
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import exit_code, stops
from tterec.config import choices

if TYPE_CHECKING:
    from tterec.records import GenerationInfo

_FILE = click.Path(path_type=Path)


@click.command("train")
@click.option("--config", "config_file", type=_FILE, metavar="FILE", help="Settings as TOML.")
@click.option(
    "--objective",
    type=click.Choice(choices("objective")),
    help="mse: which rating a book gets; the others: which book comes next. Default: softmax.",
)
@click.option("--epochs", type=int, metavar="N", help="At most N passes over the interactions.")
@click.option("--dim", type=int, metavar="N", help="Dimensions of the vectors. Default: 64.")
@click.option("--seed", type=int, metavar="N", help="Same seed, same data, same vectors.")
@click.option("--device", type=click.Choice(choices("device")), help="Default: cpu.")
@click.option("--no-promote", is_flag=True, help="Publish the generation, but do not make it live.")
@click.option("--interactions-sql", type=_FILE, metavar="FILE", help="user_id, item_id, rating")
@click.option("--users-sql", type=_FILE, metavar="FILE", help="user_id and features")
@click.option("--items-sql", type=_FILE, metavar="FILE", help="item_id and features")
@click.option(
    "--accept-new-types", is_flag=True, help="Let a column be of another type than it was."
)
@database_option
def command(
    *,
    config_file: Path | None,
    no_promote: bool,
    interactions_sql: Path | None,
    users_sql: Path | None,
    items_sql: Path | None,
    accept_new_types: bool,
    database_url: str | None,
    **settings: Any,
) -> None:
    """Train both towers, publish their vectors and make them live.

    Reads the three source queries: those of the --...-sql files, else your own that are live,
    else those of the tables that `tterec load` fills. Until the new generation is promoted, the
    old one serves; Ctrl-C publishes nothing. Settings: flags, then --config, then defaults.
    Under torchrun several processes train together; one of them reads and publishes.

    \b
    Examples:
      tterec train
      tterec train --config train.toml --seed 7 --no-promote
      tterec train --interactions-sql views.sql --users-sql members.sql --items-sql films.sql
      torchrun --standalone --nproc-per-node 2 -m tterec train
    """
    from tterec import pipeline
    from tterec.config import torchrun_ranks
    from tterec.database.connection import Database
    from tterec.settings_files import training_config

    if torchrun_ranks()[0] > 0:
        _assist()
        return
    config = training_config(config_file, **settings)
    files = {"interactions": interactions_sql, "users": users_sql, "items": items_sql}
    database = Database.resolve(database_url)
    with stops("nothing was published"), progress_on_stderr() as progress:
        trained = pipeline.train(
            database,
            config,
            {name: path for name, path in files.items() if path is not None},
            promote=not no_promote,
            accept_new_types=accept_new_types,
            progress=progress,
        )
    logs.note("generation", generation=trained.generation, live=trained.active)
    click.echo(summary(trained))
    if trained.active:
        click.echo(f"Try: tterec recommend {pipeline.example_user(database)}")
    else:
        click.echo(f"Make it live: tterec models promote {trained.generation}")


def _assist() -> None:
    """What a process of torchrun's does that is not the first."""
    from tterec import pipeline

    try:
        pipeline.assist()
    except KeyboardInterrupt:  # the first one says so
        sys.exit(exit_code())


def summary(trained: GenerationInfo) -> str:
    """What a person wants to know of a generation that has just been published."""
    counts, metrics = trained.counts, trained.metrics
    lines = [
        f"Generation {trained.generation} is {'live' if trained.active else 'ready, not live'}: "
        f"{trained.objective}, {trained.dim} dimensions, {counts['interactions']:,} interactions "
        f"of {counts['interacting_users']:,} users with {counts['items']:,} items"
    ]
    lines.append(
        f"Training: epoch {metrics['best_epoch']} of {metrics['epochs']} was best, "
        f"{metrics['seconds']:,.1f} s, {metrics['interactions_per_second']:,} interactions/s, "
        f"{metrics['threads']} thread{'s' * (metrics['threads'] != 1)}"
    )
    if trained.ndcg is not None:
        two = trained.ndcg > metrics["validation_ndcg_at_20"]
        lines.append(
            f"Validation: NDCG@20 {trained.ndcg:.4f} "
            + (f"with the second stage, {metrics['validation_ndcg_at_20']:.4f} " if two else "")
            + f"by the towers alone, on {metrics['validation_users']:,} users"
        )
    index = metrics.get("index")
    if index:
        lines.append(
            f"Index: recall@{index['k']} {index['recall']:.3f} at ef_search {index['ef_search']}, "
            f"measured on {index['users']} users"
        )
    return "\n".join(lines)
