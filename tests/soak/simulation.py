"""A sweep in a simulated world: storage fails, workers die, linger and come twice, drivers end.

All chance comes from the seed, and time is made up, so that what fails once fails again. The driver, its
loop, the worker's code, the store and its recovery are the real ones; what they stand on is not.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import math
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pyarrow as pa

from backtest_farm.errors import FarmError, PanelError, StoreError
from backtest_farm.farm import SweepRequest, quarantine, run_sweep, worker
from backtest_farm.farm.worker import NONE, AtomRows, Failure, Receipt, Task, run_shard
from backtest_farm.storage import AlreadyExists, Missing
from backtest_farm.store import StudyStore, study_store
from tests.farm import fake_job
from tests.farm.cases import PER_ATOM, FakeSweep, sweep
from tests.farm.fake_job import FakeJob

TITLE = (
    "driver, executor and storage that delay, double, lose and die: digest equal, no row twice, no work lost"
)
EVENTS: Counter[str] = Counter()
"""What happened in the seeds that this process looked at."""
STUDIES = 50
"""So many different studies are run again and again: what one looks like undisturbed is found once."""
MOST_DRIVERS = 60


class Died(BaseException):
    """The process of a trial ended."""


class Killed(BaseException):
    """The driver was killed: nothing that it does from here on happens."""


class World:
    """Everything outside of the driver, made of one seed.

    Parameters
    ----------
    seed : int
    calm : bool
        Whether nothing goes wrong.
    """

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.random = Random(seed)
        self.uri = f"sim:{seed}"
        self.files: dict[str, bytes] = {}
        self.now = 0.0
        self.calm = calm
        self.data_changed = False
        # A number for each driver; what an earlier one left in flight may go on for a while.
        self.driver = 0
        self.killed = False
        self.in_worker = False
        self.pending: dict[Future, tuple[SweepRequest, tuple[Task, ...]]] = {}
        self.zombies: list[tuple[SweepRequest, tuple[Task, ...]]] = []
        self.executed: Counter[int] = Counter()
        # How likely each kind of trouble is differs from seed to seed, so that some have much of one.
        # The driver is killed after so many writes.
        self.writes_left = math.inf
        self.odds = {
            name: self.random.random() ** 2 for name in ("slow", "lost", "file", "kill", "stop", "data")
        }

    def happens(self, what: str, odds: float, name: str = "") -> bool:
        """Draw whether something happens, and count it."""
        if self.calm or self.random.random() >= odds * self.odds[what]:
            return False
        EVENTS[name or what] += 1
        return True

    @contextlib.contextmanager
    def in_peace(self) -> Iterator[None]:
        """Let nothing go wrong for a while."""
        calm, self.calm = self.calm, True
        yield
        self.calm = calm

    def clock(self) -> float:
        """Return seconds; each look takes some."""
        self.now += self.random.random() * 0.02
        return self.now

    def run_worker(self, request: SweepRequest, tasks: Sequence[Task]) -> list[Receipt]:
        """Do atoms as a worker does."""
        self.in_worker = True
        try:
            return run_shard(request, tasks)
        finally:
            self.in_worker = False

    def wait(self, shards: Any, timeout: float, return_when: str = "") -> tuple[list, list]:
        """Let some time pass; what ended of `shards` comes first, as in `concurrent.futures.wait`."""
        self._driver_lives()
        self.now += timeout
        if self.happens("kill", 0.05, "driver killed between calls"):
            self.kill()
        if timeout and self.happens("stop", 0.03, "Ctrl-C"):
            raise KeyboardInterrupt
        self.linger()
        if not self.data_changed and self.happens("data", 0.05, "data changed"):
            self.data_changed = True
        if timeout != 0:
            mine = [shard for shard in self.pending if shard in shards]
            for shard in self.random.sample(mine, len(mine)):
                if self.happens("slow", 0.8, "delayed"):
                    continue
                self._end(shard)
        # In order, where the real one gives sets: the order of sets is another in each process.
        return [shard for shard in shards if shard.done()], [shard for shard in shards if not shard.done()]

    def linger(self, all_of_them: bool = False) -> None:
        """Let workers that nobody waits for go on."""
        while self.zombies and (all_of_them or self.random.random() < 0.5):
            request, tasks = self.zombies.pop(self.random.randrange(len(self.zombies)))
            EVENTS["done by a worker that was given up"] += 1
            with contextlib.suppress(Died, FarmError, MemoryError):
                self.run_worker(request, tasks)

    def kill(self) -> None:
        """End the driver at once."""
        self.killed = True
        raise Killed

    def next_driver(self) -> None:
        """Forget the driver: what it had in flight goes on for a while, or not."""
        for request, tasks in self.pending.values():
            if self.random.random() < 0.5:
                self.zombies.append((request, tasks))
        self.pending.clear()
        self.killed = self.data_changed = False
        self.driver += 1

    def _driver_lives(self) -> None:
        if self.killed:
            raise Killed

    def _end(self, shard: Future) -> None:
        request, tasks = self.pending.pop(shard)
        if self.happens("lost", 0.3, "worker lost"):
            done = self.random.randrange(len(tasks) + 1)
            with contextlib.suppress(Died, MemoryError):
                self.run_worker(request, tasks[:done])
            if self.happens("lost", 0.5, "worker thought lost"):
                self.zombies.append((request, tasks[done:]))
            shard.set_exception(RuntimeError("the worker died"))
            return
        try:
            receipts = self.run_worker(request, tasks)
            if self.happens("lost", 0.2, "done twice"):
                receipts = self.run_worker(request, tasks)
        except Died as died:
            EVENTS["trial ended its worker"] += 1
            shard.set_exception(RuntimeError(f"the worker died: {died}"))
        else:
            if self.happens("slow", 0.3, "out of order"):
                receipts = self.random.sample(receipts, len(receipts))
            shard.set_result(receipts)

    def file_call(self, what: str) -> Iterator[None]:
        """Yield once, in the middle of a call to the storage; anything may go wrong before and after."""
        if not self.in_worker:
            self._driver_lives()
            if self.happens("kill", 0.02, f"driver killed before a {what}"):
                self.kill()
        if what == "write":
            self.writes_left -= 1
            if self.writes_left <= 0 and not self.in_worker:
                self.writes_left = math.inf
                self.kill()
        if self.happens("file", 0.02, f"{what} failed"):
            raise StoreError(f"the {what} failed")
        yield
        if not self.in_worker and self.happens("kill", 0.02, f"driver killed after a {what}"):
            self.kill()
        if what == "write" and self.happens("file", 0.02, "write done and its answer lost"):
            raise StoreError("no answer")


class SimulatedStorage:
    """The world's files, for the driver and for workers alike."""

    def __init__(self, world: World) -> None:
        self._world, self.uri = world, world.uri

    def put_new(self, name: str, data: bytes) -> None:
        for _ in self._world.file_call("write"):
            if name in self._world.files:
                raise AlreadyExists(name)
            self._world.files[name] = bytes(data)

    def read(self, name: str) -> bytes:
        for _ in self._world.file_call("read"):
            if name not in self._world.files:
                raise Missing(name)
        return self._world.files[name]

    def list(self, prefix: str, limit: int | None = None) -> list[str]:
        for _ in self._world.file_call("look"):
            found = sorted(name for name in self._world.files if name.startswith(prefix))
        return found[:limit]

    def sizes(self, prefix: str) -> dict[str, int]:
        return {name: len(self._world.files[name]) for name in self.list(prefix)}

    def path_of(self, name: str) -> None:
        return None

    def remove(self, name: str) -> None:
        for _ in self._world.file_call("removal"):
            self._world.files.pop(name, None)

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[None]:
        yield


