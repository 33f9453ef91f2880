"""How many threads torch uses."""

import os
import subprocess
import sys

import pytest
import torch

from tterec.towers.threads import MOST_THREADS, bounded_threads, fastest_thread_count


def test_the_former_number_returns_also_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with bounded_threads(before + 2) as chosen:
            assert chosen == torch.get_num_threads() == before + 2
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before


def test_the_chosen_number_is_at_least_one_and_bounded() -> None:
    before = torch.get_num_threads()
    with bounded_threads(0) as chosen:
        assert 1 <= chosen <= MOST_THREADS
    assert torch.get_num_threads() == before


def test_the_environment_bounds_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert fastest_thread_count() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(
    given: str | None, expected: str
) -> None:
    environment = {**os.environ, "OMP_WAIT_POLICY": given or ""}
    if given is None:
        del environment["OMP_WAIT_POLICY"]
    code = "import tterec.towers, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
