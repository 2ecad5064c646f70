"""Shards in this very process: no start-up, and a debugger sees everything."""

from __future__ import annotations

import time
from collections import deque

from backtest_farm.farm.executor import Outcome, Shard
from backtest_farm.farm.worker import run_shard


class InlineExecutor:
    """Runs each shard when it is waited for."""

    name = "inline"
    workers = 1
    queue = 1
    # Dispatch costs nothing here, so shards stay short: progress and interrupts get a turn between them.
    longest_shard = 0.25

    def __init__(self) -> None:
        self._shards: deque[Shard] = deque()

    def submit(self, shard: Shard) -> None:
        """Keep the shard until `wait`."""
        self._shards.append(shard)

    def wait(self, timeout: float) -> list[Outcome]:
        """Run the oldest shard to its end, however long that takes; see `Executor.wait`."""
        if timeout <= 0:
            return []
        if not self._shards:
            time.sleep(timeout)
            return []
        shard = self._shards.popleft()
        return [Outcome(shard, tuple(run_shard(*shard.request.task(), shard.atoms)))]

    def cancel(self) -> None:
        """Drop what was not run."""
        self._shards.clear()

    def close(self) -> None:
        """Drop what was not run."""
        self._shards.clear()
