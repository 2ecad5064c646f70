"""The one owner of every path of a study."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self

import pyarrow as pa

from backtest_farm.errors import InputError, StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, Missing, Storage, open_storage
from backtest_farm.store.arrow_file import table_from_bytes, table_to_bytes
from backtest_farm.store.checked_files import CheckedFiles
from backtest_farm.store.commit_log import FORMAT, MENDED, PARTS
from backtest_farm.store.fragment import FOLDER as ROWS
from backtest_farm.store.fragment import Fragment, name_hash
from backtest_farm.store.history import History, SweepEntry
from backtest_farm.store.spec_diff import spec_difference

SWEEPS, CURVES, NOTES, QUARANTINE = "sweeps", "curves", "notes", "quarantine"

LOG_GONE = (
    "it looks like a study without its log: backtest-farm study repair {} --dry-run says what it can save"
)


class StudyStore:
    """A study's folder, read and written as one of its sweeps.

    ``sweeps/<id>-<hash>.json`` the frozen spec texts; ``log/`` the commit records, and ``checkpoints/`` that
    save reading them all; ``fragments/`` rows, which count once a record names them; ``curves/`` kept curves,
    safe to delete; ``notes/`` hosts and timings, outside all digests; ``quarantine/`` what was found damaged.

    Use `create` to write and `open` to read; the constructor is for them.

    Attributes
    ----------
    history : History
        All sweeps, and where their rows lie.
    checked : CheckedFiles
        The files of rows.
    sweep_id, spec_json : str, str
        This sweep, and its frozen text.
    """

    def __init__(
        self, storage: Storage, sweep: str | int | None = None, history: History | None = None
    ) -> None:
        self.storage = storage
        self.history = history or History(storage)
        self.checked = CheckedFiles(storage)
        self.refresh()
        if not self.sweeps:
            hint = "give the folder that a sweep was run into"
            if storage.list(f"{SWEEPS}/", 1):
                hint = LOG_GONE.format(self.uri)
            raise StoreError(f"{self.uri} holds no study", hint=hint)
        entry = self._entry(sweep)
        self.sweep_id = entry.sweep_id
        self.spec_json = read_spec(storage, entry)

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
        history = History(storage)
        history.refresh()
        # Where the panel lies is no part of what a sweep is: the texts may differ, the digest may not.
        while (entry := history.sweeps.get(sweep_id)) is None or not _readable(storage, entry):
            if not history.sweeps:
                strangers = _strangers(storage)
                # What is there may be the beginning that another driver made meanwhile.
                history.refresh()
                if history.sweeps:
                    continue
                if strangers:
                    raise StoreError(
                        f"{storage.uri} holds something that is no study, nothing was written",
                        faults=strangers,
                        hint=LOG_GONE.format(storage.uri)
                        if any(name.startswith(f"{ROWS}/") for name in strangers)
                        else "give an empty or new folder",
                    )
            elif entry is None and not extend:
                newest = cls(storage, history=history)
                raise StoreError(
                    f"{storage.uri} holds another sweep ({newest.sweep_id[:12]}, not {sweep_id[:12]})",
                    faults=spec_difference(newest.spec_json, spec_json),
                    hint="extend the study, which reuses the rows that both share (--extend); or give the "
                    "new sweep a folder of its own; or go back to the old spec",
                )
            sha256 = digest_bytes(spec_json.encode())
            if entry is not None:
                quarantine(storage, spec_name(sweep_id, entry.spec_sha256))
            keep(storage, spec_name(sweep_id, sha256), spec_json.encode())
            if entry is None or entry.spec_sha256 != sha256:
                # When another driver is faster its record stands, and the question is asked again.
                facts = {"trials": n_trials, "created": datetime.now(UTC).isoformat(timespec="seconds")}
                record = {"kind": "sweep", "sweep": sweep_id, "spec_sha256": sha256, **facts}
                history.record(record, FORMAT if entry is None else MENDED)
        return cls(storage, sweep_id, history)

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

    @property
    def sweeps(self) -> list[SweepEntry]:
        """The sweeps of the history, in order."""
        return list(self.history.sweeps.values())

    def refresh(self) -> None:
        """Take in what was committed since, by whomever."""
        self.history.refresh()

    @contextlib.contextmanager
    def hold(self, *, alone: bool = False) -> Iterator[None]:
        """Write to the study as long as the context lasts, with others or alone; see `Storage.hold`."""
        with self.storage.hold(alone=alone):
            # It may have been compacted since it was opened.
            self.refresh()
            self.history.log.settle()
            yield

    def committed(self, sweep_id: str | None = None) -> dict[int, Fragment]:
        """Return the fragments that count of a sweep, this one by default, by and in order of atoms."""
        return dict(sorted(self.history.fragments[sweep_id or self.sweep_id].items()))

    def impure(self, sweep_id: str | None = None) -> dict[int, tuple[Fragment, Fragment]]:
        """Return the atoms of a sweep that gave two results: the one that counts, and the other."""
        sweep_id = sweep_id or self.sweep_id
        counts = self.history.fragments[sweep_id]
        others = sorted(self.history.impure[sweep_id].items())
        return {atom: (counts[atom], other) for atom, other in others if atom in counts}

    def flag(self) -> StoreError | None:
        """Return what there is to say about atoms of this sweep that gave two results, if any did."""
        both = self.impure()
        if not both:
            return None
        return StoreError(
            f"{self.uri} is flagged: its results depend on something outside the sweep",
            faults=[
                f"atom {atom} gave {one.sha256[:12]}, which counts, and {other.sha256[:12]}"
                for atom, (one, other) in [*both.items()][:20]
            ],
            hint=f"backtest-farm study explain {self.uri} shows the first value that differs, and the usual "
            "causes",
        )

    def files(self) -> dict[str, int]:
        """Return name and size of the files in which rows of any sweep lie."""
        every = (one for sweep in self.history.fragments.values() for one in sweep.values())
        return {one.name: one.bytes for one in every}

    def n_commits(self) -> int:
        """Return how many records the log has."""
        return len(self.history.log.names)

    def commit(self, fragments: Iterable[Fragment]) -> list[Fragment]:
        """Record that these fragments count, and return those that did not before.

        Of two results for one atom the first stands. The other is recorded beside it, which flags the study:
        the results depend on something outside their spec.
        """
        wanted = sorted(set(fragments))
        added: set[Fragment] = set()
        while True:
            new = {one.atom: one for one in reversed(wanted) if self._is_new(one)}
            odd = {one.atom: one for one in wanted if self._contradicts(one)}
            if not new and not odd:
                self.history.log.settle()
                return sorted(added)
            found = {"fragments": new, "impure": odd} if odd else {"fragments": new}
            rows: dict[str, Any] = {
                kind: [one._asdict() for one in of.values()] for kind, of in found.items()
            }
            if odd:
                rows["who"] = f"{socket.gethostname()}:{os.getpid()}"
            if self.history.record(
                {"kind": "rows", "sweep": self.sweep_id, **rows}, MENDED if odd else FORMAT
            ):
                added.update(new.values())

    def move(self, sweep_id: str, fragments: Iterable[Fragment]) -> None:
        """Record where the rows of these atoms lie from now on; the rows are the same.

        Raises
        ------
        StoreError
            If anything was committed since the study was held.
        """
        rows = [fragment._asdict() for fragment in fragments]
        if not self.history.record({"kind": "moved", "sweep": sweep_id, "fragments": rows}, PARTS):
            raise StoreError(f"{self.uri} changed meanwhile", hint="nothing was lost: compact it again")

    def lose(self, sweep_id: str, fragments: Iterable[Fragment]) -> None:
        """Record that the rows of these atoms are gone, so that the next run makes them again."""
        fragments = list(fragments)
        there = self.history.fragments[sweep_id]
        # Whoever was faster may have made them again already.
        while lost := [one.atom for one in fragments if there.get(one.atom) == one]:
            self.history.record({"kind": "lost", "sweep": sweep_id, "lost": lost}, MENDED)
            there = self.history.fragments[sweep_id]

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
        sweep_id = sweep_id or self.sweep_id
        fragment = self.history.fragments[sweep_id][atom]
        try:
            return fragment.part(self.checked.table(fragment.name, fragment.file_sha256))
        except Missing:
            # A compaction may have moved them since the log was read.
            self.refresh()
            now = self.history.fragments[sweep_id].get(atom, fragment)
            if now.name == fragment.name:
                where = f"{self.uri}/{fragment.name}"
                hint = "restore it from a copy; or run the sweep again, which makes its rows anew"
                raise Missing(f"{where} is not there", hint=hint) from None
            return now.part(self.checked.table(now.name, now.file_sha256))

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
        keep(self.storage, f"{CURVES}/{trial_key}-{digest_bytes(data)}.arrow", data)

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
        found = {}
        for name in self.storage.list(f"{NOTES}/"):
            # No result hangs on them, so that a damaged one is nobody's trouble.
            with contextlib.suppress(ValueError):
                found[name[len(NOTES) + 1 : -len(".json")]] = json.loads(self.storage.read(name))
        return found

    def _is_new(self, fragment: Fragment) -> bool:
        there = self.history.fragments[self.sweep_id].get(fragment.atom)
        return there is None or fragment.replaces == there.sha256 != fragment.sha256

    def _contradicts(self, fragment: Fragment) -> bool:
        there = self.history.fragments[self.sweep_id].get(fragment.atom)
        if there is None or there.sha256 == fragment.sha256 or fragment.atom in self.impure():
            return False
        # Failures may pass, and of two drivers that run them again the faster one counts.
        return not (there.failed or fragment.failed or fragment.replaces)

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


def spec_name(sweep_id: str, sha256: str) -> str:
    """Return the file of a sweep's frozen text."""
    return f"{SWEEPS}/{sweep_id}-{sha256[:16]}.json"


