"""The shop that benchmarks are made in, small: it is what a real one is."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.benchmarks.big_shop import Shop, build
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Recommender
from tterec.database import schema
from tterec.database.connection import Database

SMALL = {"books": 500, "users": 120, "heavy": ((100, 2), (12_860, 1)), "dim": 16}


@pytest.mark.parametrize("second_stage", [True, False])
def test_it_has_what_was_asked_for(database: Database, second_stage: bool) -> None:
    shop = Shop(**SMALL, second_stage=second_stage)
    with database.connect() as connection:
        build(connection, shop)
        rows = connection.execute(
            "SELECT user_id, count(*) FROM tterec.ratings GROUP BY 1 ORDER BY 1"
        ).fetchall()
        counts = dict(rows)
        assert len(counts) == shop.everybody == 123
        assert {counts[user] for user in range(1, 121)} == {20}
        assert shop.heavy_users() == {100: range(121, 123), 12_860: range(123, 124)}
        assert counts[121] == counts[122] == 100
        assert 200 <= counts[123] <= 250  # no more than half of the books
    assert schema.differences(database) == []
    with database.connect() as connection, Recommender(database) as recommender:
        for user in (1, 2, 121, 123):
            lines = by_sql(connection, "recommend(%s, %s)", user, 10)
            assert len(lines) == 10
            assert {line["source"] for line in lines} == {"history"}
            assert any(line["score"] != line["similarity"] for line in lines) == second_stage
            assert_same(lines, [asdict(one) for one in recommender.recommend(user, 10)])
