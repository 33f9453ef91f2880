"""`tterec evaluate`: how good the recommendations are, beside the simplest there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tterec.cli import logs
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops
from tterec.config import choices

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from tterec.judging import Report
    from tterec.records import Figure

_SPLITS = ("random", "temporal", "leave-one-out", "unseen-users")
_SHARE = 0.2
_WIDTH = 100
_MODELS_A_TABLE = 4
MODEL_NAMES = {
    "tterec": "tterec",
    "towers": "towers alone",
    "item_knn": "item-kNN",
    "popularity": "popularity",
    "weighted_average": "weighted average",
    "cluster_kmeans": "K-means clusters",
    "cluster_gmm": "Gaussian mixture",
    "biases": "biases",
}
_LIST_METRICS = {
    "ndcg": "NDCG@{k}",
    "recall": "recall@{k}",
    "precision": "precision@{k}",
    "map": "MAP@{k}",
    "mrr": "MRR@{k}",
    "hit_rate": "hit rate@{k}",
    "coverage": "coverage",
    "novelty": "novelty, bits",
    "popularity_bias": "from the top 1%",
}
_HELD_OUT = {
    "random": "{share:.0%} of each user's interactions, by lot",
    "temporal": "the newest {share:.0%} of each user's interactions",
    "leave-one-out": "one interaction of each user, by lot",
    "unseen-users": "{share:.0%} of the users, half of whose interactions are shown",
}


@click.command("evaluate")
@click.option(
    "--split",
    type=click.Choice(_SPLITS),
    default="random",
    show_default=True,
    help="What is held out; see above.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="X",
    help=f"The share that is held out, of interactions or of users. Default: {_SHARE}.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="How long the lists are.",
)
@click.option(
    "--relevant-from",
    type=float,
    metavar="RATING",
    help="Relevant are held-out items rated this or more, or not rated. Default: all.",
)
@click.option(
    "--users",
    type=click.IntRange(min=1),
    metavar="N",
    default=10_000,
    show_default=True,
    help="Judge by at most N users, drawn by lot.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings as TOML, as for tterec train.",
)
@click.option("--objective", type=click.Choice(choices("objective")), help="As for tterec train.")
@click.option("--epochs", type=int, metavar="N", help="As for tterec train.")
@click.option("--dim", type=int, metavar="N", help="As for tterec train.")
@click.option("--seed", type=int, metavar="N", help="Of the split and of the training.")
@click.option("--device", type=click.Choice(choices("device")), help="As for tterec train.")
@database_option
def command(
    *,
    split: str,
    share: float | None,
    k: int,
    relevant_from: float | None,
    users: int,
    form: str,
    config_file: Path | None,
    database_url: str | None,
    **settings: Any,
) -> None:
    """Hold out, train on the rest, rank the whole catalogue, and see what was found.

    The splits: random holds out a share of each user's interactions, temporal the same share but
    the newest of each user (ties by item id; needs rated_at), leave-one-out one of each user with
    two or more. unseen-users keeps a share of the users out of the training altogether; their
    lists are made from one half of their interactions and judged by the other.

    Beside tterec stand its towers alone (no second stage) and two baselines, item-kNN and
    popularity; with unseen-users also the weighted average of a user's books, and the most popular
    books of the nearest cluster (needs 'tterec[cluster]'). Each figure has its 95% interval, from
    1,000 bootstrap draws of users. Whatever a user has met in the training part is left out of the
    list. The live generation goes on serving.

    Settings: flags, then --config, then (without --config) those of the live generation. If they
    are those of the live generation, and the queries too, the report is stored with it (the
    latest of each split): tterec models show N. Else it says why not.

    With --format json: one object; `models` holds for each model `overall`, `by_user_ratings` and
    `by_item_popularity`, and for each metric there `value`, `low` and `high`.

    \b
    Examples:
      tterec evaluate
      tterec evaluate --split leave-one-out -k 10 --relevant-from 7
      tterec evaluate --config train.toml --seed 1 --format json > report.json
    """
    from tterec import evaluating
    from tterec.database.connection import Database
    from tterec.judging import Protocol
    from tterec.settings_files import training_config

    if share is not None and split == "leave-one-out":
        raise click.UsageError("--share says nothing to leave-one-out; leave it out.")
    protocol = Protocol(split, share or _SHARE, k, relevant_from, users)
    database = Database.resolve(database_url)
    base = None if config_file else evaluating.live_settings(database)
    config = training_config(config_file, base=base, **settings)
    with stops("nothing was stored"), progress_on_stderr() as progress:
        report = evaluating.evaluate(database, protocol, config, progress)
    if form == "json":
        import json
        from dataclasses import asdict

        click.echo(json.dumps(asdict(report), indent=2))
    else:
        _print_table(report)
    if report.not_stored is None:
        logs.say(f"Stored; see: tterec models show {report.generation}")
    else:
        logs.say(f"Not stored: {report.not_stored}.")


def _print_table(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    for line in _heading(report):
        console.print(line, markup=False, soft_wrap=True)
    names = [name for name, model in report.models.items() if "ndcg" in model.overall]
    for start in range(0, len(names), _MODELS_A_TABLE):
        console.print(_table(report, names[start : start + _MODELS_A_TABLE]))
    for line in (*_predictions(report), *_verdicts(report)):
        console.print(line, markup=False, soft_wrap=True)
    if report.left_out is not None:
        console.print(f"Left out: {report.left_out}", markup=False, soft_wrap=True)


def _table(report: Report, names: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(MODEL_NAMES[name])
    overall = {name: report.models[name].overall for name in names}
    for metric, label in _LIST_METRICS.items():
        table.add_row(label.format(k=report.k), *(_cell(overall[name][metric]) for name in names))
    table.add_section()
    table.add_row(f"NDCG@{report.k} by ratings", end_section=False, style="bold")
    for group, size in report.by_user_ratings.items():
        cells = [report.models[name].by_user_ratings[group]["ndcg"] for name in names]
        table.add_row(f"{group}: {size:,} user{'s' * (size != 1)}", *map(_cell, cells))
    table.add_section()
    table.add_row(f"recall@{report.k} by item", style="bold")
    for kind, label in (("head", "top 1%"), ("middle", "next 19%"), ("tail", "the rest")):
        cells = [report.models[name].by_item_popularity[kind]["recall"] for name in names]
        table.add_row(label, *map(_cell, cells))
    return table


def _heading(report: Report) -> Iterator[str]:
    held_out = _HELD_OUT[report.split].format(share=report.share)
    yield f"Held out: {held_out} ({report.test:,} interactions; seed {report.seed})"
    shown = f", shown {report.shown:,}" if report.shown else ""
    yield (
        f"Trained on {report.training:,} interactions{shown}; all {report.items:,} items ranked "
        f"for {report.users:,} users"
    )
    least = report.relevant_from
    which = "" if least is None else f" that is rated {least:g} or more, or not rated"
    yield f"Relevant: every held-out item{which}"


def _cell(figure: Figure) -> Text:
    from rich.text import Text

    if figure.value is None:
        return Text("-")
    cell = Text(_number(figure.value))
    if figure.low is not None and figure.high is not None:
        cell.append(f" {_bare(figure.low)}-{_bare(figure.high)}", style="dim")
    return cell


def _number(value: float) -> str:
    digits = 4 if value < 1 else 3 if value < 10 else 2
    return f"{value:.{digits}f}"


def _bare(value: float) -> str:
    return _number(value).removeprefix("0") if value < 1 else _number(value)


def _predictions(report: Report) -> Iterator[str]:
    """Of predicted ratings, where there are any."""
    for metric in ("rmse", "mae"):
        found = [
            f"{MODEL_NAMES[name]} {_with_interval(model.overall[metric])}"
            for name, model in report.models.items()
            if metric in model.overall
        ]
        if found:
            yield f"{metric.upper()} of predicted ratings: {', '.join(found)}"


def _verdicts(report: Report) -> Iterator[str]:
    for one in report.differences:
        parts = [
            f"{_LIST_METRICS[metric].format(k=report.k)} "
            f"{_with_interval(one.figures[metric], signed=True)}"
            for metric in ("ndcg", "recall")
        ]
        model, minus = MODEL_NAMES[one.model], MODEL_NAMES[one.minus]
        yield f"{model} less {minus}: {', '.join(parts)}"


def _with_interval(figure: Figure, signed: bool = False) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return "-"
    sign = "+" if signed else ""
    return f"{figure.value:{sign}.4f} [{figure.low:{sign}.4f}, {figure.high:{sign}.4f}]"
