"""From a source to a grid: read, look at everything, then refuse or leave out what is faulty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.ingest.checks import survey
from backtest_farm.ingest.grid import PRICE_FIELDS, Grid, size_faults
from backtest_farm.ingest.keys import Moments, Sort
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.matching import match, note_columns, read_ends, read_keys, without_repeats
from backtest_farm.ingest.numbers import field_columns, read_numbers
from backtest_farm.ingest.report import Report
from backtest_farm.ingest.table import KEYS, Table, open_table

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
    ledger = Ledger()
    grid: Grid | None
    if isinstance(source, Grid):
        file, grid, rows = "<grid>", source, None
    else:
        table = open_table(source)
        file, (grid, rows) = table.file, _read_bars(table, ledger)
    if ends is not None and grid is not None:
        grid = replace(grid, ends=read_ends(ends, grid.timestamps, grid.symbols, ledger))
    errors = ledger.report().errors
    if ledger.refuse_always or (errors and on_fault == "strict"):
        ledger.refuse(file, mendable=not ledger.refuse_always)
    if grid is None:
        raise InputError(f"{file} has no usable row", faults=[finding.line() for finding in errors])
    return grid, survey(grid, file, rows, ledger)


def _read_bars(table: Table, ledger: Ledger) -> tuple[Grid | None, np.ndarray | None]:
    """Return a table's bars, and the row number of each cell; None when no row can be used."""
    fields = {name: read_numbers(table, name, ledger) for name in field_columns(table, ledger)}
    note_columns(table, KEYS + PRICE_FIELDS, ledger)
    if not all(key in table for key in KEYS):
        ledger.refuse(table.file)
    keys = read_keys(table, ledger)
    usable = keys.usable & ~_note_zones(table, keys.moments, ledger)
    if not usable.any():
        return None, None
    times = np.unique(keys.moments.micros[usable])
    symbols = tuple(keys.names.filter(usable).unique().sort().to_list())
    shape = (len(times), len(symbols))
    faults = list(size_faults(*shape))
    if faults:
        raise InputError(f"{table.file} is too large for one panel", faults=faults)
    cells = match(table, keys._replace(usable=usable), times, symbols, ledger)
    cells = without_repeats(table, cells, cells.bars * len(symbols) + cells.assets, ledger)
    timestamps = times.astype("M8[D]") if keys.moments.daily else times
    grid = Grid(timestamps, symbols, {name: cells.spread(fields[name], shape) for name in fields})
    return grid, cells.spread(table.first_row + np.arange(table.frame.height), shape)


def _note_zones(table: Table, moments: Moments, ledger: Ledger) -> np.ndarray:
    """Note timestamps that are of another sort than most; return a mask of them."""
    if not moments.daily:
        odd = moments.where(Sort.DAY, Sort.NAIVE)
        ledger.note_rows("mixed_zone", table, odd, "timestamp")
        return odd
    zoned, naive = moments.where(Sort.ZONED), moments.where(Sort.NAIVE)
    ledger.note_rows("mixed_zone", table, zoned, "timestamp")
    ledger.note_rows("naive_timestamp", table, naive, "timestamp")
    # Bars of unknown zone whose midnights would pass for sessions leave nothing to build from.
    ledger.refuse_always |= moments.count(Sort.NAIVE) > moments.count(Sort.DAY)
    return zoned | naive
