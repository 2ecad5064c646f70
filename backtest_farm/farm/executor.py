"""What the scheduling loop asks of whatever runs the work, and the executor that needs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from numbers import Integral
from typing import Any, NamedTuple, Protocol

from backtest_farm.errors import InputError
from backtest_farm.farm.worker import Receipt, SweepRequest, Task, run_shard

RAY_START = 5.0
"""Seconds until Ray's first task runs."""


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

    def submit(self, request: SweepRequest, tasks: Sequence[Task]) -> Future[list[Receipt]]:
        """Do atoms of a sweep; the future gives a receipt for each of them.

        Its exception says that the shard lost its worker, or ran out of memory: any of its atoms may be the
        cause, and some may have written their fragments. Nothing is tried again here.
        """

    def close(self) -> None:
        """Leave no process behind; the executor cannot be used again."""


class InlineExecutor:
    """Runs each shard in this very process, at once: no start-up, and a debugger sees everything."""

    name = "inline"
    workers = 1
    queue = 1
    # Dispatch costs nothing here, so shards stay short: progress and interrupts get a turn between them.
    longest_shard = 0.25

    def submit(self, request: SweepRequest, tasks: Sequence[Task]) -> Future[list[Receipt]]:
        """Run the shard to its end, however long that takes; see `Executor.submit`."""
        ended: Future[list[Receipt]] = Future()
        try:
            ended.set_result(run_shard(request, tasks))
        except MemoryError as error:
            ended.set_exception(error)
        return ended

    def close(self) -> None:
        """There is no other process."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_faults(workers: Any) -> list[str]:
    """Return what is wrong with a number of workers, if anything is."""
    if workers is None or (isinstance(workers, Integral) and int(workers) >= 1):
        return []
    return [f"workers is {workers!r}: give a whole number, at least 1, or nothing for one per core"]


class Choice(NamedTuple):
    """Who runs a sweep, on how many cores, and about how many seconds that takes."""

    executor: str
    workers: int
    seconds: float


def quickest(cpu_seconds: float, workers: int | None = None) -> Choice:
    """Return what ends first, Ray's start included.

    Raises
    ------
    InputError
        If `workers` is no number of workers.
    """
    if faults := worker_faults(workers):
        raise InputError(faults[0])
    alone = Choice("inline", 1, cpu_seconds)
    cores = workers or available_cores()
    return min(alone, Choice("ray", cores, RAY_START + cpu_seconds / cores), key=lambda one: one.seconds)
