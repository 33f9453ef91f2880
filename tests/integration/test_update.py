"""The verb `update`: the live generation follows its sources."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.test_cold_start import by_the_towers
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import CONFIG, FILM_FILES, FILMS, SHOP, stored
from tterec import Recommender, clustering, errors, pipeline, updating, working
from tterec.database.connection import Connection, Database
from tterec.records import Progress
from tterec.store import (
    differences,
    generations,
    locks,
    popularity,
    registry,
    sources,
    user_updates,
    vector_tables,
)
from tterec.store.item_updates import Counts

NOTHING = Counts()


@pytest.fixture
def shop(database: Database) -> Database:
    """A small bookshop with a live generation."""
    with database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(database, CONFIG)
    return database


@pytest.fixture
def film_shop(database: Database, tmp_path: Path) -> Database:
    """A film shop with text ids and a live generation."""
    with database.connect() as connection:
        connection.execute(FILMS)
    files = {name: tmp_path / f"{name}.sql" for name in FILM_FILES}
    for name, path in files.items():
        path.write_text(FILM_FILES[name], encoding="utf-8")
    pipeline.train(database, CONFIG, files)
    return database


def run(database: Database, *statements: str) -> None:
    with database.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def one(database: Database, query: str) -> Any:
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def all_vectors(connection: Connection) -> list[np.ndarray]:
    """The live generation's vectors of every kind."""
    generation = registry.live(connection)
    assert generation is not None
    return [
        stored(connection, kind, generation)
        for kind in ("item_vectors", "history_vectors", "user_vectors")
    ]


NEW_BOOK = (
    "INSERT INTO tterec.books (book_id, isbn, title, author, year)"
    " VALUES (900, '9000000000', 'Book 900', 'Author 1', 1990)"
)


def test_ratings_of_what_is_not_in_the_catalogue_draw_no_score(film_shop: Database) -> None:
    """Else those that an update has counted again would be off for ever."""
    run(
        film_shop,
        "INSERT INTO shop.views (member, film, stars)"
        " SELECT 'member-' || u, 'withdrawn', 1 FROM generate_series(1, 60) u",
    )
    scores = (
        "SELECT max(abs(n.score - p.score)) FROM tterec.popularity() n"
        " JOIN tterec.item_popularity p ON p.generation = 1 AND p.item_id = n.item_id"
    )
    before = one(film_shop, "SELECT sum(score) FROM tterec.popularity()")
    updating.update(film_shop)
    assert one(film_shop, scores) < popularity.EPSILON
    assert one(film_shop, "SELECT sum(score) FROM tterec.popularity()") == before


def test_after_training_there_is_nothing_to_do(shop: Database) -> None:
    with shop.connect() as connection:
        before = all_vectors(connection)
    done = updating.update(shop)
    assert (done.items, done.users, done.recounted) == (NOTHING, NOTHING, 0)
    with shop.connect() as connection:
        for one_, other in zip(before, all_vectors(connection), strict=True):
            np.testing.assert_array_equal(one_, other)
    assert str(done).startswith(
        "Generation 1 is up to date: 0 new, 0 changed and 0 deleted items; "
        "0 new, 0 changed and 0 deleted users; "
    )


