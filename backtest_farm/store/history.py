"""What the records of a study say, taken in one after the other."""

from __future__ import annotations

from typing import Any, NamedTuple

from backtest_farm.storage import Storage
from backtest_farm.store.commit_log import FORMAT, CommitLog, checkpoint_due
from backtest_farm.store.fragment import Fragment

_LOOK_EVERY = 16
"""Records after which a driver looks whether the log was repaired under it."""


class SweepEntry(NamedTuple):
    """One sweep of a study's history.

    Attributes
    ----------
    number : int
        1 for the first.
    sweep_id, spec_sha256 : str, str
        The sweep's digest, and the hash of its frozen spec.
    n_trials : int
        How many trials it has.
    created : str
        When it was added, UTC.
    """

    number: int
    sweep_id: str
    spec_sha256: str
    n_trials: int
    created: str


class History:
    """The state of a study, as its log tells it.

    Kinds of records: ``sweep`` adds one, or says that its frozen text is another; ``rows`` and ``moved`` say
    where atoms' rows lie; ``lost`` takes atoms back, whose file is damaged or gone; ``state`` says all of it
    anew. ``rows`` may bring ``impure`` fragments beside: second results, that differ from those that count.

    Attributes
    ----------
    log : CommitLog
    sweeps : dict of str to SweepEntry
        By digest, in the order in which they were added.
    fragments, impure : dict of str to dict of int to Fragment
        Of each sweep by atoms: what counts, and what was found beside it.
    ever_named : set of str
        All files of rows that a record names, bar lost ones.
    """

    def __init__(self, storage: Storage, checkpoints: bool = True) -> None:
        self.log = CommitLog(storage, checkpoints)
        self._forget()

    def refresh(self) -> None:
        """Take in what was recorded since, by whomever."""
        for record in self.log.news():
            self.take(record)

    def record(self, content: dict[str, Any], format: int = FORMAT) -> bool:
        """Add a record, or take in what another driver was faster to say; see `CommitLog.append`."""
        body = self.log.append(content, format)
        if body is not None:
            self.take(body)
            if checkpoint_due(len(self.log.names)):
                self.log.checkpoint(self.state())
        # Looking at all of a long log takes its time, and whoever is slower is told anyway.
        if body is None or len(self.log.names) % _LOOK_EVERY == 0:
            self.refresh()
        return body is not None

    def take(self, record: dict[str, Any]) -> None:
        """Take in one record."""
        if record["kind"] == "state":
            self._forget()
            for part in record["sweeps"]:
                self.take(part)
            self.ever_named.update(record["named"])
            return
        sweep = record["sweep"]
        if record["kind"] == "sweep":
            number = self.sweeps[sweep].number if sweep in self.sweeps else len(self.sweeps) + 1
            facts = record["spec_sha256"], record.get("trials", 0), record.get("created", "")
            self.sweeps[sweep] = SweepEntry(number, sweep, *facts)
        for kind, known in (("fragments", self.fragments), ("impure", self.impure)):
            of_sweep = known.setdefault(sweep, {})
            for fragment in map(Fragment.from_dict, record.get(kind, ())):
                of_sweep[fragment.atom] = fragment
                self.ever_named.add(fragment.name)
        for atom in record.get("lost", ()):
            if lost := self.fragments[sweep].pop(atom, None):
                # Its rows may come again under the same name.
                self.ever_named.discard(lost.name)

    def state(self) -> dict[str, Any]:
        """Return a record that says all of it."""
        known = {"fragments": self.fragments, "impure": self.impure}
        parts, said = [], set()
        for entry in self.sweeps.values():
            facts = {"spec_sha256": entry.spec_sha256, "trials": entry.n_trials, "created": entry.created}
            rows = {
                name: [one._asdict() for one in of[entry.sweep_id].values()] for name, of in known.items()
            }
            said |= {one["name"] for each in rows.values() for one in each}
            parts.append({"kind": "sweep", "sweep": entry.sweep_id, **facts, **rows})
        return {"kind": "state", "sweeps": parts, "named": sorted(self.ever_named - said)}

    def _forget(self) -> None:
        self.sweeps: dict[str, SweepEntry] = {}
        self.fragments: dict[str, dict[int, Fragment]] = {}
        self.impure: dict[str, dict[int, Fragment]] = {}
        self.ever_named: set[str] = set()
