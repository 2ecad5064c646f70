"""The one scheduling loop, and the decisions it takes as pure functions."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Callable, Iterator

from backtest_farm.farm.executor import Executor, Outcome, Shard, SweepRequest

# A shard of 0.1 s hides the few ms that dispatch costs; 5 s bounds what a crash repeats and how long the end
# of a sweep waits for its last shard; 24 shards per worker keep that wait near 4 % of the whole.
SHORTEST_SHARD, LONGEST_SHARD, SHARDS_PER_WORKER = 0.1, 5.0, 24
COMMIT_EVERY = 0.5
# How many of the latest atoms tell what the next one takes.
_MEMORY = 64


def shard_seconds(total_seconds: float, workers: int, longest: float = LONGEST_SHARD) -> float:
    """Return how much work a shard should hold: the total over 24 shards a worker, within bounds.

    Parameters
    ----------
    total_seconds : float
        CPU seconds of the whole sweep, estimated; NaN and negative values count as zero.
    workers : int
        Shards that run at the same time.
    longest : float
        Upper bound, in seconds; also bounds the lower one.
    """
    wanted = total_seconds / (SHARDS_PER_WORKER * max(1, workers))
    shortest = min(SHORTEST_SHARD, longest)
    return min(max(wanted, shortest), longest) if wanted > 0 else shortest


def shard_size(seconds_per_atom: float | None, seconds: float) -> int:
    """Return how many atoms fill a shard of `seconds`: one while nothing is known, and never none."""
    if seconds_per_atom is None:
        return 1
    # Atoms too short to measure still get a bound: a shard is a list that has to travel.
    return max(1, min(1000, int(seconds / max(seconds_per_atom, 1e-6))))


def commit_due(n_waiting: int, now: float, last: float, every: float = COMMIT_EVERY) -> bool:
    """Say whether it is time to write a commit record."""
    return n_waiting > 0 and now - last >= every


def give_up(n_failed: int, n_done: int) -> bool:
    """Say whether failing atoms are the rule: three or more, and more than came through."""
    return n_failed >= 3 and n_failed > n_done


class Pace:
    """How long atoms take, learned while they come in.

    Parameters
    ----------
    workers : int
        Shards that run at the same time.
    longest : float
        Seconds that a shard should not exceed.
    estimated_seconds : float
        The plan's estimate for all atoms.
    n_atoms : int or None
        How many atoms there will be, when known.
    fixed_seconds : float or None
        Seconds a shard, instead of a calibrated value.
    """

    def __init__(
        self,
        workers: int,
        longest: float,
        estimated_seconds: float,
        n_atoms: int | None,
        fixed_seconds: float | None = None,
    ) -> None:
        self._workers, self._longest, self._fixed = workers, longest, fixed_seconds
        self._estimated, self._n_atoms = estimated_seconds, n_atoms
        self._seen: deque[float] = deque(maxlen=_MEMORY)

    def learn(self, elapsed: float) -> None:
        """Take in the seconds of one atom."""
        self._seen.append(elapsed)

    def next_size(self) -> int:
        """Return how many atoms the next shard should hold."""
        # The median: a first atom that compiles, or one that was descheduled, says nothing about the rest.
        per_atom = statistics.median(self._seen) if self._seen else None
        if self._fixed is not None:
            return shard_size(per_atom, self._fixed)
        known = per_atom is not None and self._n_atoms is not None
        total = per_atom * self._n_atoms if known else self._estimated  # type: ignore[operator]
        return shard_size(per_atom, shard_seconds(total, self._workers, self._longest))


def schedule(
    request: SweepRequest,
    atoms: Iterator[int],
    executor: Executor,
    pace: Pace,
    wait_seconds: Callable[[], float],
) -> Iterator[list[Outcome]]:
    """Keep the executor busy with `atoms` and yield what comes back, as it comes.

    Atoms are drawn only when there is room for them, and never while the consumer holds a batch: an iterator
    may look at the results so far before it names the next atom. Closing the generator stops the hand-out.

    Parameters
    ----------
    request : SweepRequest
        The sweep that the atoms belong to.
    atoms : iterator of int
        Atom numbers.
    executor : Executor
        Runs the shards.
    pace : Pace
        Sizes the shards.
    wait_seconds : callable
        How long the loop may wait for results before it yields (possibly nothing), so that the consumer can
        commit and draw.

    Yields
    ------
    list of Outcome
        What ended since the last batch.
    """
    numbers = itertools.count()
    in_flight = 0
    exhausted = False
    while True:
        while not exhausted and in_flight < executor.queue:
            taken = tuple(itertools.islice(atoms, pace.next_size()))
            exhausted = not taken
            if taken:
                executor.submit(Shard(request, next(numbers), taken))
                in_flight += 1
        if not in_flight:
            return
        outcomes = executor.wait(wait_seconds())
        in_flight -= len(outcomes)
        for outcome in outcomes:
            for receipt in outcome.receipts:
                if "error" not in receipt:
                    pace.learn(receipt["elapsed"])
        yield outcomes
