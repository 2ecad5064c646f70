"""Any source as one table with canonical column names, in the order of its rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backtest_farm.errors import InputError

ALIASES = {
    "date": "timestamp",
    "datetime": "timestamp",
    "time": "timestamp",
    "ticker": "symbol",
    "asset": "symbol",
}
_ROW = "__row__"
_CSV = {".csv", ".txt", ".gz"}
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, eq=False)
class Table:
    """A source that has been read but not judged.

    Attributes
    ----------
    frame : polars.DataFrame
        Columns under their canonical names (lower case, aliases resolved), rows in the order of the source.
        The columns of a CSV file are all text, so that what cannot be read is still there to be shown.
    file : str
        The path, or ``<frame>``.
    first_row : int
        Number of the first row: 2 in a CSV file (its header is line 1), otherwise 0.
    clashes : dict of str to list of str
        Canonical names that more than one source column has; the first such column is the one in `frame`.
    """

    frame: pl.DataFrame
    file: str
    first_row: int
    clashes: dict[str, list[str]]

    def __contains__(self, column: object) -> bool:
        return column in self.frame.columns

    def __len__(self) -> int:
        return self.frame.height

    def number(self, at: int) -> int:
        """Return the row number that people see for position `at`."""
        return self.first_row + at

    def show(self, column: str, at: int) -> str | None:
        """Return a cell as text, None when the column is not there or the cell is empty."""
        if column not in self:
            return None
        value = self.frame[column][at]
        return None if value is None else str(value)

    def names_at(self, rows: np.ndarray) -> set[str]:
        """Return the symbols at these positions."""
        if "symbol" not in self:
            return set()
        return {
            str(name) for name in self.frame["symbol"].gather(rows).unique().to_list() if name is not None
        }


def open_table(source: Any, what: str = "<frame>") -> Table:
    """Read `source` whole.

    Parameters
    ----------
    source : path or frame
        A CSV or Parquet file, or a polars, pandas or Arrow frame.
    what : str
        The name of a source that is no file.

    Raises
    ------
    InputError
        If the file is missing or unreadable, or the source is of no known kind.
    """
    if isinstance(source, (str, os.PathLike)):
        return _open_file(Path(source))
    lazy = _as_lazy(source)
    return _table(lazy.with_row_index(_ROW), what, 0)


def canonical_name(column: str) -> str:
    """Return a column's name as panels know it."""
    plain = "_".join(column.strip().lower().split())
    return ALIASES.get(plain, plain)


def _open_file(path: Path) -> Table:
    hint = "give the path of one CSV or Parquet file"
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=hint)
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint=hint)
    with path.open("rb") as file:
        magic = file.read(len(_PARQUET_MAGIC))
    if magic == _PARQUET_MAGIC:
        return _collect(
            path, lambda: _table(pl.scan_parquet(path, row_index_name=_ROW, glob=False), str(path), 0)
        )
    if path.suffix.lower() not in _CSV:
        raise InputError(f"{path} is neither a Parquet file nor named .csv", hint=hint)
    return _collect(
        path,
        lambda: _table(pl.scan_csv(path, infer_schema=False, row_index_name=_ROW, glob=False), str(path), 2),
    )


def _collect(path: Path, reading: Any) -> Table:
    try:
        return reading()
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}", hint="check that the file is whole") from None


def _as_lazy(source: Any) -> pl.LazyFrame:
    if isinstance(source, pl.LazyFrame):
        return source
    if isinstance(source, pl.DataFrame):
        return source.lazy()
    family = type(source).__module__.partition(".")[0]
    try:
        if family == "pandas":
            named = any(name is not None for name in source.index.names)
            return pl.from_pandas(source, include_index=named).lazy()
        if family == "pyarrow":
            frame = pl.from_arrow(source)
            if isinstance(frame, pl.DataFrame):
                return frame.lazy()
    except Exception as fault:  # a frame of mixed Python objects fails in many ways, all of them the data's
        raise InputError(
            f"this {family} frame cannot be read: {fault}", hint="give each column one type"
        ) from None
    raise InputError(
        f"a {type(source).__name__} is no source of bars",
        hint="give a path or a long frame (timestamp, symbol, open, high, low, close, volume)",
    )


def _table(lazy: pl.LazyFrame, file: str, first_row: int) -> Table:
    given = [name for name in lazy.collect_schema().names() if name != _ROW]
    named = [(name, canonical_name(name)) for name in given]
    seen = Counter(canonical for _, canonical in named)
    clashes = {name: [was for was, now in named if now == name] for name, count in seen.items() if count > 1}
    kept = list(_first_of_each(named))
    # collect() streams and promises no order of rows, so the order is asked for.
    frame = lazy.select(_ROW, *(pl.col(was).alias(f"_{now}") for was, now in kept)).sort(_ROW).collect()
    frame = frame.drop(_ROW).rename({f"_{now}": now for _, now in kept})
    return Table(frame, file, first_row, clashes)


def _first_of_each(named: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    seen: set[str] = set()
    for was, now in named:
        if now not in seen:
            seen.add(now)
            yield was, now
