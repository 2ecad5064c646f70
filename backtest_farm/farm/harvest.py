"""What came in: receipts turned into commit records, notes, totals, and the one error at the end."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from backtest_farm.errors import FarmError, PanelError, StoreError
from backtest_farm.farm.backlog import Backlog
from backtest_farm.farm.interrupts import held_back
from backtest_farm.farm.loop import commit_due, give_up
from backtest_farm.farm.worker import Receipt
from backtest_farm.store import StudyStore


@dataclass(slots=True)
class RunSummary:
    """How a run goes; kept while it runs, complete when it has ended.

    Attributes
    ----------
    n_trials, n_committed, n_failed : int
        Trials of the sweep, those in the study now, and those of them whose status is not ``ok``.
    n_lost : int
        Shards of this run that lost their worker.
    n_executed, n_reused, n_duplicates : int
        Trials that this run simulated; whose rows it copied from other sweeps of the study; or from twins of
        their own sweep.
    seconds : float
        Wall time of the run.
    executor : str
        ``inline``, ``ray``, or ``none`` when there was nothing to do.
    workers : int
        Shards that ran at the same time.
    counters : dict
        Events counted by the atoms of this run.
    stage_seconds : dict
        CPU seconds of this run by stage, summed over workers.
    """

    n_trials: int = 0
    n_committed: int = 0
    n_failed: int = 0
    n_lost: int = 0
    n_executed: int = 0
    n_reused: int = 0
    n_duplicates: int = 0
    seconds: float = 0.0
    executor: str = "none"
    workers: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    stage_seconds: Counter[str] = field(default_factory=Counter)

    @property
    def n_new(self) -> int:
        """Trials that this run added, or ran again."""
        return self.n_executed + self.n_reused + self.n_duplicates


class Harvest:
    """Gathers receipts of one run and commits them.

    Parameters
    ----------
    store : StudyStore
        Where to commit.
    n_trials : int
        Trials of the sweep.
    backlog : Backlog
        What the run does.
    clock : callable
        Seconds, never going back.
    """

    def __init__(
        self, store: StudyStore, n_trials: int, backlog: Backlog, clock: Callable[[], float]
    ) -> None:
        self._store, self._backlog, self._clock = store, backlog, clock
        # A name for this run's notes.
        self._run = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"
        self._n_notes = 0
        self._waiting: list[Receipt] = []
        self._last_commit = clock()
        self.n_atoms_done = 0
        self.errors: dict[int, tuple[FarmError, str]] = {}
        self.summary = RunSummary(n_trials)
        self._count()

    def take(self, receipts: Iterable[Receipt], last: bool = False) -> None:
        """Take in what an executor returned, and commit when it is time to, or these are the `last` ones."""
        with held_back():
            for receipt in receipts:
                if receipt.error is not None:
                    self.errors[receipt.atom] = receipt.error, receipt.traceback
                    continue
                self.n_atoms_done += 1
                self._waiting.append(receipt)
                self.summary.counters.update(receipt.counters)
                self.summary.stage_seconds.update(receipt.seconds)  # type: ignore[arg-type]
            if commit_due(len(self._waiting), self._clock(), self._last_commit) or (last and self._waiting):
                self._commit()

    def hopeless(self) -> bool:
        """Say whether going on makes no sense: the data is not what it was, or failing is the rule."""
        changed = any(isinstance(error, PanelError) for error, _ in self.errors.values())
        return changed or give_up(len(self.errors), self.n_atoms_done)

    def error(self) -> FarmError | None:
        """Return one error for all atoms that failed, or None; their tracebacks go into a note."""
        if not self.errors:
            return self._store.flag()
        note = f"{self._run}-failures"
        details: dict[str, dict[str, str]] = {}
        atoms_of: dict[str, list[int]] = defaultdict(list)
        for atom, (error, traceback) in sorted(self.errors.items()):
            details[f"{atom:06d}"] = {"error": str(error), "traceback": traceback}
            atoms_of[error.message].append(atom)
        kept = True
        try:
            self._store.put_note(note, details)
        except StoreError:
            # What kept the rows from being written may keep the note from it too; the errors matter more.
            kept = False
        first, _ = self.errors[min(self.errors)]
        faults = [f"{_atoms(atoms)}: {message}" for message, atoms in atoms_of.items()]
        whole = f"details are in notes/{note}.json of the study; " if kept else ""
        whole += "when that is mended, run the same sweep again"
        return type(first)(
            f"{len(self.errors)} of {len(self.errors) + self.n_atoms_done} atoms failed, "
            f"{self.summary.n_committed:,} trials are committed",
            faults=[*faults[:20], *first.faults],
            hint=f"{first.hint}; {whole}" if first.hint else whole,
        )

    def _commit(self) -> None:
        """Commit what waits, and note beside it who did it and how long it took."""
        summary, again = self.summary, self._backlog.again
        made = {receipt.atom: receipt.fragment for receipt in self._waiting if receipt.fragment is not None}
        stands = [
            # Rows that are done again came into the sweep as they did the first time.
            one._replace(copied=again[atom].copied, replaces=again[atom].sha256) if atom in again else one
            for atom, one in made.items()
        ]
        new = {one.atom for one in self._store.commit(stands)}
        ran, first = made.keys() & (new | again.keys()), new - again.keys()
        twins = first & self._backlog.twins.keys()
        summary.n_executed += sum(made[atom].rows - made[atom].copied for atom in ran)
        summary.n_duplicates += sum(made[atom].copied for atom in twins)
        summary.n_reused += sum(made[atom].copied for atom in first - twins)
        self._count()
        kept = ("atom", "pid", "host", "elapsed", "attempt", "seconds")
        atoms = [{name: getattr(receipt, name) for name in kept} for receipt in self._waiting]
        self._waiting.clear()
        self._last_commit = self._clock()
        self._n_notes += 1
        note = {"atoms": atoms, "versions": _versions() if self._n_notes == 1 else {}}
        self._store.put_note(f"{self._run}-{self._n_notes:06d}", note)

    def _count(self) -> None:
        """Look at what stands in the study: other drivers may have committed some of it."""
        there = self._store.committed().values()
        self.summary.n_committed = sum(one.rows for one in there)
        self.summary.n_failed = sum(one.failed for one in there)


@functools.cache  # reading them takes longer than the rest of a commit
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("backtest-farm", "numba", "numpy", "polars", "pyarrow", "ray"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _atoms(atoms: list[int]) -> str:
    shown = ", ".join(map(str, atoms[:5])) + (f" and {len(atoms) - 5} more" if len(atoms) > 5 else "")
    return f"{'atom' if len(atoms) == 1 else 'atoms'} {shown}"
