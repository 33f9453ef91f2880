"""Batches of interactions to learn from, each with the histories and features that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, grouping
from tterec.errors import TrainingError
from tterec.towers.features import Encoded
from tterec.towers.histories import Histories
from tterec.towers.negatives import Negatives
from tterec.towers.ragged import Holders, Index, Renumbering, holders, offsets_of, spans

RUN = 16
"""A user's interactions come in runs of at most this many: one history sum serves a run. Single
interactions would read 20 times as many history vectors on Book-Crossing; longer runs would make
a batch's negatives more and more alike."""
LEAST_STEPS = 64
"""A small data set's batches shrink until an epoch has this many steps."""
SMALLEST_BATCH = 32
RUNS_AT_ONCE = 2**16
"""Runs whose interactions are looked up at a time."""
FEATURELESS = 0.1
"""Share of runs whose user's features are hidden, so that the default profile is learned too."""


@dataclass(frozen=True)
class Side:
    """The features of a batch's items or users, with table rows renumbered from 0.

    token_rows: the embedding table's rows that are met, int64 (t,). tokens: each token's number
    among them, of row i from offsets[i]; holders: which rows hold each. dense: float32 (n, dense
    width).
    """

    token_rows: Index
    tokens: Index
    offsets: Index
    weights: NDArray[np.float32]
    dense: NDArray[np.float32]
    holders: Holders


@dataclass(frozen=True)
class Batch:
    """b interactions of r runs (a user each), with c candidate items, among i items in all.

    item_rows: int64 (i,), rows in the items table; `candidates` (c,), `targets` (b,) and
    `history` (h,) are numbers among these i, `target_columns` (b,) among the c candidates.
    history is that of run 0, then of run 1, …, starting at history_offsets (r,), with
    history_lengths (r,) and history_buckets (h,); history_holders: which histories hold each of
    the i items. runs: int64 (b,), each interaction's run.
    inside: float32 (b,), 1 where the target stands in its own user's history, with its bucket in
    target_buckets. log_q: float32 (c,), log of how often each candidate is drawn, up to a
    constant. known: two index arrays, the (run, candidate) pairs that the user has met.
    id_gates: float32 (i,), how much of each item's own embedding counts.
    """

    item_rows: Index
    items: Side
    id_gates: NDArray[np.float32]
    users: Side
    runs: Index
    targets: Index
    target_columns: Index
    target_buckets: Index
    inside: NDArray[np.float32]
    ratings: NDArray[np.float32]
    candidates: Index
    log_q: NDArray[np.float32]
    known: tuple[Index, Index]
    history: Index
    history_offsets: Index
    history_lengths: Index
    history_buckets: Index
    history_holders: Holders


