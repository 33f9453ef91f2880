"""The verb `fine_tune`: the live towers go on, the next generation is live, or nothing changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.generations import plant_books, random_vectors
from tests.integration.test_train import CONFIG, FILM_FILES, FILMS, SHOP, rows, stored
from tterec import errors, evaluating, fine_tuning, pipeline, updating
from tterec.database.connection import Database
from tterec.records import Progress
from tterec.store import generations, registry, vector_tables

# Tastes move on: users of one taste take to books of the next, and there are new books and users.
NEWS = """
    INSERT INTO tterec.users SELECT u, 'rome, italy', 40 FROM generate_series(91, 100) u;
    INSERT INTO tterec.books (book_id, isbn, title, author, year)
        SELECT b, to_char(b, 'FM0000000000'), 'Book ' || b, 'Author ' || b % 3, 2020
        FROM generate_series(61, 66) b;
    INSERT INTO tterec.ratings (user_id, book_id, rating)
        SELECT u, 3 * ((u + 7 * n) % 22) + (u + 1) % 3 + 1, 9
        FROM generate_series(1, 100) u, generate_series(1, 5) n ON CONFLICT DO NOTHING;
"""


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with a small bookshop's data and a live generation."""
    with database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(database, CONFIG)
    return database


@pytest.fixture
def moved(shop: Database) -> Database:
    """The shop, where much has happened since the generation was trained."""
    with shop.connect() as connection:
        connection.execute(NEWS)
    return shop


def test_a_generation_is_published_and_the_one_before_can_come_back(moved: Database) -> None:
    tuned = fine_tuning.fine_tune(moved, epochs=4)
    assert tuned.kept is None
    made = tuned.generation
    assert (made.generation, made.active, made.status) == (2, True, "ready")
    assert made.metrics["fine_tuned_from"] == 1
    assert made.metrics["validation_ndcg_at_20"] > made.metrics["validation_ndcg_at_20_before"]
    assert made.counts["item_vectors"] == 66
    with moved.connect() as connection:
        assert registry.settings(connection, 2) == CONFIG, "also the epochs of a later training"
        lists = rows(connection, "SELECT count(*), min(source) FROM tterec.recommend(95, 5)")
    assert lists == [(5, "history")]
    assert pipeline.models_rollback(moved) == 1
    assert [one.active for one in pipeline.models_list(moved)] == [True, False]


def test_what_was_held_out_is_told_to_the_next_fine_tuning(
    moved: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tterec import towers

    def pairs(generation: int) -> set[tuple[object, ...]]:
        query = "SELECT user_id, item_id FROM tterec.held_out WHERE generation = %s"
        with moved.connect() as connection:
            return set(rows(connection, query, generation))

    told, made, tune = [], [], towers.fine_tune

    def watched(live, interactions, *arguments, held_out, **named):  # type: ignore[no-untyped-def]
        ids = interactions.user_ids[held_out], interactions.item_ids[held_out]
        told.append(set(zip(*(column.tolist() for column in ids), strict=True)))
        made.append(tune(live, interactions, *arguments, held_out=held_out, **named))
        return made[-1]

    monkeypatch.setattr(towers, "fine_tune", watched)
    before = pairs(1)
    assert len(before) > 5
    gone = min(before)
    with moved.connect() as connection:
        connection.execute("DELETE FROM tterec.ratings WHERE (user_id, book_id) = (%s, %s)", gone)
    assert fine_tuning.fine_tune(moved, epochs=4).kept is None
    assert told == [before - {gone}]
    validation = made[0].validation
    ids = validation.user_ids.tolist(), validation.item_ids.tolist()
    assert pairs(2) == set(zip(*ids, strict=True)) != before


def test_an_evaluation_trains_anew_and_is_not_kept_as_that_of_fine_tuned_towers(
    moved: Database,
) -> None:
    assert fine_tuning.fine_tune(moved, epochs=2).generation.generation == 2
    report = evaluating.evaluate(moved)
    assert (
        report.not_stored
        == "generation 2, which is live, was fine-tuned, and this was trained anew"
    )


def test_a_fine_tuned_generation_can_be_fine_tuned(moved: Database) -> None:
    fine_tuning.fine_tune(moved, epochs=2)
    again = fine_tuning.fine_tune(moved)
    assert again.generation.generation == 2
    assert again.kept is not None
    assert "nothing new" in again.kept
    with moved.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.ratings SELECT u, b, 10 FROM generate_series(1, 60) u,"
            " generate_series(61, 66) b WHERE b % 3 = u % 3 ON CONFLICT DO NOTHING"
        )
    third = fine_tuning.fine_tune(moved, epochs=6)
    assert third.kept is None, third.kept
    assert third.generation.metrics["fine_tuned_from"] == 2


