"""What came in: receipts turned into commit records, notes, totals, and the one error at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from backtest_farm.errors import FarmError, InputError, PanelError, PlatformError, StoreError
from backtest_farm.farm.executor import Outcome
from backtest_farm.farm.interrupts import held_back
from backtest_farm.farm.worker import Receipt
from backtest_farm.store import Fragment, StudyStore

_FAMILY: dict[str, type[FarmError]] = {
    kind.__name__: kind for kind in (InputError, PanelError, PlatformError, StoreError)
}


class Harvest:
    """Gathers receipts of one run and commits them.

    Parameters
    ----------
    store : StudyStore
        Where to commit.
    run : str
        A name of this run, for its notes.
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, store: StudyStore, run: str, clock: Callable[[], float]) -> None:
        self._store, self._run, self._clock = store, run, clock
        self._waiting: list[Receipt] = []
        self._n_notes = 0
        self.last_commit = clock()
        self.counters: Counter[str] = Counter()
        self.stage_seconds: Counter[str] = Counter()
        self.errors: dict[int, dict[str, Any]] = {}
        self.n_atoms_done = 0
        there = store.committed().values()
        self.n_committed = sum(fragment.rows for fragment in there)
        self.n_failed = sum(fragment.failed for fragment in there)

    @property
    def n_waiting(self) -> int:
        """How many atoms came in and are not committed yet."""
        return len(self._waiting)

    def take(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what an executor returned."""
        with held_back():
            for outcome in outcomes:
                if outcome.failure is not None:
                    lost = {"kind": "WorkerLost", "message": outcome.failure}
                    self.errors.update(dict.fromkeys(outcome.shard.atoms, lost))
                for receipt in outcome.receipts:
                    self._take_receipt(receipt)

    def commit(self) -> None:
        """Commit what waits, and note beside it who did it and how long it took."""
        with held_back():
            self.last_commit = self._clock()
            if not self._waiting:
                return
            fragments = [Fragment.from_dict(receipt["fragment"]) for receipt in self._waiting]
            self._store.commit(fragments)
            self.n_committed += sum(fragment.rows for fragment in fragments)
            self.n_failed += sum(fragment.failed for fragment in fragments)
            kept = ("atom", "pid", "host", "elapsed", "seconds")
            atoms = [{name: receipt[name] for name in kept} for receipt in self._waiting]
            self._waiting.clear()
            self._n_notes += 1
            self._store.put_note(f"{self._run}-{self._n_notes:06d}", {"atoms": atoms})

    def error(self) -> FarmError | None:
        """Return one error for all atoms that failed, or None; their tracebacks go into a note."""
        if not self.errors:
            return None
        note = f"{self._run}-failures"
        self._store.put_note(note, {f"{atom:06d}": error for atom, error in sorted(self.errors.items())})
        groups: dict[tuple[str, str], list[int]] = {}
        for atom, error in sorted(self.errors.items()):
            groups.setdefault((error["kind"], error["message"]), []).append(atom)
        first = self.errors[min(self.errors)]
        whole = f"details are in notes/{note}.json of the study"
        hint = "; ".join(part for part in (first.get("hint"), whole) if part)
        faults = [_fault(kind, message, atoms) for (kind, message), atoms in groups.items()]
        return _FAMILY.get(first["kind"], FarmError)(
            f"{len(self.errors)} of {len(self.errors) + self.n_atoms_done} atoms failed, "
            f"{self.n_committed:,} trials are committed",
            faults=[*faults[:20], *first.get("faults", [])],
            hint=hint,
        )

    def _take_receipt(self, receipt: Receipt) -> None:
        if "error" in receipt:
            self.errors[receipt["atom"]] = receipt["error"]
            return
        self.n_atoms_done += 1
        self._waiting.append(receipt)
        self.counters.update(receipt["counters"])
        self.stage_seconds.update(receipt["seconds"])


def _fault(kind: str, message: str, atoms: list[int]) -> str:
    shown = ", ".join(map(str, atoms[:5])) + (f" and {len(atoms) - 5} more" if len(atoms) > 5 else "")
    return f"{'atom' if len(atoms) == 1 else 'atoms'} {shown}: {kind}: {message}"
