"""Sweeps of the fake job, and a driver in a process of its own that tests can stop."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from backtest_farm.analysis.progress import choose_progress
from backtest_farm.farm import RunSummary, run_sweep
from backtest_farm.identity import digest
from backtest_farm.store import StudyStore
from tests.farm.fake_job import FakePlan

PER_ATOM = 4
DRIVER = Path(__file__).with_name("driver.py")


@dataclass(frozen=True)
class FakeSweep:
    """A sweep of the fake job, and the folder that it is run into."""

    spec_json: str
    sweep_id: str
    n_atoms: int
    store: str
    job: str
    note: str = ""

    @property
    def plan(self) -> FakePlan:
        return FakePlan(self.spec_json, self.n_atoms, self.sweep_id)


def sweep(store: Path, n_atoms: int = 40, job: str = "tests.farm.fake_job:open_job", **spec) -> FakeSweep:
    """Return a sweep; what it sleeps, raises and counts is no part of its identity."""
    text = json.dumps({"seed": 1, "per_atom": PER_ATOM, **spec}, sort_keys=True)
    return FakeSweep(text, digest([spec.get("seed", 1), n_atoms]), n_atoms, str(store), job)


def run(one: FakeSweep, progress: bool = False, **how) -> RunSummary:
    """Run a sweep of the fake job, quietly unless told otherwise."""
    display = choose_progress(progress)
    return run_sweep(one.plan, one.store, job=one.job, note=one.note, display=display, **how)


def executions(folder: Path) -> Counter[int]:
    """Return how often each atom was run."""
    return Counter(int(file.name[:6]) for file in folder.iterdir())


def fragments(store: Path) -> dict[int, str]:
    """Return the committed fragments' names, which are content hashes, by atom."""
    return {atom: fragment.name for atom, fragment in StudyStore.open(store).committed().items()}


class Driver:
    """A driver in its own session, found again with all its children by that and by a mark."""

    def __init__(self, request: FakeSweep, executor: str, folder: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.store = Path(request.store)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        values = (request.spec_json, request.sweep_id, request.n_atoms, request.store)
        arguments = [executor, "fake_job:open_job", *map(str, values)]
        # Not the repository: workers must find their modules wherever the driver is run from.
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), *arguments],
            cwd=home,
            env={**kept, "HOME": str(home), "FARM_TEST_MARK": self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until_committed(self, n_records: int = 3, timeout: float = 60) -> None:
        """Return when the log has so many records; the first only opens the sweep."""
        end = time.monotonic() + timeout
        while len(list(self.store.glob("log/*.json"))) < n_records:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no commits seen: {self.process.poll()} {self.process.communicate()}")
            time.sleep(0.02)

    def survivors(self, timeout: float = 15, spare: str = "$^") -> list[str]:
        """Return the command lines of this driver's processes that live on after a while, bar `spare`."""
        end = time.monotonic() + timeout
        while (found := _descendants(self.process.pid, self.mark, spare)) and time.monotonic() < end:
            time.sleep(0.1)
        return found


def _descendants(session: int, mark: str, spare: str) -> list[str]:
    # By session, and by mark for what left it; Ray's agents write their titles over their environment.
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            ours = int(its_session) == session or mark.encode() in (process / "environ").read_bytes()
            if ours and state != "Z":
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:
            continue
    return [command for command in found if not re.match(spare, command)]
