"""The one scheduling loop, and the decisions it takes as pure functions."""

from __future__ import annotations

import concurrent.futures
import itertools
import statistics
from collections import deque
from collections.abc import Callable, Iterator

from backtest_farm.errors import PlatformError
from backtest_farm.farm.executor import Executor
from backtest_farm.farm.worker import QUARANTINE, Receipt, SweepRequest, Task

Running = dict[concurrent.futures.Future[list[Receipt]], tuple[Task, ...]]
"""Shards in flight and their tasks."""

# A shard of 0.1 s hides the few ms that dispatch costs; 5 s bounds what a crash repeats and how long the end
# of a sweep waits for its last shard; 24 shards per worker keep that wait near 4 % of the whole.
SHORTEST_SHARD, LONGEST_SHARD, SHARDS_PER_WORKER = 0.1, 5.0, 24
COMMIT_EVERY = 0.5
# Seconds that the loop waits at most before its consumer may commit, show progress and draw.
TURN = 0.1
# In quarantine an atom cannot end its worker: when it does so twice there, something else is wrong.
MOST_ATTEMPTS = QUARANTINE + 2
# How many of the latest atoms tell what the next one takes.
_MEMORY = 64


def shard_seconds(total_seconds: float, workers: int, longest: float = LONGEST_SHARD) -> float:
    """Return how much work a shard should hold: the total over 24 shards a worker, within bounds.

    Parameters
    ----------
    total_seconds : float
        CPU seconds of the whole sweep, estimated; NaN counts as zero.
    workers : int
        Shards that run at the same time.
    longest : float
        Upper bound, in seconds; also bounds the lower one.
    """
    wanted = total_seconds / (SHARDS_PER_WORKER * workers)
    return min(max(min(SHORTEST_SHARD, longest), wanted), longest)


def shard_size(seconds_per_atom: float, seconds: float) -> int:
    """Return how many atoms fill a shard of `seconds`, never none."""
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
    n_atoms : int
        How many atoms there will be.
    workers : int
        Shards that run at the same time.
    longest : float
        Seconds that a shard should not exceed.
    fixed : float, optional
        Seconds a shard, instead of a calibrated value.
    """

    def __init__(self, n_atoms: int, workers: int, longest: float, fixed: float | None = None) -> None:
        self._n_atoms, self._workers, self._longest, self._fixed = n_atoms, workers, longest, fixed
        self._seen: deque[float] = deque(maxlen=_MEMORY)

    def learn(self, elapsed: float) -> None:
        """Take in the seconds of one atom."""
        self._seen.append(elapsed)

    def next_size(self) -> int:
        """Return how many atoms the next shard should hold: one while nothing is known."""
        if not self._seen:
            return 1
        # The median: a first atom that compiles, or one that was descheduled, says nothing about the rest.
        per_atom = statistics.median(self._seen)
        total = per_atom * self._n_atoms
        return shard_size(per_atom, self._fixed or shard_seconds(total, self._workers, self._longest))


def schedule(
    request: SweepRequest,
    tasks: Iterator[Task],
    executor: Executor,
    pace: Pace,
    running: Running,
    lost: Callable[[str], None],
) -> Iterator[list[Receipt]]:
    """Keep the executor busy with `tasks` and yield what comes back, as it comes.

    Atoms whose worker was lost are handed out again, each alone, and later to a quarantine.

    Tasks are drawn only when there is room for them, and never while the consumer holds a batch: an iterator
    may look at the results so far before it names the next task. Closing the generator stops the hand-out.

    Parameters
    ----------
    request : SweepRequest
        The sweep that the atoms belong to.
    tasks : iterator of Task
        What to do.
    executor : Executor
        Runs the shards.
    pace : Pace
        Sizes the shards.
    running : dict
        Kept up to date with the shards in flight, which are the caller's when the loop is left early.
    lost : callable
        Told why a shard lost its worker, before anything of it is tried again; may raise.

    Yields
    ------
    list of Receipt
        What came in since the last batch; after a `TURN` without news an empty one.
    """
    again: deque[Task] = deque()
    while True:
        while len(running) < executor.queue:
            taken = (again.popleft(),) if again else tuple(itertools.islice(tasks, pace.next_size()))
            if not taken:
                break
            running[executor.submit(request, taken)] = taken
        if not running:
            return
        receipts, losses = collect(running, TURN)
        for receipt in receipts:
            if receipt.error is None:
                pace.learn(receipt.elapsed)
        for shard, why in losses:
            lost(why)
            for task in (task._replace(attempt=task.attempt + 1) for task in shard):
                if task.attempt < MOST_ATTEMPTS:
                    again.append(task)
                else:
                    error = PlatformError(f"WorkerLost: {why}", hint="run the same sweep again")
                    receipts.append(Receipt(task.atom, attempt=task.attempt, error=error))
        yield receipts


def collect(running: Running, timeout: float) -> tuple[list[Receipt], list[tuple[tuple[Task, ...], str]]]:
    """Take the shards that ended out of `running`, waiting up to `timeout` seconds for the first to end.

    Returns
    -------
    list of Receipt
        Of those that came through.
    list of tuple
        The tasks of those that lost their worker, and why, in words.
    """
    ended, _ = concurrent.futures.wait(running, timeout, concurrent.futures.FIRST_COMPLETED)
    receipts, losses = [], []
    for shard in ended:
        tasks = running.pop(shard)
        if (error := shard.exception()) is None:
            receipts += shard.result()
        else:
            losses.append((tasks, in_short(error)))
    return receipts, losses


def in_short(error: BaseException) -> str:
    """Return the kind of an error that is not ours, and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
