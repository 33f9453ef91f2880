"""Who watches from outside: a DBA in pg_stat_activity, a program in the stages and the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.test_surfaces import plant_shop
from tests.integration.test_train import CONFIG, SHOP
from tests.integration.test_update import NEW_BOOK, run
from tterec import (
    Recommender,
    benching,
    bulk_lists,
    clustering,
    evaluating,
    fine_tuning,
    pipeline,
    updating,
    working,
)
from tterec.database.connection import Connection, Database
from tterec.judging import Protocol
from tterec.records import Progress, ProgressCallback


def watched(database: Database, work: Callable[[ProgressCallback], object]) -> tuple[
    list[str], list[str]
]:  # fmt: skip
    """What tterec's sessions were called while it worked, and which stages it told the end of."""
    names: list[str] = []
    stages: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as dba:

        def look(progress: Progress) -> None:
            if progress.seconds is not None:
                assert progress.seconds >= 0
                stages.append(progress.stage)
            for (name,) in dba.execute(
                "SELECT application_name FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'tterec%'"
            ):
                if name not in names:
                    names.append(name)

        work(look)
    return names, stages


TRAINED = ["write vectors", "build index", "write the rest", "check recall"]


def test_training_and_what_follows_show_their_stages(database: Database) -> None:
    run(database, SHOP)
    names, stages = watched(database, lambda look: pipeline.train(database, CONFIG, progress=look))
    assert {
        "tterec train: read sources",
        "tterec train: fit",
        *(f"tterec train: {stage}" for stage in TRAINED),
    } <= set(names)
    assert [stage for stage in stages if stage != "second stage"] == [
        "read sources",
        "train towers",
        *TRAINED,
        "promote",
    ]
    kept = pipeline.models_show(database, 1)["metrics"]["stages"]
    assert {*kept} == {*stages}

    run(database, NEW_BOOK)
    names, stages = watched(database, lambda look: updating.update(database, look))
    assert "tterec update: update items" in names
    assert stages == [
        "compare items",
        "update items",
        "count popularity",
        "compare users",
        "update users",
        "forget users",
    ]

    names, stages = watched(
        database, lambda look: evaluating.evaluate(database, Protocol(), progress=look)
    )
    assert "tterec evaluate: read sources" in names
    assert {"read sources", "train towers", "item-kNN", "rank", "bootstrap"} <= set(stages)

    names, stages = watched(
        database, lambda look: clustering.cluster(database, "kmeans", 3, progress=look)
    )
    assert {"tterec cluster: read vectors", "tterec cluster: store"} <= set(names)
    assert stages == ["read vectors", "fit", "store"]

    run(
        database,
        "INSERT INTO tterec.ratings (user_id, book_id, rating, rated_at)"
        " SELECT user_id, 900, 9, now() FROM tterec.users LIMIT 20",
    )
    names, stages = watched(
        database, lambda look: fine_tuning.fine_tune(database, epochs=1, progress=look)
    )
    assert "tterec update --fine-tune: train towers" in names
    assert {"read sources", "train towers"} <= set(stages)


