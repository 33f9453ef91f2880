"""`tterec precompute`, as a user runs it."""

from __future__ import annotations

from tests.acceptance.test_help import tterec
from tests.integration.test_surfaces import plant_shop
from tterec.database.connection import Database


def test_lists_are_made_once_and_served(database: Database) -> None:
    plant_shop(database, normalised=True, users=12)
    before = tterec("recommend", "4", "--format", "json", url=database.url)
    done = tterec("precompute", "--top", "30", url=database.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Generation 1: 12 lists made, 0 still right; ")
    again = tterec("precompute", "--top", "30", url=database.url)
    assert again.stdout.startswith("Generation 1: 0 lists made, 12 still right; ")
    after = tterec("recommend", "4", "--format", "json", url=database.url)
    assert after.stdout == before.stdout != ""
    assert "user_lists      12\n" in tterec("models", "show", "1", url=database.url).stdout


def test_what_cannot_be_done_is_said_in_a_line(database: Database) -> None:
    for arguments, said in (
        (("--top", "0"), "Error: --top 0 is not between 1 and 1,000\n"),
        ((), "Error: No generation is live"),
    ):
        done = tterec("precompute", *arguments, url=database.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1