def test_without_promotion_the_live_generation_stays(moved: Database) -> None:
    made = fine_tuning.fine_tune(moved, epochs=3, promote=False).generation
    assert (made.generation, made.status, made.active) == (2, "ready", False)


def test_the_same_seed_gives_the_same_bytes(moved: Database) -> None:
    for seed in (5, 5, 6):
        assert fine_tuning.fine_tune(moved, epochs=3, seed=seed, promote=False).kept is None
    with moved.connect() as connection:
        for kind in vector_tables.KINDS:
            first, second, other = (stored(connection, kind, n) for n in (2, 3, 4))
            assert first.tobytes() == second.tobytes()
            assert first.tobytes() != other.tobytes()


def test_where_nothing_is_new_nothing_is_published(shop: Database) -> None:
    tuned = fine_tuning.fine_tune(shop)
    assert tuned.kept == "there is nothing new to learn in 360 interactions"
    assert tuned.generation.active
    assert len(pipeline.models_list(shop)) == 1


def test_ratings_are_learned_too(shop: Database) -> None:
    """With mse, from what is rated alone."""
    pipeline.train(shop, replace(CONFIG, objective="mse", validation_users=0))
    with shop.connect() as connection:
        connection.execute("INSERT INTO tterec.ratings VALUES (1, 1, NULL), (2, 1, NULL)")
    assert fine_tuning.fine_tune(shop).kept is not None
    with shop.connect() as connection:
        connection.execute("INSERT INTO tterec.ratings VALUES (4, 1, 9), (5, 1, 3)")
    made = fine_tuning.fine_tune(shop, epochs=2)
    assert made.kept is None, "without validation there is nothing to compare"
    assert made.generation.objective == "mse"
    assert made.generation.metrics["best_epoch"] == 2


