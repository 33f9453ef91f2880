"""The rules of a shop in the lists that the recommender makes from a database."""

from __future__ import annotations

from collections import Counter
from datetime import date

import numpy as np
import pytest

from tests.integration.generations import plant, random_vectors
from tests.integration.test_sources import FILM_QUERIES, plant_films
from tests.integration.test_surfaces import BOOKS, STRANGER, USERS, plant_shop
from tterec import Recommendation, Recommender, Rules, errors
from tterec.database.connection import Database
from tterec.store import reading, sources

AUTHORS = 40
BESTSELLERS = 400
"""The first so many books are by one author."""

ITEMS = """
    SELECT book_id AS item_id, isbn, title, author, year, book_id % 2 = 0 AS in_stock,
        make_date(year, 7, 1) AS published
    FROM tterec.books
"""


def plant_described_shop(database: Database, *, users: int = 30, ranker: bool = False) -> None:
    """The shop of the surfaces' tests, with authors, years and a column that says what is there."""
    plant_shop(database, normalised=True, users=users, ranker=ranker)
    with database.connect() as connection:
        connection.execute(
            "UPDATE tterec.books SET year = 1950 + book_id %% 70,"
            " author = CASE WHEN book_id %% 10 = 0 THEN NULL WHEN book_id <= %s THEN 'A. Best'"
            " ELSE 'Author ' || book_id %% %s END WHERE book_id %% 11 <> 0",
            (BESTSELLERS, AUTHORS),
        )
        connection.execute("UPDATE tterec.models SET ef_search = 1000")
        queries = sources.default_queries()
        sources.set_sources(connection, sources.Queries(queries.interactions, queries.users, ITEMS))


def author_of(book: int) -> str | None:
    """As planted."""
    if book % 11 == 0 or book % 10 == 0:
        return None
    return "A. Best" if book <= BESTSELLERS else f"Author {book % AUTHORS}"


def ids(found: list[Recommendation]) -> list[int]:
    """The books of a list."""
    return [one.book_id for one in found]


def assert_list(found: list[Recommendation]) -> None:
    """Ranks from 1, scores that never rise, equal ones by id, no book twice."""
    assert [one.rank for one in found] == list(range(1, len(found) + 1))
    order = sorted(found, key=lambda one: (-one.score, one.book_id))
    assert order == found
    assert len(set(ids(found))) == len(found)


EVERYTHING = Rules(
    diversity=0.3,
    max_per_author=1,
    freshness=0.4,
    half_life=8,
    as_of=date(2020, 1, 1),
    dither=0.4,
    seed=5,
    unavailable=["0000000500"],
    available_column="in_stock",
)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(diversity=0.5),
        Rules(max_per_author=1),
        Rules(freshness=0.5, as_of=date(2020, 1, 1)),
        Rules(freshness=0.5, year_column="published", as_of=date(2020, 1, 1)),
        Rules(dither=0.5, seed=3),
        Rules(available_column="in_stock"),
        EVERYTHING,
    ],
    ids=["diversity", "author", "year", "date", "dither", "stock", "everything"],
)
def test_lists_for_one_and_for_many_agree_under_rules(database: Database, rules: Rules) -> None:
    plant_described_shop(database, ranker=True)
    with Recommender(database) as recommender:
        everyone = [*range(1, 31), STRANGER]
        many = dict(recommender.recommend_many(everyone, 10, rules=rules))
        changed = 0
        for user in everyone:
            plain = recommender.recommend(user, 10)
            ruled = recommender.recommend(user, 10, rules=rules)
            assert_list(ruled)
            assert len(ruled) == 10
            assert ids(ruled) == ids(many[user])
            assert [one.score for one in ruled] == pytest.approx(
                [one.score for one in many[user]], abs=1e-5
            )
            assert ruled == recommender.recommend(user, 10, rules=rules)
            assert {one.source for one in ruled} == {one.source for one in plain}
            changed += ids(ruled) != ids(plain)
        assert changed > 20


