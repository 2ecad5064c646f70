"""Moments and bars: finding the bar of a timestamp, and how many bars make a year."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, get_args

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.ingest.grid import nearest_bar, show_time

Side = Literal["exact", "left", "right"]
SESSIONS_PER_YEAR = 252.0
DAYS_PER_YEAR = 365.0
_WEEKEND_SHARE = 0.05
"""Share of weekend sessions above which every day trades; a few special Saturdays do not count."""


def find_bar(timestamps: np.ndarray, moment: Any, side: Side = "exact") -> int:
    """Return the bar of `moment`; see `backtest_farm.panel.Panel.bar_of`."""
    if side not in get_args(Side):
        raise InputError(f"side {side!r} is not known: {nearest(side, get_args(Side))}")
    wanted, whole_day = _moment(moment)
    grid = timestamps.astype("M8[us]", copy=False)
    intraday = timestamps.dtype != np.dtype("M8[D]")
    if side == "right" and whole_day and intraday:
        return int(np.searchsorted(grid, wanted + np.timedelta64(1, "D")))
    at = int(np.searchsorted(grid, wanted, "right" if side == "right" else "left"))
    if side == "exact" and (at == len(grid) or grid[at] != wanted):
        close = nearest_bar(timestamps, wanted)
        raise InputError(
            f"the panel has no bar at {moment}: the nearest is {show_time(timestamps[close])} (bar {close})",
            hint="side='left' finds the first bar at or after a moment, side='right' the first one after it",
        )
    return at


def bars_in_a_year(timestamps: np.ndarray) -> float:
    """Return 252 for daily sessions, 365 when weekends trade, and the observed rate for intraday bars."""
    if timestamps.dtype == np.dtype("M8[D]"):
        weekdays = np.is_busday(timestamps)
        return SESSIONS_PER_YEAR if np.mean(~weekdays) < _WEEKEND_SHARE else DAYS_PER_YEAR
    years = (timestamps[-1] - timestamps[0]) / np.timedelta64(1, "D") / 365.25
    return float((len(timestamps) - 1) / years) if years > 0 else SESSIONS_PER_YEAR


def _moment(value: Any) -> tuple[np.datetime64, bool]:
    """Return `value` in UTC microseconds, and whether it names a whole day."""
    try:
        if isinstance(value, str):
            text = value.strip()
            value = dt.date.fromisoformat(text) if len(text) <= 10 else dt.datetime.fromisoformat(text)
        if isinstance(value, dt.datetime):
            if value.tzinfo is not None:
                value = value.astimezone(dt.UTC).replace(tzinfo=None)
            return np.datetime64(value, "us"), False
        if isinstance(value, (dt.date, np.datetime64)) and not np.isnat(np.datetime64(value)):
            plain = np.datetime64(value)
            return plain.astype("M8[us]"), plain.dtype == np.dtype("M8[D]")
    except ValueError:
        pass
    raise InputError(
        f"{value!r} is not a moment",
        hint="give a date or a datetime, or ISO text like '2017-10-31' or '2018-01-10T04:55:00Z'",
    )
