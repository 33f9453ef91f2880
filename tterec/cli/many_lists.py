"""Lists of many users, to stdout or into a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tterec import __version__
from tterec.cli import lists
from tterec.cli.progress import progress_on_stderr
from tterec.errors import InvalidArgument
from tterec.records import Progress, ProgressCallback, User

if TYPE_CHECKING:
    from tterec.recommender import Recommender


def write(
    recommender: Recommender,
    users: Sequence[User] | None,
    output: Path | None,
    *,
    resume: bool,
    options: dict[str, Any],
) -> None:
    """Write the lists of users, None for everybody, as `recommend_many` has them.

    `options` are its parameters, by name. With `resume` a file that an earlier run with the same
    ones left unfinished is gone on with. Raises InvalidArgument where it cannot be.
    """
    if output is None or (output.exists() and not output.is_file()):
        if resume:
            raise InvalidArgument(
                "--resume goes on with a file that an earlier run left unfinished; name it "
                "with -o FILE"
            )
        with progress_on_stderr() as progress, lists.output(output, "csv") as out:
            found = recommender.recommend_many(users, **options, progress=progress)
            lists.write_csv(out, lists.MANY, [])
            lists.write_many(out, found)
        return
    from tterec.cli import list_file

    run = _described(recommender, users, options)
    # What becomes of the file is said when the bars are gone.
    with (
        list_file.opened(output, run, resume=resume) as (out, done),
        progress_on_stderr() as progress,
    ):
        everybody = recommender.everybody() if users is None else users
        left = []
        for user in everybody:
            if done[str(user)]:
                done[str(user)] -= 1
            else:
                left.append(user)
        found = recommender.recommend_many(
            left, **options, progress=_beyond(progress, len(everybody) - len(left))
        )
        lists.write_many(out, found)


def _beyond(progress: ProgressCallback, done: int) -> ProgressCallback:
    """Progress of a run that goes on where so many users are done."""

    def shown(step: Progress) -> None:
        if step.total is not None:  # else it is no step through the users
            step = replace(step, done=step.done + done, total=step.total + done)
        progress(step)

    return shown


def _described(
    recommender: Recommender, users: Sequence[User] | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What a run that goes on must have in common with the one that began."""
    who = None
    if users is not None:
        who = hashlib.sha256("\n".join(map(str, users)).encode()).hexdigest()[:16]
    plain = {name: _plain(value) for name, value in options.items()}
    return {"tterec": __version__, **recommender.serving(), "users": who, **plain}


def _plain(value: Any) -> Any:
    """A value as JSON has it, the same for equal ones."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(one) for name, one in asdict(value).items()}
    if isinstance(value, set | frozenset | tuple | list):
        texts = sorted(map(str, value))
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    return value if isinstance(value, str | int | float | None) else str(value)
