"""Any source as one table with canonical column names, in the order of its rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backtest_farm.errors import InputError

KEYS = ("timestamp", "symbol")
_ALIASES = dict.fromkeys(("date", "datetime", "time"), "timestamp") | dict.fromkeys(
    ("ticker", "asset"), "symbol"
)
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

    def show(self, column: str, at: int) -> str | None:
        """Return a cell as text, None when the column is not there or the cell is empty."""
        value = self.frame[column][at] if column in self else None
        return None if value is None else str(value)

    def symbols_at(self, rows: np.ndarray) -> list[str]:
        """Return the symbols at these positions."""
        if "symbol" not in self:
            return []
        return self.frame["symbol"].gather(rows).cast(pl.String).drop_nulls().unique().to_list()


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
    if not isinstance(source, (str, os.PathLike)):
        return _table(_as_lazy(source).with_row_index(_ROW), what, 0)
    path = Path(source)
    is_parquet = _is_parquet(path)
    try:
        if is_parquet:
            return _table(pl.scan_parquet(path, row_index_name=_ROW, glob=False), str(path), 0)
        text = pl.scan_csv(path, infer_schema=False, row_index_name=_ROW, glob=False)
        return _table(text, str(path), 2)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}", hint="check that the file is whole") from None


def canonical_name(column: str) -> str:
    """Return a column's name as panels know it."""
    plain = "_".join(column.strip().lower().split())
    return _ALIASES.get(plain, plain)


def _is_parquet(path: Path) -> bool:
    """Return whether this is a Parquet file; otherwise it is a CSV file."""
    if not path.exists():
        fault = "does not exist"
    elif path.is_dir():
        fault = "is a folder"
    else:
        with path.open("rb") as file:
            if file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC:
                return True
        if path.suffix.lower() in _CSV:
            return False
        fault = "is neither a Parquet file nor named .csv"
    raise InputError(f"{path} {fault}", hint="give the path of one CSV or Parquet file")


def _as_lazy(source: Any) -> pl.LazyFrame:
    family = type(source).__module__.partition(".")[0]
    try:
        if family == "pandas":
            named = any(name is not None for name in source.index.names)
            source = pl.from_pandas(source, include_index=named)
        elif family == "pyarrow":
            source = pl.from_arrow(source)
    except Exception as fault:  # a frame of mixed Python objects fails in many ways, all of them the data's
        raise InputError(
            f"this {family} frame cannot be read: {fault}", hint="give each column one type"
        ) from None
    if not isinstance(source, (pl.DataFrame, pl.LazyFrame)):
        raise InputError(
            f"a {type(source).__name__} is no source of bars",
            hint="give a path or a long frame (timestamp, symbol, open, high, low, close, volume)",
        )
    return source.lazy()


def _table(lazy: pl.LazyFrame, file: str, first_row: int) -> Table:
    given: dict[str, list[str]] = {}
    for name in lazy.collect_schema().names():
        if name != _ROW:
            given.setdefault(canonical_name(name), []).append(name)
    # collect() streams and promises no order of rows, so the order is asked for.
    columns = [pl.col(names[0]).alias(f"_{name}") for name, names in given.items()]
    frame = lazy.select(_ROW, *columns).sort(_ROW).collect().drop(_ROW)
    clashes = {name: names for name, names in given.items() if len(names) > 1}
    return Table(frame.rename(lambda name: name[1:]), file, first_row, clashes)
