"""What becomes of each kind of column."""

import json
import subprocess
import sys
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.errors import SourceError, TterecError
from tterec.records import Column, FeatureTable, Kind
from tterec.towers.features import Encoded, Features

NAN = np.nan


def table(kind: Kind, values: object, name: str = "x") -> FeatureTable:
    objects = kind in ("text", "text[]")
    if objects:
        column = np.empty(len(values), dtype=object)  # type: ignore[arg-type]
        column[:] = values
    else:
        column = np.array(values, dtype=np.float64)
    return FeatureTable(np.arange(len(column)), (Column(name, kind, column),))


def encoded(kind: Kind, values: object, others: object = None) -> Encoded:
    """These values as features fitted on them, or the others as those."""
    given_table = table(kind, values)
    features = Features.fit(given_table)
    return features.encode(given_table if others is None else table(kind, others))


def tokens_of(rows: Encoded) -> list[list[int]]:
    offsets = rows.tokens.offsets
    return [rows.tokens.ids[start:end].tolist() for start, end in pairwise(offsets)]


@pytest.mark.parametrize("kind", ["number", "date"])
def test_numbers_are_standardised_and_missing_ones_flagged(kind: Kind) -> None:
    dense = encoded(kind, [1.0, 3.0, NAN]).dense
    assert dense.dtype == np.float32
    assert dense.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


def test_booleans_are_numbers() -> None:
    assert encoded("boolean", [1, 0, NAN]).dense.tolist() == [[1, 0], [-1, 0], [0, 1]]


@pytest.mark.parametrize("values", [[7.1] * 9, [NAN] * 9, [np.inf, -np.inf, NAN], [1e308, -1e308]])
def test_columns_that_tell_nothing_do_no_harm(values: list[float]) -> None:
    dense = encoded("number", values).dense
    assert np.isfinite(dense).all()
    assert np.abs(dense[:, 0]).max() <= 1e-6 or len(values) == 2


def test_infinity_counts_as_missing_and_does_not_touch_the_others() -> None:
    assert encoded("number", [1.0, 3.0, np.inf]).dense.tolist() == [[-1, 0], [1, 0], [0, 1]]


def test_outliers_are_clipped() -> None:
    assert encoded("number", [0.0, 1.0], [1e9]).dense[0, 0] == 4.0


def test_vectors_are_standardised_and_missing_ones_zero() -> None:
    dense = encoded("vector", [[1.0, 10.0], [3.0, 10.0], [NAN, NAN]]).dense
    root = np.float32(1 / np.sqrt(2))  # the numbers of a vector share the weight of one
    assert dense.tolist() == [[-root, 0, 0], [root, 0, 0], [0, 0, 1]]


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(SourceError, match="vectors of 3 numbers, training saw 2"):
        encoded("vector", [[1.0, 2.0]], [[1.0, 2.0, 3.0]])


def test_values_that_repeat_are_categories_whatever_their_case_and_spaces() -> None:
    rows = encoded("text", ["Ann", "ann ", "Bob", "BOB", "bob", None])
    assert tokens_of(rows) == [[1], [1], [0], [0], [0], []]
    assert rows.tokens.weights.tolist() == [1.0] * 5


def test_a_category_that_training_did_not_see_has_no_token() -> None:
    assert tokens_of(encoded("text", ["a", "a", "b", "b"], ["c", "b"])) == [[], [1]]


def test_texts_that_do_not_repeat_are_bags_of_hashed_words() -> None:
    titles = ["The hobbit", "the Silmarillion", "Emma"]
    rows = encoded("text", titles)
    first, second, third = tokens_of(rows)
    assert len(first) == len(second) == 2
    assert len(set(first) & set(second)) == 1, "they share a word"
    assert third == [zlib.crc32(b"emma") % 64]
    assert rows.tokens.weights == pytest.approx([0.5**0.5] * 4 + [1.0])


def test_words_may_be_of_any_script() -> None:
    assert all(tokens_of(encoded("text", ["Émile", "战争 与 和平", "Σόλων"])))


