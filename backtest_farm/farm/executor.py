"""What the scheduling loop asks of whatever runs the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from backtest_farm.farm.worker import Receipt


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
    """

    spec_json: str
    sweep_id: str
    n_atoms: int
    n_trials: int
    store: str
    job: str = "backtest_farm.farm.job:open_job"
    estimated_seconds: float = 0.0

    def task(self) -> tuple[str, str, str, str]:
        """Return what `worker.run_shard` takes before the atoms."""
        return self.spec_json, self.sweep_id, self.store, self.job


@dataclass(frozen=True, slots=True)
class Shard:
    """Atoms that travel together: the unit of dispatch, never part of a name or hash."""

    request: SweepRequest
    number: int
    atoms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a shard ended: with a receipt for each atom, or with the reason why there are none.

    A shard without receipts has lost its worker more often than the executor retries; any of its atoms may be
    the cause, and some may have written their fragments.
    """

    shard: Shard
    receipts: tuple[Receipt, ...] = ()
    failure: str | None = None


class Executor(Protocol):
    """Runs shards, of one sweep after the other.

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

    def submit(self, shard: Shard) -> None:
        """Take a shard; returns at once."""
        ...

    def wait(self, timeout: float) -> list[Outcome]:
        """Return what ended since the last call, waiting up to `timeout` seconds for the first to end.

        With a `timeout` of zero nothing is waited for, and nothing is begun.
        """
        ...

    def cancel(self) -> None:
        """Drop every shard that did not end; the executor can be used again."""
        ...

    def close(self) -> None:
        """Drop every shard and leave no process behind; the executor cannot be used again."""
        ...
