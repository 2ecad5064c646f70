"""Crashes of the machine: what was acknowledged is there, what was not is there in full or not at all.

Real `StudyStore` work runs over `tests.storage.simulated_disk`, with a second driver that cuts in at any call
and, in half of the cases, calls that fail. At some calls the disk is copied as a crash might leave it; on the
copy the study has to open and to hold what was acknowledged by then; on every third, all the work that is
left is done as well.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from random import Random
from typing import NamedTuple

from backtest_farm.errors import FarmError, StoreError
from backtest_farm.storage import LocalStorage
from tests.soak.work import ATOMS, Work, differences, in_small
from tests.storage.simulated_disk import SimulatedDisk

TITLE = "acknowledged trials lost, doubled or changed by a crash"
LONG = 20_000
STATES = 20
"""States that are looked at of one course of work."""
GOES_ON = 3
"""On every such state all the work that is left is done: it takes much longer than to look."""
CALLS = 700
"""Roughly what such a course takes."""
FOLDER = "/studies/s"
FEW = 2
"""Atoms where every call fails in turn."""
TAKES_ROOM = ("open", "write", "mkdir", "link", "replace")


class State(NamedTuple):
    """A disk after a crash, and what had been acknowledged before it."""

    disk: SimulatedDisk
    acknowledged: set[tuple[str, int, int]]
    call: str


def cases() -> int:
    """Return how many crash states the long tier looks at."""
    return LONG


def one(seed: int) -> str | None:
    """Look at one state after a crash."""
    states = _states(seed // STATES)
    state = states[seed % STATES]
    with in_small(Random(f"names {seed}")):
        wrong = look(state, None if seed % GOES_ON else Work(Random(f"after {seed}")))
    return f"{wrong} (crash before {state.call})" if wrong else None


def look(state: State, work: Work | None = None) -> str | None:
    """Open the study and compare; with work to do, go on to the end and compare again."""
    storage = LocalStorage(FOLDER, state.disk)
    for wrong in differences(storage, state.acknowledged):
        return wrong
    if work is None:
        return None
    try:
        work.all(storage)
    except FarmError as error:
        return f"the next writer cannot go on: {error.message}"
    for wrong in differences(storage, state.acknowledged | work.everything()):
        return f"{wrong}, when all was done"
    return None


@lru_cache(maxsize=4)
def _states(seed: int) -> list[State]:
    rng = Random(f"course {seed}")
    disk, work, states = SimulatedDisk(), Work(rng), list[State]()
    visits = rng.randint(0, 3)
    if seed % 2:
        codes = [errno.EIO, errno.ENOSPC, -errno.EIO]
        disk.faults = {rng.randrange(CALLS): rng.choice(codes) for _ in range(rng.randint(1, 4))}
    within = False

    def before(number: int, name: str) -> None:
        nonlocal within, visits
        # Before names are durable others see them: then most of all another driver may get in the way.
        if not (within or work.alone) and visits and rng.random() < (0.1 if "folder" in name else 0.002):
            within, visits = True, visits - 1
            which = int(("sweep", 0, 0) in work.acknowledged and rng.random() < 0.3)
            _try(lambda: work.sweep(LocalStorage(FOLDER, disk), which, rng.randint(1, ATOMS), False))
            within = False
        if len(states) < STATES and rng.random() < STATES / CALLS:
            states.append(State(disk.after_crash(rng), {*work.acknowledged}, f"call {number}, {name}"))

    disk.before = before
    with in_small(rng):
        # Each fault ends one process, and the last has none.
        if not any(_try(lambda: work.all(LocalStorage(FOLDER, disk))) for _ in range(len(disk.faults) + 1)):
            raise AssertionError("no writer can go on, though nothing fails any more")
    while len(states) < STATES:
        states.append(State(disk.after_crash(rng), {*work.acknowledged}, "the end"))
    return states


def at_every_call() -> Iterator[tuple[int, str, int]]:
    """Yield what can fail in an undisturbed course of work: a call's number and name, and how it fails."""
    disk, work = SimulatedDisk(), Work(Random("undisturbed"), FEW)
    with in_small(work.rng):
        work.all(LocalStorage(FOLDER, disk))
    for number, name in enumerate(disk.calls):
        for code in (errno.EIO, errno.ENOSPC) if name in TAKES_ROOM else (errno.EIO,):
            yield number, name, code


def after_fault(number: int, code: int, room: int | None = None) -> str | None:
    """Fail one call of such a course, or let the disk be full; mend it, go on, crash, and compare."""
    disk, work = SimulatedDisk(room), Work(Random("undisturbed"), FEW)
    disk.faults = {number: code}
    chance = Random(f"{number} {code} {room}")
    with in_small(work.rng):
        ended = _try(lambda: work.all(LocalStorage(FOLDER, disk)))
        if room is not None and ended:
            return "a full disk was not noticed"
        disk.faults, disk.room = {}, None
        done = State(disk, work.acknowledged, "")
        return (
            look(done._replace(disk=disk.after_crash(chance)))
            or look(done, Work(work.rng, FEW))
            or look(State(disk.after_crash(chance), work.acknowledged | work.everything(), ""))
        )


def cut_in(syncs: Iterable[int], which: int) -> Iterator[str | None]:
    """Let another driver run a sweep while names of the first are seen, but not durable yet; crash meanwhile.

    Of the first driver's syncs of folders some are chosen, by number, one for each course of work.
    """
    for sync in syncs:
        disk, work, chance = SimulatedDisk(), Work(Random("undisturbed"), FEW), Random(f"cut in {sync}")
        states = _cut_in(disk, work, chance, sync, which)
        with in_small(chance):
            found = [look(state) for state in states]
        yield from found


def _cut_in(disk: SimulatedDisk, work: Work, chance: Random, sync: int, which: int) -> list[State]:
    states, seen, within = list[State](), 0, False

    def before(number: int, name: str) -> None:
        nonlocal seen, within
        if within:
            for _ in range(8 if "folder" in name else 1):  # most of what can vanish does so here
                left = disk.after_crash(chance)
                states.append(State(left, {*work.acknowledged}, f"call {number}, {name}"))
        elif "folder" in name and ("sweep", 0, 0) in work.acknowledged and not work.alone:
            seen += 1
            within = seen == sync + 1
            if within:
                _try(lambda: work.sweep(LocalStorage(FOLDER, disk), which, tail=False))
                states.append(State(disk.after_crash(chance), {*work.acknowledged}, "the end"))
            within = False

    disk.before = before
    with in_small(work.rng):
        work.sweep(LocalStorage(FOLDER, disk), 0, tail=False)
    return states


def _try(work: Callable[[], None]) -> bool:
    """Work as one process; where a call fails it ends, in words, and the next one is to go on."""
    try:
        work()
    except StoreError:
        return False
    return True