def test_another_session_with_other_settings_finds_nothing_either(
    film_shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are texts in a digest."""
    run(film_shop, "UPDATE shop.films SET look = ARRAY[1.0 / 3, 1, minutes / 7.0]")
    assert updating.update(film_shop).items == Counts(changed=40)
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGOPTIONS", "-c extra_float_digits=-3")
    done = updating.update(film_shop)
    assert (done.items, done.users) == (NOTHING, NOTHING)


def test_a_new_book_is_recommended_before_its_first_rating(shop: Database) -> None:
    run(shop, NEW_BOOK)
    done = updating.update(shop)
    assert (done.items, done.users, done.recounted) == (Counts(new=1), NOTHING, 1)
    with shop.connect() as connection, Recommender(shop) as recommender:
        listed = by_sql(connection, "recommend(%s, %s)", 1, 60)
        assert "9000000000" in [line["isbn"] for line in listed]
        assert_same(listed, [asdict(line) for line in recommender.recommend(1, 60)])
        many = dict(recommender.recommend_many([1, 2], 60))
        assert_same([asdict(line) for line in many[1]], listed)
        for asked, expected in (("0000000001", "9000000000"), ("9000000000", "0000000001")):
            near = by_sql(connection, "similar_books(%s, %s)", asked, 60)
            assert expected in [line["isbn"] for line in near]
            assert_same(near, [asdict(line) for line in recommender.similar(asked, 60)])
        assert "9000000000" in [line.isbn for line in recommender.popular(61)]
        assert len(by_sql(connection, "popular_books(%s)", 100)) == 61
    done = updating.update(shop)
    assert (done.items, done.users, done.recounted) == (NOTHING, NOTHING, 0)


def test_a_new_book_is_where_the_item_tower_puts_its_content(shop: Database) -> None:
    run(
        shop,
        "INSERT INTO tterec.books (book_id, isbn, title, author, year)"
        " SELECT 900 + book_id, 'x' || isbn, title, author, year FROM tterec.books"
        " WHERE book_id IN (1, 2)",
    )
    updating.update(shop)
    near = one(shop, "SELECT array_agg(isbn) FROM tterec.similar_books('x0000000001', 20)")
    same_taste = sum(int(isbn[-2:]) % 3 == 1 for isbn in near)
    assert same_taste >= 15  # its author is that of a third of the books


def test_a_rating_of_a_new_book_counts_once_it_is_embedded(shop: Database) -> None:
    run(shop, NEW_BOOK, "INSERT INTO tterec.users (user_id) VALUES (500)")
    updating.update(shop)
    before = one(shop, "SELECT tterec.user_vector(500)::text")
    run(shop, "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (500, 900, 9)")
    assert one(shop, "SELECT tterec.user_vector(500)::text") != before
    done = updating.update(shop)
    assert done.recounted == 1
    assert one(shop, "SELECT interactions FROM tterec.item_popularity WHERE item_id = 900") == 1
    counted = "SELECT item_id, interactions, ratings, mean_rating FROM"
    with shop.connect() as connection:
        ours = connection.execute(f"{counted} tterec.item_popularity".encode()).fetchall()
        theirs = connection.execute(f"{counted} tterec.popularity()".encode()).fetchall()
        assert sorted(ours) == sorted(theirs)
        scores = connection.execute(
            "SELECT p.score, q.score FROM tterec.item_popularity p"
            " JOIN tterec.popularity() q USING (item_id)"
        ).fetchall()
    assert max(abs(a - b) for a, b in scores) < 0.001


def test_every_score_follows_the_mean_of_all_ratings(shop: Database) -> None:
    run(shop, "UPDATE tterec.ratings SET rating = 1 WHERE book_id > 10")
    updating.update(shop)
    with shop.connect() as connection:
        scores = connection.execute(
            "SELECT p.score, q.score FROM tterec.item_popularity p"
            " JOIN tterec.popularity() q USING (item_id)"
        ).fetchall()
    assert len(scores) == 60
    assert max(abs(a - b) for a, b in scores) < 0.001


def test_new_and_changed_books_come_to_the_nearest_cluster(shop: Database) -> None:
    for method in ("kmeans", "gmm"):
        clustering.cluster(shop, method, 3)
    run(
        shop,
        NEW_BOOK,
        "UPDATE tterec.item_clusters SET cluster = (cluster + 1) % 3 WHERE item_id = 1",
        "UPDATE tterec.books SET author = 'Author 2', year = 1999 WHERE book_id = 1",
    )
    assert updating.update(shop).items == Counts(new=1, changed=1)
    with shop.connect() as connection:
        for method in ("kmeans", "gmm"):
            found = connection.execute(
                "SELECT v.embedding::real[], i.cluster FROM tterec.item_clusters i"
                " JOIN tterec.item_vectors_1 v USING (item_id)"
                " WHERE i.method = %s AND i.item_id IN (1, 900)",
                (method,),
            ).fetchall()
            centres = connection.execute(
                "SELECT centre FROM tterec.clusters WHERE method = %s ORDER BY cluster", (method,)
            ).fetchall()
            assert len(found) == 2
            for vector, cluster in found:
                gaps = [np.linalg.norm(np.array(vector) - centre) for (centre,) in centres]
                assert cluster == np.argmin(gaps)


def test_a_changed_book_moves_and_keeps_what_was_learned_of_it(shop: Database) -> None:
    with shop.connect() as connection:
        items, histories, _ = all_vectors(connection)
    run(shop, "UPDATE tterec.books SET author = 'Author 2', year = 1999 WHERE book_id = 1")
    assert updating.update(shop).items == Counts(changed=1)
    with shop.connect() as connection:
        after, histories_after, _ = all_vectors(connection)
    np.testing.assert_array_equal(items[1:], after[1:])
    np.testing.assert_array_equal(histories[1:], histories_after[1:])
    assert np.abs(items[0] - after[0]).max() > 1e-4
    run(shop, "UPDATE tterec.books SET author = 'Author 1', year = 1951 WHERE book_id = 1")
    updating.update(shop)
    with shop.connect() as connection:
        np.testing.assert_allclose(items, all_vectors(connection)[0], atol=1e-6)


def test_a_deleted_book_is_gone(shop: Database) -> None:
    run(shop, "DELETE FROM tterec.books WHERE book_id IN (1, 2, 3)")
    assert updating.update(shop).items == Counts(deleted=3)
    for table in ("item_vectors_1", "history_vectors_1", "item_popularity", "item_state"):
        assert one(shop, f"SELECT count(*) FROM tterec.{table} WHERE item_id < 4") == 0
    assert updating.update(shop).items == NOTHING
    with shop.connect() as connection, Recommender(shop) as recommender:
        many = dict(recommender.recommend_many([1, 2], 60))
        for user in (1, 2):
            listed = by_sql(connection, "recommend(%s, %s)", user, 60)
            assert_same(listed, [asdict(line) for line in recommender.recommend(user, 60)])
            assert_same([asdict(line) for line in many[user]], listed)


def test_profiles_of_new_and_changed_users(shop: Database) -> None:
    run(
        shop,
        "INSERT INTO tterec.users (user_id, location, age) VALUES (500, 'oslo, norway', 30)",
        "UPDATE tterec.users SET location = 'bonn, germany' WHERE user_id = 1",
    )
    assert one(shop, "SELECT source FROM tterec.recommend(500) LIMIT 1") == "popular"
    assert updating.update(shop).users == Counts(new=1, changed=1)
    assert one(shop, "SELECT source FROM tterec.recommend(500) LIMIT 1") == "profile"
    vector = one(shop, "SELECT tterec.user_vector(500)::real[]")
    expected = by_the_towers(shop, {"location": "oslo, norway", "age": 30})
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_a_generation_from_before_is_brought_up_to_date_all_the_same(shop: Database) -> None:
    run(
        shop,
        "DELETE FROM tterec.item_state",
        "DELETE FROM tterec.user_state",
        "DELETE FROM tterec.item_traits",
        NEW_BOOK,
        "DELETE FROM tterec.books WHERE book_id = 1",
        "DELETE FROM tterec.users WHERE user_id = 1",
    )
    done = updating.update(shop)
    assert done.items == Counts(new=1, changed=59, deleted=1)
    assert done.users == Counts(changed=89, deleted=1)
    assert pipeline.models_list(shop)[0].forgotten_users == 1
    done = updating.update(shop)
    assert (done.items, done.users) == (NOTHING, NOTHING)


def test_text_ids_get_keys_and_vectors(film_shop: Database) -> None:
    run(
        film_shop,
        "INSERT INTO shop.films (code, title, studio, genres, premiere, look)"
        " VALUES ('film-new', 'Film new', 'Studio 1', ARRAY['genre 1'], '1999-01-01', '{1,1,1}')",
        "INSERT INTO shop.members VALUES ('newcomer', '1990-01-01', true)",
        "UPDATE shop.films SET minutes = 200, premiere = '2001-01-01' WHERE code = 'film-3'",
        "DELETE FROM shop.views WHERE film = 'film-4'",
        "DELETE FROM shop.films WHERE code = 'film-4'",
    )
    done = updating.update(film_shop)
    assert done.items == Counts(new=1, changed=1, deleted=1)
    assert done.users == Counts(new=1)
    listed = one(film_shop, "SELECT array_agg(isbn) FROM tterec.recommend('member-1', 60, false)")
    assert "film-new" in listed
    assert "film-4" not in listed
    assert one(film_shop, "SELECT source FROM tterec.recommend('newcomer') LIMIT 1") == "profile"


def test_a_column_of_another_type_is_named_and_refused(film_shop: Database) -> None:
    with film_shop.connect() as connection:
        current = sources.current_queries(connection)
        assert current is not None
        body = current.items.replace("minutes", "minutes::text AS minutes")
        changed = sources.Queries(current.interactions, current.users, body)
        sources.set_sources(connection, changed)
    with pytest.raises(
        errors.SourceError, match=r"items\.minutes was number in generation 1 and is text now"
    ):
        updating.update(film_shop)


def film(number: int, look: str) -> str:
    """SQL: a new film."""
    return (
        f"INSERT INTO shop.films VALUES ('film-{number}', 'Film {number}', 100, 'Studio 1',"
        f" ARRAY['genre 1'], true, '1999-01-01', '{look}')"
    )


def test_rows_that_cannot_be_embedded_hold_up_no_other(film_shop: Database) -> None:
    before = one(film_shop, "SELECT look FROM shop.films WHERE code = 'film-7'")
    run(film_shop, film(500, "{1, 2}"), film(501, "{1, 1, 1}"), film(502, "{1, 1, Infinity}"))
    run(film_shop, "UPDATE shop.films SET look = '{3}' WHERE code = 'film-7'")
    for _ in range(2):  # it is tried again each time
        with pytest.raises(
            errors.RowsRefused,
            match="all is up to date but 3 rows that cannot be embedded, such as item_id 'film-7'",
        ):
            updating.update(film_shop)
    embedded = (
        "SELECT array_agg(k.key ORDER BY k.key) FROM tterec.item_vectors_1 v"
        " JOIN tterec.item_keys k USING (item_id) WHERE k.key IN ('film-7', 'film-500', 'film-501')"
    )
    assert one(film_shop, embedded) == ["film-501", "film-7"]
    run(
        film_shop, "UPDATE shop.films SET look = '{1, 0, 1}' WHERE code IN ('film-500', 'film-502')"
    )
    with film_shop.connect() as connection:
        connection.execute("UPDATE shop.films SET look = %s WHERE code = 'film-7'", (before,))
    assert updating.update(film_shop).items == Counts(new=2)


def test_a_column_called_s_is_not_taken_for_the_row(film_shop: Database) -> None:
    with film_shop.connect() as connection:
        current = sources.current_queries(connection)
        assert current is not None
        body = f"SELECT 1 AS s, given.* FROM ({current.items}) given"
        sources.set_sources(connection, sources.Queries(current.interactions, current.users, body))
    updating.update(film_shop)
    run(film_shop, "UPDATE shop.films SET title = 'Another' WHERE code = 'film-7'")
    assert updating.update(film_shop).items == Counts(changed=1)


def test_where_most_rows_are_refused_the_source_is_to_blame(film_shop: Database) -> None:
    run(film_shop, "UPDATE shop.films SET look = '{3}'")
    with pytest.raises(errors.SourceError, match="look") as raised:
        updating.update(film_shop)
    assert not isinstance(raised.value, errors.RowsRefused)


def test_without_a_live_generation_the_next_command_is_named(database: Database) -> None:
    with pytest.raises(errors.NoActiveModel, match="run: tterec train"):
        updating.update(database)


def test_two_updates_do_not_run_at_once(shop: Database) -> None:
    with shop.connect(autocommit=True) as connection:
        locks.hold_update(connection)
        with pytest.raises(errors.Busy, match="another update is running"):
            updating.update(shop)
    updating.update(shop)


def many_books(count: int) -> str:
    return (
        "INSERT INTO tterec.books (book_id, isbn, title)"
        f" SELECT 1000 + n, 'new-' || n, 'Book ' || n FROM generate_series(1, {count}) n"
    )


class Stop(Exception):
    """Stands for a kill."""


def test_what_was_interrupted_goes_on_where_it_was(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "BATCH", 10)
    run(shop, many_books(40))

    def stop(progress: Progress) -> None:
        if progress.stage == "update items" and progress.done == 20:
            raise Stop

    with pytest.raises(Stop):
        updating.update(shop, stop)
    assert one(shop, "SELECT count(*) FROM tterec.item_vectors_1") == 80
    assert updating.update(shop).items == Counts(new=20)
    assert updating.update(shop).items == NOTHING


def test_it_starts_over_when_another_generation_becomes_live(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = pipeline.train(shop, CONFIG, promote=False).generation
    monkeypatch.setattr(updating, "BATCH", 10)
    run(shop, many_books(40))
    said: list[str] = []
    promoted = threading.Event()

    def promote(progress: Progress) -> None:
        if progress.message:
            said.append(progress.message)
        if progress.stage == "update items" and progress.done == 20 and not promoted.is_set():
            promoted.set()
            pipeline.models_promote(shop, second)

    done = updating.update(shop, promote)
    assert done.generation == second
    assert done.items == Counts(new=40)
    assert said == ["Generation 1 is no longer live; starting over."]


def test_it_does_not_end_with_a_generation_that_is_no_longer_live(shop: Database) -> None:
    """There was nothing to do for it, and so no transaction that would have noticed."""
    second = pipeline.train(shop, CONFIG, promote=False).generation

    def promote(progress: Progress) -> None:
        if progress.stage == "compare users" and registry_live(shop) != second:
            pipeline.models_promote(shop, second)

    assert updating.update(shop, promote).generation == second


def registry_live(database: Database) -> int | None:
    with database.connect() as connection:
        return registry.live(connection)


def test_who_was_thrown_out_is_told_to_try_again(shop: Database) -> None:
    def throw_out(progress: Progress) -> None:
        if progress.stage == "compare items":
            run(
                shop,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )

    with pytest.raises(errors.ConnectionFailed, match=r"; try again$"):
        updating.update(shop, throw_out)
    updating.update(shop)


def test_readers_are_not_held_up(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a batch that has written everything, another session still gets its list at once."""
    run(shop, many_books(5), "UPDATE tterec.books SET year = 1980 WHERE book_id <= 50")
    refresh, lists = updating.Generation.refresh_items, []

    def slowly(self: Any, connection: Connection, ids: list[int]) -> Counts:
        done = refresh(self, connection, ids)
        with shop.connect() as reader:
            reader.execute("SET statement_timeout = '2s'")
            lists.append(by_sql(reader, "recommend(%s, %s)", 1, 10))
        return done

    monkeypatch.setattr(updating.Generation, "refresh_items", slowly)
    updating.update(shop)
    assert [len(found) for found in lists] == [10]


def everything_named(database: Database, text: str) -> list[str]:
    """Every column of every table of the schema that has this text or number in some row."""
    found = []
    with database.connect() as connection:
        columns = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a"
            " ON a.attrelid = c.oid WHERE c.relnamespace = 'tterec'::regnamespace"
            " AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        ).fetchall()
        for table, column in columns:
            query = (
                f'SELECT EXISTS (SELECT FROM tterec."{table}"'
                f" WHERE \"{column}\"::text ~ '(^|[^0-9.]){text}([^0-9]|$)')"
            )
            if connection.execute(query.encode()).fetchone() == (True,):
                found.append(f"{table}.{column}")
    return sorted(found)


def test_nothing_is_left_of_a_deleted_user(shop: Database) -> None:
    user = 7_654_321
    run(
        shop,
        f"INSERT INTO tterec.users VALUES ({user}, 'lima, peru', 30)",
        f"INSERT INTO tterec.ratings SELECT {user}, b, 8 FROM generate_series(1, 5) b",
        "INSERT INTO tterec.rejected_rows (file, line, reason, raw, raw_md5) VALUES"
        f" ('r.csv', 2, 'no', '{user},0000000001,77', 'a'),"
        f" ('r.csv', 3, 'no', '12,x,{user}0', 'b'),"
        f" ('u.csv', 4, 'no', '\"{user}\";\"lima\";\"x\"', 'c')",
    )
    pipeline.train(shop, CONFIG)
    pipeline.train(shop, CONFIG, promote=False)
    pipeline.train(shop, CONFIG)
    updating.update(shop)
    # Validation took one of theirs, or not: by lot.
    run(shop, f"INSERT INTO tterec.held_out VALUES (2, {user}, 5) ON CONFLICT DO NOTHING")
    assert {"user_vectors_4.user_id", "held_out.user_id"} <= set(everything_named(shop, str(user)))
    run(shop, f"DELETE FROM tterec.users WHERE user_id = {user}")
    done = updating.update(shop)
    assert done.users == Counts(deleted=1)
    assert everything_named(shop, str(user)) == []
    assert one(shop, "SELECT array_agg(line) FROM tterec.rejected_rows") == [3]
    listed = {info.generation: info.forgotten_users for info in pipeline.models_list(shop)}
    assert listed == {1: 0, 2: 1, 3: 1, 4: 1}
    assert pipeline.models_show(shop, 4)["forgotten_users"] == 1


def test_nothing_is_left_of_a_user_with_a_text_id(film_shop: Database) -> None:
    run(
        film_shop,
        "INSERT INTO shop.views (member, film, stars) VALUES ('only-views', 'film-1', 5)",
    )
    updating.update(film_shop)
    assert one(film_shop, "SELECT count(*) FROM tterec.user_keys WHERE key = 'only-views'") == 1
    number = one(film_shop, "SELECT user_id FROM tterec.user_keys WHERE key = 'member-9'")
    run(film_shop, "DELETE FROM shop.members WHERE name = 'member-9'")
    updating.update(film_shop)  # still there by what they watched
    assert one(film_shop, "SELECT source FROM tterec.recommend('member-9') LIMIT 1") == "history"
    run(film_shop, "DELETE FROM shop.views WHERE member IN ('member-9', 'only-views')")
    updating.update(film_shop)
    with film_shop.connect() as connection:
        keys = connection.execute("SELECT key FROM tterec.user_keys").fetchall()
        known = connection.execute(
            "SELECT user_id FROM tterec.user_vectors_1 UNION SELECT user_id FROM tterec.user_state"
        ).fetchall()
    assert not {("member-9",), ("only-views",)} & set(keys)
    assert (number,) not in known
    assert pipeline.models_list(film_shop)[0].forgotten_users == 1


def test_who_has_the_same_number_in_another_shop_stays(shop: Database) -> None:
    """The other generation's users are others, numbered from 1 as well."""
    run(shop, "CREATE TABLE club AS SELECT user_id AS id, book_id, rating FROM tterec.ratings")
    with shop.connect() as connection:
        registry_queries = registry.queries(connection, 1)
        assert registry_queries is not None
        connection.execute(
            "UPDATE tterec.models SET sources = sources || jsonb_build_object('origin', 'custom',"
            " 'interactions', 'SELECT id AS user_id, book_id AS item_id, rating FROM club',"
            " 'users', %s::text, 'items', %s::text)",
            (registry_queries.users, registry_queries.items),
        )
    pipeline.train(shop, CONFIG)
    run(shop, "DELETE FROM tterec.users WHERE user_id IN (3, 5)")
    assert updating.update(shop).users == Counts(deleted=2)
    listed = {info.generation: info.forgotten_users for info in pipeline.models_list(shop)}
    assert listed == {1: 0, 2: 2}
    known = "SELECT count(*) FROM tterec.{} WHERE user_id IN (3, 5)"
    assert one(shop, known.format("user_vectors_1")) == 2
    assert one(shop, known.format("user_state")) == 2
    assert one(shop, known.format("user_vectors_2")) == 0


@pytest.fixture
def two_shops(film_shop: Database, tmp_path: Path) -> Database:
    """Generation 1 is of the films, with text ids; generation 2, of tterec's own books, is live."""
    run(film_shop, SHOP)
    files = {name: tmp_path / f"{name}-2.sql" for name in sources.NAMES}
    for name, path in files.items():
        path.write_text(sources.default_queries().body(name), encoding="utf-8")
    pipeline.train(film_shop, CONFIG, files, accept_new_types=True)
    return film_shop


def text_keys(database: Database) -> set[str]:
    """The text ids of users that are kept."""
    return set(one(database, "SELECT coalesce(array_agg(key), '{}') FROM tterec.user_keys"))


def test_text_ids_are_forgotten_with_the_last_generation_that_uses_them(
    two_shops: Database,
) -> None:
    updating.update(two_shops)
    assert "member-9" in text_keys(two_shops)  # a rollback may bring them back
    run(two_shops, "UPDATE tterec.models SET status = 'pruned' WHERE generation = 1")
    updating.update(two_shops)
    assert text_keys(two_shops) == set()


DEPARTED = (
    "DELETE FROM shop.members WHERE name = 'member-9'",
    "DELETE FROM shop.views WHERE member = 'member-9'",
)


def test_a_shop_that_is_not_live_forgets_whom_its_own_queries_no_longer_return(
    two_shops: Database,
) -> None:
    number = one(two_shops, "SELECT user_id FROM tterec.user_keys WHERE key = 'member-9'")
    before = text_keys(two_shops)
    run(two_shops, *DEPARTED)
    updating.update(two_shops)
    assert text_keys(two_shops) == before - {"member-9"}
    known = "SELECT count(*) FROM tterec.{} WHERE user_id = {}"
    assert one(two_shops, known.format("user_vectors_1", number)) == 0
    # The same number is somebody else in the books.
    left = known.format("user_state", number)
    assert one(two_shops, f"{left} AND generation = 1") == 0
    assert one(two_shops, f"{left} AND generation = 2") == 1
    forgotten = {info.generation: info.forgotten_users for info in pipeline.models_list(two_shops)}
    assert forgotten == {1: 1, 2: 0}
    with two_shops.connect() as connection:
        assert generations.rollback(connection) == 1
    assert one(two_shops, "SELECT source FROM tterec.recommend('member-9') LIMIT 1") == "popular"
    assert one(two_shops, "SELECT source FROM tterec.recommend('member-8') LIMIT 1") == "history"


def test_a_text_id_goes_when_every_shop_with_text_ids_has_lost_it(
    film_shop: Database, tmp_path: Path
) -> None:
    """Two shops that know a person by the same name, one of them live."""
    run(film_shop, "CREATE TABLE shop.archive AS TABLE shop.views")
    files = {}
    for name in sources.NAMES:
        files[name] = tmp_path / f"{name}-2.sql"
        body = FILM_FILES[name].replace("shop.views", "shop.archive")
        files[name].write_text(body, encoding="utf-8")
    pipeline.train(film_shop, CONFIG, files)
    run(film_shop, "DELETE FROM shop.members WHERE name = 'member-9'")
    run(film_shop, "DELETE FROM shop.views WHERE member = 'member-9'")
    updating.update(film_shop)  # the live shop has the archive
    assert "member-9" in text_keys(film_shop)
    run(film_shop, "DELETE FROM shop.archive WHERE member = 'member-9'")
    updating.update(film_shop)
    assert "member-9" not in text_keys(film_shop)


def test_a_generation_that_is_pruned_meanwhile_needs_to_forget_nobody(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.train(shop, CONFIG)
    pipeline.train(shop, CONFIG)
    listed = user_updates.registry.queries

    def prune_first(connection: Connection, generation: int) -> sources.Queries | None:
        if generation == 1 and 1 in vector_tables.generations_with_tables(connection):
            pipeline.models_prune(shop)
        return listed(connection, generation)

    run(shop, "DELETE FROM tterec.users WHERE user_id = 4")
    with shop.connect(autocommit=True) as connection:
        live = differences.live_sources(connection, 3)
        monkeypatch.setattr(user_updates.registry, "queries", prune_first)
        with connection.transaction():
            assert user_updates.forget(connection, live, [4]) == 1
    assert one(shop, "SELECT count(*) FROM tterec.user_vectors_2 WHERE user_id = 4") == 0
    assert one(shop, "SELECT to_regclass('tterec.user_vectors_1')") is None


def test_keys_stay_while_a_shop_s_tables_are_away(two_shops: Database) -> None:
    before = text_keys(two_shops)
    run(two_shops, *DEPARTED, "ALTER TABLE shop.views RENAME TO away")
    said: list[Progress] = []
    updating.update(two_shops, said.append)
    assert text_keys(two_shops) == before
    assert any("sources of generation 1 cannot be read" in (one.message or "") for one in said)
    run(two_shops, "ALTER TABLE shop.away RENAME TO views")
    updating.update(two_shops)
    assert text_keys(two_shops) == before - {"member-9"}


def test_a_user_who_came_after_the_training_is_not_counted(shop: Database) -> None:
    run(shop, "INSERT INTO tterec.users VALUES (500, 'lima, peru', 30)")
    updating.update(shop)
    run(shop, "DELETE FROM tterec.users WHERE user_id = 500")
    assert updating.update(shop).users == Counts(deleted=1)
    assert pipeline.models_list(shop)[0].forgotten_users == 0


def test_prune_clears_what_a_generation_knew(shop: Database) -> None:
    pipeline.train(shop, CONFIG)
    pipeline.train(shop, CONFIG)
    run(shop, "INSERT INTO tterec.held_out VALUES (1, 5, 5), (2, 5, 5) ON CONFLICT DO NOTHING")
    pipeline.models_prune(shop)
    for table in ("item_state", "user_state", "held_out", "item_popularity"):
        assert one(shop, f"SELECT min(generation) FROM tterec.{table}") == 2
    with shop.connect() as connection:
        assert generations.rollback(connection) == 2


@pytest.mark.parametrize("by_worker", [True, False])
def test_a_deleted_rating_of_a_user_who_stays_validates_no_more(
    shop: Database, by_worker: bool
) -> None:
    pipeline.train(shop, CONFIG)
    updating.update(shop)
    with shop.connect() as connection:
        user, item = connection.execute(
            "SELECT user_id, book_id FROM tterec.ratings ORDER BY 1, 2 LIMIT 1"
        ).fetchone() or (0, 0)
    kept = f"INSERT INTO tterec.held_out SELECT n, {user}, book_id FROM tterec.ratings,"
    kept += f" generate_series(1, 2) n WHERE user_id = {user} ON CONFLICT DO NOTHING"
    run(shop, kept)
    query = f"SELECT count(*) FROM tterec.held_out WHERE user_id = {user}"
    before = one(shop, query)
    run(shop, f"DELETE FROM tterec.ratings WHERE (user_id, book_id) = ({user}, {item})")
    if by_worker:
        working.work(shop, once=True)
    else:
        updating.update(shop)
    assert one(shop, query) == before - 2
    assert one(shop, f"{query} AND item_id = {item}") == 0
