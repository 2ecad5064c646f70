"""Rows that find their place on a grid: bars, ends of life, added fields."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import BAR_FIELDS, Ends, nearest_bar, no_ends, show_time
from backtest_farm.ingest.keys import MICROS_OF_DAY, Clock, Moments, Sort, begins_day, read_symbols
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.numbers import read_numbers
from backtest_farm.ingest.sources import open_table
from backtest_farm.ingest.table import KEYS, Table, canonical_name, nulls

Lag: TypeAlias = int | dt.timedelta | str | None
_UNITS = {
    "w": dt.timedelta(weeks=1),
    "d": dt.timedelta(days=1),
    "h": dt.timedelta(hours=1),
    "m": dt.timedelta(minutes=1),
    "s": dt.timedelta(seconds=1),
}
_NUMBER = re.compile(r"[\d.,:/ -]*\d")


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
    for name, given in table.names.items():
        if len(given) > 1:
            ledger.note("duplicate_column", table.file, [{"value": f"{name}: {', '.join(given)}"}])
    missing = [name for name in needed if name not in table]
    found = [name for given in table.names.values() for name in given]
    if len(missing) == len(needed) and any(_NUMBER.fullmatch(name) for name in found):
        ledger.note("missing_header", table.file, [{"value": ", ".join(found[:4])}])
        return
    if missing[:3] == ["symbol", "open", "close"] and "timestamp" in table and len(found) > 2:
        more = (
            ". This looks like a wide table of one field, with a column for each symbol; orders fill at "
            "the open and positions are marked at the close, so give one for each: "
            '{"open": frame, "close": frame}'
        )
        ledger.note("missing_column", table.file, [{"value": "symbol, open and close", "more": more}])
        return
    strange = [given[0] for name, given in table.names.items() if name not in (*KEYS, *BAR_FIELDS)]
    for name in missing:
        ways = ["add it"]
        if strange:
            ways.append(f'say which one holds it, such as columns={{"{strange[0]}": "{name}"}}')
        if name == "symbol":
            ways.append('name a single asset: symbol="..."')
        more = f": {', or '.join(ways)}; found: {', '.join(found)}"
        ledger.note("missing_column", table.file, [{"value": name, "more": more}])


def read_keys(table: Table, ledger: Ledger) -> Keys:
    """Read timestamps and symbols; empty and unreadable ones are noted and not usable."""
    moments = table.habits.clock.read(table.frame["timestamp"])
    names = read_symbols(table.frame["symbol"])
    empty = moments.where(Sort.EMPTY) | nulls(names)
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
    if timestamps.dtype == np.dtype("M8[D]") and moments.at_midnight:
        moments = moments.as_sessions()  # a session is the same day, wherever its midnight is
    assets = _asset_ids(names, symbols)
    bars, on_grid = _bars_at(moments.micros, timestamps)
    ledger.note_rows("unknown_symbol", table, usable & (assets < 0))

    def name_nearest(at: int) -> str:
        return f": the nearest is {show_time(timestamps[nearest_bar(timestamps, moments.micros[at])])}"

    ledger.note_rows("unmatched_timestamp", table, usable & ~on_grid, more=name_nearest)
    rows = np.flatnonzero(usable & on_grid & (assets >= 0))
    return Cells(rows, bars[rows], assets[rows])


def _bars_at(micros: np.ndarray, timestamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a bar for each moment, and whether that bar is the moment's; NaT has none."""
    if timestamps.dtype == np.dtype("M8[D]"):  # a table of days is small, and faster than a search
        days = timestamps.view(np.int64)
        bar_of = np.full(days[-1] - days[0] + 2, -1)
        bar_of[days - days[0]] = np.arange(len(days))
        # Days outside come to the table's last place, which no bar has.
        bars = bar_of[np.clip(micros.view(np.int64) // MICROS_OF_DAY - days[0], -1, len(bar_of) - 1)]
        return bars, (bars >= 0) & begins_day(micros)
    bars = np.minimum(np.searchsorted(timestamps, micros), len(timestamps) - 1)
    return bars, timestamps[bars] == micros


def _asset_ids(names: pl.Series, symbols: tuple[str, ...]) -> np.ndarray:
    """Return the asset id of each name, -1 for those that are no symbol."""
    ids = {name: asset for asset, name in enumerate(symbols)}
    names = names.cast(pl.Categorical)  # few names for many rows: each is looked up once
    given = names.unique().drop_nulls()
    codes = given.to_physical().to_numpy()
    asset_of = np.full(int(codes.max(initial=0)) + 2, -1)
    asset_of[codes] = [ids.get(name, -1) for name in given.to_list()]
    return asset_of[names.to_physical().fill_null(len(asset_of) - 1).to_numpy()]


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


def read_field(
    name: str,
    values: Any,
    timestamps: np.ndarray,
    symbols: tuple[str, ...],
    available: str | None = None,
    lag: Lag = None,
) -> np.ndarray:
    """Return `values`, a long frame or an array, as a (n_bars, n_assets) array; see `Panel.align`.

    With `available` or `lag` a frame's values are placed as of when they were known; see `as_of`.
    """
    what, shape = f"field {name!r}", (len(timestamps), len(symbols))
    if not name or name in KEYS or name != canonical_name(name):
        raise InputError(
            f"{name!r} is no name for a field: use lower case without blanks, not {' or '.join(KEYS)}"
        )
    if isinstance(values, np.ndarray):
        if available is not None or lag is not None:
            raise InputError(
                f"{what} is an array, which says no times of its own: shift its rows, or give a frame"
            )
        return _checked_array(what, values, shape)
    if available is not None or lag is not None:
        return as_of(values, timestamps, symbols, name, available, lag, what)
    ledger = Ledger()
    table = open_table(values, what)
    note_columns(table, (*KEYS, name), ledger)
    if not all(key in table for key in (*KEYS, name)):
        ledger.refuse(what)
    cells = match(table, read_keys(table, ledger), timestamps, symbols, ledger)
    cells = without_repeats(table, cells, cells.bars * len(symbols) + cells.assets, ledger)
    numbers = read_numbers(table, name, ledger)
    if ledger.has_errors:
        ledger.refuse(what)
    return cells.spread(numbers, shape)


def as_of(
    source: Any,
    timestamps: np.ndarray,
    symbols: tuple[str, ...] | None,
    value_column: str,
    available_column: str | None = None,
    lag: Lag = None,
    what: str = "<frame>",
) -> np.ndarray:
    """Place values on the bars at which they were known, and hold each until the next one.

    Of the rows that were available at or before a bar, the bar has the one with the latest ``timestamp`` (the
    period that it speaks of), and of several versions of a period the one that came last: so a revision of
    an old period does not hide a newer one. Rows without a value are passed over.

    Parameters
    ----------
    source : frame or path
        Long: timestamp, symbol (unless `symbols` is None), the value, and when it was available.
    timestamps : numpy.ndarray
        datetime64[D] or datetime64[us], the bars. What became available at a time of day is seen on the next
        session, and what has a date only on the session of that date; on intraday bars a date counts from its
        end, midnight UTC.
    symbols : tuple of str, or None
        The assets; None for one series that belongs to no asset.
    value_column : str
        The value's name, in lower case.
    available_column : str, optional
        The name of the time at which a row became known; its own timestamp by default.
    lag : int, timedelta or str, optional
        Added to that: bars of the grid (3), or a time (``"45d"``, ``"6h"``, ``"15m"``).
    what : str
        The name of a source that is no file, for faults.

    Returns
    -------
    numpy.ndarray
        float64 (n_bars, n_assets), or (n_bars,) without `symbols`; NaN before the first value.

    Raises
    ------
    InputError
        With every fault at once.
    """
    ledger, (bars_later, time_later) = Ledger(), _read_lag(lag)
    table = open_table(source, what)
    value_column, known_column = canonical_name(value_column), canonical_name(available_column or "timestamp")
    keys = KEYS[:1] if symbols is None else KEYS
    needed = tuple(dict.fromkeys((*keys, value_column, known_column)))
    note_columns(table, needed, ledger)
    if not all(name in table for name in needed):
        ledger.refuse(what)
    daily = timestamps.dtype == np.dtype("M8[D]")
    period = _read_column(table, "timestamp", table.habits.clock, daily, ledger)
    if known_column == "timestamp":
        known = period
    else:
        clock = Clock(table.habits.options)
        clock.learn(table.frame[known_column])
        if doubt := clock.settle().doubt:
            ledger.note("ambiguous_date", table.file, [{"value": known_column, "more": f": {doubt}"}])
        known = _read_column(table, known_column, clock, daily, ledger)
    assets = np.zeros(len(period), np.int64)
    if symbols is not None:
        names = read_symbols(table.frame["symbol"])
        assets = _asset_ids(names, symbols)
        ledger.note_rows("null_key", table, names.is_null().to_numpy(), "symbol")
        ledger.note_rows("unknown_symbol", table, (assets < 0) & names.is_not_null().to_numpy())
    values = read_numbers(table, value_column, ledger)
    rows = np.flatnonzero(~(np.isnat(period) | np.isnat(known) | np.isnan(values)) & (assets >= 0))
    periods, times = (np.unique(part[rows], return_inverse=True)[1] for part in (period, known))
    place = (assets[rows] * (len(rows) + 1) + periods) * (len(rows) + 1) + times
    without_repeats(table, Cells(rows, periods, assets[rows]), place, ledger)
    if ledger.has_errors:
        ledger.refuse(what)
    bars = np.searchsorted(timestamps.astype("M8[us]"), known + np.timedelta64(time_later)) + bars_later
    order = np.lexsort((periods, times, assets[rows]))
    rows, age = rows[order], (assets[rows] * (len(rows) + 1) + periods)[order]
    # A version of an older period than one that is known already says nothing new.
    rows = rows[age == np.maximum.accumulate(age)]
    rows = rows[bars[rows] < len(timestamps)]
    placed = np.full((len(timestamps), 1 if symbols is None else len(symbols)), np.nan)
    placed[bars[rows], assets[rows]] = values[rows]  # of several on one bar the last, which is the newest
    seen = np.maximum.accumulate(np.where(np.isnan(placed), 0, np.arange(len(placed))[:, None]), axis=0)
    held = np.take_along_axis(placed, seen, axis=0)
    return held[:, 0] if symbols is None else held


def _read_column(table: Table, name: str, clock: Clock, daily: bool, ledger: Ledger) -> np.ndarray:
    """Return a column of moments as datetime64[us], NaT where it is faulty, which is noted."""
    moments = clock.read(table.frame[name])
    ledger.note_rows("null_key", table, moments.where(Sort.EMPTY), name)
    ledger.note_rows("unparseable", table, moments.where(Sort.UNREADABLE), name)
    if daily:
        return (moments.as_sessions() if moments.at_midnight else moments).micros
    return np.where(moments.where(Sort.DAY), moments.micros + np.timedelta64(1, "D"), moments.micros)


def _read_lag(lag: Lag) -> tuple[int, dt.timedelta]:
    """Return a lag as bars and as time, of which one is 0."""
    none = dt.timedelta(0)
    if lag is None:
        return 0, none
    if isinstance(lag, int) and not isinstance(lag, bool) and lag >= 0:
        return lag, none
    if isinstance(lag, dt.timedelta) and lag >= none:
        return 0, lag
    written = re.fullmatch(r"(\d+) ?(w|d|h|m|s)", lag) if isinstance(lag, str) else None
    if written is None:
        raise InputError(
            f"lag {lag!r} cannot be meant",
            hint='give a number of bars, or a time such as "45d", "6h" or "15m"',
        )
    return 0, int(written[1]) * _UNITS[written[2]]


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
