"""Two to eight drivers at once on one study: one history, each atom in it once, the rows of a calm run.

Drivers are processes that set out together. Some run another sweep of the same study, some run failures
again, some races have trials whose results differ from process to process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from backtest_farm.errors import StoreError
from backtest_farm.farm import run_sweep
from backtest_farm.farm.worker import AtomRows
from backtest_farm.identity import digest
from backtest_farm.storage import LocalStorage
from backtest_farm.store import StudyStore
from backtest_farm.store.history import History
from tests.farm.fake_job import FakeJob, FakePlan

TITLE = "2 to 8 drivers at once on one study: one history, no double rows"
PER_ATOM = 3
LIMIT_SECONDS = 600
# Drivers are forked from a process that has imported all they need.
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.soak.races"])


def cases() -> int:
    """Return after how many races the suite is complete."""
    return 100


class ImpureJob(FakeJob):
    """Rows that depend on the process which makes them, in some atoms."""

    def run_atom(self, i: int, *given: Any, **named: Any) -> AtomRows:
        made = super().run_atom(i, *given, **named)
        if i not in self.spec["impure"]:
            return made
        at = made.table.column_names.index("sharpe")
        values = pa.array([float(os.getpid())] * made.table.num_rows)
        return made._replace(table=made.table.set_column(at, "sharpe", values))


def open_impure(spec_json: str) -> ImpureJob:
    return ImpureJob(spec_json)


@dataclass(frozen=True)
class Driver:
    """One process: which sweep it runs, how, and whether failures have been mended for it."""

    spec: dict[str, Any]
    n_atoms: int
    mended: bool

    @property
    def plan(self) -> FakePlan:
        # What fails and what is impure is no part of what the sweep is.
        identity = [self.spec["seed"], self.n_atoms]
        return FakePlan(json.dumps(self.spec, sort_keys=True), self.n_atoms, digest(identity))


@dataclass(frozen=True)
class Outcome:
    """What came of a race: what was wrong with it, and how many of the drivers wrote rows that count."""

    wrong: str | None
    winners: int


def one(seed: int) -> str | None:
    """Run one race."""
    return race(seed).wrong


def race(seed: int) -> Outcome:
    """Run the race of a seed."""
    random = Random(seed)
    n_atoms = random.randint(8, 16)
    impure = random.sample(range(n_atoms), 2) if random.random() < 0.3 else []
    bad = [] if impure else random.sample(range(n_atoms * PER_ATOM), random.randint(0, 3))
    spec = {"seed": seed, "per_atom": PER_ATOM, "error_rows": bad, "impure": impure}
    spec["seconds"] = random.choice([0.0, 0.002])
    if random.random() < 0.5 and not impure:
        spec["twins"] = {str(n_atoms - 1): 0}
    first = Driver(spec, n_atoms, mended=True)
    # The other sweep shares half of its keys, and so copies rows that the first one may not have yet.
    second = Driver(
        {**spec, "first_key": n_atoms * PER_ATOM // 2, "error_rows": [], "twins": {}}, n_atoms + 1, True
    )
    sweeps = [first] if impure or random.random() < 0.5 else [first, second]
    drivers = [
        Driver(chosen.spec, chosen.n_atoms, random.random() < 0.3)
        for chosen in (random.choice(sweeps) for _ in range(random.randint(2, 8)))
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "study"
        wrong = _run(drivers, place)
        # One more each, undisturbed: it finds what is left, and runs again what failed.
        wrong += _run(sweeps[:1], place) + _run(sweeps[1:], place)
        wrong += [] if wrong else [*_faults(sweeps, place)]
        committed = StudyStore.open(place).notes() if not wrong else {}
    winners = {atom["pid"] for note in committed.values() for atom in note.get("atoms", ())}
    return Outcome("; ".join(wrong[:3]) or None, len(winners))


def _run(drivers: Sequence[Driver], place: Path) -> list[str]:
    """Start drivers together and return what they had to complain about."""
    barrier = _FORKS.Barrier(max(1, len(drivers)))
    said = _FORKS.SimpleQueue()
    running = [_FORKS.Process(target=_drive, args=(each, place, barrier, said)) for each in drivers]
    for process in running:
        process.start()
    for process in running:
        process.join(LIMIT_SECONDS)
        process.kill()
        process.join()
    found = [f"a driver ended with {process.exitcode}" for process in running if process.exitcode]
    while not said.empty():
        found.append(said.get())
    return found


def _drive(driver: Driver, place: Path, barrier: Any, said: Any) -> None:
    if driver.mended:
        os.environ["FARM_TEST_MENDED"] = ",".join(map(str, range(driver.n_atoms)))
    job = "tests.soak.races:open_impure" if driver.spec["impure"] else "tests.farm.fake_job:open_job"
    barrier.wait(LIMIT_SECONDS)
    try:
        run_sweep(
            driver.plan, place, job=job, executor="inline", extend=True, retry_failed=driver.mended,
            shard_seconds=0.001,
        )  # fmt: skip
    except StoreError as error:
        if not (driver.spec["impure"] and "is flagged" in error.message):
            said.put(str(error))
    except BaseException:
        said.put(traceback.format_exc())
        sys.exit(1)


def _faults(sweeps: Sequence[Driver], place: Path) -> Iterator[str]:
    """Say what is wrong with a study after a race."""
    storage = LocalStorage(place)
    history = History(storage, checkpoints=False)
    first: Counter[tuple[str, int]] = Counter()
    for record in history.log.news():
        history.take(record)
        fragments = record.get("fragments", ())
        first.update((record["sweep"], one["atom"]) for one in fragments if not one["replaces"])
    if twice := [atom for (_, atom), times in first.items() if times > 1]:
        yield f"atoms {twice} were committed more than once"
    if len(history.sweeps) > len(sweeps):
        yield f"{len(history.sweeps)} sweeps instead of {len(sweeps)}"
    for driver in sweeps:
        store = StudyStore(storage, driver.plan.sweep_id)
        impure = driver.spec["impure"]
        calm = FakeJob(json.dumps({**driver.spec, "error_rows": []}))
        for atom in range(driver.n_atoms):
            rows = store.rows(atom).to_pylist()
            if atom not in impure and rows != calm.run_atom(atom).table.to_pylist():
                yield f"atom {atom} has other rows than an undisturbed run's"
            if [row["trial"] for row in rows] != list(calm.plan.atom(atom).numbers):
                yield f"atom {atom} has the trials {[row['trial'] for row in rows]}"
        if not {*store.impure()} <= {*impure}:
            yield f"atoms {sorted(store.impure())} are flagged, {impure} are impure"
