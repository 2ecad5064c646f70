"""Where bars come from: files of either kind, many of them, frames of three libraries, long and wide."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.files import Part, Piece, open_files
from backtest_farm.ingest.habits import Habits
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.options import ReadOptions
from backtest_farm.ingest.table import UNNUMBERED, Table, canonical_name, named_table
from backtest_farm.ingest.wide import NAME_OF_WIDE, is_wide_pandas, long_from_wide, wide_of_pandas

_NO_LIMIT = 2**62


class Source:
    """A source that can be gone through several times.

    Parameters
    ----------
    title : str
        What it is called as a whole.
    pieces : list of callable
        Each gives the tables of one file or frame; it may leave out columns that the part does not need.
    habits : Habits
        Of all of them.
    held : bool
        Whether its tables are kept after the first time.
    """

    def __init__(self, title: str, pieces: list[Piece], habits: Habits, held: bool) -> None:
        self.title = title
        self.habits = habits
        self._pieces = pieces
        self._held: list[Table] | None = None
        self._hold = held

    def tables(self, part: Part = "values") -> Iterator[Table]:
        """Go through the source, in the order of its files and rows.

        Raises
        ------
        InputError
            If a file cannot be read.
        """
        if self._hold and self._held is None:
            self._held = [table for piece in self._pieces for table in piece("values")]
        if self._held is not None:
            yield from self._held
            return
        for piece in self._pieces:
            yield from piece(part)


def open_source(
    source: Any, what: str, options: ReadOptions, ledger: Ledger, held_bytes: int = _NO_LIMIT
) -> Source:
    """Find out what `source` is.

    Parameters
    ----------
    source : path, frame or mapping
        See `backtest_farm.ingest.readers.stream`.
    what : str
        The name of a source that is no file.
    options : ReadOptions
        What its owner said about it.
    ledger : Ledger
        Takes what was ignored and inferred.
    held_bytes : int
        What may be held of files: larger ones are read in pieces, anew each time.

    Raises
    ------
    InputError
        If a file is missing or of no known kind, or the source is of no known type.
    """
    habits = Habits(options)
    if isinstance(source, (str, os.PathLike)):
        pieces, held = open_files(Path(os.path.expanduser(source)), habits, ledger, held_bytes)
        return Source(str(source), pieces, habits, held)
    if is_wide_pandas(source):
        source = wide_of_pandas(source)
    if isinstance(source, Mapping):
        return _open_mapping(source, habits)
    frame = as_frame(source)
    return Source(what, [_frame_piece(frame, what, habits, None)], habits, held=True)


def open_table(source: Any, what: str = "<frame>", options: ReadOptions | None = None) -> Table:
    """Read a source that is one table, whole, and learn its habits from itself.

    Raises
    ------
    InputError
        If the file is missing or unreadable, the source is of no known kind, or its dates or numbers can be
        read in more than one way.
    """
    ledger = Ledger()
    opened = open_source(source, what, options or ReadOptions(), ledger)
    tables = list(opened.tables())
    for table in tables:
        opened.habits.learn(table)
    opened.habits.settle(ledger)
    first = tables[0]
    for table in tables:
        ledger.note_ragged(table)
    if ledger.refuse_always or any(table.ragged for table in tables):
        ledger.refuse(opened.title)
    if len(tables) == 1:
        return first
    rows = np.concatenate([table.rows for table in tables])
    return replace(first, frame=pl.concat([table.frame for table in tables]), rows=rows)


def as_frame(source: Any) -> pl.DataFrame:
    """Return a polars, pandas or Arrow frame as a polars one.

    Raises
    ------
    InputError
        If it is none, or a column of it has no one type.
    """
    family = type(source).__module__.partition(".")[0]
    try:
        if family == "pandas":
            dated = str(source.index.dtype).startswith("datetime")
            named = any(name is not None for name in source.index.names)
            if dated and not named:
                source = source.rename_axis("timestamp")
            source = pl.from_pandas(source, include_index=dated or named)
        elif family == "pyarrow":
            source = pl.from_arrow(source)
    except Exception as fault:  # a frame of mixed Python objects fails in many ways, all of them the data's
        raise InputError(
            f"this {family} frame cannot be read: {fault}", hint="give each column one type"
        ) from None
    if isinstance(source, pl.LazyFrame):
        return source.collect(engine="in-memory")  # which keeps the order of rows
    if not isinstance(source, pl.DataFrame):
        raise InputError(
            f"a {type(source).__name__} is no source of bars",
            hint="give a path, a long frame (timestamp, symbol, open, high, low, close, volume), or wide "
            'frames by field: {"open": frame, "close": frame}',
        )
    return source


def _open_mapping(source: Mapping[Any, Any], habits: Habits) -> Source:
    """Open wide frames by field, or long ones by symbol."""
    if not source:
        raise InputError("an empty mapping is no source of bars")
    fields = {canonical_name(str(name)) for name in source}
    if fields & {"open", "close"}:
        frame = long_from_wide({str(name): as_frame(values) for name, values in source.items()})
        rows = np.arange(UNNUMBERED, UNNUMBERED + frame.height)
        table = named_table(frame, frame.columns, NAME_OF_WIDE, rows, habits, None)
        return Source(NAME_OF_WIDE, [lambda part: iter([table])], habits, held=True)
    pieces = [_frame_piece(as_frame(frame), f"<{name}>", habits, str(name)) for name, frame in source.items()]
    return Source("<mapping>", pieces, habits, held=True)


def _frame_piece(frame: pl.DataFrame, file: str, habits: Habits, symbol: str | None) -> Piece:
    rows = np.arange(frame.height)
    table = named_table(frame, frame.columns, file, rows, habits, symbol)
    return lambda part: iter([table])
