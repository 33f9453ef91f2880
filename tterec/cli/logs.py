"""What is said on stderr: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from tterec.records import Progress

OPTION = "--log-format"
_LOGGER = logging.getLogger("tterec")
_DRIVER = logging.getLogger("psycopg")
# A program that reads the log wants to know that it goes on, not every batch.
_PROGRESS_SECONDS = 1.0


def say(message: str, **facts: Any) -> None:
    """A line about what happens; in JSON with these facts beside it."""
    _LOGGER.info("%s", message, extra={"facts": facts})


def note(event: str, **facts: Any) -> None:
    """An event that people need not read: in JSON only."""
    _LOGGER.info("", extra={"facts": {"event": event, **facts}})


def stopped(message: str, exit_code: int) -> None:
    """That somebody stopped the command, and what that leaves."""
    _LOGGER.warning("%s", message, extra={"facts": {"event": "stopped", "exit": exit_code}})


def error(
    message: str, exit_code: int = 1, *, exception: Exception | None = None, **facts: Any
) -> None:
    """Why the command failed; its exit code, and where it was raised, stand in JSON only."""
    facts["exit"] = exit_code
    _LOGGER.error("%s", message, exc_info=exception, extra={"facts": facts})


def of_command(name: str) -> None:
    """What is logged from now on is of this command: `models prune`."""
    for handler in _LOGGER.handlers:
        if isinstance(handler, _Json):
            handler.command = name


def is_json() -> bool:
    """Whether programs read along: then there are no bars, and no colours."""
    return any(isinstance(handler, _Json) for handler in _LOGGER.handlers)


def option_first(args: Sequence[str]) -> list[str]:
    """The arguments with `--log-format` in front of the command, wherever it was given."""
    first: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for one in remaining:
        if one == "--":
            rest += [one, *remaining]
        elif one == OPTION:
            first += [one, *([value] if (value := next(remaining, None)) is not None else [])]
        elif one.startswith(f"{OPTION}="):
            first.append(one)
        else:
            rest.append(one)
    return [*first, *rest]


@contextmanager
def on_stderr(form: str) -> Iterator[None]:
    """While the block runs, what is logged goes to stderr in this form, `text` or `json`."""
    handler: logging.Handler = _Json() if form == "json" else _Text()
    level, propagate = _LOGGER.level, _LOGGER.propagate
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False
    if level in (logging.NOTSET, logging.WARNING):
        _LOGGER.setLevel(logging.INFO)
    # It warns of a transaction that it cannot roll back, as where a signal meets it in the middle
    # of a query. People are told why the command ended, in one line.
    unsaid = logging.NullHandler()
    _DRIVER.addHandler(unsaid)
    if form == "json":  # the libraries' words, too
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(True)
    try:
        yield
    finally:
        _DRIVER.removeHandler(unsaid)
        if form == "json":
            logging.captureWarnings(False)
            logging.getLogger().removeHandler(handler)
        _LOGGER.setLevel(level)
        _LOGGER.propagate = propagate
        _LOGGER.removeHandler(handler)


class _Text(logging.Handler):
    """Lines as ever: the message, and `Error: ` before an error."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message:
            if record.levelno >= logging.ERROR:
                from tterec.cli.lists import printable

                # A file's name or a value may hold anything.
                message = f"Error: {printable(message)}"
            click.echo(message, err=True)


class _Json(logging.Handler):
    """One JSON object a line: time, level, command, event, message, and what else is known."""

    def __init__(self) -> None:
        super().__init__()
        self.command: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        import json

        facts = dict(getattr(record, "facts", {}))
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "command": self.command,
            "event": facts.pop("event", "error" if record.levelno >= logging.ERROR else "message"),
        }
        if message := record.getMessage():
            line["message"] = click.unstyle(message)
        if record.exc_info:
            facts["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        if not record.name.startswith(_LOGGER.name):
            facts["logger"] = record.name
        facts = {name: fact for name, fact in facts.items() if fact is not None}
        # In ASCII: where stderr is not Unicode, Python would escape as JSON does not.
        click.echo(json.dumps(line | facts, default=str), err=True)


class ProgressEvents:
    """A progress callback that logs: every message, the end of every stage, and of the steps the
    first and the last of a stage and one a second."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.message is not None:
            say(progress.message, stage=progress.stage)
        elif progress.seconds is not None:
            note("stage", stage=progress.stage, seconds=round(progress.seconds, 3))
        elif self._due(progress):
            note("progress", stage=progress.stage, done=progress.done, total=progress.total)

    def _due(self, progress: Progress) -> bool:
        now = time.monotonic()
        before = self._logged.get(progress.stage)
        if before is None or progress.done == progress.total or now - before >= _PROGRESS_SECONDS:
            self._logged[progress.stage] = now
            return True
        return False
