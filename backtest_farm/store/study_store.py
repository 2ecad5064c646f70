"""The one owner of every path of a study."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import pyarrow as pa

from backtest_farm.errors import InputError, StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, Missing, Storage, open_storage
from backtest_farm.store.arrow_file import table_from_bytes, table_to_bytes
from backtest_farm.store.commit_log import PARTS, CommitLog
from backtest_farm.store.fragment import Fragment, name_hash, read_fragment
from backtest_farm.store.spec_diff import spec_difference

SWEEPS, CURVES, NOTES = "sweeps", "curves", "notes"


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


class StudyStore:
    """A study's folder, read and written as one of its sweeps.

    ``sweeps/<id>-<hash>.json`` the frozen spec texts; ``log/`` the commit records; ``fragments/`` rows, which
    count once a record names them; ``curves/`` kept curves, safe to delete; ``notes/`` hosts and timings,
    outside all digests. A record of the log adds a sweep, with the hash of its spec, or rows to one.

    Use `create` to write and `open` to read; the constructor is for them.

    Attributes
    ----------
    sweeps : list of SweepEntry
        The history.
    sweep_id, spec_json : str, str
        This sweep, and its frozen text.
    ever_named : set of str
        All files of rows that any record names; those of `files` count.
    """

    def __init__(self, storage: Storage, sweep: str | int | None = None) -> None:
        self.storage = storage
        self._log = CommitLog(storage)
        self.sweeps: list[SweepEntry] = []
        self._fragments: dict[str, dict[int, Fragment]] = {}
        self.ever_named: set[str] = set()
        self._last_file: tuple[str, pa.Table | None] = "", None
        self.refresh()
        if not self.sweeps:
            raise StoreError(f"{self.uri} holds no study", hint="give the folder that a sweep was run into")
        entry = self._entry(sweep)
        self.sweep_id = entry.sweep_id
        name = _spec_name(entry.sweep_id, entry.spec_sha256)
        text = storage.read(name)
        if digest_bytes(text) != entry.spec_sha256:
            raise StoreError(
                f"{self.uri}/{name} was changed after the sweep began", hint="restore the file from a copy"
            )
        self.spec_json: str = text.decode()

    @classmethod
    def create(
        cls,
        place: str | os.PathLike[str],
        sweep_id: str,
        spec_json: str,
        n_trials: int = 0,
        *,
        extend: bool = False,
    ) -> Self:
        """Open the study at `place` for this sweep, creating it when nothing is there.

        Parameters
        ----------
        place : str or path
            A folder or URI.
        sweep_id : str
            The sweep's digest.
        spec_json : str
            The frozen sweep as canonical JSON text.
        n_trials : int
            How many trials it has.
        extend : bool
            Add the sweep to the history of a study that does not hold it yet.

        Raises
        ------
        StoreError
            If only other sweeps live there and `extend` is not given (the keys that differ from the newest
            are shown), or something that is no study.
        """
        storage = open_storage(place)
        log = CommitLog(storage)
        log.refresh()
        # Where the panel lies is no part of what a sweep is: the texts may differ, the digest may not.
        while sweep_id not in [record["sweep"] for record in log.records if record["kind"] == "sweep"]:
            if not log.records:
                _refuse_strangers(storage)
            elif not extend:
                newest = cls(storage)
                raise StoreError(
                    f"{storage.uri} holds another sweep ({newest.sweep_id[:12]}, not {sweep_id[:12]})",
                    faults=spec_difference(newest.spec_json, spec_json),
                    hint="extend the study, which reuses the rows that both share (--extend); or give the "
                    "new sweep a folder of its own; or go back to the old spec",
                )
            sha256 = digest_bytes(spec_json.encode())
            _keep(storage, _spec_name(sweep_id, sha256), spec_json.encode())
            # When another driver is faster its record stands, and the question is asked again.
            facts = {"trials": n_trials, "created": datetime.now(UTC).isoformat(timespec="seconds")}
            log.append({"kind": "sweep", "sweep": sweep_id, "spec_sha256": sha256, **facts})
            log.refresh()
        return cls(storage, sweep_id)

    @classmethod
    def open(cls, place: str | os.PathLike[str], sweep: str | int | None = None) -> Self:
        """Open the study at `place` as it is.

        Parameters
        ----------
        place : str or path
            A folder or URI.
        sweep : str or int, optional
            Digest of a sweep, or its first digits, or its number in the history; the newest when not given.

        Raises
        ------
        StoreError
            If no study is there.
        InputError
            If it holds no such sweep, or several.
        """
        return cls(open_storage(place), sweep)

    @property
    def uri(self) -> str:
        """Where the study is, in the form that every process understands."""
        return self.storage.uri

    def refresh(self) -> None:
        """Take in what was committed since, by whomever."""
        for record in self._log.refresh():
            sweep = record["sweep"]
            if record["kind"] == "sweep" and sweep not in self._fragments:
                facts = record.get("trials", 0), record.get("created", "")
                self.sweeps.append(SweepEntry(len(self.sweeps) + 1, sweep, record["spec_sha256"], *facts))
                self._fragments[sweep] = {}
            for values in record.get("fragments", ()):
                fragment = Fragment.from_dict(values)
                self._fragments[sweep][fragment.atom] = fragment
                self.ever_named.add(fragment.name)

    @contextlib.contextmanager
    def hold(self, *, alone: bool = False) -> Iterator[None]:
        """Write to the study as long as the context lasts, with others or alone; see `Storage.hold`."""
        with self.storage.hold(alone=alone):
            # It may have been compacted since it was opened.
            self.refresh()
            yield

    def committed(self, sweep_id: str | None = None) -> dict[int, Fragment]:
        """Return the fragments that count of a sweep, this one by default, by and in order of atoms."""
        return dict(sorted(self._fragments[sweep_id or self.sweep_id].items()))

    def files(self) -> dict[str, int]:
        """Return name and size of the files in which rows of any sweep lie."""
        every = (one for sweep in self._fragments.values() for one in sweep.values())
        return {one.name: one.bytes for one in every}

    def n_commits(self) -> int:
        """Return how many records the log has."""
        return len(self._log.records)

    def commit(self, fragments: Iterable[Fragment]) -> list[Fragment]:
        """Record that these fragments count, and return those that did not before.

        Raises
        ------
        StoreError
            If an atom is committed already with other rows: its results depend on something outside its spec.
        """
        wanted = sorted(set(fragments))
        while new := [fragment for fragment in wanted if not self._has(fragment)]:
            rows = [fragment._asdict() for fragment in new]
            added = self._log.append({"kind": "rows", "sweep": self.sweep_id, "fragments": rows})
            self.refresh()
            if added:
                break
        return new

    def move(self, sweep_id: str, fragments: Iterable[Fragment]) -> None:
        """Record where the rows of these atoms lie from now on; the rows are the same.

        Raises
        ------
        StoreError
            If anything was committed since the study was held.
        """
        rows = [fragment._asdict() for fragment in fragments]
        if not self._log.append({"kind": "moved", "sweep": sweep_id, "fragments": rows}, PARTS):
            raise StoreError(f"{self.uri} changed meanwhile", hint="nothing was lost: compact it again")
        self.refresh()

    def tables(self) -> Iterator[pa.Table]:
        """Yield each committed atom's rows in order, each file checked before it is parsed."""
        for atom in self.committed():
            yield self.rows(atom)

    def rows(self, atom: int, sweep_id: str | None = None) -> pa.Table:
        """Return the rows of a committed atom, of this sweep by default.

        Raises
        ------
        StoreError
            If their file is missing or damaged.
        """
        of_sweep = self._fragments[sweep_id or self.sweep_id]
        try:
            return self._read(of_sweep[atom])
        except Missing:
            # A compaction may have moved them since the log was read.
            gone = of_sweep[atom].name
            self.refresh()
            if of_sweep[atom].name == gone:
                raise
            return self._read(of_sweep[atom])

    def _read(self, fragment: Fragment) -> pa.Table:
        # One file is kept: neighbours lie in the same.
        name, file = self._last_file
        if file is None or name != fragment.name:
            file = read_fragment(self.storage, fragment.name, fragment.file_sha256)
            self._last_file = fragment.name, file
        return fragment.part(file)

    def put_curve(self, trial_key: str, table: pa.Table) -> None:
        """Keep one trial's curve; the same curve again changes nothing.

        Parameters
        ----------
        trial_key : str
            The trial's key.
        table : pyarrow.Table
            The curve.
        """
        data = table_to_bytes(table)
        _keep(self.storage, f"{CURVES}/{trial_key}-{digest_bytes(data)}.arrow", data)

    def kept_curves(self) -> set[str]:
        """Return the keys of the trials whose curves are kept."""
        return {name[len(CURVES) + 1 :].rpartition("-")[0] for name in self.storage.list(f"{CURVES}/")}

    def get_curve(self, trial_key: str) -> pa.Table | None:
        """Return the kept curve of a trial, or None when there is none (a replay makes it again).

        Raises
        ------
        StoreError
            If the kept file is damaged.
        """
        names = self.storage.list(f"{CURVES}/{trial_key}-")
        if not names:
            return None
        hint = f"delete {CURVES}/: a replay makes every curve again"
        return table_from_bytes(self.storage.read(names[0]), name_hash(names[0]), names[0], hint)

    def put_note(self, name: str, note: Mapping[str, Any]) -> None:
        """Write a side file: how the work went, never what came out of it.

        Parameters
        ----------
        name : str
            A new name, letters, digits, ``_`` and ``-``.
        note : mapping
            Plain values.
        """
        self.storage.put_new(f"{NOTES}/{name}.json", canonical_json(note).encode())

    def notes(self) -> dict[str, dict[str, Any]]:
        """Return the side files by name, in order of names."""
        names = self.storage.list(f"{NOTES}/")
        return {name[len(NOTES) + 1 : -len(".json")]: json.loads(self.storage.read(name)) for name in names}

    def _has(self, fragment: Fragment) -> bool:
        there = self._fragments[self.sweep_id].get(fragment.atom)
        if there is None or fragment.replaces == there.sha256 != fragment.sha256:
            return False
        # Failures may pass, and of two drivers that run them again the faster one counts.
        if there.sha256 != fragment.sha256 and not (there.failed or fragment.failed or fragment.replaces):
            raise StoreError(
                f"{self.uri}: atom {fragment.atom} gave two results, {there.name} and {fragment.name}",
                hint="something outside the spec plays in: an unseeded draw, a clock, a library",
            )
        return True

    def _entry(self, sweep: str | int | None) -> SweepEntry:
        if sweep is None:
            return self.sweeps[-1]
        if isinstance(sweep, str):
            found = [entry for entry in self.sweeps if entry.sweep_id.startswith(sweep)]
        else:
            found = [entry for entry in self.sweeps if entry.number == sweep]
        if len(found) != 1 or sweep == "":
            raise InputError(
                f"{self.uri} holds {len(found) or 'no'} sweeps {sweep!r}",
                faults=[f"{entry.number}: {entry.sweep_id} of {entry.created}" for entry in self.sweeps],
                hint="name one of these by its number or by the first digits of its digest",
            )
        return found[0]


def _spec_name(sweep_id: str, sha256: str) -> str:
    return f"{SWEEPS}/{sweep_id}-{sha256[:16]}.json"


def _keep(storage: Storage, name: str, data: bytes) -> None:
    # The name holds the content's hash: a file of that name is this one, and whoever reads it checks.
    with contextlib.suppress(AlreadyExists):
        storage.put_new(name, data)


def _refuse_strangers(storage: Storage) -> None:
    # Specs without a log are what a crash between the two leaves behind; anything else is not ours.
    strangers = [name for name in storage.list("", limit=20) if not name.startswith(f"{SWEEPS}/")]
    if strangers:
        raise StoreError(
            f"{storage.uri} holds something that is no study, nothing was written",
            faults=strangers,
            hint="give an empty or new folder",
        )
