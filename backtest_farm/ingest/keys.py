"""Timestamps and symbols: what was written, as moments and ids.

Dates and naive midnights are daily sessions, and so are moments with a zone when each of them is a midnight
there, in another zone than UTC; other timestamps with a zone are UTC microseconds. A time of day without a
zone says nothing certain, so it is a fault and never a guess.
"""

from __future__ import annotations

import datetime as dt
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import polars as pl

from backtest_farm.ingest.dates import DateEvidence, from_numbers, given_form, read_date, zone_of_number
from backtest_farm.ingest.dates import Reading as DateReading
from backtest_farm.ingest.options import DATE_NUMBERS, ReadOptions

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NAT = np.datetime64("NaT", "us")
MICROS_OF_DAY = 86_400_000_000


class Sort(IntEnum):
    """What a timestamp is."""

    EMPTY = 0
    UNREADABLE = 1
    DAY = 2  # a date, or a naive midnight
    NAIVE = 3  # a time of day without a zone
    ZONED = 4


class Moments(NamedTuple):
    """Timestamps as read.

    Attributes
    ----------
    micros : numpy.ndarray
        datetime64[us], NaT where empty or unreadable; zoned ones in UTC.
    sorts : numpy.ndarray
        int8 of `Sort`.
    local : numpy.ndarray or None
        The same as written, without their zones; None when none has one.
    """

    micros: np.ndarray
    sorts: np.ndarray
    local: np.ndarray | None = None

    def count(self, sort: Sort) -> int:
        """Return how many rows are of this sort."""
        return int(np.count_nonzero(self.sorts == sort))

    def where(self, *sorts: Sort) -> np.ndarray:
        """Return a mask of the rows of these sorts."""
        return np.isin(self.sorts, sorts)

    @property
    def at_midnight(self) -> bool:
        """Whether every row with a zone is the beginning of a day in it."""
        if self.local is None:
            return True
        local = self.local[self.sorts == Sort.ZONED]
        return bool(begins_day(local).all())

    @property
    def away(self) -> bool:
        """Whether a row has another zone than UTC."""
        return self.local is not None and bool((self.local != self.micros)[self.sorts == Sort.ZONED].any())

    def as_sessions(self) -> Moments:
        """Return rows with a zone as the dates that they are there."""
        if self.local is None:
            return self
        zoned = self.sorts == Sort.ZONED
        return Moments(
            np.where(zoned, self.local, self.micros), np.where(zoned, np.int8(Sort.DAY), self.sorts)
        )


