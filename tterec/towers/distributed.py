"""Several processes, started by torchrun, that train one pair of towers.

Every batch is shared out among the ranks, and their gradients are added up, so that all of them
take the same steps from the same parameters. Rank 0 reads the data, says when to stop, and keeps
what was learned; the others hold no connection to the database.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

# Before there is a group: it keeps, as a default of its functions, the group that is there when it
# is first imported, which optimisers do. Its threads then outlive the interpreter, and one that had
# not yet let go of its last tensor ended the process by SIGABRT: torchrun ended rank 0 for it, in
# the midst of publishing.
import torch.distributed.nn.functional
from torch import Tensor

from tterec.config import torchrun_ranks
from tterec.errors import ConfigError, TrainingError, TterecError
from tterec.towers.ragged import Index

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others in a step; what takes longest in one, validation on rank 0,
takes seconds."""
_FAILED = "tterec/failed"
_READY = "tterec/ready"
_SAID = "tterec/said"
_STOPPED = "tterec/stopped"


class Ranks(Protocol):
    """What training needs of those who train with it."""

    rank: int
    size: int
    beside: int  # how many others are on this machine

    def device(self, kind: str) -> torch.device:
        """Where this rank's parameters are, of a kind: cpu or cuda. Raises ConfigError."""

    def union(self, rows: Mapping[str, Index]) -> dict[str, Index]:
        """The rows of each table that any rank reads, ascending; one rank's are distinct."""

    def mean(self, gradients: Sequence[Tensor], loss: float) -> float:
        """Make gradients, in place, the means of all ranks' ones; the mean loss."""

    def as_first(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """What rank 0 passed."""

    def require_equal(self, parameters: Mapping[str, Tensor]) -> None:
        """Raise TrainingError unless all ranks have the same parameters to the last bit."""

    def hand_out(self, lesson: Any) -> None:
        """Let the other ranks receive what rank 0 has to teach."""


class Alone:
    """Nobody else."""

    rank, size, beside = 0, 1, 0

    def device(self, kind: str) -> torch.device:
        """The first of its kind."""
        return _available(kind, 0)

    def union(self, rows: Mapping[str, Index]) -> dict[str, Index]:
        """These."""
        return dict(rows)

    def mean(self, gradients: Sequence[Tensor], loss: float) -> float:  # noqa: ARG002 (Ranks')
        """These."""
        return loss

    def as_first(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """These."""
        return values

    def require_equal(self, parameters: Mapping[str, Tensor]) -> None:
        """They are."""

    def hand_out(self, lesson: Any) -> None:
        """To nobody."""


ALONE = Alone()


class Group:
    """The processes that torchrun has started."""

    def __init__(self, rank: int, size: int, local_rank: int) -> None:
        self.rank, self.size = rank, size
        self.beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1
        self._local_rank = local_rank
        self._device = torch.device("cpu")

    def device(self, kind: str) -> torch.device:
        """The one with the number of this rank among its machine's."""
        self._device = _available(kind, self._local_rank)
        if kind == "cuda":
            torch.cuda.set_device(self._device)
        return self._device

    def union(self, rows: Mapping[str, Index]) -> dict[str, Index]:
        """One exchange of lengths, one of rows."""
        own = torch.from_numpy(np.concatenate([*rows.values()]))
        lengths = torch.tensor([len(some) for some in rows.values()])
        with _together():
            every = [torch.empty_like(lengths) for _ in range(self.size)]
            dist.all_gather(every, lengths)
            longest = max(int(some.sum()) for some in every)
            padded = torch.zeros(longest, dtype=torch.int64)
            padded[: len(own)] = own
            read = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(read, padded)
        found = {}
        starts = np.zeros(self.size, dtype=np.int64)
        for place, name in enumerate(rows):
            ends = starts + np.array([int(some[place]) for some in every])
            parts = [
                some.numpy()[start:end] for some, start, end in zip(read, starts, ends, strict=True)
            ]
            merged = np.sort(np.concatenate(parts))
            found[name] = merged[np.diff(merged, prepend=-1) > 0]
            starts = ends
        return found

    def mean(self, gradients: Sequence[Tensor], loss: float) -> float:
        """One sum of everything: the rank that adds up a part sends the same bits to all."""
        value = torch.tensor([loss], device=self._device)
        flat = torch.cat([value, *(one.reshape(-1) for one in gradients)])
        with _together():
            dist.all_reduce(flat)
        flat /= self.size
        start = 1
        for one in gradients:
            one.copy_(flat[start : start + one.numel()].view_as(one))
            start += one.numel()
        return float(flat[0])

    def as_first(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Float64 throughout."""
        sent = torch.tensor(values, dtype=torch.float64)
        with _together():
            dist.broadcast(sent, 0)
        return tuple(sent.tolist())

    def require_equal(self, parameters: Mapping[str, Tensor]) -> None:
        """By digests."""
        digest = hashlib.blake2b(digest_size=32)
        for name in sorted(parameters):
            digest.update(parameters[name].detach().cpu().contiguous().numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
        every = [torch.empty_like(own) for _ in range(self.size)]
        with _together():
            dist.all_gather(every, own)
        others = [rank for rank, one in enumerate(every) if not torch.equal(one, every[0])]
        if others:
            raise TrainingError(
                f"the parameters of rank {others[0]} are no longer those of rank 0; train on "
                "machines and with libraries of one kind, or without torchrun"
            )

    def hand_out(self, lesson: Any) -> None:
        """Arrays go as they are, uncopied, one after the other."""
        buffers: list[pickle.PickleBuffer] = []
        # Nobody but the ranks can send to this group; torch.distributed pickles objects, too.
        head = pickle.dumps(lesson, protocol=5, buffer_callback=buffers.append)
        parts: list[memoryview] = [memoryview(head), *(one.raw() for one in buffers)]
        _store().set(_READY, "")
        with _together():
            _send_lengths([len(part) for part in parts])
            for part in parts:
                if len(part):
                    sent = np.frombuffer(part, dtype=np.uint8)
                    # torch wants to be able to write, and does not.
                    sent = sent if sent.flags.writeable else sent.copy()
                    dist.broadcast(torch.from_numpy(sent), 0)

    def receive(self) -> Any:
        """What rank 0 hands out, whenever that is: reading may take it an hour."""
        store = _store()
        while True:
            with suppress(RuntimeError):  # not yet
                store.wait([_READY], timedelta(seconds=5))
                break
            with _together():  # the store itself may be gone
                failed = store.check([_FAILED])
            if failed:
                raise SystemExit(1)
        with _together():
            parts = [bytearray(length) for length in _receive_lengths()]
            for part in parts:
                if part:
                    dist.broadcast(torch.frombuffer(part, dtype=torch.uint8), 0)
        return pickle.loads(parts[0], buffers=parts[1:])


def _send_lengths(lengths: Sequence[int]) -> None:
    dist.broadcast(torch.tensor([len(lengths)]), 0)
    dist.broadcast(torch.tensor(lengths), 0)


def _receive_lengths() -> list[int]:
    count = torch.zeros(1, dtype=torch.int64)
    dist.broadcast(count, 0)
    lengths = torch.zeros(int(count), dtype=torch.int64)
    dist.broadcast(lengths, 0)
    return list(map(int, lengths.tolist()))


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun describes in the environment, while the block runs.

    If the block fails on one rank, the others end too, without another word; where it fails on
    all alike, rank 0 has the word, and the others raise SystemExit. Raises ConfigError where the
    environment is no torchrun's or the others do not come.
    """
    rank, size = torchrun_ranks()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"rank {rank} of {size} cannot join the others ({reason}); start all with: "
            "torchrun --standalone --nproc-per-node N -m tterec train"
        ) from error
    try:
        with _ended_politely():
            yield Group(rank, size, local_rank)
    except BaseException as error:
        _say_what_is_to_be_said()
        with suppress(RuntimeError):
            store = _store()
            if isinstance(error, KeyboardInterrupt):
                store.set(_STOPPED, "")
            store.set(_FAILED, f"rank {rank}: {error}")
            if isinstance(error, KeyboardInterrupt):
                _let_first_say_it(rank, store, error)
            elif isinstance(error, TterecError) and not _is_first_to_say(rank, store, error):
                raise SystemExit(1) from error
        raise
    dist.destroy_process_group()


def _say_what_is_to_be_said() -> None:
    """SIGTERM, which torchrun sends as soon as another rank has ended, keeps no rank from saying
    what went wrong. If it takes too long for that, torchrun kills it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _is_first_to_say(rank: int, store: Any, error: BaseException) -> bool:
    """Whether this rank is the one that says what went wrong: rank 0 where all met the same."""
    if rank > 0 and not isinstance(error, _Gone):
        with suppress(RuntimeError):  # rank 0 is well
            store.wait([_SAID], timedelta(seconds=5))
    return int(store.add(_SAID, 1)) == 1


def _let_first_say_it(rank: int, store: Any, stopped: KeyboardInterrupt) -> None:
    """Where ranks are stopped, rank 0 says so, unless the reason has been said. Is rank 0 itself
    what is gone, another one says that."""
    if rank > 0:
        # Else rank 0 would go on waiting for this one, and not hear that it is to stop. The calls
        # that were stopped hold the group, and with it the connections.
        traceback.clear_frames(stopped.__traceback__)
        dist.destroy_process_group()
    first = _is_first_to_say(rank, store, stopped)
    if first and rank > 0:
        raise _gone() from stopped
    if not first and rank == 0:
        raise SystemExit(1) from stopped


class _Gone(TrainingError):
    """Another rank is gone or does not answer."""


def _gone() -> _Gone:
    return _Gone(
        "another rank is gone, or has not answered for "
        f"{PATIENCE.total_seconds() / 60:.0f} minutes; nothing was published. Look at what it "
        "wrote, and train again"
    )


@contextmanager
def _ended_politely() -> Iterator[None]:
    """SIGTERM, by which torchrun ends the ranks when one has failed, ends the block in order.

    A program that has a way of its own to be ended keeps it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(1)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def _together() -> Iterator[None]:
    """Word what is raised where another rank is gone or does not answer. One that was stopped stops
    this one, whose own signal may be late, or lost."""
    try:
        yield
    except RuntimeError as error:
        with suppress(RuntimeError):
            if _store().check([_STOPPED]):
                raise KeyboardInterrupt from error
            if _store().check([_FAILED]):  # that rank has said why
                raise SystemExit(1) from error
        raise _gone() from error


def _store() -> Any:
    """What torchrun keeps for all ranks, and longer than any of them lives."""
    return dist.distributed_c10d._get_default_store()


def _available(kind: str, number: int) -> torch.device:
    if kind != "cuda":
        return torch.device(kind)
    if not torch.cuda.is_available():
        raise ConfigError("device cuda: torch finds no CUDA here; train with --device cpu")
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"device cuda: rank {number} of this machine has no device of its own, there are "
            f"{torch.cuda.device_count()}; use torchrun --nproc-per-node "
            f"{torch.cuda.device_count()}"
        )
    return torch.device(kind, number)
