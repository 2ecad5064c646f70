"""Files of rows as tables, each checked once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from backtest_farm.storage import LocalStorage, Storage
from backtest_farm.store.arrow_file import table_from_bytes
from backtest_farm.store.fragment import REPAIR


class CheckedFiles:
    """The files of rows that were read, each hashed once as long as it stays the same file.

    On a disk of this machine they are mapped: what is not looked at takes no memory. A file whose size or
    time of change is another one is hashed again, before anything more of it is read.

    Parameters
    ----------
    storage : Storage
        The study's storage.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[str, tuple[Hashable, pa.Table]] = {}
        self._paths: dict[str, Path | None] = {}

    def table(self, name: str, sha256: str) -> pa.Table:
        """Return the rows of a file.

        Raises
        ------
        StoreError
            If it is missing, or not what was committed.
        """
        path, stamp = self._path(name), self.stamp(name)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            try:
                data = None if path is None else pa.memory_map(str(path)).read_buffer()
            except OSError:
                # It is gone, which `read` says; or they are too many: a process may map some 65,000 files.
                data = None
            content = self._storage.read(name) if data is None else data
            known = self._known[name] = (
                stamp,
                table_from_bytes(content, sha256, name, REPAIR.format(self._storage.uri)),
            )
        return known[1]

    def stamp(self, name: str) -> Hashable:
        """Return what changes when a file does; None where it is gone, or nobody but us can change it."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            there = path and os.stat(path)
            return there and (there.st_ino, there.st_size, there.st_mtime_ns)
        return None

    def _path(self, name: str) -> Path | None:
        if name not in self._paths and isinstance(self._storage, LocalStorage):
            # Kept, since a name is checked in twice the time that looking at its file takes.
            self._paths[name] = self._storage.path_of(name)
        return self._paths.get(name)