def read_spec(storage: Storage, entry: SweepEntry) -> str:
    """Return the frozen text of a sweep.

    Raises
    ------
    StoreError
        If it is not what its record says.
    """
    name = spec_name(entry.sweep_id, entry.spec_sha256)
    hint = "run the same sweep into this study again: it puts the text back, and keeps the rows"
    try:
        text = storage.read(name)
    except Missing as error:
        raise StoreError(error.message, hint=hint) from None
    if digest_bytes(text) != entry.spec_sha256:
        raise StoreError(f"{storage.uri}/{name} was changed after the sweep began", hint=hint)
    return text.decode()


def quarantine(storage: Storage, name: str) -> bool:
    """Move a damaged file to where nothing reads it, and say whether it was still there."""
    try:
        data = storage.read(name)
    except Missing:
        return False
    keep(storage, f"{QUARANTINE}/{name}-{digest_bytes(data)[:16]}", data)
    storage.remove(name)
    return True


def keep(storage: Storage, name: str, data: bytes) -> None:
    """Write a file whose name holds the hash of its content."""
    # A file of that name is this one, and whoever reads it checks.
    with contextlib.suppress(AlreadyExists):
        storage.put_new(name, data)


def _readable(storage: Storage, entry: SweepEntry) -> bool:
    # A disk that cannot be read for now says nothing about the file: that error is the driver's end.
    with contextlib.suppress(Missing):
        return digest_bytes(storage.read(spec_name(entry.sweep_id, entry.spec_sha256))) == entry.spec_sha256
    return False


def _strangers(storage: Storage) -> list[str]:
    # Specs without a log are what a crash between the two leaves behind; anything else is not ours.
    return [name for name in storage.list("", limit=20) if not name.startswith(f"{SWEEPS}/")]
