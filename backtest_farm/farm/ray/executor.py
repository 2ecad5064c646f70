"""Shards as Ray tasks, on a node of our own or on a cluster that is there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from backtest_farm.errors import PlatformError
from backtest_farm.farm.executor import available_cores
from backtest_farm.farm.interrupts import as_it_was
from backtest_farm.farm.loop import LONGEST_SHARD, in_short
from backtest_farm.farm.ray.environment import ray_environment
from backtest_farm.farm.worker import Receipt, SweepRequest, Task

# Panels never enter the object store; receipts over 100 kB do. 75 MiB is the least that Ray accepts.
_OBJECT_STORE_BYTES = 80 * 2**20
_QUEUE_PER_WORKER = 3


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
        # What is on the stack is undone by `close`, and when the start fails or is interrupted: half a node
        # must not outlive the attempt.
        with contextlib.ExitStack() as stack:
            # Ray reads its environment when it is imported and when it starts: set first, import after.
            stack.enter_context(ray_environment(own_node=address is None))
            self._ray = _import_ray()
            if not self._ray.is_initialized():
                stack.callback(self._ray.shutdown)
                _start(self._ray, workers or available_cores(), address)
            n_cores = int(self._ray.cluster_resources().get("CPU", 1))
            self._undo = stack.pop_all()
        self.workers = max(1, min(workers or n_cores, n_cores))
        self.queue = _QUEUE_PER_WORKER * self.workers
        # The scheduling loop tries again what lost its worker; Ray would do so for ever when memory runs out.
        self._remote = self._ray.remote(num_cpus=1, max_retries=0)(_make_task())
        # On a node of our own, workers look for modules exactly where this process does: a source checkout or
        # a strategy beside the notebook is found without being installed.
        self._paths = [os.path.abspath(path) for path in sys.path]
        self._paths_first = address is None

    def submit(self, request: SweepRequest, tasks: Sequence[Task]) -> Future[list[Receipt]]:
        """Hand the shard to Ray; see `Executor.submit`."""
        # As plain tuples: a worker cannot know our classes before it has the paths.
        plain = tuple(request), [tuple(task) for task in tasks]
        return self._remote.remote(self._paths, self._paths_first, *plain).future()

    def close(self) -> None:
        """Stop our node, or leave the cluster; see `Executor.close`."""
        self._undo.close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PlatformError(
            f"Ray is not installed here, or not in full: {error}",
            hint='pip install "ray[default]>=2.60", or run with the inline executor, which needs no Ray',
        ) from error
    return ray


def _start(ray: Any, workers: int, address: str | None) -> None:
    place: dict[str, Any]
    if address is None:
        place = {"address": "local", "num_cpus": workers, "include_dashboard": False}
        place["object_store_memory"] = _OBJECT_STORE_BYTES
        trouble = "Ray could not start on this machine"
        hint = "look into /tmp/ray/session_latest/logs, or use the inline executor instead"
    else:
        place = {"address": address}
        trouble = f"the Ray cluster at {address} cannot be reached"
        hint = "check that it runs, and that RAY_AUTH_TOKEN holds the cluster's token"
        _probe(address, trouble, hint)
    try:
        # log_to_driver=False: the terminal belongs to the progress display; Ray keeps its logs in files.
        with as_it_was():
            ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise PlatformError(f"{trouble}: {in_short(error)}", hint=hint) from error


def _probe(address: str, trouble: str, hint: str) -> None:
    """Knock at ``host:port`` first: Ray itself tries a port that nobody listens on for ever."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise PlatformError(f"{trouble}: {in_short(error)}", hint=hint) from None


def _make_task() -> Callable[..., list[Receipt]]:
    # Made inside a function, it travels as code; a module-level one would travel as a name that a worker can
    # only look up once it knows where backtest_farm is.
    def run_shard_task(paths: list[str], paths_first: bool, request: tuple, tasks: list) -> list[Receipt]:
        import sys

        sys.path[:] = dict.fromkeys([*paths, *sys.path] if paths_first else [*sys.path, *paths])
        from backtest_farm.farm.worker import SweepRequest, Task, run_shard

        return run_shard(SweepRequest(*request), [Task(*task) for task in tasks])

    return run_shard_task
