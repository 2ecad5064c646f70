"""Any source as tables with canonical column names, in the order of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from backtest_farm.errors import InputError, nearest

if TYPE_CHECKING:
    from backtest_farm.ingest.habits import Habits

KEYS = ("timestamp", "symbol")
UNNUMBERED = 2**39
"""From here on a row's number is only ours: its owner has no such row, as in wide frames."""

_ALIASES = {
    **dict.fromkeys(("date", "datetime", "date_time", "time", "open_time"), "timestamp"),
    **dict.fromkeys(("ticker", "asset", "instrument", "tic"), "symbol"),
    **dict.fromkeys(("adjclose", "adjusted_close", "close_adj"), "adj_close"),
    "vol": "volume",
}


@dataclass(frozen=True, eq=False)
class Table:
    """A source, or a part of one, that has been read but not judged.

    Attributes
    ----------
    frame : polars.DataFrame
        Columns under their canonical names (lower case, aliases resolved), rows in the order of the source.
        The columns of a CSV file are all text, so that what cannot be read is still there to be shown.
    file : str
        The path, or ``<frame>``.
    rows : numpy.ndarray
        int64, the number of each row as its owner counts it: the line of a CSV file (its header is line 1),
        otherwise its 0-based position. From `UNNUMBERED` on, its owner knows no such row.
    schema : mapping of str to polars.DataType
        The source's columns; `frame` may leave some out.
    names : mapping of str to list of str
        For each canonical name those that the source has for it; the first one's column is in `frame`.
    habits : Habits
        How text in it is read; shared by all tables of one source.
    ragged : tuple of (int, str)
        Lines that could not be cut into cells, and why.
    """

    frame: pl.DataFrame
    file: str
    rows: np.ndarray
    schema: Mapping[str, pl.DataType]
    names: Mapping[str, list[str]]
    habits: Habits
    ragged: tuple[tuple[int, str], ...] = ()

    def __contains__(self, column: object) -> bool:
        return column in self.schema

    def row(self, at: int) -> int | None:
        """Return the number of a row as its owner counts it."""
        return shown_row(int(self.rows[at]))

    def show(self, column: str, at: int) -> str | None:
        """Return a cell as text, None when the column is not there or the cell is empty."""
        value = self.frame[column][at] if column in self.frame.columns else None
        return None if value is None else str(value)

    def symbols_at(self, rows: np.ndarray) -> list[str]:
        """Return the symbols at these positions."""
        if "symbol" not in self.frame.columns:
            return []
        return self.frame["symbol"].gather(rows).cast(pl.String).drop_nulls().unique().to_list()


def nulls(column: pl.Series) -> np.ndarray:
    """Return a mask of the empty cells; mostly there are none, and a count is at hand."""
    return column.is_null().to_numpy() if column.null_count() else np.zeros(len(column), bool)


def shown_row(row: int) -> int | None:
    """Return a row's number as findings give it."""
    return None if row >= UNNUMBERED else row


def canonical_name(column: str) -> str:
    """Return a column's name as panels know it."""
    plain = _plain(column)
    return _ALIASES.get(plain, plain)


def _is_day_and_time(names: list[str]) -> bool:
    """Return whether these columns hold a date and a time of day that belong together."""
    return [_plain(name) for name in names] == ["date", "time"]


def _plain(column: str) -> str:
    return "_".join(re.findall(r"[^\s.<>*]+", column.lower()))


def _canonical_names(given: Iterable[str], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Return each canonical name and the given ones that have this meaning.

    Parameters
    ----------
    given : iterable of str
        Names as the source has them.
    columns : mapping of str to str
        What its owner called some of them.

    Raises
    ------
    InputError
        If `columns` names one that is not there.
    """
    given = list(given)
    faults = [f"there is no column {name!r}: {nearest(name, given)}" for name in columns if name not in given]
    if faults:
        raise InputError("columns names what the source does not have", faults=faults)
    names: dict[str, list[str]] = {}
    for name in given:
        names.setdefault(canonical_name(columns.get(name, name)), []).append(name)
    return names


def named_table(
    frame: pl.DataFrame, given: list[str], file: str, rows: np.ndarray, habits: Habits, symbol: str | None
) -> Table:
    """Give columns their canonical names.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns under their own names; it need not have all of them.
    given : list of str
        The source's own names, in which one may stand twice.
    symbol : str or None
        The asset, for a source that has no column of symbols and whose owner named none.
    """
    options = habits.options
    names = _canonical_names(given, options.columns)
    picked = [pl.col(own[0]).alias(name) for name, own in names.items() if own[0] in frame.columns]
    if _is_day_and_time(names.get("timestamp", [])):
        date, time = names["timestamp"]
        if frame.schema[date] == frame.schema[time] == pl.String:
            names["timestamp"] = [date]
            frame = frame.with_columns(pl.concat_str(pl.col(date, time).str.strip_chars(), separator=" "))
            habits.say(f"timestamps are put together from {date} and {time}", file)
    if "symbol" in names and options.symbol:
        raise InputError(
            f"{file} has a column of symbols ({names['symbol'][0]})",
            hint="symbol= names the asset of a source without one",
        )
    if "symbol" not in names and (options.symbol or symbol):
        picked.append(pl.lit(options.symbol or symbol).alias("symbol"))
        if not options.symbol:
            habits.say("symbols are the names of files or frames", file)
    frame = frame.select(picked)
    return Table(frame, file, rows, frame.schema, names, habits)