def test_rules_that_are_off_change_nothing(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        for rules in (None, Rules(), Rules(seed=4, half_life=1)):
            assert recommender.recommend(5, 12, rules=rules) == recommender.recommend(5, 12)


def test_rules_apply_with_the_second_stage_and_without(database: Database) -> None:
    plant_described_shop(database, ranker=True)
    rules = Rules(max_per_author=1, available_column="in_stock")
    with Recommender(database) as recommender:
        for ranker in (True, False):
            found = recommender.recommend(5, ranker=ranker, rules=rules)
            ((_, many),) = recommender.recommend_many([5], ranker=ranker, rules=rules)
            assert ids(found) == ids(many)
            assert all((one.score == one.similarity) is not ranker for one in found)
            whole = {one.book_id: one for one in recommender.recommend(5, BOOKS, ranker=ranker)}
            assert [one.score for one in found] == [whole[one.book_id].score for one in found]


def test_rules_that_leave_out_keep_scores_and_order(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        whole = recommender.recommend(5, BOOKS)
        stock = [one for one in whole if one.book_id % 2 == 0]
        one_each: list[Recommendation] = []
        by_author: Counter[str] = Counter()
        for one in stock:
            author = author_of(one.book_id)
            if author is None or by_author[author] < 2:
                one_each.append(one)
                by_author[author or ""] += 1
        rules = Rules(available_column="in_stock", max_per_author=2)
        found = recommender.recommend(5, 25, rules=rules)
        assert ids(found) == ids(one_each)[:25]
        assert [one.score for one in found] == [one.score for one in one_each][:25]
        assert [one.similarity for one in found] == [one.similarity for one in one_each][:25]
        assert found != recommender.recommend(5, 25)


def test_where_the_best_do_not_make_a_list_the_rules_look_further(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        whole = ids(recommender.recommend(5, BOOKS))
        last = [f"{book:010}" for book in whole[-3:]]
        found = recommender.recommend(5, 10, rules=Rules(available=last))
        assert ids(found) == whole[-3:]
        assert recommender.recommend(5, 10, rules=Rules(available=["no such book"])) == []
        ((_, many),) = recommender.recommend_many([5], 10, rules=Rules(available=last))
        assert ids(many) == whole[-3:]
        # An author who has all of the best 300 leaves one place for their books.
        with database.connect() as connection:
            connection.execute("UPDATE tterec.books SET author = 'One' WHERE true")
            connection.execute(
                "UPDATE tterec.books SET author = NULL WHERE book_id = ANY (%s)", (whole[-4:],)
            )
        found = recommender.recommend(5, 4, rules=Rules(max_per_author=1))
        assert ids(found) == [whole[0], *whole[-4:-1]]


def test_what_is_sold_out_now_is_left_out_now(database: Database) -> None:
    plant_described_shop(database)
    rules = Rules(available_column="in_stock")
    with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
        connection.execute("ALTER TABLE tterec.books ADD stock int NOT NULL DEFAULT 1")
        queries = sources.current_queries(connection)
        assert queries is not None
        items = queries.items.replace("book_id % 2 = 0 AS in_stock", "stock > 0 AS in_stock")
        sources.set_sources(connection, sources.Queries(queries.interactions, queries.users, items))
        first, second, *_ = recommender.recommend(5, rules=rules)
        connection.execute("UPDATE tterec.books SET stock = 0 WHERE book_id = %s", (first.book_id,))
        assert recommender.recommend(5, rules=rules)[0].book_id == second.book_id


def test_freshness_lists_newer_books_and_diversity_more_different_ones(database: Database) -> None:
    plant_described_shop(database)
    with database.connect() as connection:
        rows = connection.execute("SELECT item_id, embedding::real[] FROM tterec.item_vectors_1")
        vectors = {item: np.array(vector) for item, vector in rows.fetchall()}

    def year(found: list[Recommendation]) -> float:
        return float(np.mean([1950 + book % 70 for book in ids(found) if book % 11]))

    def likeness(found: list[Recommendation]) -> float:
        units = np.array([vectors[book] for book in ids(found)])
        return float(((units @ units.T).sum() - len(units)) / len(units) / (len(units) - 1))

    with Recommender(database) as recommender:
        for user in (4, 5, 8):
            plain = recommender.recommend(user, 20)
            fresh = Rules(freshness=0.5, half_life=10, as_of=date(2020, 1, 1))
            assert year(recommender.recommend(user, 20, rules=fresh)) > year(plain) + 3
            varied = Rules(diversity=0.6)
            assert likeness(recommender.recommend(user, 20, rules=varied)) < likeness(plain) - 0.01


def test_dithering_is_by_seed_and_user(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        lists = [
            ids(recommender.recommend(user, 10, rules=Rules(dither=0.8, seed=seed)))
            for user, seed in [(5, 1), (5, 1), (5, 2)]
        ]
        assert lists[0] == lists[1] != lists[2]


def test_rules_apply_to_every_kind_of_list(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        rules = Rules(available_column="in_stock", max_per_author=1, diversity=0.2)
        for found in (
            recommender.similar("0000000001", 15, rules=rules),
            recommender.recommend_for_books(["0000000001", "0000000007"], [9, 8], 15, rules=rules),
            recommender.popular(15, rules=rules),
            recommender.recommend(STRANGER, 15, rules=rules),
            recommender.recommend_for_books(["no such book"], k=15, rules=rules),
        ):
            assert_list(found)
            assert len(found) == 15
            assert all(book % 2 == 0 for book in ids(found))
            counts = Counter(filter(None, map(author_of, ids(found))))
            assert max(counts.values()) == 1


def test_before_any_training_popular_books_keep_to_the_rules(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, author)"
            " SELECT i, i::text, 'author ' || i / 3 FROM generate_series(1, 30) i"
        )
    with Recommender(database) as recommender:
        rules = Rules(max_per_author=1, diversity=0.5)
        assert ids(recommender.recommend(1, 4, rules=rules)) == [1, 3, 6, 9]


def test_a_book_without_vector_is_like_no_other(database: Database) -> None:
    plant_shop(database, normalised=True, users=20)
    with database.connect() as connection, Recommender(database) as recommender:
        without = recommender.popular(20)[-1].book_id
        connection.execute("DELETE FROM tterec.item_vectors_1 WHERE item_id = %s", (without,))
        connection.commit()
        # Nothing is held against it, and much against most others: it rises.
        found = recommender.popular(20, rules=Rules(diversity=0.9))
        assert_list(found)
        assert without in ids(found)[:5]


def test_a_shop_with_text_ids_and_columns_of_its_own(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        sources.set_sources(connection, FILM_QUERIES)
        keys = connection.execute("SELECT item_id FROM tterec.item_keys ORDER BY 1").fetchall()
        films = np.array([row[0] for row in keys])
        plant(connection, random_vectors(films, dim=4))
    with Recommender(database) as recommender:
        everything = [one.isbn for one in recommender.popular(5)]
        assert sorted(everything) == ["alien", "brazil", "m"]
        coloured = recommender.recommend("ann", rules=Rules(available_column="colour"))
        assert [one.isbn for one in coloured] == ["brazil"]
        fresh = Rules(freshness=10, year_column="premiere", as_of=date(1990, 1, 1))
        first, *_ = recommender.popular(5, rules=fresh)
        assert first.isbn == "brazil"
        with pytest.raises(errors.InvalidArgument, match="no column author; it returns item_id,"):
            recommender.recommend("ann", rules=Rules(max_per_author=1))


def test_a_column_that_cannot_serve_is_one_line(database: Database) -> None:
    plant_described_shop(database)
    with Recommender(database) as recommender:
        with pytest.raises(errors.InvalidArgument, match="no column colour"):
            recommender.recommend(5, rules=Rules(available_column="colour"))
        with pytest.raises(errors.InvalidArgument, match=r"author .* is text; .* a date"):
            recommender.recommend(5, rules=Rules(freshness=1, year_column="author"))
        with pytest.raises(errors.InvalidArgument, match=r"year .* is smallint; .* a boolean"):
            list(recommender.recommend_many([5], rules=Rules(available_column="year")))
        assert len(recommender.recommend(USERS)) == 10  # the connection is as good as before
