"""Fragments: the rows of one atom, in an immutable Arrow file that is named by atom and content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from backtest_farm.identity import digest_bytes
from backtest_farm.storage import AlreadyExists, Storage
from backtest_farm.store.arrow_file import table_from_bytes, table_to_bytes

FOLDER = "fragments"
REPAIR = "backtest-farm study repair {} sets it aside, and the next run of the sweep makes its rows again"


class Fragment(NamedTuple):
    """One atom's rows on disk.

    Attributes
    ----------
    atom : int
        The atom's number in its sweep.
    name : str
        The file: ``fragments/<first 12 of the sweep id>-<atom>-<first 16 of its sha256>.arrow``.
    rows, failed : int
        How many rows, and how many of them have a status other than ``ok``.
    bytes : int
        Size of the file.
    sha256 : str
        Hash of the atom's rows as a file of their own, 64 hexadecimal digits; it stays when they move.
    copied : int
        Rows that were not simulated for this file but copied from others of the study.
    replaces : str
        Hash of the atom's fragment that this one stands in for; empty when there was none.
    first : int
        The first of the rows in the file, which after a compaction holds those of other atoms too.
    merged : str
        Hash of such a file; empty where the rows have one of their own.
    """

    atom: int
    name: str
    rows: int
    failed: int
    bytes: int
    sha256: str
    copied: int = 0
    replaces: str = ""
    first: int = 0
    merged: str = ""

    @property
    def file_sha256(self) -> str:
        """Hash of the whole file."""
        return self.merged or self.sha256

    def part(self, file: pa.Table) -> pa.Table:
        """Return the atom's rows of what the file holds."""
        return file.slice(self.first, self.rows)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the fragment that `values` describes; keys that are not attributes are left aside."""
        return cls(**{name: values[name] for name in cls._fields if name in values})


def write_fragment(storage: Storage, sweep_id: str, atom: int, table: pa.Table, copied: int = 0) -> Fragment:
    """Write the rows of one atom and return what names them.

    The same rows have the same bytes and so the same name: when a task is tried again, its file is already
    there, and that is a success.

    Parameters
    ----------
    storage : Storage
        The study's storage.
    sweep_id : str
        The sweep that the atom belongs to.
    atom : int
        The atom's number.
    table : pyarrow.Table
        The rows; a column ``status`` is required, values are stored as they are.
    copied : int
        See `Fragment`; no part of the file.

    Raises
    ------
    StoreError
        If the file cannot be written, or one of that name holds other bytes.
    """
    data = table_to_bytes(table)
    sha256 = digest_bytes(data)
    name = f"{FOLDER}/{sweep_id[:12]}-{atom:06d}-{sha256[:16]}.arrow"
    try:
        storage.put_new(name, data)
    except AlreadyExists:
        table_from_bytes(storage.read(name), sha256, name, REPAIR.format(storage.uri))
    return Fragment(atom, name, table.num_rows, n_failed(table), len(data), sha256, copied)


def n_failed(table: pa.Table) -> int:
    """Return how many rows have a status other than ``ok``."""
    return pc.sum(pc.not_equal(table.column("status").cast(pa.string()), "ok")).as_py() or 0


def read_fragment(storage: Storage, name: str, sha256: str | None = None) -> pa.Table:
    """Return the rows of a fragment, checked against its hash before anything is parsed.

    Parameters
    ----------
    storage : Storage
        The study's storage.
    name : str
        The file.
    sha256 : str, optional
        Its hash; the digits in its name when not given.

    Raises
    ------
    StoreError
        If the file is missing or its content is not what was committed.
    """
    return table_from_bytes(storage.read(name), sha256 or name_hash(name), name, REPAIR.format(storage.uri))


def name_hash(name: str) -> str:
    """Return the digits of its content's hash that a file's name ends in."""
    return name.rpartition("-")[2].removesuffix(".arrow")
