"""Timestamps and symbols: what was written, as moments and ids.

Dates and naive midnights are daily sessions; timestamps with a zone are UTC microseconds. A time of day
without a zone says nothing certain, so it is a fault and never a guess.
"""

from __future__ import annotations

import datetime as dt
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import polars as pl

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NAT = np.datetime64("NaT", "us")


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
    """

    micros: np.ndarray
    sorts: np.ndarray

    @property
    def daily(self) -> bool:
        """Whether most rows are sessions: then the others are the faulty ones."""
        return self.count(Sort.ZONED) <= self.count(Sort.DAY) + self.count(Sort.NAIVE)

    def count(self, sort: Sort) -> int:
        """Return how many rows are of this sort."""
        return int(np.count_nonzero(self.sorts == sort))

    def where(self, *sorts: Sort) -> np.ndarray:
        """Return a mask of the rows of these sorts."""
        return np.isin(self.sorts, sorts)


def read_moments(column: pl.Series) -> Moments:
    """Read a column of dates, datetimes or ISO text; any other type is unreadable."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _read_text(column.cast(pl.String))
    if not isinstance(column.dtype, (pl.Date, pl.Datetime)):
        sorts = np.where(column.is_null().to_numpy(), Sort.EMPTY, Sort.UNREADABLE)
        return Moments(np.full(len(column), _NAT), sorts.astype(np.int8))
    zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None
    if zoned:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    micros = column.cast(pl.Datetime("us")).to_numpy().astype("M8[us]")
    midnight = micros.astype("M8[D]") == micros
    sorts = np.select(
        [np.isnat(micros), np.full(len(micros), zoned), midnight],
        [Sort.EMPTY, Sort.ZONED, Sort.DAY],
        Sort.NAIVE,
    )
    return Moments(micros, sorts.astype(np.int8))


def read_symbols(column: pl.Series) -> pl.Series:
    """Return symbols as text; empty or blank ones are null."""
    text = column.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def _read_text(column: pl.Series) -> Moments:
    # Few moments are written many times, so each distinct text is read once, by Python's strict ISO reader.
    if column.is_empty():
        return Moments(np.empty(0, "M8[us]"), np.empty(0, np.int8))
    texts = column.unique()
    read = [_read_one(text) for text in texts.to_list()]
    codes = column.replace_strict(texts, pl.Series(range(len(texts))), return_dtype=pl.Int64).to_numpy()
    micros = np.array([moment for moment, _ in read], "M8[us]")
    sorts = np.array([sort for _, sort in read], np.int8)
    return Moments(micros[codes], sorts[codes])


def _read_one(text: str | None) -> tuple[np.datetime64, Sort]:
    text = (text or "").strip()
    if not text:
        return _NAT, Sort.EMPTY
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return _NAT, Sort.UNREADABLE
    if moment.tzinfo is not None:
        return np.datetime64((moment - _EPOCH) // _MICROSECOND, "us"), Sort.ZONED
    midnight = moment.time() == dt.time()
    return np.datetime64(moment, "us"), Sort.DAY if midnight else Sort.NAIVE