class SimulatedExecutor:
    """Takes shards in; `World.wait` ends them."""

    name, longest_shard = "simulated", 5.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.workers = world.random.randint(1, 4)
        self.queue = self.workers * world.random.randint(1, 3)

    def submit(self, request: SweepRequest, tasks: Sequence[Task]) -> Future[list[Receipt]]:
        shard: Future[list[Receipt]] = Future()
        self._world.pending[shard] = request, tuple(tasks)
        return shard

    def close(self) -> None: ...


class SimulatedJob(FakeJob):
    """The fake job over data that may change under it: its rows show that then."""

    def check_data(self) -> None:
        if WORLDS[-1].data_changed:
            raise PanelError("the data changed")

    def run_atom(
        self, i: int, sources: Sequence[pa.Table] = (), failures: Mapping[int, Failure] = NONE
    ) -> AtomRows:
        world = WORLDS[-1]
        world.now += 0.01
        rows = super().run_atom(i, sources, failures)
        if rows.copied < rows.table.num_rows:
            world.executed[i] += 1
        if world.data_changed:
            wrong = pa.array(["wrong"] * rows.table.num_rows)
            at = rows.table.schema.get_field_index("digest")
            rows = rows._replace(table=rows.table.set_column(at, "digest", wrong))
        return rows


