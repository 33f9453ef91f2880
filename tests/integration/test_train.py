"""The verb `train`: from the sources to a live generation, or to nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.integration.test_sources import keys
from tterec import errors, pipeline
from tterec.config import TrainingConfig
from tterec.database import vectors as wire
from tterec.database.connection import Connection, Database
from tterec.records import Progress
from tterec.store import generations, reading, registry, sources, vector_tables

CONFIG = TrainingConfig(dim=8, epochs=2, batch_size=128, uniform_negatives=16, threads=1)

# Three tastes: user u likes the books of taste u % 3. Every user has met 8 of 60 books.
SHOP = """
    INSERT INTO tterec.users
        SELECT u, (ARRAY['lima, peru', 'oslo, norway', 'bonn, germany'])[u % 3 + 1], 20 + u % 50
        FROM generate_series(1, 90) u;
    INSERT INTO tterec.books (book_id, isbn, title, author, year)
        SELECT b, to_char(b, 'FM0000000000'), 'Book ' || b, 'Author ' || b % 3, 1950 + b
        FROM generate_series(1, 60) b;
    INSERT INTO tterec.ratings
        SELECT u, 3 * ((u + 5 * n) % 20) + u % 3 + 1, nullif(5 + (u + n) % 6, 5),
            timestamptz '2024-01-01' + n * interval '1 day'
        FROM generate_series(1, 90) u, generate_series(1, 4) n
        ON CONFLICT DO NOTHING;
"""

FILMS = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.members (name text PRIMARY KEY, born date, newsletter boolean);
    CREATE TABLE shop.films (
        code text PRIMARY KEY, title text, minutes int, studio text, genres text[],
        colour boolean, premiere date, look real[]);
    CREATE TABLE shop.views (member text, film text, stars int, at timestamptz DEFAULT now());
    INSERT INTO shop.members
        SELECT 'member-' || u, date '1970-01-01' + 100 * u, u % 2 = 0 FROM generate_series(1, 60) u;
    INSERT INTO shop.films
        SELECT 'film-' || f, 'Film ' || f, 80 + f, 'Studio ' || f % 4,
            ARRAY['genre ' || f % 3, 'genre ' || f % 5], f % 2 = 0, date '1950-01-01' + 200 * f,
            ARRAY[f % 3, 1, f % 7]
        FROM generate_series(1, 40) f;
    INSERT INTO shop.views (member, film, stars)
        SELECT DISTINCT ON (1, 2) 'member-' || u, 'film-' || (u * n * 7) % 40 + 1, n % 5 + 1
        FROM generate_series(1, 60) u, generate_series(1, 6) n;
"""
FILM_FILES = {
    "interactions": "-- five stars\nSELECT member AS user_id, film AS item_id,"
    " 2 * stars AS rating, at AS rated_at FROM shop.views;\n",
    "users": "SELECT name AS user_id, born, newsletter FROM shop.members;",
    "items": "SELECT code AS item_id, title, minutes, studio, genres, colour, premiere, look"
    " FROM shop.films;",
}


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with a small bookshop's data."""
    with database.connect() as connection:
        connection.execute(SHOP)
    return database


@pytest.fixture
def film_files(database: Database, tmp_path: Path) -> dict[str, Path]:
    """Three queries over a film shop's tables, which are in the database."""
    with database.connect() as connection:
        connection.execute(FILMS)
    files = {name: tmp_path / f"{name}.sql" for name in FILM_FILES}
    for name, path in files.items():
        path.write_text(FILM_FILES[name], encoding="utf-8")
    return files


def stored(connection: Connection, kind: str, generation: int) -> np.ndarray:
    """A generation's vectors by id, (n, 8)."""
    query = f"COPY (TABLE tterec.{kind}_{generation} ORDER BY 1) TO STDOUT (FORMAT binary)"
    with connection.cursor().copy(query.encode()) as copy:
        return wire.from_copy(copy, 8)[1]


