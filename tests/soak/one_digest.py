"""One sweep run in every way: the digest of its study is one."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import backtest_farm as bf
from backtest_farm.cache import cache_root
from tests.soak.kills import MOST_WORKERS, node

TITLE = "one digest over executors, workers, sizes of shards, cold and warm caches, with and without a kill"
PLACES = ("inline", 1, 2, MOST_WORKERS)
"""In this process, or on so many workers of Ray."""
WAYS = [*itertools.product(PLACES, (1e-6, 0.1, 60.0), ("cold", "warm"), ("whole", "killed"))]
SWEEP = """\
panel: {panel}
strategy:
  kind: TopN
  signal: {{factor: momentum, lookback: {{axis: [{lookbacks}]}}, skip: 2}}
  n: {{axis: [2, 3, 5, 8, 10, 12]}}
  rebalance: {{axis: [1, 5, 21]}}
costs: {{commission_bps: {{axis: [0, 5, 10, 25]}}}}
"""


def cases() -> int:
    """Return after how many seeds every way was taken."""
    return len(WAYS)


def one(seed: int) -> str | None:
    """Run the sweep in one way, and say whether its digest is another."""
    place, shard_seconds, cache, kill = WAYS[seed % len(WAYS)]
    if cache == "cold":
        # The arrays of this suite alone: what else the machine has kept is not ours.
        for file in (cache_root() / "factors").glob("*"):
            if file.stat().st_mtime > _BEGUN and file.suffix != ".lock":
                file.unlink()
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "study"
        ended = contextlib.nullcontext()
        if kill == "killed" and place == "inline":
            _killed_driver(store)
        elif kill == "killed":
            ended = _killed_worker(store)
        with ended:
            study = _run(store, place, shard_seconds)
        if study.digest != undisturbed():
            return f"{place}, {shard_seconds}, {cache}, {kill}: digest {study.digest}, not {undisturbed()}"
        if kill == "killed" and place != "inline" and not study._run.n_lost:
            return "the kill did not land in the middle of work"
    return None


_BEGUN = time.time()


@functools.cache
def folder() -> Path:
    """Return the folder with the panel and the sweep's file, which lives as long as this process."""
    _kept.append(tempfile.TemporaryDirectory())
    here = Path(_kept[0].name)
    panel = bf.synthetic_panel(here / "panel", n_bars=400, n_assets=40, seed=9)
    text = SWEEP.format(panel=panel.path, lookbacks=", ".join(map(str, range(10, 34))))
    (here / "sweep.yaml").write_text(text, encoding="utf-8")
    return here


_kept: list[tempfile.TemporaryDirectory] = []


@functools.cache
def undisturbed() -> str:
    """Return the digest of the study that runs inline, with nothing in between."""
    with tempfile.TemporaryDirectory() as name:
        return _run(Path(name) / "study", "inline", None).digest


def _run(store: Path, place: str | int, shard_seconds: float | None) -> bf.Study:
    how = {"shard_seconds": shard_seconds, "progress": False}
    if place == "inline":
        return bf.Sweep.load(folder() / "sweep.yaml").run(store, executor="inline", **how)
    node()
    return bf.Sweep.load(folder() / "sweep.yaml").run(store, executor="ray", workers=int(place), **how)


def _fragments(store: Path) -> int:
    return len([*store.glob("fragments/*.arrow")])


def _killed_driver(store: Path) -> None:
    """Start the sweep from the command line, and kill it when some rows are there."""
    words = ["sweep", str(folder() / "sweep.yaml"), "--store", str(store), "--executor", "inline"]
    command = [sys.executable, "-c", "from backtest_farm.cli import main; main()", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        while _fragments(store) < 3 and driver.poll() is None:
            time.sleep(0.002)
        driver.kill()
    assert 0 < _fragments(store) < 24, "the kill did not land in the middle of work"


@contextlib.contextmanager
def _killed_worker(store: Path):
    """Kill one of Ray's workers as soon as some rows are there."""

    def kill() -> None:
        while not _fragments(store):
            time.sleep(0.002)
        while True:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (process / "cmdline").read_bytes().startswith(b"ray::run_shard_task"):
                        os.kill(int(process.name), signal.SIGKILL)
                        return

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield
    killer.join(timeout=10)