WORLDS: list[World] = []
"""The world that is now, last: a job is opened by its name, and cannot be told."""


def open_job(spec_json: str) -> SimulatedJob:
    return SimulatedJob(spec_json)


def in_quarantine(request: SweepRequest, task: Task) -> Receipt:
    """Do what `quarantine.main` does, without processes; now and then one dies by chance."""
    world, chance = WORLDS[-1], itertools.count()

    def attempt(failures: Mapping[int, Failure], keep: bool, patience: int) -> Receipt | Failure:
        try:
            receipt = worker.run_atom(request, task, failures, keep)
        except Died as died:
            worker.open_job(request).check_data()
            return quarantine._failure(-signal.Signals[str(died)], request.deadline)
        if world.happens("lost", 0.1, "died by chance in quarantine") and next(chance) == 0:
            return Failure("oom", "SIGKILL: by chance")
        return receipt

    try:
        return quarantine.examined(worker.open_job(request).numbers(task.atom), attempt)
    except FarmError as error:
        return Receipt(task.atom, attempt=task.attempt, error=error)


def _end(how: str) -> None:
    raise Died(how)


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """Put the world below the product as long as the context lasts."""
    WORLDS.append(world)
    storage = SimulatedStorage(world)
    with contextlib.ExitStack() as undo:
        for room in (worker, study_store):
            undo.enter_context(mock.patch.object(room, "open_storage", lambda place: storage))
        undo.enter_context(mock.patch.object(concurrent.futures, "wait", world.wait))
        undo.enter_context(mock.patch.object(worker, "_in_quarantine", in_quarantine))
        # How long atoms take decides how large shards become.
        undo.enter_context(mock.patch.object(worker.time, "perf_counter", world.clock))
        for kept in (worker._source, worker._file, worker._open):
            kept.cache_clear()
        undo.enter_context(mock.patch.object(fake_job, "_end", _end))
        undo.callback(WORLDS.pop)
        yield


def plans(random: Random) -> list[FakeSweep]:
    """Return one sweep, or two that share some trials, for one study."""
    n_atoms = random.randint(4, 9)
    n_trials = n_atoms * PER_ATOM
    # Not in atoms that may be twins: what is odd goes by number in the fake job, and twins share keys.
    odd = random.sample(range(PER_ATOM, n_trials - PER_ATOM), 6)
    spec: dict[str, Any] = {"error_rows": odd[: random.randint(0, 2)]}
    if random.random() < 0.3:
        spec["ends"] = {
            str(number): random.choice(["SIGSEGV", "SIGKILL"]) for number in odd[2 : random.randint(3, 6)]
        }
    if random.random() < 0.3:
        spec["twins"] = {str(n_atoms - 1): 0}
    job = f"{__name__}:open_job"
    first = sweep(Path("unused"), n_atoms, job, **spec)
    if random.random() < 0.6:
        return [first]
    shift = random.randrange(n_trials)
    return [first, sweep(Path("unused"), n_atoms + 1, job, first_key=shift)]


