"""What does not fit into memory is refused while it is read."""

from __future__ import annotations

import pytest

from tests.integration.test_train import SHOP
from tterec import errors, pipeline
from tterec.database.connection import Database
from tterec.store import read_interactions


def test_interactions_that_leave_no_room_to_learn_are_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as connection:
        connection.execute(SHOP)
    monkeypatch.setattr(read_interactions, "_BYTES_TO_LEARN", 2**60)
    with pytest.raises(errors.SourceError, match=r"360 rows and more, which do not fit.*larger"):
        pipeline.train(database)
    assert pipeline.models_list(database) == []
