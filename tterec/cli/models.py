"""`tterec models`: the generations, and which of them is live."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tterec.cli import logs
from tterec.cli.columns import in_columns
from tterec.cli.evaluate import MODEL_NAMES
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr

if TYPE_CHECKING:
    from tterec.records import GenerationInfo

_format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)


@click.group()
def command() -> None:
    """List, show, promote and prune the generations that `tterec train` has made.

    \b
    Example:
      tterec models list
    """


@command.command("list")
@_format_option
@database_option
def list_(format_: str, database_url: str | None) -> None:
    """List all generations, the oldest first.

    "deleted users" counts those that a generation learned from and that were deleted since, as far
    as `tterec update` or a worker has noticed.

    \b
    Example:
      tterec models list --format json
    """
    from tterec import pipeline
    from tterec.database.connection import Database

    found = pipeline.models_list(Database.resolve(database_url))
    if format_ == "json":
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    elif found:
        click.echo(in_columns([_HEAD, *map(_row, found)]))
    else:
        logs.say("There is no generation yet; run: tterec train")


_HEAD = (
    "generation",
    "status",
    "created",
    "objective",
    "dim",
    "interactions",
    "items",
    "NDCG@20",
    "index recall",
    "deleted users",
)


def _row(one: GenerationInfo) -> tuple[str, ...]:
    return (
        str(one.generation),
        "live" if one.active else one.status,
        one.created_at[:16].replace("T", " "),
        one.objective,
        _number(one.dim),
        _number(one.counts.get("interactions")),
        _number(one.counts.get("items")),
        _number(one.ndcg),
        _number(one.metrics.get("index", {}).get("recall")),
        _number(one.forgotten_users),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


@command.command()
@click.argument("generation", type=int)
@_format_option
@database_option
def show(generation: int, format_: str, database_url: str | None) -> None:
    """Show how generation GENERATION was trained, from what, and how good it is.

    \b
    Example:
      tterec models show 3
    """
    from tterec import pipeline
    from tterec.database.connection import Database

    found = pipeline.models_show(Database.resolve(database_url), generation)
    if format_ == "json":
        click.echo(json.dumps(found, indent=2))
        return
    evaluations = found["metrics"].pop("evaluation", {})
    index = found["metrics"].pop("index", None)
    for name, value in found.items():
        click.echo(f"{name:<16}{_shown(value)}".rstrip())
        if name == "metrics":
            if index is not None:
                click.echo(f"{'index':<16}{_index(index)}")
            for split, report in evaluations.items():
                click.echo(f"{'evaluation':<16}{_evaluation(split, report)}")


def _index(measured: dict[str, Any]) -> str:
    """How much of the exact answer the index finds, the wider it searches the more."""
    curve = sorted(measured["curve"].items(), key=lambda point: int(point[0]))
    lines = [f"{measured['users']:,} users; recall@{measured['k']} by ef_search"]
    lines += [
        f"\n  {ef_search:<30}{recall:.4f}"
        + ("  serves" if int(ef_search) == measured["ef_search"] else "")
        for ef_search, recall in curve
    ]
    return "".join(lines)


def _evaluation(split: str, report: dict[str, Any]) -> str:
    """A line on what was held out, and one a model; all figures are in the JSON."""
    lines = [f"{split}, {report['users']:,} users, k {report['k']}"]
    models = report["models"]
    for model in filter(models.__contains__, MODEL_NAMES):  # jsonb has an order of its own
        found = models[model]
        figures = [
            f"{metric} {found['overall'][metric]['value']:.4f}"
            for metric in ("ndcg", "recall", "coverage", "rmse")
            if (found["overall"].get(metric) or {}).get("value") is not None
        ]
        lines.append(f"\n  {MODEL_NAMES[model]:<30}{', '.join(figures)}")
    return "".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"\n  {name:<30}{_inner(inner)}" for name, inner in value.items())
    return _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return "".join(f"\n    {line}" for line in value.splitlines())
    if isinstance(value, list):
        return " ".join(map(_inner, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_inner(inner)}" for name, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


@command.command()
@click.argument("generation", type=int)
@database_option
def promote(generation: int, database_url: str | None) -> None:
    """Make generation GENERATION the live one; the live one becomes the previous.

    Readers see the one or the other, never a mixture. The source views become those that the
    generation was trained from.

    \b
    Example:
      tterec models promote 3
    """
    from tterec import pipeline
    from tterec.database.connection import Database

    pipeline.models_promote(Database.resolve(database_url), generation)
    click.echo(f"Generation {generation} is live. Back again: tterec models rollback")


@command.command()
@database_option
def rollback(database_url: str | None) -> None:
    """Make the previous generation live again.

    \b
    Example:
      tterec models rollback
    """
    from tterec import pipeline
    from tterec.database.connection import Database

    generation = pipeline.models_rollback(Database.resolve(database_url))
    click.echo(f"Generation {generation} is live. Back again: tterec models rollback")


@command.command()
@database_option
def prune(database_url: str | None) -> None:
    """Drop the vectors and weights of all generations but the live and the previous one.

    Also those that were never promoted, and what failed or killed runs have left. Their lines
    in `tterec models list` stay. Waits up to a minute for transactions that may still read
    an older generation.

    \b
    Example:
      tterec models prune
    """
    from tterec import pipeline
    from tterec.database.connection import Database

    with progress_on_stderr() as progress:
        done = pipeline.models_prune(Database.resolve(database_url), progress)
    for what, which in (("Pruned", done.pruned), ("Cleared leftovers of", done.cleared)):
        if which:
            click.echo(f"{what} generation {', '.join(map(str, which))}.")
    for generation, reason in done.left.items():
        logs.say(f"Left generation {generation}: {reason}; prune again later.")
    if not (done.pruned or done.cleared or done.left):
        click.echo("Nothing to prune.")