def test_the_worker_shows_its_stages_and_how_far_it_is(database: Database) -> None:
    run(database, SHOP)
    pipeline.train(database, CONFIG)
    asked, stages = watched(database, lambda look: working.work(database, once=True, progress=look))
    assert "tterec worker: compare items" in asked  # a promotion asks for an update of everything
    assert stages[-1] == "forget users"

    run(database, NEW_BOOK + "; UPDATE tterec.users SET age = age + 1; DELETE FROM tterec.ratings")
    steps: list[Progress] = []
    shown: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as dba:
        embed = updating.Generation.refresh_users

        def look(generation: updating.Generation, *arguments: Any) -> Any:
            shown.extend(
                name
                for (name,) in dba.execute(
                    "SELECT application_name FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE 'tterec%'"
                )
            )
            return embed(generation, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(updating.Generation, "refresh_users", look)
            working.work(database, once=True, progress=steps.append)
    assert set(shown) == {"tterec worker: update users"}
    ended = {step.stage: step.seconds for step in steps if step.seconds is not None}
    assert [*ended] == ["update items", "count popularity", "update users"]
    assert all(seconds > 0 for seconds in ended.values())
    queue = [(step.done, step.total) for step in steps if step.stage == "queue"]
    assert len(queue) > 2
    assert queue == sorted(queue)
    assert queue[-1][0] == queue[-1][1]


def test_lists_for_everybody_and_the_comparison_of_indexes_show_theirs(database: Database) -> None:
    plant_shop(database, normalised=True, users=9, ranker=True)
    asking = database.of("recommend")
    with Recommender(asking) as recommender:
        names, stages = watched(
            database, lambda look: list(recommender.recommend_many(progress=look))
        )
        assert "tterec recommend" in names  # between two batches
        assert stages == ["read vectors", "make lists"]
        at_work: list[str | None] = []
        embed = bulk_lists.Bulk.recommend

        def look(bulk: bulk_lists.Bulk, connection: Connection, *arguments: Any) -> Any:
            at_work.append(connection.info.parameter_status("application_name"))
            return embed(bulk, connection, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bulk_lists.Bulk, "recommend", look)
            list(recommender.recommend_many())
        assert at_work == ["tterec recommend: make lists"]

    names, stages = watched(
        database, lambda look: benching.bench_index(database, ["pgvector"], progress=look)
    )
    assert stages == [
        "read vectors",
        "draw users",
        "exact lists",
        "build pgvector",
        "measure pgvector",
    ]
    assert {f"tterec bench-index: {one}" for one in stages} <= set(names)


def test_a_load_shows_its_stages(database: Database, tmp_path: Path) -> None:
    users, ratings = tmp_path / "users.csv", tmp_path / "ratings.csv"
    users.write_text("User-ID,Location,Age\n1,here,30\n")
    ratings.write_text("User-ID,ISBN,Book-Rating\n1,A,8\n")
    names, stages = watched(
        database,
        lambda look: pipeline.load(database, users=users, ratings=ratings, progress=look),
    )
    assert {"tterec load: read users", "tterec load: store ratings"} <= set(names)
    assert stages == ["read users", "store users", "read ratings", "store ratings", "finish"]


def test_a_name_that_the_url_gives_stays_in_front(database: Database, tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("User-ID,Location,Age\n1,here,30\n")
    named = Database(f"{database.url}&application_name=nightly")
    seen: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as dba:

        def look(_: Progress) -> None:
            seen.extend(
                name
                for (name,) in dba.execute(
                    "SELECT application_name FROM pg_stat_activity"
                    " WHERE datname = current_database()"
                )
            )

        pipeline.load(named, users=users, progress=look)
    assert "nightly: read users" in seen
    assert not any(name.startswith("tterec") for name in seen)


@pytest.mark.parametrize("ranker", [True, False])
def test_a_list_says_at_debug_level_what_its_steps_took(
    database: Database, caplog: pytest.LogCaptureFixture, ranker: bool
) -> None:
    plant_shop(database, normalised=True, users=9, ranker=ranker)
    with Recommender(database) as recommender:
        with caplog.at_level(logging.DEBUG, logger="tterec"):
            quiet = recommender.recommend(4)
        (record,) = [one for one in caplog.records if one.name == "tterec"]
        steps = record.facts["milliseconds"]  # type: ignore[attr-defined]
        assert [*steps] == (
            ["user vector", "candidates", "evidence", "exact scores", "ranking"]
            if ranker
            else ["user vector", "candidates", "exact scores and ranking"]
        )
        assert all(taken > 0 for taken in steps.values())
        assert record.getMessage().startswith("recommend: user vector ")
        caplog.clear()
        assert recommender.recommend(4) == quiet
        assert not caplog.records
