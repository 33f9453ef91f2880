"""What filters cannot be is refused where they are made."""

from __future__ import annotations

from typing import Any

import pytest

from tterec import Filters
from tterec.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_year": "1990"}, "min_year = '1990' is not a whole number"),
        ({"max_year": 1990.5}, "max_year = 1990.5 is not a whole number"),
        ({"min_ratings": True}, "min_ratings = True is not a whole number"),
        ({"min_ratings": -1}, "negative"),
        ({"min_year": 2**31}, "out of range"),
        ({"author": 5}, "author = 5 is not a text"),
        ({"only_isbns": "0439064864"}, "pass a list or set"),
        ({"without_isbns": [1]}, "pass ISBNs as texts"),
    ],
)
def test_values_that_cannot_be_used_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        Filters(**given)


def test_without_a_value_no_filter_is_on() -> None:
    assert not Filters().on
    assert Filters(only_isbns=[]).on
