"""Files of bars: which ones a path means, what they are, and their tables."""

from __future__ import annotations

import codecs
import csv
import glob
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.csv_text import read_lines
from backtest_farm.ingest.habits import Habits
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.probe import CHUNK_ROWS, opened_parquet, probe, whole_parquet
from backtest_farm.ingest.table import KEYS, Table, named_table

_CSV = (".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq", ".parq")
_PARQUET_MAGIC = b"PAR1"
_MISTAKEN = {  # what other files begin with, what they are, and what to do
    b"PK\x03\x04": ("a workbook or an archive", "save the sheet as CSV, or take the file out of the archive"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV"),
    b"ARROW1": ("an Arrow file", "read it with polars.read_ipc and give the frame"),
    b"SQLite format 3": ("a database", "read the table with polars.read_database and give the frame"),
    b"%PDF": ("a PDF document", "get the prices as CSV"),
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<?xml"),
        ("a web page, so that a download went wrong", "get the file itself; look into it with an editor"),
    ),
    b"{": ("JSON", "read it with polars.read_json and give the frame"),
    b"[": ("JSON", "read it with polars.read_json and give the frame"),
}
_PERIOD = re.compile(r".*(19|20)\d{2}([-_.]?\d{2}){0,2}")  # a file per year, month or day is no symbol

Part = Literal["habits", "keys", "values"]
"""What is looked for: timestamps and text, timestamps and symbols, or everything."""

Piece = Callable[[Part], Iterator[Table]]


def open_files(path: Path, habits: Habits, ledger: Ledger, held_bytes: int) -> tuple[list[Piece], bool]:
    """Return the tables of the files that a path means, and whether all of them may be held together.

    Parameters
    ----------
    path : pathlib.Path
        A file, a folder, or a pattern.
    habits : Habits
        Of all of them.
    ledger : Ledger
        Takes the files that were ignored.
    held_bytes : int
        What may be held: a larger source is read in pieces, anew each time.

    Raises
    ------
    InputError
        If there is none, one is of no known kind, or they are of both kinds.
    """
    files, several = _found(path, ledger)
    kinds = {file: _is_parquet(file) for file in files}
    if len(set(kinds.values())) > 1:
        one, other = (next(file for file in files if kinds[file] is kind) for kind in (True, False))
        raise InputError(
            f"{path} holds Parquet files ({one.name}) and CSV files ({other.name})",
            hint="build from one kind",
        )
    stems = [_stem(file) for file in files]
    by_symbol = several and not all(_PERIOD.fullmatch(stem) for stem in stems)
    if kinds[files[0]]:
        held = probe(files, held_bytes)
        read = _whole_parquet if held else _parquet_pieces
    else:
        # A Parquet file is soon read again, a CSV file is not.
        held = sum(file.stat().st_size * (4 if file.suffix == ".gz" else 1) for file in files) <= held_bytes
        read = _csv_tables
    pieces = [
        _guarded(file, read, habits, stem if by_symbol else None)
        for file, stem in zip(files, stems, strict=True)
    ]
    return pieces, held


def _found(path: Path, ledger: Ledger) -> tuple[list[Path], bool]:
    """Return the files that a path means, and whether it can mean several."""
    if path.is_dir():
        inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
        hidden = [any(part[0] in "._" for part in file.relative_to(path).parts) for file in inside]
        seen = [file for file, is_hidden in zip(inside, hidden, strict=True) if not is_hidden]
        files = [file for file in seen if file.name.lower().endswith(_CSV + _PARQUET)]
        for file in seen:
            if file not in files:
                ledger.note("ignored_file", str(file), [{}])
        fault = "holds no CSV or Parquet file"
    elif not path.exists() and glob.has_magic(str(path)):
        files = [Path(file) for file in sorted(glob.glob(str(path), recursive=True)) if Path(file).is_file()]
        fault = "matches no file"
    else:
        return [path], False
    if not files:
        raise InputError(
            f"{path} {fault}", hint="give the path of a CSV or Parquet file, or a folder or pattern of such"
        )
    return files, True


def _is_parquet(path: Path) -> bool:
    """Return whether this is a Parquet file; otherwise it is a CSV file."""
    hint = "give the path of a CSV or Parquet file, or a folder or pattern of such"
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=hint)
    with path.open("rb") as file:
        head = file.read(256)
    if head.startswith(_PARQUET_MAGIC):
        return True
    for magic, (what, instead) in _MISTAKEN.items():
        if head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(magic.lower()):
            raise InputError(f"{path} is {what}", hint=instead)
    if not path.name.lower().endswith(_CSV):
        raise InputError(f"{path} is neither a Parquet file nor named .csv", hint=hint)
    return False


def _stem(path: Path) -> str:
    """Return a file's name without what says its kind."""
    return re.sub(r"(\.(csv|txt|tsv|gz|parquet|pq|parq))+$", "", path.name, flags=re.IGNORECASE)


def _guarded(path: Path, read: Callable[..., Iterator[Table]], habits: Habits, symbol: str | None) -> Piece:
    def tables(part: Part) -> Iterator[Table]:
        try:
            yield from read(path, part, habits, symbol)
        except (pl.exceptions.PolarsError, OSError, EOFError, ValueError, csv.Error, zlib.error) as fault:
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            raise InputError(
                f"{path} cannot be read: {reason}", hint="check that the file is whole"
            ) from None

    return tables


def _whole_parquet(path: Path, part: Part, habits: Habits, symbol: str | None) -> Iterator[Table]:
    frame = whole_parquet(path)
    yield named_table(frame, frame.columns, str(path), np.arange(frame.height), habits, symbol)


def _parquet_pieces(path: Path, part: Part, habits: Habits, symbol: str | None) -> Iterator[Table]:
    with opened_parquet(path) as file:
        empty = pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table()))
        whole = named_table(empty, empty.columns, str(path), np.empty(0, np.int64), habits, symbol)
        wanted = [
            own
            for name, (own, *_) in whole.names.items()
            if own in empty.columns and _is_part_of(part, name, empty.schema[own])
        ]
        first = 0
        for batch in file.iter_batches(CHUNK_ROWS, columns=wanted, use_threads=False):
            frame = pl.DataFrame(pl.from_arrow(batch))
            rows = np.arange(first, first + frame.height)
            table = named_table(frame, frame.columns, str(path), rows, habits, symbol)
            yield replace(table, schema=whole.schema, names=whole.names)
            first += frame.height


def _is_part_of(part: Part, name: str, dtype: pl.DataType) -> bool:
    if part == "keys":
        return name in KEYS
    return part == "values" or name == "timestamp" or (name != "symbol" and not dtype.is_numeric())


def _csv_tables(path: Path, part: Part, habits: Habits, symbol: str | None) -> Iterator[Table]:
    for block in read_lines(path, habits.options):
        for text in block.said:
            habits.say(text, str(path))
        given = block.names
        once = [pl.col(str(at)).alias(name) for at, name in enumerate(given) if given.index(name) == at]
        table = named_table(block.frame.select(once), given, str(path), block.rows, habits, symbol)
        yield replace(table, ragged=block.ragged)
