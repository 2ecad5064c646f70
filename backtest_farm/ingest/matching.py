"""Rows that must fit a grid that exists: ends of life, added fields."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from backtest_farm.ingest.grid import Ends, nearest_bar, no_ends, show_time
from backtest_farm.ingest.keys import Moments, Sort, read_moments, read_symbols
from backtest_farm.ingest.ledger import KINDS, Ledger, positions
from backtest_farm.ingest.numbers import KEYS, read_numbers
from backtest_farm.ingest.table import Table, open_table


class Cells(NamedTuple):
    """Where rows belong on a grid: the rows that do, and their bar and asset."""

    rows: np.ndarray
    bars: np.ndarray
    assets: np.ndarray


def note_columns(table: Table, needed: tuple[str, ...], ledger: Ledger) -> bool:
    """Note missing and clashing columns; return whether all of `needed` are there."""
    for name, given in table.clashes.items():
        ledger.note("duplicate_column", value=f"{name}: {', '.join(given)}")
    absent = [name for name in needed if name not in table]
    for name in absent:
        advice = f"{KINDS['missing_column'].advice}; found: {', '.join(table.frame.columns)}"
        ledger.note("missing_column", value=name, advice=advice)
    return not absent


def note_keys(table: Table, moments: Moments, names: pl.Series, ledger: Ledger) -> np.ndarray:
    """Note empty and unreadable keys; return a mask of the rows that have usable ones."""
    nameless = names.is_null().to_numpy()
    empty = moments.where(Sort.EMPTY) | nameless
    unreadable = moments.where(Sort.UNREADABLE)
    ledger.note_rows("null_key", table, positions(empty))
    ledger.note_rows("unparseable", table, positions(unreadable), "timestamp")
    return ~(empty | unreadable)


def repeated(cell: np.ndarray, n_cells: int) -> np.ndarray:
    """Return a mask of the rows whose cell an earlier row has already."""
    first = np.empty(n_cells, np.int64)
    order = np.arange(len(cell))
    first[cell[::-1]] = order[::-1]  # the last assignment stands, which is the first row
    return first[cell] != order


def match(table: Table, timestamps: np.ndarray, symbols: tuple[str, ...], ledger: Ledger) -> Cells:
    """Find the bar and asset of each row; rows without one are noted, as are repeated ones.

    Timestamps of any resolution match; a zone makes them UTC, without one they are taken as they stand.
    """
    moments = read_moments(table.frame["timestamp"])
    names = read_symbols(table.frame["symbol"])
    usable = note_keys(table, moments, names, ledger)
    known = pl.Series(symbols, dtype=pl.String)
    ids = names.replace_strict(known, pl.Series(np.arange(len(symbols))), default=-1, return_dtype=pl.Int64)
    assets = ids.fill_null(-1).to_numpy()
    grid = timestamps.astype("M8[us]")
    bars = np.minimum(np.searchsorted(grid, moments.micros), len(grid) - 1)
    on_grid = grid[bars] == moments.micros
    ledger.note_rows("unknown_symbol", table, positions(usable & (assets < 0)))

    def name_nearest(at: int) -> str:
        close = show_time(timestamps[nearest_bar(timestamps, moments.micros[at])])
        return f"{KINDS['unmatched_timestamp'].advice}: the nearest is {close}"

    ledger.note_rows("unmatched_timestamp", table, positions(usable & ~on_grid), advise=name_nearest)
    rows = positions(usable & on_grid & (assets >= 0))
    return Cells(rows, bars[rows], assets[rows])


def read_ends(source: Any, timestamps: np.ndarray, symbols: tuple[str, ...], ledger: Ledger) -> Ends:
    """Read ends of life (symbol, date, payout); rows with faults are noted and left out.

    Parameters
    ----------
    source : frame or path
        ``payout`` may be absent or null: the last mark.
    timestamps, symbols
        Of the grid; every date must be one of its bars.
    ledger : Ledger
        Takes the faults.
    """
    ends = no_ends(len(symbols))
    table = open_table(source, "<ends>")
    if not note_columns(table, KEYS, ledger):
        return ends
    cells = match(table, timestamps, symbols, ledger)
    again = repeated(cells.assets, len(symbols))
    ledger.note_rows("duplicate_key", table, cells.rows[again])
    payout = read_numbers(table, "payout", ledger) if "payout" in table else np.full(len(table), np.nan)
    negative = payout < 0
    ledger.note_rows("bad_payout", table, positions(negative), "payout")
    good = ~again & ~negative[cells.rows]
    ends.bar[cells.assets[good]] = cells.bars[good]
    ends.payout[cells.assets[good]] = payout[cells.rows[good]]
    return ends