def test_hashes_are_the_same_in_every_process() -> None:
    code = (
        "from tterec.towers.columns import *; from tterec.records import Column;"
        "c = Column('x', 'text', np.array(['the hobbit', 'dune'], dtype=object));"
        "print(token_values(fit_column(c), c).ids.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_many_repeating_values_are_met_by_their_words_too() -> None:
    places = [f"town{i % 1500}, spain" for i in range(3000)]
    rows = encoded("text", places, ["town1, spain", "nowhere, spain"])
    first, second = tokens_of(rows)
    assert len(first) == 3, "the value, and two words"
    assert set(first) & set(second), "an unknown place still shares the country"


def test_arrays_are_bags() -> None:
    rows = encoded("text[]", [["Fantasy", "war"], ["war"], None, [], ["fantasy", "fantasy"]])
    assert tokens_of(rows) == [[0, 1], [1], [], [], [0]]
    assert rows.tokens.weights == pytest.approx([0.5**0.5, 0.5**0.5, 1.0, 1.0])


def test_columns_have_tokens_of_their_own() -> None:
    values = np.array(["a", "a", "b", "b"], dtype=object)
    both = FeatureTable(np.arange(4), (Column("x", "text", values), Column("y", "text", values)))
    features = Features.fit(both)
    assert features.token_count == 4
    assert tokens_of(features.encode(both)) == [[0, 2], [0, 2], [1, 3], [1, 3]]


def test_features_survive_json() -> None:
    columns = (
        table("text", ["a", "a", "ein Wort", None]).columns[0],
        Column("n", "number", np.array([1.0, 2.0, NAN, 4.0])),
        Column("v", "vector", np.array([[1, 2], [3, 4], [5, 6], [NAN, NAN]], dtype=np.float32)),
    )
    items = FeatureTable(np.arange(4), columns)
    features = Features.fit(items)
    again = Features.from_json(json.loads(json.dumps(features.columns)))
    first, second = features.encode(items), again.encode(items)
    assert np.array_equal(first.dense, second.dense)
    assert np.array_equal(first.tokens.ids, second.tokens.ids)


def test_damaged_features_are_refused() -> None:
    with pytest.raises(TterecError, match="damaged"):
        Features.from_json([{"name": "x"}, 7])


def test_a_column_that_is_not_there_is_missing_everywhere() -> None:
    features = Features.fit(table("number", [1.0, 3.0]))
    assert features.encode(FeatureTable(np.arange(1))).dense.tolist() == [[0, 1]]


def test_an_unknown_column_and_another_kind_are_refused() -> None:
    features = Features.fit(table("number", [1.0, 3.0]))
    with pytest.raises(SourceError, match="no feature 'size'; they know: x"):
        features.encode(table("number", [1.0], name="size"))
    with pytest.raises(SourceError, match="is a text, the towers learned a number"):
        features.encode(table("text", ["1"]))


def test_tables_without_columns_or_rows() -> None:
    nothing = Features.fit(FeatureTable(np.arange(3)))
    assert nothing.encode(FeatureTable(np.arange(3))).dense.shape == (3, 0)
    assert len(encoded("text", ["a"], [])) == 0
    assert len(encoded("number", [], [])) == 0


def test_rows_pick_and_repeat() -> None:
    rows = encoded("text", ["a b", "c", None, "d e"])
    assert tokens_of(rows.rows(np.array([3, 2, 0, 0]))) == [
        tokens_of(rows)[row] for row in (3, 2, 0, 0)
    ]


numbers = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=20)


@given(fitted=numbers, seen=numbers)
def test_no_number_ever_becomes_nan(fitted: list[float], seen: list[float]) -> None:
    assert np.isfinite(encoded("number", fitted, seen).dense).all()


@given(texts=st.lists(st.none() | st.text(max_size=30), max_size=20))
def test_any_text_is_encoded(texts: list[str | None]) -> None:
    given_table = table("text", texts)
    features = Features.fit(given_table)
    rows = features.encode(given_table)
    assert len(rows) == len(texts)
    assert np.all((rows.tokens.ids >= 0) & (rows.tokens.ids < features.token_count))
