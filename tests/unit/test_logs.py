"""The log of the command line, in one process."""

from __future__ import annotations

import json
import logging
import warnings

import click
import pytest

from tterec import cli
from tterec.cli import doctor, logs, progress
from tterec.records import Progress
from tterec.timings import Timings, timed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["train"], ["train"]),
        (["train", "--log-format", "json", "-k"], ["--log-format", "json", "train", "-k"]),
        (["train", "--log-format=json"], ["--log-format=json", "train"]),
        (["train", "--log-format"], ["--log-format", "train"]),
        (["similar", "--", "--log-format"], ["similar", "--", "--log-format"]),
    ],
)
def test_the_option_may_stand_anywhere(given: list[str], expected: list[str]) -> None:
    assert logs.option_first(given) == expected


def lines(captured: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.splitlines()]


def test_text_is_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.on_stderr("text"):
        logs.say("hello", stage="x")
        logs.note("done", seconds=1)
        logs.stopped("Stopped.", 130)
        logs.error("no")
    assert capsys.readouterr().err == "hello\nStopped.\nError: no\n"


def test_json_has_what_libraries_say_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.on_stderr("json"):
        logs.say("\x1b[1mbold\x1b[0m ünder\nway")
        logging.getLogger("other").warning("of a library")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    said, library, warned = lines(capsys.readouterr().err)
    assert said["message"] == "bold ünder\nway"
    assert (library["level"], library["logger"], library["message"]) == (
        "warning",
        "other",
        "of a library",
    )
    assert warned["logger"] == "py.warnings"


def test_what_the_driver_cannot_roll_back_is_in_json_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as where no test looks on
    for form, lines in (("text", 0), ("json", 1)):
        with logs.on_stderr(form):
            logging.getLogger("psycopg").warning("error ignored in rollback")
        assert capfd.readouterr().err.count("\n") == lines


def test_afterwards_the_logger_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger, root = logging.getLogger("tterec"), logging.getLogger()
    before = (logger.level, logger.propagate, [*logger.handlers], [*root.handlers])
    for form in ("text", "json"):
        with logs.on_stderr(form):
            assert logs.is_json() == (form == "json")
        assert (logger.level, logger.propagate, [*logger.handlers], [*root.handlers]) == before
    logs.say("nobody listens")
    assert capsys.readouterr().err == ""


def test_steps_are_logged_once_a_second_and_at_their_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with logs.on_stderr("json"):
        events = logs.ProgressEvents()
        for done in range(1, 101):
            now[0] += 0.125
            events(Progress("write", done, 100))
        events(Progress("write", seconds=10.00049))
    steps = lines(capsys.readouterr().err)
    assert [step.get("done") for step in steps] == [*range(1, 100, 8), 100, None]
    assert (steps[-1]["event"], steps[-1]["seconds"]) == ("stage", 10.0)


def test_one_process_may_run_several_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.main(["config", "show", "--log-format", "json"])
        assert ended.value.code == 0
        (done,) = lines(capsys.readouterr().err)
        assert (done["command"], done["event"]) == ("config show", "done")


def test_an_error_that_nobody_expected_is_an_object_with_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(doctor, "command", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--log-format", "json"])
    assert ended.value.code == 1
    (error,) = lines(capsys.readouterr().err)
    assert error["message"] == "ZeroDivisionError: by nothing"
    assert "in broken" in str(error["traceback"])
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


@pytest.mark.parametrize("sums", [True, False])
def test_what_took_a_while_ends_with_its_stages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sums: bool
) -> None:
    monkeypatch.setattr(progress, "_A_WHILE", 0.0)
    with logs.on_stderr("text"), progress.progress_on_stderr(sums=sums) as callback:
        for stage, seconds in (("read", 2.0), ("write", 40.06)):
            callback(Progress(stage, seconds=seconds))
    said = capsys.readouterr().err
    assert said.endswith(" s: read 2.0 s, write 40.1 s\n") if sums else said == ""


def test_stages_that_come_again_are_added_up() -> None:
    passed: list[Progress] = []
    timings = Timings(passed.append)
    for _ in range(2):
        with timed(timings, "read"):
            pass
    timings(Progress("read", seconds=2.0))
    assert timings.seconds["read"] == pytest.approx(2.0, abs=0.1)
    assert [one.seconds is None for one in passed] == [True, False, True, False, False]
    with pytest.raises(ValueError, match="no"), timed(timings, "fail"):
        raise ValueError("no")
    assert "fail" not in timings.seconds
