"""Recovery: rows that were written and never committed are taken in, lost ones are to be made again."""

from __future__ import annotations

import bisect
import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from backtest_farm.errors import StoreError
from backtest_farm.identity import digest_bytes
from backtest_farm.store.arrow_file import table_from_bytes, table_to_bytes
from backtest_farm.store.fragment import FOLDER, Fragment, n_failed, name_hash
from backtest_farm.store.study_store import StudyStore, keep, quarantine


class Atoms(Protocol):
    """What recovery asks of a plan: which rows each of its atoms has to have."""

    def atoms(self) -> Iterable[int]:
        """Return the atoms that hold trials."""

    def atom(self, index: int) -> Any:
        """Return one of them; ``numbers`` are its trials."""

    def keys(self, numbers: Sequence[int]) -> list[str]:
        """Return the keys of some trials."""


class Recovery(NamedTuple):
    """What a recovery did.

    Attributes
    ----------
    adopted : tuple of Fragment
        Rows that were there and in no record, and count now.
    lost : tuple of Fragment
        Rows that counted, and whose file is gone or damaged.
    set_aside : tuple of str
        Damaged files, in ``quarantine/`` now.
    """

    adopted: tuple[Fragment, ...] = ()
    lost: tuple[Fragment, ...] = ()
    set_aside: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Say it to people, one line for each kind of thing that happened."""
        if self.adopted:
            yield f"found finished but uncommitted, and taken in: {_trials(self.adopted)}"
        if self.set_aside:
            yield (
                f"damaged: {len(self.set_aside):,} files, moved to quarantine/ "
                f"({', '.join(self.set_aside[:3])}{', ...' if len(self.set_aside) > 3 else ''})"
            )
        if self.lost:
            yield f"committed, but their files are missing or damaged: {_trials(self.lost)}; they run again"


def recover(store: StudyStore, plan: Atoms) -> Recovery:
    """Look at what a study's files say before a sweep goes on.

    Committed rows whose file is missing or has another size are recorded as lost. Files of this sweep that no
    record names, which a killed driver or a lost worker leaves, are read: where hash and keys are right their
    rows are committed, damaged ones are set aside.

    Parameters
    ----------
    store : StudyStore
        The study, held.
    plan : Atoms
        The sweep.
    """
    # In this order: a file is there before its record.
    store.refresh()
    sizes = store.storage.sizes(f"{FOLDER}/")
    lost, damaged = set_aside(
        store, [name for name, size in store.files().items() if sizes.get(name) != size]
    )
    adopted, torn = adopt(store, plan, sizes)
    return Recovery(tuple(adopted), tuple(lost), (*damaged, *torn))


def misfits(store: StudyStore, sizes: Mapping[str, int]) -> list[str]:
    """Return the files that records name and that are not there, or not of that size."""
    return [name for name, size in store.files().items() if sizes.get(name) != size]


def set_aside(store: StudyStore, names: Iterable[str]) -> tuple[list[Fragment], list[str]]:
    """Move files to quarantine and record as lost what counted of their rows, in all sweeps.

    Returns
    -------
    tuple
        What was lost, and the files that were there.
    """
    names = set(names)
    # First the files: a record without its file is noticed, a file without its record would stay.
    moved = [name for name in sorted(names) if quarantine(store.storage, name)]
    lost: list[Fragment] = []
    for entry in store.sweeps:
        gone = [one for one in store.committed(entry.sweep_id).values() if one.name in names]
        store.lose(entry.sweep_id, gone)
        lost += gone
    return lost, moved


def adopt(store: StudyStore, plan: Atoms, names: Iterable[str]) -> tuple[list[Fragment], list[str]]:
    """Commit the rows of a sweep that lie in files which no record names.

    Returns
    -------
    tuple
        What counts now and did not before; and the damaged files that were met, in quarantine now.
    """
    # Whatever else lies there is not ours.
    ours = re.compile(rf"{FOLDER}/{re.escape(store.sweep_id[:12])}-\d{{6,}}-[0-9a-f]{{16}}\.arrow")
    strangers = sorted(name for name in {*names} - store.history.ever_named if ours.fullmatch(name))
    atoms = sorted(plan.atoms()) if strangers else []
    found: list[tuple[Fragment, pa.Schema]] = []
    damaged = []
    for name in strangers:
        try:
            data = store.storage.read(name)
        except StoreError:  # gone, or not to be read now: nothing is known of what it holds
            continue
        try:
            table = table_from_bytes(data, name_hash(name), name, "")
        except StoreError:
            if quarantine(store.storage, name):
                damaged.append(name)
            continue
        # Its writer may have been stopped before it was durable.
        keep(store.storage, name, data)
        found += [(one, table.schema) for one in _parts(name, data, table, plan, atoms)]
    known = None
    if found:
        with contextlib.suppress(StoreError):
            known = next((table.schema for table in store.tables()), found[0][1])
    # Other columns, of another version, would make the sweep's rows no table any more.
    return store.commit(one for one, schema in found if known in (None, schema)), damaged


def _parts(name: str, data: bytes, table: pa.Table, plan: Atoms, atoms: Sequence[int]) -> Iterator[Fragment]:
    """Yield the atoms whose rows a file holds: one, or after a compaction several."""
    if not {"trial", "key", "status"} <= {*table.column_names}:
        return
    trials, keys = (table[column].to_pylist() for column in ("trial", "key"))
    sha256, first = digest_bytes(data), 0
    for atom in atoms[bisect.bisect_left(atoms, int(name.split("-")[1])) :]:
        numbers = list(plan.atom(atom).numbers)
        last = first + len(numbers)
        if trials[first:last] == numbers and keys[first:last] == plan.keys(numbers):
            rows = table.slice(first, len(numbers))
            part = atom, name, rows.num_rows, n_failed(rows), len(data)
            if rows.num_rows == len(trials):
                yield Fragment(*part, sha256)
            else:
                own = digest_bytes(table_to_bytes(rows))
                yield Fragment(*part, own, first=first, merged=sha256)
            first = last
        if first in (0, len(trials)):
            return


def _trials(fragments: Sequence[Fragment]) -> str:
    return f"{sum(one.rows for one in fragments):,} trials in {len(fragments):,} atoms"
