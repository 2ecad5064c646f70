"""Rows that find their place on a grid: bars, ends of life, added fields."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import Ends, nearest_bar, no_ends, show_time
from backtest_farm.ingest.keys import Moments, Sort, read_moments, read_symbols
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.numbers import read_numbers
from backtest_farm.ingest.table import KEYS, Table, canonical_name, open_table


class Keys(NamedTuple):
    """Timestamps and symbols of a table's rows, and a mask of the rows that may be used."""

    moments: Moments
    names: pl.Series
    usable: np.ndarray


class Cells(NamedTuple):
    """Where rows belong on a grid: the rows that do, and their bar and asset."""

    rows: np.ndarray
    bars: np.ndarray
    assets: np.ndarray

    def spread(self, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return a grid of this shape with the rows' `values` in their cells and NaN elsewhere."""
        dense = np.full(shape, np.nan)
        dense[self.bars, self.assets] = values[self.rows]
        return dense


def note_columns(table: Table, needed: tuple[str, ...], ledger: Ledger) -> None:
    """Note missing and clashing columns."""
    for name, given in table.clashes.items():
        ledger.note("duplicate_column", table.file, [{"value": f"{name}: {', '.join(given)}"}])
    for name in needed:
        if name not in table:
            more = f"; found: {', '.join(table.frame.columns)}"
            ledger.note("missing_column", table.file, [{"value": name, "more": more}])


def read_keys(table: Table, ledger: Ledger) -> Keys:
    """Read timestamps and symbols; empty and unreadable ones are noted and not usable."""
    moments, names = read_moments(table.frame["timestamp"]), read_symbols(table.frame["symbol"])
    empty = moments.where(Sort.EMPTY) | names.is_null().to_numpy()
    unreadable = moments.where(Sort.UNREADABLE)
    ledger.note_rows("null_key", table, empty)
    ledger.note_rows("unparseable", table, unreadable, "timestamp")
    return Keys(moments, names, ~(empty | unreadable))


def match(
    table: Table, keys: Keys, timestamps: np.ndarray, symbols: tuple[str, ...], ledger: Ledger
) -> Cells:
    """Find the bar and asset of each usable row; rows without one are noted.

    Timestamps of any resolution match; a zone makes them UTC, without one they are taken as they stand.
    """
    moments, names, usable = keys
    ids = pl.Series(range(len(symbols)), dtype=pl.Int64)
    assets = names.replace_strict(pl.Series(symbols, dtype=pl.String), ids, default=-1).to_numpy()
    grid = timestamps.astype("M8[us]")
    bars = np.minimum(np.searchsorted(grid, moments.micros), len(grid) - 1)
    on_grid = grid[bars] == moments.micros
    ledger.note_rows("unknown_symbol", table, usable & (assets < 0))

    def name_nearest(at: int) -> str:
        return f": the nearest is {show_time(timestamps[nearest_bar(timestamps, moments.micros[at])])}"

    ledger.note_rows("unmatched_timestamp", table, usable & ~on_grid, more=name_nearest)
    rows = np.flatnonzero(usable & on_grid & (assets >= 0))
    return Cells(rows, bars[rows], assets[rows])


def without_repeats(table: Table, cells: Cells, place: np.ndarray, ledger: Ledger) -> Cells:
    """Return the first row of each `place` (an int a row of `cells`); the others are noted."""
    first = pl.Series(place).is_first_distinct().to_numpy()
    repeated = np.zeros(table.frame.height, bool)
    repeated[cells.rows[~first]] = True
    ledger.note_rows("duplicate_key", table, repeated)
    return Cells(*(part[first] for part in cells))


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
    note_columns(table, KEYS, ledger)
    if not all(key in table for key in KEYS):
        return ends
    cells = match(table, read_keys(table, ledger), timestamps, symbols, ledger)
    cells = without_repeats(table, cells, cells.assets, ledger)
    payout = (
        read_numbers(table, "payout", ledger) if "payout" in table else np.full(table.frame.height, np.nan)
    )
    ledger.note_rows("bad_payout", table, payout < 0, "payout")
    good = ~(payout[cells.rows] < 0)
    ends.bar[cells.assets[good]] = cells.bars[good]
    ends.payout[cells.assets[good]] = payout[cells.rows[good]]
    return ends


def read_field(name: str, values: Any, timestamps: np.ndarray, symbols: tuple[str, ...]) -> np.ndarray:
    """Return `values`, a long frame or an array, as a (n_bars, n_assets) array; see `Panel.align`."""
    what, shape = f"field {name!r}", (len(timestamps), len(symbols))
    if not name or name in KEYS or name != canonical_name(name):
        raise InputError(
            f"{name!r} is no name for a field: use lower case without blanks, not {' or '.join(KEYS)}"
        )
    if isinstance(values, np.ndarray):
        return _checked_array(what, values, shape)
    ledger = Ledger()
    table = open_table(values, what)
    note_columns(table, (*KEYS, name), ledger)
    if not all(key in table for key in (*KEYS, name)):
        ledger.refuse(what)
    cells = match(table, read_keys(table, ledger), timestamps, symbols, ledger)
    cells = without_repeats(table, cells, cells.bars * len(symbols) + cells.assets, ledger)
    numbers = read_numbers(table, name, ledger)
    if ledger.report().errors:
        ledger.refuse(what)
    return cells.spread(numbers, shape)


def _checked_array(what: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if values.shape != shape:
        raise InputError(
            f"{what} has shape {values.shape}: the panel has {shape[0]} bars x {shape[1]} assets"
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"{what} holds {values.dtype}: give numbers")
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        bar, asset = infinite[0]
        raise InputError(
            f"{what} holds {len(infinite)} infinite values, the first at bar {bar}, asset {asset}",
            hint="write NaN where there is no value",
        )
    return values