def rows(connection: Connection, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """All rows of a query."""
    return connection.execute(query.encode(), parameters).fetchall()


def test_training_publishes_a_generation_and_makes_it_live(shop: Database) -> None:
    trained = pipeline.train(shop, CONFIG)
    assert trained.active
    assert trained.status == "ready"
    assert trained.counts == {
        "interactions": 360,
        "ratings": 300,
        "users": 90,
        "items": 60,
        "interacting_users": 90,
        "dropped_interactions": 0,
        "item_vectors": 60,
        "user_vectors": 90,
    }
    assert trained.metrics["epochs"] == 2
    assert trained.metrics["index"]["users"] == 90
    assert trained.metrics["index"]["recall"] >= 0.99
    with shop.connect() as connection:
        kinds = registry.show(connection, 1)["sources"]["kinds"]
        found = rows(connection, "SELECT isbn, source FROM tterec.recommend(7, 5)")
    assert kinds["items"]["year"] == "number"
    assert len(found) == 5
    assert {source for _, source in found} == {"history"}


def test_the_same_seed_gives_the_same_bytes(shop: Database) -> None:
    for seed in (1, 1, 2):
        pipeline.train(shop, replace(CONFIG, seed=seed))
    with shop.connect() as connection:
        for kind in vector_tables.KINDS:
            first, second, other = (stored(connection, kind, n) for n in (1, 2, 3))
            assert first.tobytes() == second.tobytes()
            assert first.tobytes() != other.tobytes()


def test_the_order_of_the_rows_does_not_matter(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    with shop.connect() as connection:
        connection.execute("CREATE TABLE mixed AS TABLE tterec.ratings ORDER BY md5(ratings::text)")
        connection.execute("TRUNCATE tterec.ratings")
        connection.execute("INSERT INTO tterec.ratings TABLE mixed")
    pipeline.train(shop, CONFIG)
    with shop.connect() as connection:
        first, second = (stored(connection, "item_vectors", n) for n in (1, 2))
    assert first.tobytes() == second.tobytes()


def test_any_machine_with_the_url_can_embed(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    with shop.connect(autocommit=True) as connection:
        data = reading.read_sources(connection, sources.default_queries())
        users = stored(connection, "user_vectors", 1)
        items = stored(connection, "item_vectors", 1)
        histories = stored(connection, "history_vectors", 1)
    towers = pipeline.load_towers(shop)
    np.testing.assert_array_equal(towers.embed_users(data.users), users)
    embedded = towers.embed_items(data.items)
    np.testing.assert_array_equal(embedded.embeddings, items)
    np.testing.assert_array_equal(embedded.histories, histories)


def test_there_are_no_towers_before_training(shop: Database) -> None:
    with pytest.raises(errors.NoActiveModel, match="tterec train"):
        pipeline.load_towers(shop)
    with pytest.raises(errors.UnknownGeneration, match="no generation 3"):
        pipeline.load_towers(shop, 3)


def test_without_promotion_the_live_generation_stays(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    trained = pipeline.train(shop, CONFIG, promote=False)
    assert (trained.status, trained.active) == ("ready", False)
    assert [one.active for one in pipeline.models_list(shop)] == [True, False]


def test_a_shop_with_its_own_tables_and_text_ids(
    database: Database, film_files: dict[str, Path]
) -> None:
    trained = pipeline.train(database, CONFIG, film_files)
    assert trained.active
    with database.connect(autocommit=True) as connection:
        assert sources.current_queries(connection) == sources.Queries(
            **{name: sources.cleaned(text) for name, text in FILM_FILES.items()}
        )
        listed = "SELECT isbn, title, source FROM tterec.recommend('member-7', 40)"
        before = rows(connection, listed)
        seen = {
            f for (f,) in rows(connection, "SELECT film FROM shop.views WHERE member='member-7'")
        }
        assert {isbn for isbn, _, _ in before} == {f"film-{f}" for f in range(1, 41)} - seen
        assert before[0][1] == f"Film {str(before[0][0]).removeprefix('film-')}"
        assert {source for _, _, source in before} == {"history"}
        # The seen filter reads the shop's own table, now.
        connection.execute(
            "INSERT INTO shop.views (member, film, stars) VALUES ('member-7', %s, 5)",
            (before[0][0],),
        )
        assert before[0][0] not in {isbn for isbn, _, _ in rows(connection, listed)}
    # The next training reads the shop's queries, without being told.
    assert pipeline.train(database, CONFIG).counts["items"] == 40


def test_some_queries_may_be_given_and_the_others_stay(shop: Database, tmp_path: Path) -> None:
    items = tmp_path / "items.sql"
    items.write_text("SELECT book_id AS item_id, isbn, title FROM tterec.books WHERE book_id <= 30")
    trained = pipeline.train(shop, CONFIG, {"items": items})
    assert trained.counts["items"] == 30
    assert trained.counts["dropped_interactions"] == 180
    with shop.connect() as connection:
        assert registry.show(connection, 1)["sources"]["origin"] == "custom"
        assert rows(connection, "SELECT count(*) FROM tterec.catalogue") == [(30,)]
        assert rows(connection, "SELECT count(*) FROM tterec.item_popularity") == [(30,)]


def test_queries_go_live_with_their_generation_and_not_before(
    shop: Database, film_files: dict[str, Path]
) -> None:
    pipeline.train(shop, CONFIG)
    with pytest.raises(errors.SourceError, match="user_id was number in generation 1"):
        pipeline.train(shop, CONFIG, film_files)
    trained = pipeline.train(shop, CONFIG, film_files, promote=False, accept_new_types=True)
    catalogue = "SELECT count(*) FROM tterec.catalogue"
    with shop.connect(autocommit=True) as connection:
        assert rows(connection, catalogue) == [(60,)]
        pipeline.models_promote(shop, trained.generation)
        assert rows(connection, catalogue) == [(40,)]
        assert len(rows(connection, "SELECT * FROM tterec.popular_books(50)")) == 40
        assert pipeline.models_rollback(shop) == 1
        assert rows(connection, catalogue) == [(60,)]


def test_a_column_of_another_type_is_refused_until_it_is_accepted(
    shop: Database, tmp_path: Path
) -> None:
    pipeline.train(shop, CONFIG)
    items = tmp_path / "items.sql"
    items.write_text("SELECT book_id AS item_id, title, year::text AS year FROM tterec.books")
    with pytest.raises(errors.SourceError, match="was number in generation 1 and is text now"):
        pipeline.train(shop, CONFIG, {"items": items})
    assert len(pipeline.models_list(shop)) == 1
    pipeline.train(shop, CONFIG, {"items": items}, accept_new_types=True)
    assert pipeline.train(shop, CONFIG).active


@pytest.fixture
def stop() -> Iterator[Callable[[str], Callable[[Progress], None]]]:
    """Makes progress callbacks that interrupt at the first sign of a stage."""

    def interrupting(stage: str) -> Callable[[Progress], None]:
        def callback(progress: Progress) -> None:
            if progress.stage.startswith(stage):
                raise KeyboardInterrupt

        return callback

    return interrupting


@pytest.mark.parametrize(
    "stage", ["read users", "read interactions", "train", "write user vectors", "recall"]
)
def test_an_interrupt_publishes_nothing(
    shop: Database, stop: Callable[[str], Callable[[Progress], None]], stage: str
) -> None:
    pipeline.train(shop, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(shop, CONFIG, progress=stop(stage))
    found = pipeline.models_list(shop)
    assert [one.active for one in found] == [True] + [False] * (len(found) - 1)
    assert [one.status for one in found[1:]] == ["failed"] * (len(found) - 1)
    assert (len(found) == 2) is (stage not in ("read users", "read interactions"))
    with shop.connect(autocommit=True) as connection:
        assert vector_tables.generations_with_tables(connection) == [1]
    assert pipeline.train(shop, CONFIG).active


def test_a_failure_publishes_nothing(shop: Database) -> None:
    with shop.connect() as connection:
        connection.execute("UPDATE tterec.ratings SET rating = NULL")
    with pytest.raises(errors.TrainingError, match="no interaction has one"):
        pipeline.train(shop, replace(CONFIG, objective="mse"))
    assert [one.status for one in pipeline.models_list(shop)] == ["failed"]


def test_a_generation_that_cannot_be_promoted_is_kept(
    shop: Database, film_files: dict[str, Path]
) -> None:
    with shop.connect() as connection:
        connection.execute("CREATE VIEW shop.mine AS SELECT * FROM tterec.catalogue")
    with pytest.raises(errors.SourceError, match=r"1 is ready but not live: .*shop\.mine"):
        pipeline.train(shop, CONFIG, film_files)
    assert [one.status for one in pipeline.models_list(shop)] == ["ready"]
    with shop.connect() as connection:
        connection.execute("DROP VIEW shop.mine")
    pipeline.models_promote(shop, 1)


def test_two_trainings_at_once_are_one_too_many(shop: Database) -> None:
    told: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "train" and not told:
            with pytest.raises(errors.Busy) as caught:
                pipeline.train(shop, CONFIG)
            told.append(str(caught.value))

    assert pipeline.train(shop, CONFIG, progress=meanwhile).active
    assert "another `tterec train` or `tterec update --fine-tune` is running" in told[0]
    assert len(pipeline.models_list(shop)) == 1


def test_a_prune_during_training_takes_nothing_from_it(shop: Database) -> None:
    pipeline.train(shop, CONFIG)

    def meanwhile(progress: Progress) -> None:
        if progress.stage in ("train", "write user vectors"):
            assert pipeline.models_prune(shop).cleared == []

    assert pipeline.train(shop, CONFIG, progress=meanwhile).active


def test_both_objectives_are_recorded_as_what_they_are(shop: Database) -> None:
    pipeline.train(shop, replace(CONFIG, objective="mse"))
    shown = pipeline.models_show(shop, 1)
    assert (shown["objective"], shown["normalised"]) == ("mse", False)
    assert shown["config"]["objective"] == "mse"
    assert shown["metrics"]["validation_rmse"] > 0


def test_an_outdated_schema_is_named_first(empty_database: Database) -> None:
    with pytest.raises(errors.SchemaOutdated, match="tterec db upgrade"):
        pipeline.train(empty_database, CONFIG)


def test_ids_that_only_interactions_know_are_mapped_too(
    database: Database, film_files: dict[str, Path]
) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO shop.views VALUES ('stranger', 'film-1', 5, now())")
    pipeline.train(database, CONFIG, film_files)
    with database.connect() as connection:
        assert "stranger" in keys(connection, "user")
        found = rows(connection, "SELECT source FROM tterec.recommend('stranger', 3)")
    assert found == [("history",)] * 3


def test_a_generation_from_the_defaults_is_served_by_the_defaults_of_today(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade that changed a default query, a rollback must not bring the old one."""
    pipeline.train(shop, CONFIG)
    pipeline.train(shop, CONFIG)
    edited = replace(
        sources.default_queries(), users="SELECT user_id, age FROM tterec.users WHERE true"
    )
    monkeypatch.setattr(sources, "default_queries", lambda: edited)
    with shop.connect(autocommit=True) as connection:
        generations.rollback(connection)
        assert sources.current_queries(connection) == edited
        assert edited.origin == "default"


def test_a_role_that_is_no_superuser_trains_beside_an_extension_in_another_schema(
    empty_database: Database,
) -> None:
    with empty_database.connect(autocommit=True) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
        connection.execute("DROP ROLE IF EXISTS shopkeeper")
        connection.execute("CREATE ROLE shopkeeper LOGIN")
        name = connection.info.dbname
        connection.execute(f"GRANT CREATE ON DATABASE {name} TO shopkeeper".encode())
        connection.execute("GRANT USAGE ON SCHEMA extensions TO shopkeeper")
    keeper = Database(empty_database.url.replace("postgres@", "shopkeeper@"))
    try:
        pipeline.upgrade(keeper)
        with keeper.connect() as connection:
            connection.execute(SHOP)
        for _ in range(3):
            assert pipeline.train(keeper, CONFIG).metrics["index"]["users"] == 90
        assert pipeline.models_prune(keeper).pruned == [1]
        with keeper.connect() as connection:
            assert len(rows(connection, "SELECT * FROM tterec.recommend(7, 5)")) == 5
    finally:
        with empty_database.connect(autocommit=True) as connection:
            connection.execute("DROP OWNED BY shopkeeper CASCADE")
            connection.execute("DROP ROLE shopkeeper")
