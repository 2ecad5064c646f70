"""Exchange calendars: when a market was open, and whether a panel's bars agree with it."""

from __future__ import annotations

import importlib
import warnings
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np

from backtest_farm.errors import InputError, PlatformError, nearest
from backtest_farm.ingest.grid import show_time
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.report import Report

Period = Literal["week", "month", "quarter"]
_AHEAD = np.timedelta64(14, "D")
"""Looked ahead of the last bar, for the session that follows it: no modern closure was longer."""


class Sessions(NamedTuple):
    """A calendar's sessions, ascending.

    Attributes
    ----------
    days : numpy.ndarray
        datetime64[D], the date of each session.
    opens, closes : numpy.ndarray
        datetime64[us], UTC.
    """

    days: np.ndarray
    opens: np.ndarray
    closes: np.ndarray

    def at(self, moments: np.ndarray) -> np.ndarray:
        """Return the session of each moment, -1 outside of sessions.

        A day has the session of its date. A moment that closes one session and opens the next belongs to the
        next.
        """
        if moments.dtype == np.dtype("M8[D]"):
            found = np.searchsorted(self.days, moments, "right") - 1
            return np.where(self.days[found] == moments, found, -1)
        found = np.searchsorted(self.opens, moments, "right") - 1
        return np.where((found >= 0) & (moments <= self.closes[found]), found, -1)


@lru_cache(maxsize=16)
def sessions(name: str, first: np.datetime64, last: np.datetime64) -> Sessions:
    """Return the sessions from the day `first` on, up to two weeks after the day `last`.

    Raises
    ------
    PlatformError
        If exchange_calendars is not installed.
    InputError
        If it knows no such calendar, or not for these days.
    """
    try:
        library = importlib.import_module("exchange_calendars")
    except ImportError:
        raise PlatformError(
            f"calendar {name!r} needs the package exchange_calendars, which is not installed",
            hint='pip install "backtest_farm[calendars]"',
        ) from None
    known = library.get_calendar_names()
    if name not in known:
        raise InputError(f"there is no calendar {name!r}: {nearest(name, known)}")
    try:
        with warnings.catch_warnings():  # of pandas, about what exchange_calendars does inside
            warnings.simplefilter("ignore", DeprecationWarning)
            found = library.get_calendar(name, start=str(first), end=str(last + _AHEAD))
            opens, closes = (nanos.view("M8[ns]") for nanos in (found.opens_nanos, found.closes_nanos))
    except (ValueError, library.errors.CalendarError) as fault:
        raise InputError(f"calendar {name!r} does not cover {first} .. {last}: {fault}") from None
    days = found.sessions.to_numpy().astype("M8[D]")
    return Sessions(days, opens.astype("M8[us]"), closes.astype("M8[us]"))


def sessions_of(name: str, timestamps: np.ndarray) -> Sessions:
    """Return the sessions that `timestamps` fall into, and those of the two weeks after them."""
    first, last = timestamps[[0, -1]].astype("M8[D]")
    return sessions(name, first, last)


def survey_sessions(name: str | None, timestamps: np.ndarray, first_bar: int = 0) -> Report:
    """Return, for the bars from `first_bar` on, sessions without a bar and bars outside of sessions."""
    ledger = Ledger()
    if name is None:
        return ledger.report()
    found = sessions_of(name, timestamps)
    at = found.at(timestamps)
    outside = timestamps[first_bar:][at[first_bar:] < 0]
    start = int(at[:first_bar].max(initial=-1)) + 1
    stop = int(np.searchsorted(found.days, timestamps[-1].astype("M8[D]"), "right"))
    bare = found.days[np.setdiff1d(np.arange(start, stop), at)]
    for kind, moments in (("session_without_bars", bare), ("bar_outside_session", outside)):
        if len(moments):
            places = ({"timestamp": show_time(moment), "value": name} for moment in moments)
            ledger.note(kind, "<calendar>", places, count=len(moments))
    return ledger.report()


def last_of_period(timestamps: np.ndarray, period: Period, calendar: str | None) -> np.ndarray:
    """Return which bars close their period; see `backtest_farm.panel.Panel.closes_period`."""
    if period not in get_args(Period):
        raise InputError(f"period {period!r} is not known: {nearest(period, get_args(Period))}")
    closes = np.zeros(len(timestamps), bool)
    if calendar is None:
        periods = _periods(timestamps.astype("M8[D]"), period)
        closes[:-1] = periods[1:] != periods[:-1]
        return closes
    found = sessions_of(calendar, timestamps)
    at = found.at(timestamps)
    periods = _periods(found.days, period)
    last = np.append(periods[1:] != periods[:-1], False)[at] & (at >= 0)
    if timestamps.dtype == np.dtype("M8[D]"):
        return last
    # A later bar outside of sessions does not hide that one was the session's last.
    inside = np.flatnonzero(at >= 0)
    closes[inside[:-1][at[inside][1:] != at[inside][:-1]]] = True
    return closes & last


def _periods(days: np.ndarray, period: Period) -> np.ndarray:
    """Return a number for the period of each day, greater for a later one."""
    if period == "week":
        return (days.astype(np.int64) + 3) // 7  # day 0 of the epoch is a Thursday, weeks start on Monday
    months = days.astype("M8[M]").astype(np.int64)
    return months if period == "month" else months // 3
