"""What the scheduling loop asks of whatever runs the work, and the executor that needs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from backtest_farm.farm.worker import Receipt, run_shard


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """A sweep as strings and numbers: all that a worker, on this machine or another, needs to know of it.

    Attributes
    ----------
    spec_json : str
        The frozen sweep as canonical JSON text.
    sweep_id : str
        The sweep's digest.
    n_atoms, n_trials : int
        How many atoms and trials it has.
    store : str
        The study's folder or URI.
    job : str
        ``package.module:function`` that turns `spec_json` into a `worker.Job`.
    estimated_seconds : float
        The plan's estimate of CPU seconds for the whole sweep.
    note : str
        What people should know while they wait for the first rows.
    """

    spec_json: str
    sweep_id: str
    n_atoms: int
    n_trials: int
    store: str
    job: str = "backtest_farm.farm.job:open_job"
    estimated_seconds: float = 0.0
    note: str = ""

    def task(self) -> tuple[str, str, str, str]:
        """Return what `worker.run_shard` takes before the atoms."""
        return self.spec_json, self.sweep_id, self.store, self.job


class Executor(Protocol):
    """Runs shards: atoms that travel together, the unit of dispatch and never part of a name or hash.

    Attributes
    ----------
    name : str
        For people.
    workers : int
        How many shards run at the same time.
    queue : int
        How many shards should be in flight, so that no worker waits for the driver.
    longest_shard : float
        Seconds of work that a shard should not exceed: what an interrupt or a crash may cost.
    """

    name: str
    workers: int
    queue: int
    longest_shard: float

    def submit(self, request: SweepRequest, atoms: Sequence[int]) -> Future[list[Receipt]]:
        """Run atoms of a sweep; the future gives a receipt for each of them.

        Its exception says that the shard lost its worker more often than the executor retries: any of its
        atoms may be the cause, and some may have written their fragments.
        """
        ...

    def cancel(self, shards: Iterable[Future]) -> None:
        """Drop shards that did not end; the executor can be used again."""
        ...

    def close(self) -> None:
        """Leave no process behind; the executor cannot be used again."""
        ...


class InlineExecutor:
    """Runs each shard in this very process, at once: no start-up, and a debugger sees everything."""

    name = "inline"
    workers = 1
    queue = 1
    # Dispatch costs nothing here, so shards stay short: progress and interrupts get a turn between them.
    longest_shard = 0.25

    def submit(self, request: SweepRequest, atoms: Sequence[int]) -> Future[list[Receipt]]:
        """Run the shard to its end, however long that takes; see `Executor.submit`."""
        ended: Future[list[Receipt]] = Future()
        ended.set_result(run_shard(*request.task(), atoms))
        return ended

    def cancel(self, shards: Iterable[Future]) -> None:
        """Every shard has ended."""

    def close(self) -> None:
        """There is no other process."""
