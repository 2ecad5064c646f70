"""Compaction: many small files of rows become few large ones, and nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from backtest_farm.store.fragment import FOLDER, Fragment, read_fragment, write_fragment
from backtest_farm.store.study_store import StudyStore

MERGED_ROWS = 2**14
"""Rows of a large file, some 10 MB: a worker that copies a few of its rows has to read all of it."""


def compact(store: StudyStore) -> dict[str, int]:
    """Merge the fragments of each sweep of a study, in order of atoms.

    First the large files are written, then one record a sweep says that its rows lie there, and only then the
    small ones are removed. Who stops in between leaves files that no record counts, and that are in nobody's
    way: the next compaction removes those that a record once named, `verify` counts the others as unused.

    Returns
    -------
    dict
        ``fragments_before`` and ``fragments_after``, the files in which rows of any sweep lie; their
        ``bytes_before`` and ``bytes_after``; ``removed``, files whose rows lie elsewhere now.

    Raises
    ------
    StoreError
        If a sweep is running on the study, or a fragment is damaged; then nothing was removed.
    """
    with store.hold(alone=True):
        before = store.files()
        for entry in store.sweeps:
            moved = [
                one
                for group in _groups(store.committed(entry.sweep_id).values())
                for one in _merged(store, entry.sweep_id, group)
            ]
            if moved:
                store.move(entry.sweep_id, moved)
        after = store.files()
        # Only what a record named once: a file that none ever named may be work on its way to one.
        kept = after.keys() | {one.name for of in store.history.impure.values() for one in of.values()}
        gone = (store.history.ever_named - kept) & {*store.storage.list(f"{FOLDER}/")}
        for name in sorted(gone):
            store.storage.remove(name)
    return {
        "fragments_before": len(before),
        "fragments_after": len(after),
        "bytes_before": sum(before.values()),
        "bytes_after": sum(after.values()),
        "removed": len(gone),
    }


def _groups(fragments: Iterable[Fragment]) -> Iterator[list[Fragment]]:
    """Yield the fragments that belong into one file, unless they alone are in one."""
    fragments = list(fragments)
    starts = itertools.accumulate((one.rows for one in fragments), initial=0)
    # By rows, which no compaction changes: so the next one finds the same groups, and nothing to do.
    for _, pairs in itertools.groupby(
        zip(fragments, starts, strict=False), lambda pair: pair[1] // MERGED_ROWS
    ):
        group = [one for one, _ in pairs]
        if group[0].first > 0 or len({one.name for one in group}) > 1:
            yield group


def _merged(store: StudyStore, sweep_id: str, group: Sequence[Fragment]) -> list[Fragment]:
    """Write a group's rows as one file, and return where each atom's lie in it."""
    table = pa.concat_tables([store.rows(one.atom, sweep_id) for one in group])
    file = write_fragment(store.storage, sweep_id, group[0].atom, table)
    # What the small files are removed for was read back, not only written.
    read_fragment(store.storage, file.name, file.sha256)
    firsts = itertools.accumulate((one.rows for one in group), initial=0)
    return [
        one._replace(name=file.name, bytes=file.bytes, first=first, merged=file.sha256)
        for one, first in zip(group, firsts, strict=False)
    ]