class Clock:
    """How the timestamps of a source are read: learned from all of them first, if they are not plain.

    Parameters
    ----------
    options : ReadOptions
        What its owner said.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._zone = options.zone
        self._evidence = DateEvidence()
        self.reading = DateReading(given_form(options.date_format or "plain"))
        self._given = options.date_format is not None

    def learn(self, column: pl.Series) -> None:
        """Look at a column of timestamps before any of it is read."""
        if column.dtype.is_numeric():
            self._evidence.take_numbers(column.cast(pl.Float64).drop_nulls().to_numpy())
        elif _is_text(column):
            texts = column.cast(pl.String).str.strip_chars().unique(maintain_order=True).drop_nulls()
            self._evidence.take(text for text in texts.to_list() if text)

    def settle(self) -> DateReading:
        """Decide how to read what was looked at."""
        if not self._given:
            self.reading = self._evidence.settle()
        return self.reading

    def read(self, column: pl.Series) -> Moments:
        """Read dates, datetimes, text or numbers; a column of any other type is unreadable."""
        moments = self._read(column)
        return moments if self._zone is None else _placed(moments, self._zone)

    def _read(self, column: pl.Series) -> Moments:
        form = self.reading.form
        if _is_text(column):
            return _read_text(column.cast(pl.String), form)
        if column.dtype.is_numeric() and form in DATE_NUMBERS:
            numbers = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
            return _sorted(from_numbers(numbers, form), column, zone_of_number(form) is not None)
        if not isinstance(column.dtype, (pl.Date, pl.Datetime)):
            return _sorted(np.full(len(column), _NAT), column, False)
        zone = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
        if zone is None:
            return _sorted(column.cast(pl.Datetime("us")).to_numpy(), column, False)
        local = column.dt.replace_time_zone(None).cast(pl.Datetime("us")).to_numpy()
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return _sorted(utc.cast(pl.Datetime("us")).to_numpy(), column, True)._replace(local=local)


def read_moments(column: pl.Series) -> Moments:
    """Read a column of dates, datetimes, numbers or text by what it holds; what is ambiguous is not read."""
    clock = Clock(ReadOptions())
    clock.learn(column)
    if clock.settle().doubt:
        clock.reading = DateReading()
    return clock.read(column)


def read_symbols(column: pl.Series) -> pl.Series:
    """Return symbols as text, or as the categories that they are; empty or blank ones are null."""
    text = column if column.dtype == pl.Categorical else column.cast(pl.String)
    blank = [name for name in text.unique().to_list() if name is not None and not name.strip()]
    return text.set(text.is_in(blank), None) if blank else text


def _is_text(column: pl.Series) -> bool:
    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def _sorted(micros: np.ndarray, column: pl.Series, zoned: bool) -> Moments:
    """Return moments with the sort of each."""
    day = Sort.ZONED if zoned else Sort.DAY
    sorts = np.full(len(micros), day, np.int8)
    if not zoned:
        sorts[~begins_day(micros)] = Sort.NAIVE
    sorts[np.isnat(micros)] = Sort.UNREADABLE
    if column.null_count():
        sorts[column.is_null().to_numpy()] = Sort.EMPTY
    return Moments(micros.astype("M8[us]", copy=False), sorts, micros if zoned else None)


def begins_day(micros: np.ndarray) -> np.ndarray:
    """Return which moments are midnights; whole numbers divide ten times faster than moments are rounded."""
    ticks = micros.view(np.int64)
    return ticks // MICROS_OF_DAY * MICROS_OF_DAY == ticks


def _read_text(column: pl.Series, form: str) -> Moments:
    # Few moments are written many times, so each distinct text is read once.
    if column.is_empty():
        return Moments(np.empty(0, "M8[us]"), np.empty(0, np.int8))
    texts = column.unique()
    read = [_read_one(text, form) for text in texts.to_list()]
    codes = column.replace_strict(texts, pl.Series(range(len(texts))), return_dtype=pl.Int64).to_numpy()
    micros, local = (np.array([one[part] for one in read], "M8[us]") for part in (0, 1))
    sorts = np.array([one[2] for one in read], np.int8)
    return Moments(micros[codes], sorts[codes], local[codes] if (sorts == Sort.ZONED).any() else None)


def _read_one(text: str | None, form: str) -> tuple[np.datetime64, np.datetime64, Sort]:
    text = (text or "").strip()
    if not text:
        return _NAT, _NAT, Sort.EMPTY
    moment = read_date(text, form)
    if moment is None:
        return _NAT, _NAT, Sort.UNREADABLE
    local = np.datetime64(moment.replace(tzinfo=None), "us")
    if moment.tzinfo is not None:
        return np.datetime64((moment - _EPOCH) // _MICROSECOND, "us"), local, Sort.ZONED
    return local, local, Sort.DAY if moment.time() == dt.time() else Sort.NAIVE


def _placed(moments: Moments, zone: str) -> Moments:
    """Return moments without a zone as moments of `zone`."""
    naive = moments.where(Sort.NAIVE, Sort.DAY)
    local = pl.Series(moments.micros[naive]).cast(pl.Datetime("us"))
    # When clocks go back an hour happens twice, when they go forward one is left out: neither can be read.
    utc = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    micros, sorts = moments.micros.copy(), moments.sorts.copy()
    micros[naive] = utc.dt.replace_time_zone(None).to_numpy()
    sorts[naive] = np.where(np.isnat(micros[naive]), Sort.UNREADABLE, Sort.ZONED)
    before = moments.micros if moments.local is None else moments.local
    return Moments(micros, sorts, before)
