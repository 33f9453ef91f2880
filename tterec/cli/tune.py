"""`tterec tune`: search the training settings, and write the best to a file for `tterec train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tterec.cli import lists, logs
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import exit_code, stops
from tterec.config import choices
from tterec.errors import InvalidArgument

if TYPE_CHECKING:
    from tterec.tuning import Tuned

_FILE = click.Path(path_type=Path)
_MARK = "# Written by tterec tune, which replaces a file that begins with this line."


@click.command("tune")
@click.option(
    "--budget",
    default="20m",
    show_default=True,
    metavar="TIME",
    help="For this run: 90s, 20m, 2h.",
)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="At most N trials in this run.")
@click.option(
    "--config", "config_file", type=_FILE, metavar="FILE", help="Settings (TOML) to stay as given."
)
@click.option(
    "--objective",
    type=click.Choice(choices("objective")),
    help="What is tuned: NDCG@20 or, with mse, RMSE. Default: softmax.",
)
@click.option("--seed", type=int, metavar="N", help="Of the trainings and of the search.")
@click.option(
    "-o",
    "--output",
    type=_FILE,
    default="train.toml",
    show_default=True,
    metavar="FILE",
    help="Where the best settings go.",
)
@click.option("--force", is_flag=True, help="Replace an output file that tune did not write.")
@database_option
def command(
    *,
    budget: str,
    trials: int | None,
    config_file: Path | None,
    output: Path,
    force: bool,
    database_url: str | None,
    **settings: Any,
) -> None:
    """Search the training settings, and write the best to a file for `tterec train`.

    Trains again and again on the data of the database and judges by held-out interactions; the
    live generation stays as it is. The defaults are the first trial, and are what is written
    unless another trial beats them on two draws of held-out interactions. Trials are kept in the
    database (schema tterec_tune): the same command goes on where the last one ended, also after
    Ctrl-C.

    \b
    Examples:
      tterec tune --budget 20m
      tterec train --config train.toml
      tterec tune --budget 2h --objective mse -o ratings.toml
    """
    from tterec import tuning
    from tterec.database.connection import Database
    from tterec.settings_files import read_settings

    seconds = tuning.seconds_of(budget)
    given = {name: value for name, value in settings.items() if value is not None}
    fixed = (read_settings(config_file) if config_file is not None else {}) | given
    _check_replaceable(output, force)
    database = Database.resolve(database_url)
    with stops("no trial was finished"), progress_on_stderr(sums=False) as progress:
        tuned = tuning.tune(database, fixed, budget=seconds, most=trials, progress=progress)
    _write(output, tuned)
    click.echo("\n".join(_summary(tuned)))
    click.echo(f"Wrote {output}. Train with it: tterec train --config {shlex.quote(str(output))}")
    if tuned.stopped:
        logs.stopped(
            "Stopped; the finished trials are kept; the same command goes on from there.",
            exit_code(),
        )
        sys.exit(exit_code())


def _check_replaceable(path: Path, force: bool) -> None:
    """Refuse, before hours of trials, a file that could not or should not be written."""
    if not path.parent.is_dir():
        raise InvalidArgument(f"-o {path}: there is no directory {path.parent}; make it first")
    if force or not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline().rstrip("\n")
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}") from error
    if first != _MARK:
        raise InvalidArgument(
            f"{path} was not written by tune; name another file with -o, or replace it with --force"
        )


def _write(path: Path, tuned: Tuned) -> None:
    from tterec.settings_files import settings_toml

    with lists.output(path) as out:
        out.write(f"{_MARK}\n")
        out.writelines(f"# {line}\n" for line in _verdict(tuned))
        out.write(settings_toml(tuned.settings))


def _verdict(tuned: Tuned) -> list[str]:
    best, default, measure = tuned.best, tuned.default, tuned.measure
    if tuned.trials == 1:
        return [
            f"Only the defaults were tried ({measure} {default.figure:.4f}); "
            "more --budget and --trials let it try others."
        ]
    if tuned.verdict == "default":
        return [
            f"None of {tuned.trials} trials is better than the defaults: "
            f"{measure} {default.figure:.4f}."
        ]
    lines = [
        f"Trial {best.number} is the best of {tuned.trials}: {measure} {best.figure:.4f}, "
        f"the defaults {default.figure:.4f}."
    ]
    if tuned.verdict == "unconfirmed" or best.confirmed is None or default.confirmed is None:
        return [*lines, "It was not confirmed on other held-out interactions."]
    figures = f"{best.confirmed:.4f}, the defaults {default.confirmed:.4f}"
    stay = "" if tuned.verdict == "better" else "; so the defaults stay"
    return [*lines, f"On other held-out interactions: {figures}{stay}."]


def _summary(tuned: Tuned) -> Iterator[str]:
    """The verdict, and a table of the settings that differ from the defaults."""
    from dataclasses import asdict

    from tterec.config import TrainingConfig

    yield from _verdict(tuned)
    usual = asdict(TrainingConfig())
    rows = [
        (name, _shown(usual[name]), _shown(value))
        for name, value in tuned.settings.items()
        if value != usual[name]
    ]
    if rows:
        rows.insert(0, ("setting", "default", "tuned"))
        first, second = (max(len(row[n]) for row in rows) for n in (0, 1))
        yield from (f"{name:{first}}  {was:>{second}}  {now}" for name, was, now in rows)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
