"""Shards as Ray tasks, on a node of our own or on a cluster that is there."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from backtest_farm.errors import PlatformError
from backtest_farm.farm.executor import Outcome, Shard
from backtest_farm.farm.loop import LONGEST_SHARD
from backtest_farm.farm.ray.environment import cluster_environment, local_environment
from backtest_farm.farm.worker import Receipt

# Panels never enter the object store; receipts over 100 kB do. 75 MiB is the least that Ray accepts.
_OBJECT_STORE_BYTES = 80 * 2**20
_QUEUE_PER_WORKER = 3
_RETRIES = 2


class RayExecutor:
    """Runs shards as Ray tasks of one core each.

    Without an address a node is started for this process alone, and stopped by `close`. When this process is
    connected to Ray already, that connection is used and left as it is.

    Parameters
    ----------
    workers : int, optional
        Cores to use; all that this process may use (or that the cluster has) when not given.
    address : str, optional
        A cluster's address, as `ray.init` takes it.

    Raises
    ------
    PlatformError
        If Ray is not installed, does not start, or cannot be reached.
    """

    name = "ray"
    longest_shard = LONGEST_SHARD

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._environment = contextlib.ExitStack()
        self._running: dict[Any, Shard] = {}
        self._owned = False
        # Ray reads its environment when it is imported and when it starts: set first, import after.
        self._environment.enter_context(local_environment() if address is None else cluster_environment())
        try:
            self._ray = _import_ray()
            if not self._ray.is_initialized():
                self._start(workers or available_cores(), address)
        except BaseException:
            self._environment.close()
            raise
        n_cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.workers = max(1, min(workers or n_cores, n_cores))
        self.queue = _QUEUE_PER_WORKER * self.workers
        options = {"num_cpus": 1, "max_retries": _RETRIES, "retry_exceptions": False}
        self._remote = self._ray.remote(**options)(_make_task())
        # On a node of our own, workers look for modules exactly where this process does: a source checkout or
        # a strategy beside the notebook is found without being installed.
        self._paths = [os.path.abspath(path) for path in sys.path]
        self._paths_first = address is None

    def submit(self, shard: Shard) -> None:
        """Hand the shard to Ray; see `Executor.submit`."""
        task = shard.request.task()
        reference = self._remote.remote(self._paths, self._paths_first, *task, list(shard.atoms))
        self._running[reference] = shard

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the shards that ended; see `Executor.wait`."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [self._outcome(reference) for reference in ready]

    def cancel(self) -> None:
        """Kill the workers of what still runs: a compiled loop cannot be asked to stop."""
        running, self._running = self._running, {}
        for reference in running:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Stop our node, or leave the cluster; see `Executor.close`."""
        try:
            self.cancel()
            if self._owned:
                self._ray.shutdown()
        finally:
            self._environment.close()

    def _outcome(self, reference: Any) -> Outcome:
        shard = self._running[reference]
        try:
            receipts = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome(self._running.pop(reference), failure=_reason(error))
        del self._running[reference]
        return Outcome(shard, tuple(receipts))

    def _start(self, workers: int, address: str | None) -> None:
        # log_to_driver=False: the terminal belongs to the progress display; Ray keeps its logs in files.
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is not None:
                self._ray.init(address=address, **quiet)
            else:
                self._ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **quiet,
                )
        except BaseException as error:
            # Also on Ctrl-C: half a node must not outlive the attempt.
            with contextlib.suppress(Exception):
                self._ray.shutdown()
            if not isinstance(error, Exception):
                raise
            if address is not None:
                raise PlatformError(
                    f"the Ray cluster at {address} cannot be reached: {_reason(error)}",
                    hint="check that it runs, and that RAY_AUTH_TOKEN holds the cluster's token",
                ) from error
            raise PlatformError(
                f"Ray could not start on this machine: {_reason(error)}",
                hint="look into /tmp/ray/session_latest/logs, or use the inline executor instead",
            ) from error
        self._owned = True


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise PlatformError(
            f"Ray is not installed here, or not in full: {error}",
            hint='pip install "ray[default]>=2.60", or run with the inline executor, which needs no Ray',
        ) from error
    return ray


def _make_task() -> Callable[..., list[Receipt]]:
    # Made inside a function, it travels as code; a module-level one would travel as a name that a worker can
    # only look up once it knows where backtest_farm is.
    def run_shard_task(paths: list[str], paths_first: bool, *task: Any) -> list[Receipt]:
        import sys

        if paths_first:
            sys.path[:] = paths + [path for path in sys.path if path not in paths]
        else:
            sys.path += [path for path in paths if path not in sys.path]
        from backtest_farm.farm.worker import run_shard

        return run_shard(*task)

    return run_shard_task


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