class Batches:
    """Cuts the targets among the interactions into batches, in another order every epoch."""

    def __init__(
        self,
        histories: Histories,
        targets: NDArray[np.bool_],
        items: Encoded,
        users: Encoded,
        *,
        batch_size: int,
        negatives: Negatives | None,
        id_shrinkage: float,
        id_dropout: float,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Without `negatives` the whole catalogue is every batch's candidates.

        Of each batch this is the share of one of `ranks`, which draws its own negatives. Raises
        TrainingError where there are more ranks than targets.
        """
        self._histories = histories
        self._is_target = targets
        self._targets = int(np.count_nonzero(targets))
        self._items = items
        self._users = with_featureless_row(users)
        self._negatives = negatives
        self._dropout = id_dropout
        self._order = np.random.default_rng([seed, 1])  # the same for all ranks
        self._rng = self._order if ranks == 1 else np.random.default_rng([seed, 1, rank])
        self._rank, self._ranks = rank, ranks
        if self._targets < ranks:
            raise TrainingError(
                f"{self._targets} interactions are too few for {ranks} processes; train "
                "without torchrun"
            )
        self.gates = id_gates(histories, len(items), id_shrinkage)
        steps = -(-self._targets // fitting_batch(self._targets, batch_size))
        self.steps = min(steps, self._targets // ranks)  # a share of every batch for each
        self._among_items = Renumbering(len(items))
        self._among_candidates = Renumbering(len(items))
        self._among_item_tokens = Renumbering(int(items.tokens.ids.max(initial=-1)) + 1)
        self._among_user_tokens = Renumbering(int(users.tokens.ids.max(initial=-1)) + 1)

    @property
    def targets(self) -> int:
        """How many interactions an epoch learns from."""
        return self._targets

    def epoch(self) -> Iterator[Batch]:
        """One pass over all targets: of every batch this rank's share."""
        shuffled, starts = self._runs()
        numbers = arrays.integers_below(len(starts))
        # Run i comes at place[i]; in turn[i] is which one comes at i.
        place, turn = (arrays.empty(len(starts) - 1, numbers) for _ in range(2))
        for piece in arrays.pieces(len(place)):
            place[piece] = np.arange(piece.start, piece.stop)
        self._order.shuffle(place)
        for piece in arrays.pieces(len(place)):
            turn[place[piece]] = np.arange(piece.start, piece.stop)
        del place
        least, longer = divmod(self._targets, self.steps)
        rest = np.zeros(0, dtype=np.int64)
        step = 0
        for start in range(0, len(turn), RUNS_AT_ONCE):
            runs = turn[start : start + RUNS_AT_ONCE]
            begin = starts[runs].astype(np.int64)
            positions = shuffled[spans(begin, starts[runs + 1] - begin)]
            rest = np.concatenate([rest, positions])
            while step < self.steps and len(rest) >= least + (step < longer):
                part, rest = np.split(rest, [least + (step < longer)])
                step += 1
                yield self._batch(np.array_split(part, self._ranks)[self._rank])

    def _runs(self) -> tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]:
        """All targets, each user's in a new order, (n,); and where each run of them starts and the
        last one ends."""
        offsets = self._histories.offsets
        kind = arrays.integers_below(len(self._histories))
        shuffled, at = arrays.empty(self._targets, kind), 0
        starts = arrays.Column(kind)
        for users in grouping.spans_of_users(offsets):
            first, last = int(offsets[users.start]), int(offsets[users.stop])
            positions = np.flatnonzero(self._is_target[first:last]) + first
            ends = np.searchsorted(positions, offsets[users.start + 1 : users.stop + 1])
            lengths = np.diff(ends, prepend=0)
            owners = np.repeat(np.arange(len(lengths)), lengths)
            order = np.lexsort((self._order.random(len(owners)), owners))
            shuffled[at : at + len(order)] = positions[order]
            place = np.arange(len(owners)) - np.repeat(ends - lengths, lengths)
            starts.append(np.flatnonzero(place % RUN == 0) + at)
            at += len(order)
        starts.append(np.array([at]))
        return shuffled, starts.array()

    def _batch(self, positions: Index) -> Batch:
        histories = self._histories
        owners = histories.owners_of(positions)
        run_starts = np.diff(owners, prepend=-1) != 0
        runs, run_users = np.cumsum(run_starts) - 1, owners[run_starts]
        target_items = histories.items[positions]
        candidates, log_q = self._candidates(target_items)
        history, history_lengths = histories.history_spans(run_users)
        history_items = histories.items[history]
        item_rows = self._among_items.unique(candidates, history_items)
        gates = self.gates[item_rows]
        gates[self._rng.random(len(gates)) < self._dropout] = 0.0
        history_numbers = self._among_items.numbers_of(history_items)
        history_offsets = offsets_of(history_lengths)[:-1]
        return Batch(
            item_rows=item_rows,
            items=_side(self._items.rows(item_rows), self._among_item_tokens),
            id_gates=gates,
            users=self._user_side(histories.user_rows[run_users]),
            runs=runs,
            targets=self._among_items.numbers_of(target_items),
            target_columns=self._among_candidates.numbers_of(target_items),
            target_buckets=histories.buckets[positions].astype(np.int64),
            inside=histories.in_history(positions, owners).astype(np.float32),
            ratings=histories.ratings[positions],
            candidates=self._among_items.numbers_of(candidates),
            log_q=log_q,
            known=self._known(run_users),
            history=history_numbers,
            history_offsets=history_offsets,
            history_lengths=history_lengths,
            history_buckets=histories.buckets[history].astype(np.int64),
            history_holders=holders(history_numbers, history_offsets, len(item_rows)),
        )

    def _candidates(self, targets: Index) -> tuple[Index, NDArray[np.float32]]:
        if self._negatives is None:
            everything = self._among_candidates.unique(np.arange(len(self._items)))
            return everything, np.zeros(len(everything), dtype=np.float32)
        drawn = self._negatives.draw(targets, self._rng)
        candidates = self._among_candidates.unique(targets, drawn)
        return candidates, self._negatives.log_q[candidates]

    def _user_side(self, rows: Index) -> Side:
        hidden = (rows < 0) | (self._rng.random(len(rows)) < FEATURELESS)
        rows = np.where(hidden, len(self._users) - 1, rows)
        return _side(self._users.rows(rows), self._among_user_tokens)

    def _known(self, run_users: Index) -> tuple[Index, Index]:
        """The (run, candidate) pairs of items that the run's user has met."""
        # Each user's items are looked up once: the most active have many runs in a batch.
        users, which = np.unique(run_users, return_inverse=True)
        positions, lengths = self._histories.known_spans(users)
        columns = self._among_candidates.numbers_of(self._histories.items[positions])
        met = columns >= 0
        ends = np.append(0, np.cumsum(met))[np.cumsum(lengths)]
        each = np.diff(ends, prepend=0)
        found = spans((ends - each)[which], each[which])
        return np.repeat(np.arange(len(run_users)), each[which]), columns[met][found]


def fitting_batch(targets: int, batch_size: int) -> int:
    """How many of so many targets a step learns."""
    return min(batch_size, max(SMALLEST_BATCH, targets // LEAST_STEPS))


def id_gates(histories: Histories, items: int, shrinkage: float) -> NDArray[np.float32]:
    """How much of each item's own embedding counts, n / (n + shrinkage): float32 (items,).

    An item without interactions has no embedding of its own, only its content.
    """
    counts = histories.item_counts(items)
    gates: NDArray[np.float32] = (counts / np.maximum(counts + shrinkage, 1e-9)).astype(np.float32)
    return gates


def with_featureless_row(table: Encoded) -> Encoded:
    """The table with one more row, of a user of whom nothing is known."""
    dense = np.vstack([table.dense, np.zeros((1, table.dense.shape[1]), dtype=np.float32)])
    tokens = table.tokens
    offsets = np.append(tokens.offsets, tokens.offsets[-1])
    return Encoded(dense, type(tokens)(offsets, tokens.ids, tokens.weights))


def _side(rows: Encoded, among: Renumbering) -> Side:
    token_rows = among.unique(rows.tokens.ids)
    tokens, offsets = among.numbers_of(rows.tokens.ids), rows.tokens.offsets[:-1]
    return Side(
        token_rows=token_rows,
        tokens=tokens,
        offsets=offsets,
        weights=rows.tokens.weights,
        dense=rows.dense,
        holders=holders(tokens, offsets, len(token_rows)),
    )
