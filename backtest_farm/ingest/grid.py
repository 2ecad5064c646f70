"""The dense grid that every reader ends in: bars down, assets across, NaN where there is no bar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.errors import InputError

BAR_FIELDS = ("open", "high", "low", "close", "volume")
PRICE_FIELDS = BAR_FIELDS[:4]
NO_END = 2**62
"""The bar of an end of life that is not known: later than any grid."""

MAX_CELLS = 64 * 2**20
"""Most cells of one field (512 MiB of float64): Parquet writers put at most 64 Mi rows into one row group."""


class Ends(NamedTuple):
    """Ends of life by asset id.

    Attributes
    ----------
    bar : numpy.ndarray
        int64 (n_assets,), the last bar of each life, `NO_END` where none is known.
    payout : numpy.ndarray
        float64 (n_assets,), money per share; NaN means the last mark.
    """

    bar: np.ndarray
    payout: np.ndarray


class Lives(NamedTuple):
    """First and last bar with a close, by asset id; ``first > last`` for an asset that never has one."""

    first: np.ndarray
    last: np.ndarray


def no_ends(n_assets: int) -> Ends:
    """Return `Ends` that hold no end of life."""
    return Ends(np.full(n_assets, NO_END, np.int64), np.full(n_assets, np.nan))


_NOT_GIVEN = Ends(np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, eq=False)
class Grid:
    """Fields on the same bars and assets.

    Parameters
    ----------
    timestamps : numpy.ndarray
        datetime64[D] (daily sessions) or datetime64[us] (UTC), strictly ascending, shape (n_bars,).
    symbols : tuple of str
        Sorted and unique; an asset's id is its place here.
    fields : dict of str to numpy.ndarray
        float64, C order, shape (n_bars, n_assets); NaN = no bar or no value.
    statics : dict of str to tuple
        One value per asset (text, number or None).
    ends : Ends
        Ends of life, from data only; none when not given.

    Raises
    ------
    InputError
        If the parts do not fit together, or one field is larger than `MAX_CELLS`.
    """

    timestamps: np.ndarray
    symbols: tuple[str, ...]
    fields: Mapping[str, np.ndarray]
    statics: Mapping[str, tuple] = field(default_factory=dict)
    ends: Ends = _NOT_GIVEN

    def __post_init__(self) -> None:
        if not len(self.ends.bar):
            object.__setattr__(self, "ends", no_ends(len(self.symbols)))
        faults = list(self._faults())
        if faults:
            raise InputError("these arrays do not make a grid", faults=faults)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_bars, n_assets)."""
        return len(self.timestamps), len(self.symbols)

    def blocks(self, n: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Give the first bar of each block of `n` bars and its fields, as views."""
        for first in range(0, len(self.timestamps), n):
            yield first, {name: values[first : first + n] for name, values in self.fields.items()}

    def _faults(self) -> Iterator[str]:
        n_bars, n_assets = self.shape
        if n_bars == 0 or n_assets == 0:
            yield f"there are {n_bars} bars and {n_assets} assets: give at least one of each"
        yield from size_faults(n_bars, n_assets)
        if self.timestamps.dtype not in (np.dtype("M8[D]"), np.dtype("M8[us]")):
            yield f"timestamps are {self.timestamps.dtype}: give datetime64[D] or datetime64[us]"
        elif np.isnat(self.timestamps).any() or not (self.timestamps[1:] > self.timestamps[:-1]).all():
            yield "timestamps are not strictly ascending"
        if list(self.symbols) != sorted(set(self.symbols)):
            yield "symbols are not sorted and unique"
        for name, values in self.fields.items():
            if values.dtype != np.float64 or values.shape != self.shape or not values.flags.c_contiguous:
                yield f"field {name!r} is {values.dtype} {values.shape}: give C-ordered float64 {self.shape}"
        for name, column in self.statics.items():
            if len(column) != n_assets:
                yield f"static {name!r} has {len(column)} values for {n_assets} assets"
        for part, values in zip(Ends._fields, self.ends, strict=True):
            if values.shape != (n_assets,):
                yield f"ends.{part} has shape {values.shape} for {n_assets} assets"


def size_faults(n_bars: int, n_assets: int) -> Iterator[str]:
    """Say so when a field of `n_bars` x `n_assets` would be larger than one block holds."""
    if n_bars * n_assets > MAX_CELLS:
        yield (
            f"{n_bars:,} bars x {n_assets:,} assets are {n_bars * n_assets:,} cells; one panel block holds "
            f"{MAX_CELLS:,} ({MAX_CELLS * 8 // 2**20} MiB a field): split the data by time or by symbols"
        )


def lives(close: np.ndarray) -> Lives:
    """Return the first and last bar with a value of each column of `close` (n_bars, n_assets)."""
    present = ~np.isnan(close)
    n_bars = len(close)
    some = present.any(axis=0)
    first = np.where(some, present.argmax(axis=0), n_bars)
    last = np.where(some, n_bars - 1 - present[::-1].argmax(axis=0), -1)
    return Lives(first.astype(np.int64), last.astype(np.int64))


def show_time(moment: Any) -> str:
    """Write a datetime64 as people read it: a date for sessions, UTC with a ``Z`` otherwise."""
    moment = np.datetime64(moment)
    if moment.dtype == np.dtype("M8[D]"):
        return str(moment)
    return f"{str(moment.astype('M8[us]')).removesuffix('.000000')}Z"


def nearest_bar(timestamps: np.ndarray, moment: np.datetime64) -> int:
    """Return the bar whose timestamp is closest to `moment` (the earlier one on a tie)."""
    grid = timestamps.astype("M8[us]", copy=False)
    at = int(np.searchsorted(grid, moment.astype("M8[us]")))
    if at == 0:
        return 0
    if at == len(grid):
        return at - 1
    return at if grid[at] - moment < moment - grid[at - 1] else at - 1
