"""The ways in: bars from any source, whole or in blocks, and later bars for a panel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.frames import long_frame
from backtest_farm.ingest.grid import Grid, size_faults
from backtest_farm.ingest.options import ReadOptions
from backtest_farm.ingest.reading import MAX_BYTES, After, GridReading, OnFault, Reading, SourceReading
from backtest_farm.ingest.report import Report
from backtest_farm.ingest.synthetic import SyntheticMarket


def read(
    source: Any, on_fault: OnFault = "strict", ends: Any = None, options: ReadOptions | None = None
) -> tuple[Grid, Report]:
    """Read bars into memory and check them.

    Parameters
    ----------
    source, on_fault, ends, options
        See `stream`.

    Returns
    -------
    Grid
        Sorted by timestamp and symbol; NaN where there is no bar.
    Report
        Errors left out (under ``report``), what was inferred, and warnings.

    Raises
    ------
    InputError
        With every fault at once. Missing columns, and data without a single usable row, are refused under
        ``report`` too, and so is a field that is too large for one block of a panel.
    """
    reading = stream(source, on_fault, ends, options, max_bytes=2**62)
    faults = list(size_faults(*reading.shape))
    if faults:
        raise InputError(f"{reading.title} is too large for one panel", faults=faults)
    ((_, fields),) = reading.blocks()
    grid = Grid(reading.timestamps, reading.symbols, fields, reading.statics, reading.ends)
    return grid, reading.report


def stream(
    source: Any,
    on_fault: OnFault = "strict",
    ends: Any = None,
    options: ReadOptions | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    scratch: Path | None = None,
) -> Reading:
    """Read bars block by block and check them.

    Parameters
    ----------
    source : path, frame, mapping or Grid
        A CSV or Parquet file (also compressed CSV), a folder of them or a pattern such as ``prices/*.csv``; a
        polars, pandas or Arrow frame in long form: timestamp, symbol, open, close, and optionally high, low,
        volume and further numeric columns; wide frames by field, ``{"open": frame, "close": frame}``, with a
        column of timestamps and one for each symbol; long frames by symbol; a pandas frame with columns
        (field, symbol). Names are case-insensitive; date, datetime and time mean timestamp, ticker and asset
        mean symbol, Adj Close is the field adj_close. Files of a folder without a column of symbols take them
        from their names. A `Grid` is only surveyed.
    on_fault : {"strict", "report"}
        ``strict`` refuses any error. ``report`` drops rows with faulty keys (of repeated ones the first
        stays), empties faulty cells, and lists both.
    ends : frame or path, optional
        Ends of life: symbol, date, payout.
    options : ReadOptions, optional
        How the source is written where it does not say so.
    max_bytes : int
        Most bytes that all fields of one block take together; a block has at least one bar.
    scratch : pathlib.Path, optional
        The folder for temporary files of a source larger than that; the system's by default.

    Raises
    ------
    InputError
        If the source cannot be read at all. Its faults are raised by `Reading.blocks`.
    """
    if isinstance(source, Grid | SyntheticMarket):
        return GridReading(source, on_fault, ends, max_bytes)
    return SourceReading(source, on_fault, ends, options, max_bytes, scratch, None)


def read_later(
    source: Any,
    symbols_known: Sequence[str],
    last_timestamp: np.datetime64,
    on_fault: OnFault = "strict",
    ended: Iterable[str] = (),
    options: ReadOptions | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    scratch: Path | None = None,
) -> Reading:
    """Read bars that come after those of a panel.

    Parameters
    ----------
    source, on_fault, options, max_bytes, scratch
        See `stream`.
    symbols_known : sequence of str
        The panel's symbols; they keep their places and new ones follow them, sorted.
    last_timestamp : numpy.datetime64
        The panel's last bar, in its resolution. A bar at or before it is always refused.
    ended : iterable of str
        Symbols whose end of life is known.

    Raises
    ------
    InputError
        As `stream`, and if the source has sessions where the panel has times of day, or the reverse.
    """
    if isinstance(source, Grid):
        source = long_frame(source.timestamps, source.symbols, source.fields)
    after = After(tuple(symbols_known), last_timestamp, frozenset(ended))
    return SourceReading(source, on_fault, None, options, max_bytes, scratch, after)
