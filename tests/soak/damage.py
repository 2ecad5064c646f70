"""Changed files of a study: reading stops or `verify` says so before a changed row is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from backtest_farm.analysis import audit
from backtest_farm.errors import StoreError
from backtest_farm.storage import LocalStorage
from backtest_farm.store import StudyStore
from tests.soak.work import SWEEPS, SmallPlan, Work, in_small, rows_of
from tests.storage.simulated_disk import File, Folder, SimulatedDisk

TITLE = "changes of fragments, log records, specs, curves and checkpoints that go unnoticed"
LONG = 10_000
FOLDER = "/studies/s"
PAGE = 512
CHECKED = ("fragments", "log", "sweeps", "curves", "checkpoints")


def cases() -> int:
    """Return how many changes the long tier makes."""
    return LONG


def one(seed: int) -> str | None:
    """Change one file, or two, and look whether anybody notices."""
    rng = Random(f"damage {seed}")
    disk = _disk(seed % 2 == 1)
    name, before, after = change(rng, _files(disk))
    for file, data in after:
        file.seen = data
    try:
        with in_small(rng):
            wrong = next(unnoticed(LocalStorage(FOLDER, disk)), None)
    finally:
        for file, data in before:
            file.seen = data
    return f"{name}: {wrong}" if wrong else None


def unnoticed(storage: LocalStorage) -> Iterator[str]:
    """Read and verify a study that was changed, and say where that was taken for what was written."""
    try:
        for sweep in SWEEPS:
            store = StudyStore.open(storage, sweep)  # type: ignore[arg-type]
            for atom, fragment in store.committed().items():
                table = store.rows(atom)
                if fragment.atom != atom or not table.equals(rows_of(sweep, atom)):
                    yield f"other rows of atom {atom} are read"
    except StoreError:
        pass
    try:
        store = StudyStore.open(storage)  # type: ignore[arg-type]
        study: Any = SimpleNamespace(plan=SmallPlan(store.sweep_id))
        with mock.patch.object(audit, "open_storage", lambda uri: storage):
            audit.verify(study, store, 0, None)
    except StoreError:
        return
    yield "verify finds everything as it was written"


def change(
    rng: Random, files: dict[str, File]
) -> tuple[str, list[tuple[File, bytes]], list[tuple[File, bytes]]]:
    """Return what is done to which file, and the contents before and after."""
    while True:
        kind = rng.choice(CHECKED[:2] * 3 + CHECKED[2:])
        names = [name for name in files if name.startswith(f"{kind}/")]
        name, how = rng.choice(names), rng.choice([*CHANGES, swap])
        data = files[name].seen
        if how is swap:
            other = rng.choice(names)
            both = [(files[name], data), (files[other], files[other].seen)]
            swapped = [(files[name], files[other].seen), (files[other], data)]
            # Of two checkpoints each is as true under the other's name.
            if data != files[other].seen and kind != "checkpoints":
                return f"swap of {name} and {other}", both, swapped
        elif (changed := how(rng, data)) != data:
            return f"{how.__name__} in {name}", [(files[name], data)], [(files[name], changed)]


def flip(rng: Random, data: bytes) -> bytes:
    """Change some bits: mostly one."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 5])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def append(rng: Random, data: bytes) -> bytes:
    return data + (rng.choice([b"\n", b" ", b"\0", data]) if rng.random() < 0.5 else rng.randbytes(9))


def zero(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(0, len(data), PAGE)
    return data[:at] + bytes(len(data[at : at + PAGE])) + data[at + PAGE :]


def swap(rng: Random, data: bytes) -> bytes:
    """Stand for what needs a second file."""
    return data


CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (flip, truncate, append, zero)


@cache
def _disk(compacted: bool) -> SimulatedDisk:
    """Return a study of two sweeps."""
    disk, rng = SimulatedDisk(), Random("study")
    storage, work = LocalStorage(FOLDER, disk), Work(rng)
    with in_small(rng):
        if compacted:
            work.all(storage)
        else:
            work.sweep(storage, 0)
            work.sweep(storage, 1)
    return disk


def _files(disk: SimulatedDisk) -> dict[str, File]:
    study = disk.root.seen["studies"].seen["s"]
    found: dict[str, File] = {}
    for kind in CHECKED:
        folder: Folder = study.seen[kind]
        found |= {f"{kind}/{name}": file for name, file in sorted(folder.seen.items())}
    return found
