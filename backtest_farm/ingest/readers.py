"""From a source to a grid: read, look at everything, then refuse or leave out what is faulty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from backtest_farm.errors import InputError, nearest
from backtest_farm.ingest.checks import survey
from backtest_farm.ingest.grid import PRICE_FIELDS, Ends, Grid, no_ends, size_faults
from backtest_farm.ingest.keys import Moments, Sort, read_moments, read_symbols
from backtest_farm.ingest.ledger import Ledger, positions, refuse
from backtest_farm.ingest.matching import note_columns, note_keys, read_ends, repeated
from backtest_farm.ingest.numbers import KEYS, field_columns, read_numbers
from backtest_farm.ingest.report import Report
from backtest_farm.ingest.table import Table, open_table

OnFault = Literal["strict", "report"]


def read(source: Any, on_fault: OnFault = "strict", ends: Any = None) -> tuple[Grid, Report]:
    """Read bars and check them.

    Parameters
    ----------
    source : path, frame or Grid
        A CSV or Parquet file, or a polars, pandas or Arrow frame, in long form: timestamp, symbol, open,
        high, low, close, and optionally volume and further numeric columns. Names are case-insensitive; date,
        datetime and time mean timestamp, ticker and asset mean symbol. A `Grid` is only surveyed.
    on_fault : {"strict", "report"}
        ``strict`` refuses any error. ``report`` drops rows with faulty keys (of repeated ones the first
        stays), empties faulty cells, and lists both.
    ends : frame or path, optional
        Ends of life: symbol, date, payout.

    Returns
    -------
    Grid
        Sorted by timestamp and symbol; NaN where there is no bar.
    Report
        Errors left out (under ``report``) and warnings.

    Raises
    ------
    InputError
        With every fault at once. Missing columns, and data without a single usable row, are refused under
        ``report`` too.
    """
    if on_fault not in get_args(OnFault):
        raise InputError(f"on_fault {on_fault!r} is not known: {nearest(on_fault, get_args(OnFault))}")
    if isinstance(source, Grid):
        return _read_grid(source, on_fault, ends)
    table = open_table(source)
    ledger = Ledger(table.file)
    fields = {name: read_numbers(table, name, ledger) for name in field_columns(table, ledger)}
    if not (note_columns(table, KEYS + PRICE_FIELDS, ledger) or all(key in table for key in KEYS)):
        refuse(ledger.report(), table.file, mendable=False)
    moments = read_moments(table.frame["timestamp"])
    names = read_symbols(table.frame["symbol"])
    usable = note_keys(table, moments, names, ledger) & ~_note_zones(table, moments, ledger)
    placed = _place(table, moments, names, usable, ledger)
    end_ledger = Ledger("<ends>")
    lives_end = no_ends(len(placed.symbols))
    if ends is not None and len(placed.rows):
        lives_end = read_ends(ends, placed.timestamps, placed.symbols, end_ledger)
    faults = ledger.report() + end_ledger.report()
    stuck = ledger.refuse_always or end_ledger.refuse_always
    if stuck or (faults.errors and on_fault == "strict"):
        refuse(faults, table.file, mendable=not stuck)
    if not len(placed.rows):
        raise InputError(
            f"{table.file} has no usable row", faults=[finding.line() for finding in faults.errors]
        )
    grid = placed.grid(fields, lives_end)
    return grid, faults + survey(grid, table.file, placed.row_of(table))


def _read_grid(grid: Grid, on_fault: OnFault, ends: Any) -> tuple[Grid, Report]:
    ledger = Ledger("<ends>")
    if ends is not None:
        grid = replace(grid, ends=read_ends(ends, grid.timestamps, grid.symbols, ledger))
    faults = ledger.report()
    if faults.errors and (on_fault == "strict" or ledger.refuse_always):
        refuse(faults, "<ends>", mendable=not ledger.refuse_always)
    return grid, faults + survey(grid, "<grid>")


def _note_zones(table: Table, moments: Moments, ledger: Ledger) -> np.ndarray:
    """Note timestamps that are of another sort than most; return a mask of them."""
    if not moments.daily:
        odd = moments.where(Sort.DAY, Sort.NAIVE)
        ledger.note_rows("mixed_zone", table, positions(odd), "timestamp")
        return odd
    zoned, naive = moments.where(Sort.ZONED), moments.where(Sort.NAIVE)
    ledger.note_rows("mixed_zone", table, positions(zoned), "timestamp")
    ledger.note_rows("naive_timestamp", table, positions(naive), "timestamp")
    # Bars of unknown zone whose midnights would pass for sessions leave nothing to build from.
    ledger.refuse_always |= moments.count(Sort.NAIVE) > moments.count(Sort.DAY)
    return zoned | naive


class _Placed:
    """The rows that have a place on the grid, and the cell (bar * n_assets + asset) of each."""

    def __init__(
        self, timestamps: np.ndarray, symbols: tuple[str, ...], rows: np.ndarray, cells: np.ndarray
    ) -> None:
        self.timestamps = timestamps
        self.symbols = symbols
        self.rows = rows
        self.cells = cells

    def grid(self, fields: dict[str, np.ndarray], ends: Ends) -> Grid:
        shape = (len(self.timestamps), len(self.symbols))
        dense = {}
        for name, values in fields.items():
            dense[name] = np.full(shape, np.nan)
            dense[name].reshape(-1)[self.cells] = values[self.rows]
        return Grid(self.timestamps, self.symbols, dense, {}, ends)

    def row_of(self, table: Table) -> Any:
        order = np.argsort(self.cells, kind="stable")
        in_order = self.cells[order]

        def find(bar: int, asset: int) -> int | None:
            cell = bar * len(self.symbols) + asset
            at = int(np.searchsorted(in_order, cell))
            found = at < len(in_order) and in_order[at] == cell
            return table.number(int(self.rows[order[at]])) if found else None

        return find


def _place(table: Table, moments: Moments, names: pl.Series, usable: np.ndarray, ledger: Ledger) -> _Placed:
    rows = positions(usable)
    micros = moments.micros[rows]
    kept = names.gather(rows)
    symbols = tuple(kept.unique().sort().to_list())
    assets = kept.cast(pl.Enum(symbols)).to_physical().cast(pl.Int64).to_numpy()
    times, bars = np.unique(micros, return_inverse=True)
    faults = list(size_faults(len(times), len(symbols)))
    if faults:
        raise InputError(f"{table.file} is too large for one panel", faults=faults)
    cells = bars * len(symbols) + assets
    again = repeated(cells, len(times) * len(symbols))
    ledger.note_rows("duplicate_key", table, rows[again])
    timestamps = times.astype("M8[D]") if moments.daily else times
    return _Placed(timestamps, symbols, rows[~again], cells[~again])
