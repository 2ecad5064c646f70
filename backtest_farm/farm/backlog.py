"""What a run still has to do, and which rows of the study it can copy instead of running their trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc

from backtest_farm.farm.worker import SETTLED, Task
from backtest_farm.store import Fragment, StudyStore
from backtest_farm.sweep import Plan

# How many atoms tell what share of all rows can be copied.
_SAMPLE = 64


class Backlog:
    """The atoms that a run has to do.

    Parameters
    ----------
    store : StudyStore
        Where the study stands.
    plan : Plan
        The sweep.
    dedup : bool
        Whether rows with the same key, of other sweeps or of twin atoms, are copied.
    retry_failed : bool
        Whether committed atoms with failed rows are done again; their other rows are copied.

    Attributes
    ----------
    again : dict of int to Fragment
        What stands for the atoms that are done again.
    n_atoms : int
        Atoms of the whole sweep that hold trials.
    atoms : list of int
        What is to be done, twins left out.
    twins : dict of int to int
        Atoms that repeat an earlier one.
    statuses : tuple of str
        Rows that may be copied.
    """

    def __init__(self, store: StudyStore, plan: Plan, dedup: bool, retry_failed: bool) -> None:
        self._store, self._plan = store, plan
        done = store.committed()
        self.again = {i: there for i, there in done.items() if retry_failed and there.failed}
        atoms = list(plan.atoms())
        self.n_atoms = len(atoms)
        todo = [i for i in atoms if i not in done or i in self.again]
        twins = ((i, plan.twin_of(i)) for i in todo if dedup)
        self.twins = {i: twin for i, twin in twins if twin is not None}
        self.atoms = [i for i in todo if i not in self.twins]
        self.statuses = ("ok",) if retry_failed else SETTLED
        others = [entry.sweep_id for entry in store.sweeps if entry.sweep_id != store.sweep_id]
        self._index = KeyIndex(store, others if dedup and todo else (), self.statuses)

    def __len__(self) -> int:
        return len(self.atoms) + len(self.twins)

    def originals(self) -> Iterator[Task]:
        """Yield the tasks whose rows must be simulated, or copied from other sweeps."""
        for i in self.atoms:
            others = sorted(set(self._owners(i)) - {-1})
            yield Task(i, (*self._own(i), *(self._index.fragments[owner] for owner in others)))

    def duplicates(self) -> Iterator[Task]:
        """Yield the tasks that repeat an earlier atom of the sweep, which is committed unless it failed."""
        done = self._store.committed()
        for i, twin in self.twins.items():
            yield Task(i, (*self._own(i), *([done[twin]] if twin in done else [])))

    def share_to_run(self) -> float:
        """Return about what part of the sweep must be simulated, from a sample of its atoms."""
        sample = self.atoms[:: max(1, len(self.atoms) // _SAMPLE)]
        missing = [owner < 0 for i in sample for owner in self._owners(i)]
        return len(self.atoms) / self.n_atoms * sum(missing) / max(1, len(missing))

    def _own(self, i: int) -> tuple[Fragment, ...]:
        return (self.again[i],) if i in self.again else ()

    def _owners(self, i: int) -> list[int]:
        numbers = self._plan.atom(i).numbers
        known = self._index.fragments
        return self._index.owners(self._plan.keys(numbers)) if known else [-1] * len(numbers)


class KeyIndex:
    """Which fragments of other sweeps hold which trials.

    Parameters
    ----------
    store : StudyStore
        The study.
    sweeps : sequence of str
        The other sweeps' digests.
    statuses : sequence of str
        Rows of another status are left aside.

    Attributes
    ----------
    fragments : list of Fragment
        All of them.
    """

    def __init__(self, store: StudyStore, sweeps: Sequence[str], statuses: Sequence[str]) -> None:
        self.fragments: list[Fragment] = []
        # Sorted bytes: a dict of texts takes six times the memory, which counts at millions of rows.
        keys, owners = [np.empty(0, "S1")], [np.empty(0, np.int32)]
        every = [(sweep, one) for sweep in sweeps for one in store.committed(sweep).values()]
        for sweep_id, there in every:
            table = store.rows(there.atom, sweep_id)
            keys.append(table.filter(pc.field("status").isin(statuses))["key"].to_numpy().astype("S"))
            owners.append(np.full(len(keys[-1]), len(self.fragments), np.int32))
            self.fragments.append(there)
        joined = np.concatenate(keys)
        order = np.argsort(joined, kind="stable")
        self._keys, self._owners = joined[order], np.concatenate(owners)[order]

    def owners(self, keys: Sequence[str]) -> list[int]:
        """Return for each key a place in `fragments`, or -1 when no fragment holds it."""
        wanted = np.array(keys, "S")
        at = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._owners[at], -1).tolist()
