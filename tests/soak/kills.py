"""Real SIGKILLs in the middle of real work: of workers, and of drivers that run inline or on Ray.

Drivers are forked from one process that has imported everything, so that a kill costs a fraction of a second.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from backtest_farm.farm import run_sweep
from backtest_farm.farm.ray.environment import ray_environment
from tests.farm.cases import FakeSweep, executions, fragments, run, sweep

TITLE = "kill -9 in the middle of work: rows equal after it, less than one atom of a worker's work lost"
KINDS = ("worker",) * 15 + ("inline",) * 40 + ("ray",) * 3
"""What is killed, seed after seed."""
ROUNDS = 20
WORKERS, MOST_WORKERS = 2, 4
N_ATOMS = 40
EVENTS: Counter[str] = Counter()
"""What this process killed, and how many atoms had to run again."""


def cases() -> int:
    """Return after how many seeds the suite is complete: 300 workers, 800 inline drivers, 60 on Ray."""
    return ROUNDS * len(KINDS)


def one(seed: int) -> str | None:
    """Kill something once, and say what is not as if it had not been killed."""
    kind = KINDS[seed % len(KINDS)]
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "executions").mkdir()
        slow = random.choice([0.004, 0.02]) if kind == "inline" else 0.03
        # Paths are no part of what a sweep is.
        request = sweep(folder / "s", N_ATOMS, seconds=slow, executions=str(folder / "executions"))
        after = random.randint(1, N_ATOMS * 3 // 4)
        wrong = _kill_worker(request, after) if kind == "worker" else _kill_driver(request, kind, after)
        again = sum(times - 1 for times in executions(folder / "executions").values())
        EVENTS.update({kind: 1, f"{kind}: atoms run again": again})
        if wrong is None and fragments(folder / "s") != undisturbed():
            wrong = "the rows are not those of an undisturbed run"
        # A worker's shard is done again as a whole; of a driver's work only what was under way: on a node
        # that is there already, one atom on each of its cores.
        most = {"worker": _SHARD_ATOMS, "inline": 1, "ray": MOST_WORKERS}[kind]
        if wrong is None and again > most:
            wrong = f"{again} atoms ran again"
        return wrong and f"{kind}, after {after} atoms: {wrong}"


_SHARD_ATOMS = 12
"""Of 0.03 s in a shard of 0.3 s, and as many again by then."""


@functools.cache
def undisturbed() -> dict[int, str]:
    """Return the fragments of a sweep that nobody kills."""
    with tempfile.TemporaryDirectory() as name:
        run(sweep(Path(name) / "s", N_ATOMS))
        return fragments(Path(name) / "s")


def _kill_worker(request: FakeSweep, after: int) -> str | None:
    killed: list[int] = []

    def kill() -> None:
        if file := _executed(request, after):
            killed.append(int(file.name.split("-")[1]))
            os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run(request, executor=node(), shard_seconds=0.3)
    killer.join()
    if not killed or not summary.n_lost:
        return "the kill did not land in the middle of work"
    return None


def _kill_driver(request: FakeSweep, kind: str, after: int) -> str | None:
    driver = warm().start(request, kind)
    _executed(request, after)
    os.kill(driver, signal.SIGKILL)
    folder = Path(json.loads(request.spec_json)["executions"])
    pids = {driver} | {int(file.name.split("-")[1]) for file in folder.iterdir()}
    # Ray's workers go on for about a second; what they write is found or does no harm.
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    done = len(executions(folder))
    if not 0 < done < N_ATOMS:
        return f"the kill did not land in the middle of work: {done} atoms were done"
    run(request)
    return None


def _executed(request: FakeSweep, n: int) -> Path | None:
    """Wait until so many atoms were begun, and return the mark of the last one."""
    folder = Path(json.loads(request.spec_json)["executions"])
    _until(lambda: len(os.listdir(folder)) >= n)
    return max(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns, default=None)


def _until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise AssertionError("what was waited for did not come")
        time.sleep(0.002)


@functools.cache
def node(workers: int = WORKERS) -> Any:
    """Return an executor of so many workers, on the Ray node of this process; the first call starts it."""
    from backtest_farm.farm.ray.executor import RayExecutor

    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        atexit.register(RayExecutor(workers=MOST_WORKERS).close)
    return RayExecutor(workers)


class Warm:
    """A process that has imported all that a driver needs, and forks one on request."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.close)

    def start(self, request: FakeSweep, kind: str) -> int:
        """Start a driver, and return its process id."""
        address = None
        if kind == "ray":
            node()  # first: Ray reads its environment when it is imported
            import ray

            address = ray.get_runtime_context().gcs_address
        assert self._process.stdin and self._process.stdout
        asked = [request.spec_json, request.n_atoms, request.sweep_id, request.store, request.job, address]
        token = os.environ.get("RAY_AUTH_TOKEN") if address else None
        print(json.dumps([*asked, token]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it; what it started has ended."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


@functools.cache
def warm() -> Warm:
    return Warm()


def serve() -> None:
    """Fork a driver for each line of the standard input, and say its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        spec_json, n_atoms, sweep_id, store, job, address, token = json.loads(line)
        if address:
            os.environ["RAY_AUTH_TOKEN"] = token
            with ray_environment(own_node=False):
                import ray  # noqa: F401  two seconds that each driver need not spend
        child = os.fork()
        if child == 0:
            os.close(0)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            one = FakeSweep(spec_json, sweep_id, n_atoms, store, job)
            try:
                run_sweep(
                    one.plan,
                    store,
                    job=job,
                    executor="ray" if address else "inline",
                    address=address,
                    shard_seconds=0.3,
                )
            finally:
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    serve()