def test_towers_that_do_no_better_are_not_published(
    moved: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tterec.towers.fine_tuning.PACE", 1e-9)
    tuned = fine_tuning.fine_tune(moved, epochs=1)
    assert tuned.kept is not None
    assert "no epoch did better on validation than generation 1 does (NDCG@20 0." in tuned.kept
    assert [(one.generation, one.active) for one in pipeline.models_list(moved)] == [(1, True)]


def test_interactions_without_a_time_are_noticed_by_their_number(moved: Database) -> None:
    with moved.connect() as connection:
        connection.execute("UPDATE tterec.ratings SET rated_at = NULL")
    heard: list[Progress] = []
    assert fine_tuning.fine_tune(moved, epochs=1, progress=heard.append).generation
    plan = next(one.message for one in heard if one.message and "learning" in one.message)
    with moved.connect() as connection:
        ((total,),) = rows(connection, "SELECT count(*) FROM tterec.ratings")
    learned = sum(int(word) for word in plan.replace(",", "").split() if word.isdigit())
    assert learned > 0.9 * int(str(total)), "all but what validation takes"


STRANGERS = (
    "INSERT INTO tterec.users SELECT u, 'rome, italy', 40 FROM generate_series(201, 203) u",
    "INSERT INTO tterec.ratings SELECT u, b, 9, NULL FROM generate_series(201, 203) u,"
    " generate_series(1, 4) b",
)


@pytest.mark.parametrize("stateless", [False, True])
def test_users_whom_an_update_added_are_new(
    shop: Database, monkeypatch: pytest.MonkeyPatch, stateless: bool
) -> None:
    """Also to a generation from before there were digests."""
    with shop.connect() as connection:
        if stateless:
            connection.execute("DELETE FROM tterec.user_state; DELETE FROM tterec.item_state")
        for statement in STRANGERS:
            connection.execute(statement)
    updating.update(shop)
    found, look = [], fine_tuning.unlearned

    def watched(data, *arguments, **named):  # type: ignore[no-untyped-def]
        found.append((data.interactions, look(data, *arguments, **named)))
        return found[-1][1]

    monkeypatch.setattr(fine_tuning, "unlearned", watched)
    fine_tuning.fine_tune(shop, epochs=1)
    ((interactions, news),) = found
    assert news.told
    assert interactions.user_ids[news.certain].tolist() == [201] * 4 + [202] * 4 + [203] * 4


def test_only_users_that_were_learned_from_count_as_deleted(moved: Database) -> None:
    """Not those whom an update added."""
    with moved.connect() as connection:
        connection.execute("INSERT INTO tterec.users VALUES (500, 'lima, peru', 30)")
    updating.update(moved)
    with moved.connect() as connection:
        connection.execute("DELETE FROM tterec.users WHERE user_id IN (7, 500)")
    made = fine_tuning.fine_tune(moved, epochs=3)
    assert made.kept is None
    assert made.generation.forgotten_users == 1


def test_who_is_still_in_the_interactions_does_not_count_as_deleted(
    database: Database, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.sql" for name in FILM_FILES}
    for name, path in files.items():
        path.write_text(FILM_FILES[name], encoding="utf-8")
    with database.connect() as connection:
        connection.execute(FILMS)
    pipeline.train(database, replace(CONFIG, validation_users=0), files)
    with database.connect() as connection:
        connection.execute("DELETE FROM shop.members WHERE name = 'member-9'")
        connection.execute(
            "INSERT INTO shop.views (member, film, stars) VALUES ('somebody', 'film-1', 5)"
        )
    made = fine_tuning.fine_tune(database, epochs=1)
    assert made.kept is None
    assert made.generation.forgotten_users == 0


def test_deleted_users_and_books_do_not_come_back(moved: Database) -> None:
    with moved.connect() as connection:
        connection.execute("DELETE FROM tterec.users WHERE user_id IN (7, 8)")
        connection.execute("DELETE FROM tterec.books WHERE book_id = 9")
    assert fine_tuning.fine_tune(moved, epochs=3).kept is None
    with moved.connect() as connection:
        assert rows(connection, "SELECT 1 FROM tterec.user_vectors_2 WHERE user_id < 9") == (
            [(1,)] * 6
        )
        for kind in ("item_vectors", "history_vectors"):
            assert rows(connection, f"SELECT 1 FROM tterec.{kind}_2 WHERE item_id = 9") == []
        # Its weights go on from those that learned from both.
        forgotten = "SELECT forgotten_users FROM tterec.models WHERE generation = 2"
        assert rows(connection, forgotten) == [(2,)]
        assert 9 not in pipeline.load_towers(moved, 2).item_ids


def test_without_a_live_generation_it_says_to_train(database: Database) -> None:
    with pytest.raises(errors.NoActiveModel, match="tterec train"):
        fine_tuning.fine_tune(database)


def test_a_generation_without_weights_is_an_error_that_names_the_mend(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        vectors = random_vectors(plant_books(connection, 5), dim=4)
        generation = generations.begin(connection, replace(CONFIG, dim=4))
        generations.publish_vectors(connection, generation, vectors)
        generations.promote(connection, generation)
    with pytest.raises(errors.TrainingError, match=r"no weights to go on from.*tterec train"):
        fine_tuning.fine_tune(database)


def test_a_column_of_another_type_is_refused(moved: Database) -> None:
    with moved.connect() as connection:
        connection.execute(
            "UPDATE tterec.models SET sources ="
            " jsonb_set(sources, '{kinds,items,year}', '\"text\"')"
        )
    with pytest.raises(errors.SourceError, match="year was text in generation 1 and is number now"):
        fine_tuning.fine_tune(moved)


def test_while_another_process_trains_it_is_refused(moved: Database) -> None:
    told: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "train" and not told:
            with pytest.raises(errors.Busy) as caught:
                fine_tuning.fine_tune(moved)
            told.append(str(caught.value))

    pipeline.train(moved, CONFIG, progress=meanwhile)
    assert "another `tterec train` or `tterec update --fine-tune` is running" in told[0]
    assert "models list" not in told[0], "which shows nothing of a fine-tuning that learns"


@pytest.mark.parametrize("stage", ["read users", "train", "write user vectors", "recall"])
def test_an_interrupt_publishes_nothing(moved: Database, stage: str) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tuning.fine_tune(moved, epochs=3, progress=interrupt)
    assert next(one.active for one in pipeline.models_list(moved))
    with moved.connect(autocommit=True) as connection:
        assert vector_tables.generations_with_tables(connection) == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_leaves_the_live_generation_serving(moved: Database) -> None:
    command = [sys.executable, "-m", "tterec", "update", "--fine-tune", "--epochs", "9999"]
    with moved.connect() as connection:  # so that it goes on for hours
        connection.execute(
            "UPDATE tterec.models SET config = jsonb_set(config, '{patience}', '9999')"
        )
    with subprocess.Popen(
        [*command, "--database-url", moved.url], stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch 1 ") for line in process.stderr)
        process.send_signal(signal.SIGKILL)
    with moved.connect() as connection:
        lists = rows(connection, "SELECT count(*) FROM tterec.recommend(7, 5)")
        assert lists == [(5,)]
        assert registry.live(connection) == 1


def test_the_command_says_what_came_of_it(moved: Database) -> None:
    def tterec(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tterec", "update", "--fine-tune", *options],
            env={**os.environ, "TTEREC_DATABASE_URL": moved.url},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    first = tterec("--epochs", "3", "--seed", "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Generation 2 is live: softmax, 8 dimensions")
    assert "learning " in first.stderr
    second = tterec()
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("Generation 2 stays live: there is nothing new")
    third = tterec("--epochs", "0")
    assert (third.returncode, third.stdout) == (1, "")
    assert "epochs = 0 is out of range" in third.stderr
