"""`tterec recommend`: a list for one user, or for many into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tterec.cli import lists, logs
from tterec.cli.csv_column import read_column
from tterec.cli.filters import filters_options
from tterec.cli.options import INDEXES, database_option, index_option
from tterec.cli.rules import rules_options
from tterec.errors import InvalidArgument

if TYPE_CHECKING:
    from tterec import Filters, Rules
    from tterec.recommender import Recommender
    from tterec.records import Progress, Recommendation, Strategy

_FILE = click.Path(path_type=Path)
_STRATEGIES = ("weighted-average", "cluster-kmeans", "cluster-gmm", "popular")


@click.command("recommend")
@click.argument("given", metavar="[USER]", nargs=-1)
@click.option("-k", default=10, show_default=True, metavar="N", help="How many books.")
@click.option(
    "--format",
    "style",
    type=click.Choice(lists.FORMATS),
    help="Default: table; csv for --all and --users.",
)
@click.option("--all", "everybody", is_flag=True, help="A list for every user.")
@click.option(
    "--users", "users_file", type=_FILE, metavar="FILE", help="Users: a CSV with user_id."
)
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write there, not to stdout.")
@click.option("--resume", is_flag=True, help="Go on with the -o FILE of an interrupted run.")
@click.option("--no-ranker", is_flag=True, help="Order by similarity alone.")
@index_option
@click.option(
    "--profile",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Not for a user but for these features, such as age=34; more may follow, or repeat it.",
)
@click.option("--strategy", type=click.Choice(_STRATEGIES), help="A simpler method.")
@filters_options
@rules_options
@database_option
def command(
    *,
    given: tuple[str, ...],
    k: int,
    style: str | None,
    everybody: bool,
    users_file: Path | None,
    output: Path | None,
    resume: bool,
    no_ranker: bool,
    index: str,
    pairs: tuple[str, ...],
    strategy: Strategy | None,
    database_url: str | None,
    filters: Filters | None,
    rules: Rules | None,
) -> None:
    """Recommend books to a user, to those of a file, or to everybody.

    Books that a user has rated, up to this moment, are left out. Who is unknown gets popular
    books. The lists of --all and --users are CSV: user_id,isbn,rank,score.
    With -o the file appears when it is complete; a run that was interrupted goes on with the same
    command and --resume, as long as the generation and the options are the same.

    --author to --min-ratings are filters: a list has k books wherever k of them pass. The filters
    by lists of ISBNs are --available and --unavailable. These and the other options from
    --diversity on are rules of a shop; what each costs is in the README.

    With --profile the list is for somebody who is in no table, by what is known of them: columns
    of the users query. --strategy takes the weighted average of the user's books, or the popular
    ones of the nearest cluster (see tterec cluster), or what is popular with all.

    \b
    Examples:
      tterec recommend 123
      tterec recommend 123 -k 20 --format json
      tterec recommend 123 --author "Agatha Christie" --min-year 1950
      tterec recommend 123 --max-per-author 2 --freshness 0.2
      tterec recommend 123 --index faiss-hnsw
      tterec recommend --all -k 50 -o lists.csv
      tterec recommend --all -k 50 -o lists.csv --resume
      tterec recommend --profile age=34 location="thornbury, england"
      tterec recommend 123 --strategy weighted-average
    """
    profile = (*pairs, *given) if pairs else ()
    user = given[0] if given and not pairs else None
    if profile and strategy is not None:
        raise InvalidArgument("--strategy looks at what a user read: leave out --profile, or it")
    if len(given) > 1 and not pairs:
        raise InvalidArgument(
            f"{' '.join(given)} are {len(given)} users; name one, or a file with --users FILE"
        )
    if [bool(profile), user is not None, everybody, users_file is not None].count(True) != 1:
        raise InvalidArgument(
            "name one user (tterec recommend 123), a file (--users FILE), everybody (--all), or "
            "features (--profile age=34)"
        )
    if no_ranker and (profile or strategy is not None):
        raise InvalidArgument(
            "--profile and --strategy have no second stage: leave out --no-ranker, or them"
        )
    many = user is None and not profile
    if many and strategy is not None and index != INDEXES[0]:
        raise InvalidArgument(
            f"--strategy for many users searches all books: leave out --index {index}"
        )
    if many and style not in (None, "csv"):
        raise InvalidArgument(f"--all and --users write csv, not {style}; leave out --format")
    if resume and not many:
        raise InvalidArgument("--resume goes on with the lists of many: --all -o FILE --resume")
    users = None if users_file is None else read_column(users_file, "user_id")
    from tterec.database.connection import Database
    from tterec.recommender import Recommender

    with Recommender(Database.resolve(database_url).of("recommend"), index=index) as recommender:
        if many:
            from tterec.cli import many_lists

            options = {
                "k": k,
                "ranker": not no_ranker,
                "rules": rules,
                "filters": filters,
                "strategy": strategy,
            }
            many_lists.write(recommender, users, output, resume=resume, options=options)
            return
        with lists.output(output, style or "table") as out:
            if profile:
                found = _for_profile(recommender, profile, k, rules, filters)
                lists.write_list(out, found, style or "table")
                return
            assert user is not None
            one = recommender.recommend(
                user,
                k,
                ranker=not no_ranker,
                rules=rules,
                filters=filters,
                strategy=strategy,
                progress=_say,
            )
            if k > 0 and strategy != "popular" and (not one or one[0].source == "popular"):
                logs.say(_why_not_personal(recommender, user, bool(one), filters))
            lists.write_list(out, one, style or "table")


def _say(progress: Progress) -> None:
    if progress.message is not None:
        logs.say(progress.message)


def _for_profile(
    recommender: Recommender,
    pairs: tuple[str, ...],
    k: int,
    rules: Rules | None,
    filters: Filters | None,
) -> list[Recommendation]:
    from tterec import cold_start

    kinds = recommender.profile_features()
    if kinds is None:
        logs.say("No generation is live (train one: tterec train): these are popular books.")
        return recommender.popular(k, rules=rules, filters=filters)
    found = recommender.recommend_for_profile(
        cold_start.parsed(kinds, pairs), k, rules=rules, filters=filters
    )
    if found and found[0].source == "popular":
        logs.say("Nothing is known of this visitor: these are popular books.")
    return found


def _why_not_personal(
    recommender: Recommender, user: str, any_books: bool, filters: Filters | None
) -> str:
    if filters and not any_books:
        return f"No book that passes the filters is left for user {user}."
    if recommender.generation() is None:
        why = "No generation is live (train one: tterec train)"
    elif any_books:
        why = f"Nothing is known of user {user}"
    else:
        return f"No book is left for user {user}."
    return f"{why}: these are popular books." if any_books else f"{why}, and there are no books."
