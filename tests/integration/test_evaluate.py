"""The verb `evaluate` on a real database: what it reads, what it keeps, what it leaves alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.integration.test_train import CONFIG, FILM_FILES, FILMS, SHOP, rows
from tterec import errors, evaluating, pipeline
from tterec.database.connection import Database
from tterec.judging import Protocol, Report
from tterec.records import Progress
from tterec.store import generations, registry, vector_tables


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with a small bookshop's data."""
    with database.connect() as connection:
        connection.execute(SHOP)
    return database


def evaluate(database: Database, split: str = "random", **settings: object) -> Report:
    config = replace(CONFIG, **settings) if settings else CONFIG
    return evaluating.evaluate(database, Protocol(split=split), config)


def test_a_report_is_kept_with_the_live_generation_by_split(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    before = pipeline.models_show(shop, 1)["metrics"]
    random, unseen = evaluate(shop), evaluate(shop, "unseen-users")
    assert (random.generation, random.not_stored) == (1, None)
    after = pipeline.models_show(shop, 1)["metrics"]
    assert after.pop("evaluation") == {"random": asdict(random), "unseen-users": asdict(unseen)}
    assert after == before
    again = evaluating.evaluate(shop, Protocol(k=5), CONFIG)
    assert pipeline.models_show(shop, 1)["metrics"]["evaluation"]["random"] == asdict(again)


def test_the_live_generation_stays_as_it_is(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    listed = "SELECT * FROM tterec.recommend(7, 20)"
    with shop.connect() as connection:
        before = rows(connection, listed)
    evaluate(shop)
    with shop.connect(autocommit=True) as connection:
        assert rows(connection, listed) == before
        assert vector_tables.generations_with_tables(connection) == [1]
        assert [one.generation for one in registry.list_generations(connection)] == [1]


def test_without_a_generation_there_is_a_report_and_nothing_to_keep_it_with(
    shop: Database,
) -> None:
    report = evaluate(shop)
    assert (report.generation, report.not_stored) == (None, "no generation is live")
    assert report.training + report.test == 360


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"seed": 3}, "generation 1, which is live, was trained with another seed"),
        ({"dim": 6, "epochs": 1}, "was trained with another dim, epochs"),
    ],
)
def test_a_report_of_other_settings_is_not_kept(
    shop: Database, settings: dict[str, object], reason: str
) -> None:
    pipeline.train(shop, CONFIG)
    report = evaluate(shop, **settings)
    assert report.generation is None
    assert reason in str(report.not_stored)
    assert "evaluation" not in pipeline.models_show(shop, 1)["metrics"]


def test_threads_make_no_other_model(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    assert evaluate(shop, threads=2).generation == 1


def test_a_report_of_other_queries_is_not_kept(shop: Database, tmp_path: Path) -> None:
    pipeline.train(shop, CONFIG)
    items = tmp_path / "items.sql"
    items.write_text("SELECT book_id AS item_id, title FROM tterec.books WHERE book_id <= 40")
    pipeline.train(shop, CONFIG, {"items": items})
    # A rollback makes generation 1 live while the evaluation of generation 2's queries runs.
    rolled_back: list[int] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "train" and not rolled_back:
            with shop.connect(autocommit=True) as connection:
                rolled_back.append(generations.rollback(connection))

    report = evaluating.evaluate(shop, Protocol(), CONFIG, meanwhile)
    assert (report.generation, report.items, rolled_back) == (2, 40, [1])
    assert evaluate(shop).generation == 1


def test_the_default_settings_are_those_of_the_live_generation(shop: Database) -> None:
    assert evaluating.live_settings(shop).dim == 64
    config = replace(CONFIG, dim=6, seed=5)
    pipeline.train(shop, config)
    assert evaluating.live_settings(shop) == config
    report = evaluating.evaluate(shop)
    assert (report.settings, report.seed, report.generation) == (asdict(config), 5, 1)


def test_temporal_holds_out_the_newest_where_there_are_dates(shop: Database) -> None:
    report = evaluate(shop, "temporal")
    # Of four interactions 0.8 are lent: none or one.
    assert report.test == pytest.approx(72, abs=16)
    assert report.by_user_ratings["1-4"] == report.users == report.test
    with shop.connect() as connection:
        connection.execute("UPDATE tterec.ratings SET rated_at = NULL")
    with pytest.raises(errors.EvaluationError, match="needs dates"):
        evaluate(shop, "temporal")


def test_a_shop_with_text_ids_and_tables_of_its_own(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        connection.execute(FILMS)
    files = {name: tmp_path / f"{name}.sql" for name in FILM_FILES}
    for name, path in files.items():
        path.write_text(FILM_FILES[name], encoding="utf-8")
    pipeline.train(database, CONFIG, files)
    report = evaluate(database, objective="softmax")
    assert (report.items, report.generation) == (40, 1)


def test_predicted_ratings_have_errors(shop: Database) -> None:
    report = evaluate(shop, objective="mse")
    for model in ("tterec", "biases"):
        assert 0 < (report.models[model].overall["rmse"].value or 0) < 5


def test_without_data_or_schema_the_next_command_is_named(
    database: Database, empty_database: Database
) -> None:
    with pytest.raises(errors.SourceError, match="tterec load"):
        evaluate(database)
    with pytest.raises(errors.SchemaOutdated, match="tterec db upgrade"):
        evaluate(empty_database)


def test_a_reader_who_may_not_write_gets_the_report_all_the_same(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    with shop.connect(autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS analyst")
        connection.execute("CREATE ROLE analyst LOGIN IN ROLE tterec_reader")
    analyst = Database(shop.url.replace("postgres@", "analyst@"))
    try:
        report = evaluate(analyst)
    finally:
        with shop.connect(autocommit=True) as connection:
            connection.execute("DROP ROLE analyst")
    assert report.users > 0
    assert "permission denied" in str(report.not_stored)