Rows = dict[int, dict[str, Any]]


def run_until_done(world: World, one: FakeSweep, most: int = MOST_DRIVERS) -> None:
    """Start driver after driver until one says that all is done; the last ones are left in peace."""
    for started in range(most):
        world.calm = world.calm or started > 12
        pace = world.random.choice([None, 1e-6, 0.05, 10.0])
        try:
            run_sweep(
                one.plan,
                world.uri,
                job=one.job,
                executor=SimulatedExecutor(world),
                extend=True,
                shard_seconds=pace,
                check_data=SimulatedJob(one.spec_json).check_data,
                clock=world.clock,
            )
            return
        except (Killed, KeyboardInterrupt, FarmError) as ended:
            EVENTS[f"driver ended by {type(ended).__name__}"] += 1
        world.next_driver()
    assert most < MOST_DRIVERS, "no end in sight"


def rows_of(world: World, one: FakeSweep) -> Rows:
    """Return the committed rows of a sweep by trial; a trial with two of them raises."""
    with world.in_peace():
        store = StudyStore.open(world.uri, one.sweep_id)
        tables = [*store.tables()]
    rows = [row for table in tables for row in table.to_pylist()]
    found = {row["trial"]: row for row in rows}
    assert len(found) == len(rows), "a trial has two rows"
    return found


@functools.cache
def _undisturbed(studies: int) -> list[Rows]:
    world, every = World(studies, calm=True), plans(Random(studies))
    with simulated(world):
        for one in every:
            run_until_done(world, one)
        return [rows_of(world, one) for one in every]


def one(seed: int) -> str | None:
    """Run the sweeps of a seed through trouble, and say what is not as it is without."""
    studies = seed % STUDIES
    every, want = plans(Random(studies)), _undisturbed(studies)
    world = World(seed)
    with simulated(world):
        try:
            return _looked_at(world, every, want)
        except AssertionError as wrong:
            return str(wrong)


def _looked_at(world: World, every: Sequence[FakeSweep], want: Sequence[Rows]) -> str | None:
    for one, wanted in zip(every, want, strict=True):
        run_until_done(world, one)
        if rows_of(world, one) != wanted:
            return _differences(rows_of(world, one), wanted)
    # What workers write when all is over changes nothing, and nothing is left to do.
    world.calm = True
    world.linger(all_of_them=True)
    before = world.executed.total()
    run_until_done(world, every[-1])
    if rows_of(world, every[-1]) != want[-1]:
        return "what was done too late changed rows"
    if world.executed.total() != before:
        return "a finished sweep was run again"
    return _resumed(every[0], want[0], world.random) if world.random.random() < 0.3 else None


def _resumed(one: FakeSweep, wanted: Rows, random: Random) -> str | None:
    """Kill a driver once, in an otherwise quiet world, and look at what the next one runs."""
    world = World(random.randrange(2**32), calm=True)
    with simulated(world):
        world.writes_left = random.randint(2, 2 * one.n_atoms)
        run_until_done(world, one, most=1)
        written = {int(name.split("-")[1]) for name in world.files if name.startswith("fragments/")}
        world.executed.clear()
        run_until_done(world, one)
        EVENTS["resumed with work done"] += 0 < len(written) < one.n_atoms
        if again := {*world.executed} & written:
            return f"atoms {sorted(again)} were finished, and ran again"
        return None if rows_of(world, one) == wanted else "rows differ after a kill"


def _differences(have: Rows, want: Rows) -> str:
    wrong = sorted(number for number in have.keys() | want.keys() if have.get(number) != want.get(number))
    return f"rows of {len(wrong)} trials differ, first {have.get(wrong[0])} instead of {want.get(wrong[0])}"
