"""Does a shop stay whole whichever process is killed, whenever?

    python -m tests.benchmarks.kills [--times 200] [--seed 0] [--database-url URL]

Kills the commands of kill_commands.py, by `kill -9` or by ending their session on the server, at
named instants in turn and at random ones, while readers ask for lists all the time.
After each kill nothing of it may be half-visible, no session of it may be left, the same command
must work, and a prune must leave nothing of generations that are neither live nor the previous
one. Prints kills and faults by command and instant, and fails if there was a fault.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import numpy as np

from tests.benchmarks import kill_checks as checks
from tests.benchmarks.kill_commands import COMMANDS, READERS, Command, Shop
from tests.benchmarks.kill_instants import Instant, after, doing
from tests.benchmarks.kill_processes import Running
from tests.benchmarks.own_server import own_server
from tterec import pipeline
from tterec.database.connection import Connection, Database

Victim = Literal["client", "session"]
LONGEST = 120.0  # seconds until a command has reached its instant, or has ended
_POLL = 0.004


@dataclass
class Report:
    """Kills and faults by command, instant and victim; what those at random were doing."""

    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    faults: list[tuple[tuple[str, str, str], str]] = field(default_factory=list)
    caught: Counter[tuple[str, str]] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people."""
        wrong = Counter(key for key, _ in self.faults)
        table = [f"{'command':<10} {'instant':<30} {'killed':<8} {'kills':>5} {'faults':>6}"]
        for key, number in sorted(self.kills.items()):
            table.append(f"{key[0]:<10} {key[1]:<30} {key[2]:<8} {number:>5} {wrong[key]:>6}")
        table.append(f"{self.kills.total()} kills, {len(self.faults)} faults")
        table += [f"{name} at random: {n} in {what}" for (name, what), n in self.caught.items()]
        return table


def kill(
    shop: Shop, watcher: Connection, command: Command, instant: Instant, victim: Victim
) -> tuple[str, list[str]] | None:
    """Kill one run there; what it was doing, and what was wrong then. None if it ended before."""
    who = f"kill {next(shop.numbers)}"
    with instant.hold(shop.database) as reached:
        process = Running(shop.database, who, command.arguments(shop), shop.folder)
        end = time.monotonic() + LONGEST
        while not (there := reached(watcher, who)):
            if process.ended is not None:
                return _ended(process, instant)
            if time.monotonic() > end:
                process.kill()
                return "", [f"not there within {LONGEST:.0f} s: {process.said[-800:]}"]
            time.sleep(_POLL)
        at = doing(watcher, who)
        if victim == "client":
            process.kill()
        else:
            watcher.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", (there,))
    if victim == "client":
        if process.wait() != -9:
            return _ended(process, instant)
        faults = []
    else:
        faults = _of_session(shop, process, command)
    return at, [*faults, *checks.left_behind(watcher, who)]


def _ended(process: Running, instant: Instant) -> tuple[str, list[str]] | None:
    if process.ended or instant.name != "at random":
        return "", [f"ended with {process.ended} before the kill: {process.said[-800:]}"]
    return None


def _of_session(shop: Shop, process: Running, command: Command) -> list[str]:
    """Who loses a session says so in a line and ends, or, a worker, goes on."""
    if command.stays:
        end = time.monotonic() + 30
        with shop.database.connect(autocommit=True) as connection:
            while (wrong := command.done(shop, connection)) and time.monotonic() < end:
                time.sleep(0.05)
        process.terminate()
        ended = process.wait()
        return [
            *wrong,
            *([f"did not say so: {process.said}"] if "trying again" not in process.said else []),
            *([f"ended with {ended}"] if ended else []),
        ]
    ended, said = process.wait(), process.said
    if ended == 0:  # the session had nothing to do any more
        return []
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    clear = ended == 1 and len(lines) == 1 and "Traceback" not in said
    return [] if clear else [f"ended with {ended}: {said[-800:]}"]


def again(shop: Shop, command: Command) -> list[str]:
    """Run it once more, to its end; what was wrong with that."""
    arguments = [*command.arguments(shop), *command.again]
    process = Running(shop.database, "kill again", arguments, shop.folder)
    if ended := process.wait(300):
        return [f"the next run ended with {ended}: {process.said[-800:]}"]
    with shop.database.connect() as connection:
        return command.done(shop, connection)


def one(
    shop: Shop,
    command: Command,
    instant: Instant,
    victim: Victim,
    report: Report,
    *,
    rerun: bool = True,
) -> bool:
    """Kill a command once, and look at everything; whether it was killed.

    Without `rerun` it is left to the next kill to show that the command still works.
    """
    command.prepare(shop)
    with shop.database.connect(autocommit=True) as watcher:
        found = kill(shop, watcher, command, instant, victim)
        if found is None:
            return False
        key = (command.name, instant.name, victim)
        report.kills[key] += 1
        at, faults = found
        if instant.name == "at random":
            report.caught[command.name, at] += 1
        faults += [*checks.half_visible(watcher), *command.half(shop, watcher)]
        if rerun:
            faults += again(shop, command)
        pipeline.models_prune(shop.database)
        faults += [*checks.orphans(watcher), *checks.half_visible(watcher)]
    report.faults += [(key, fault) for fault in faults]
    return True


def plan(random: np.random.Generator) -> Iterator[tuple[Command, Instant | None, Victim]]:
    """For ever: all named instants in turn, each followed by one at random (None).

    One kill in five ends the session, the others the process.
    """
    named = [(command, instant) for command in COMMANDS.values() for instant in command.instants]
    for command, instant in cycle(named):
        for at in (instant, None):
            yield command, at, "session" if random.random() < 0.2 else "client"


def kills(database: Database, folder: Path, times: int, seed: int = 0) -> Report:
    """Plant a shop in an empty database that has the schema, and kill in it."""
    shop, report, random = Shop(database, folder), Report(), np.random.default_rng(seed)
    seconds = {}
    shop.plant()
    for command in COMMANDS.values():  # train comes first: the others need what it publishes
        command.prepare(shop)
        begun = time.monotonic()
        faults = again(shop, command)
        assert not faults, faults
        seconds[command.name] = time.monotonic() - begun
    told = 0
    with checks.Readers(database, READERS) as readers:
        for command, instant, victim in islice(plan(random), times):
            begun = time.monotonic()
            # The later the likelier: what is written is written late.
            longest = seconds[command.name]
            while not one(
                shop,
                command,
                instant or after(longest * float(np.sqrt(random.random()))),
                victim,
                report,
            ):
                longest *= 0.8
            print(
                f"{report.kills.total():>4} {command.name:<8} {instant.name if instant else '?'}, "
                f"{victim}: {time.monotonic() - begun:.1f} s",
                *(fault for _, fault in report.faults[told:]),
                file=sys.stderr,
                sep="\n  FAULT ",
            )
            told = len(report.faults)
    report.faults += [(("readers", "", ""), fault) for fault in readers.faults]
    report.kills[("readers", f"{readers.lists.total():,} lists", "")] = 0
    return report


def main() -> None:
    """Kill, print, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--database-url", help="An empty database, as superuser. Default: a server of its own."
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its server ends with it
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tterec-kills-")))
        pipeline.upgrade(database)
        report = kills(database, folder, arguments.times, arguments.seed)
    print(*report.lines(), sep="\n")
    print(*(f"FAULT {' '.join(key)}: {fault}" for key, fault in report.faults), sep="\n")
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
