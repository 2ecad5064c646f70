"""A study's life in small, for suites that disturb it: two sweeps, commits, curves, notes, compactions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.storage import Storage
from backtest_farm.store import (
    StudyStore,
    commit_log,
    compact,
    compaction,
    history,
    recover,
    study_store,
    write_fragment,
)

ATOMS = 5
ROWS = 3
SPECS = [canonical_json({"panel": "us", "n": n}) for n in (1, 2)]
SWEEPS = [digest({"panel": "us", "n": n}) for n in (1, 2)]


class SmallPlan:
    """Which rows the atoms of a sweep have."""

    def __init__(self, sweep: str) -> None:
        self.sweep = sweep

    def atoms(self) -> Iterator[int]:
        return iter(range(ATOMS))

    def atom(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(numbers=tuple(range(index * ROWS, (index + 1) * ROWS)))

    def keys(self, numbers: Sequence[int]) -> list[str]:
        return [f"{self.sweep[:6]}-{number}" for number in numbers]


@cache
def rows_of(sweep: str, atom: int) -> pa.Table:
    """Return what an atom gives, whoever runs it."""
    plan = SmallPlan(sweep)
    numbers = plan.atom(atom).numbers
    draw = Random(f"{sweep}{atom}")
    columns = {"trial": numbers, "key": plan.keys(numbers), "status": ["ok"] * ROWS}
    return pa.table({**columns, "sharpe": [draw.random() for _ in numbers]})


CURVE = pa.table({"equity": [1.0, 1.5, 0.1 + 0.2]})


class Work:
    """What drivers do to a study, one after the other or at once, and what they were told has been done.

    Attributes
    ----------
    acknowledged : set
        Sweeps (by number), their atoms, curves and notes, of which a call has returned.
    atoms : int
        Of each sweep.
    alone : bool
        Whether somebody holds the study alone: locks are not part of what is simulated.
    """

    def __init__(self, rng: Random, atoms: int = ATOMS) -> None:
        self.rng, self.atoms = rng, atoms
        self.acknowledged: set[tuple[str, int, int]] = set()
        self.alone = False

    def sweep(self, storage: Storage, number: int, until: int | None = None, tail: bool = True) -> None:
        """Run sweep `number` as a driver does, up to an atom; `tail` is what comes after the last one."""
        sweep = SWEEPS[number]
        store = StudyStore.create(storage, sweep, SPECS[number], ATOMS * ROWS, extend=number > 0)  # type: ignore[arg-type]
        with store.hold():
            self.acknowledged.add(("sweep", number, 0))
            recover(store, SmallPlan(sweep))
            left = [atom for atom in range(until or self.atoms) if atom not in store.committed()]
            while left:
                group = [left.pop(0) for _ in range(min(len(left), self.rng.randint(1, 3)))]
                written = [
                    write_fragment(storage, sweep, atom, rows_of(sweep, atom))
                    for atom in self.rng.sample(group, len(group))
                ]
                store.commit(written)
                self.acknowledged |= {("atom", number, atom) for atom in group}
            # What was there already is acknowledged as much as what is new.
            self.acknowledged |= {("atom", number, atom) for atom in store.committed()}
            if tail:
                store.put_curve(f"{sweep[:6]}-0", CURVE)
                self.acknowledged.add(("curve", number, 0))
                note = len(store.notes())
                store.put_note(f"run-{number}-{note}", {"n": note})
                self.acknowledged.add(("note", number, note))

    def compact(self, storage: Storage) -> None:
        """Compact the study."""
        self.alone = True
        try:
            compact(StudyStore.open(storage))  # type: ignore[arg-type]
        finally:
            self.alone = False

    def all(self, storage: Storage) -> None:
        """Do all there is to do, from wherever the study stands."""
        self.sweep(storage, 0, until=2, tail=False)
        self.compact(storage)
        self.sweep(storage, 0)
        self.sweep(storage, 1)
        self.compact(storage)

    def everything(self) -> set[tuple[str, int, int]]:
        """Return the atoms that are there when all is done."""
        return {("atom", number, atom) for number in range(len(SWEEPS)) for atom in range(self.atoms)}


def differences(storage: Storage, acknowledged: set[tuple[str, int, int]]) -> Iterator[str]:
    """Say what a study has not kept of what was acknowledged, and what it has that nobody made."""
    try:
        store = StudyStore.open(storage)  # type: ignore[arg-type]
    except StoreError as error:
        if acknowledged or "holds no study" not in error.message:
            yield f"does not open: {error.message}"
        return
    ids = [entry.sweep_id for entry in store.sweeps]
    if len(set(ids)) < len(ids):
        yield "a sweep is doubled"
    notes = store.notes()
    for what, number, at in sorted(acknowledged):
        sweep = SWEEPS[number]
        if what == "sweep" and sweep not in ids:
            yield f"sweep {number} is lost"
        elif what == "atom" and at not in (store.committed(sweep) if sweep in ids else ()):
            yield f"atom {at} of sweep {number} is lost"
        elif what == "curve" and store.get_curve(f"{sweep[:6]}-{at}") != CURVE:
            yield f"curve of sweep {number} is lost"
        elif what == "note" and notes.get(f"run-{number}-{at}") != {"n": at}:
            yield f"note {at} of sweep {number} is lost"
    for sweep in ids:
        if store.impure(sweep):
            yield "an atom is said to have two results"
        for atom in store.committed(sweep):
            try:
                if not store.rows(atom, sweep).equals(rows_of(sweep, atom)):
                    yield f"rows of atom {atom} are others"
            except StoreError as error:
                yield f"rows of atom {atom} cannot be read: {error.message}"


@contextlib.contextmanager
def in_small(rng: Random) -> Iterator[None]:
    """Let few rows make a large file and few records a checkpoint, and let names follow from the seed."""
    with contextlib.ExitStack() as undo:
        changes: list[tuple[Any, str, Any]] = [
            (compaction, "MERGED_ROWS", 2 * ROWS),
            (history, "checkpoint_due", lambda number: number % 3 == 0),
            (study_store, "open_storage", lambda storage: storage),
            (commit_log, "_READERS", 10**9),
        ]
        for module, name, value in changes:
            undo.enter_context(mock.patch.object(module, name, value))
        undo.enter_context(mock.patch("secrets.token_hex", _names(rng)))
        yield


def _names(rng: Random) -> Callable[[int], str]:
    return lambda n: rng.randbytes(n).hex()
