"""Warnings about bars: possible, but worth a look. They never refuse a build."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backtest_farm.ingest.grid import NO_END, PRICE_FIELDS, Grid, lives, show_time
from backtest_farm.ingest.ledger import KINDS, LISTED, Ledger, positions
from backtest_farm.ingest.report import Report

_NEAR_POWER = 0.12  # log10 distance from a power of ten: a factor of 1.3
_REVERTS = 0.15  # log10 distance between the closes before and after: a factor of 1.4
_ELSEWHERE = 0.5  # log10 distance to both neighbours: a real crash starts at the one and ends at the other

RowOf = Callable[[int, int], int | None]
"""Source row of (bar, asset), None when it is not known."""


def survey(grid: Grid, file: str, row_of: RowOf = lambda bar, asset: None) -> Report:
    """Look at every bar of `grid` and return the warnings.

    Parameters
    ----------
    grid : Grid
        At least a ``close``; further checks need the fields they speak of.
    file : str
        The source's name in the findings.
    row_of : callable, optional
        Finds the source row of a bar and an asset.
    """
    return _Survey(grid, file, row_of).report()


class _Survey:
    def __init__(self, grid: Grid, file: str, row_of: RowOf) -> None:
        self.grid = grid
        self.ledger = Ledger(file)
        self.row_of = row_of

    def report(self) -> Report:
        fields = self.grid.fields
        if all(name in fields for name in PRICE_FIELDS):
            self._bracketing()
        if "close" in fields:
            self._decimal_shifts(fields["close"])
            self._lives(fields["close"])
        if "volume" in fields:
            self._cells("zero_volume", fields["volume"] == 0, lambda bar, asset: "volume 0")
        return self.ledger.report()

    def _cells(self, kind: str, mask: np.ndarray, show: Callable[[int, int], str]) -> None:
        # By asset, then bar: what one name went through reads in one piece.
        assets, bars = np.nonzero(mask.T)
        for bar, asset in zip(bars[:LISTED].tolist(), assets[:LISTED].tolist(), strict=True):
            self._note(kind, asset, bar, show(bar, asset))
        self._count(kind, bars[LISTED:], assets[LISTED:])

    def _count(self, kind: str, bars: np.ndarray, assets: np.ndarray) -> None:
        names, counts = np.unique(assets, return_counts=True)
        for asset, count in zip(names.tolist(), counts.tolist(), strict=True):
            self.ledger.note(kind, symbol=self.grid.symbols[asset], count=count)

    def _note(self, kind: str, asset: int, bar: int, value: str, **more: object) -> None:
        self.ledger.note(
            kind,
            row=self.row_of(bar, asset),
            symbol=self.grid.symbols[asset],
            timestamp=show_time(self.grid.timestamps[bar]),
            value=value,
            **more,  # type: ignore[arg-type]
        )

    def _bracketing(self) -> None:
        opened, high, low, close = (self.grid.fields[name] for name in PRICE_FIELDS)
        # fmax and fmin pass over an empty price; comparisons with NaN are false, so
        # a bar without one is fine.
        wrong = (high < np.fmax(opened, close)) | (low > np.fmin(opened, close))
        self._cells(
            "non_bracketing",
            wrong,
            lambda t, a: (
                f"open {opened[t, a]:g}, high {high[t, a]:g}, low {low[t, a]:g}, close {close[t, a]:g}"
            ),
        )

    def _decimal_shifts(self, close: np.ndarray) -> None:
        """Note closes a power of ten away from their neighbours, and other prices that far from the close."""
        before, after = _neighbours(close)
        with np.errstate(divide="ignore", invalid="ignore"):
            back, here, ahead = np.log10(before), np.log10(close), np.log10(after)
            shifted = _near_power(here - (back + ahead) / 2) & (np.abs(ahead - back) < _REVERTS)
            self._cells(
                "decimal_shift",
                shifted,
                lambda t, a: f"close {close[t, a]:g} between {before[t, a]:g} and {after[t, a]:g}",
            )
            # The middle of three closes is right even where one of them has slipped itself.
            middle = np.maximum(np.minimum(back, here), np.minimum(np.maximum(back, here), ahead))
            middle = np.where(np.isnan(back) | np.isnan(ahead), here, middle)
            for name in ("open", "high", "low"):
                if name in self.grid.fields:
                    level = np.log10(self.grid.fields[name])
                    away = ~(np.abs(level - back) < _ELSEWHERE) & ~(np.abs(level - ahead) < _ELSEWHERE)
                    self._slipped(name, _near_power(level - middle) & away, middle)

    def _slipped(self, name: str, mask: np.ndarray, middle: np.ndarray) -> None:
        values = self.grid.fields[name]
        self._cells(
            "decimal_shift",
            mask,
            lambda t, a: f"{name} {values[t, a]:g} beside closes near {10 ** middle[t, a]:g}",
        )

    def _lives(self, close: np.ndarray) -> None:
        grid = self.grid
        first, last = lives(close)
        present = ~np.isnan(close)
        missing = last - first + 1 - present.sum(axis=0)
        holed = positions((missing > 0) & (last >= first))
        largest_first = holed[np.argsort(-missing[holed], kind="stable")]
        for asset in largest_first.tolist():
            self._gap(asset, int(first[asset]), present[first[asset] : last[asset] + 1, asset])
        for asset in positions((first > 0) & (last >= first)).tolist():
            self._note("late_listing", asset, int(first[asset]), f"bar {first[asset]}")
        known = grid.ends.bar != NO_END
        for asset in positions((last < len(close) - 1) & (last >= first) & ~known).tolist():
            bar = int(last[asset])
            proposal = f"({grid.symbols[asset]}, {show_time(grid.timestamps[bar])}, null)"
            advice = (
                f"{KINDS['early_end'].advice}: if its life ended then, say so with ends, a frame of "
                f"(symbol, date, payout) that holds {proposal}, null for the last mark; nothing is assumed"
            )
            self._note(
                "early_end", asset, bar, f"{len(close) - 1 - bar} bars before the panel's last", advice=advice
            )
        for asset in positions(known & (last > grid.ends.bar)).tolist():
            end = show_time(grid.timestamps[grid.ends.bar[asset]])
            self._note("bars_after_end", asset, int(last[asset]), f"end of life {end}")

    def _gap(self, asset: int, first: int, present: np.ndarray) -> None:
        edges = np.flatnonzero(np.diff(present.astype(np.int8)))  # present -> absent -> present -> ...
        starts, stops = edges[::2] + 1, edges[1::2] + 1
        runs = stops - starts
        widest = int(runs.argmax())
        since, until = (first + int(at[widest]) for at in (starts, stops - 1))
        times = self.grid.timestamps
        span = f"{show_time(times[since])} .. {show_time(times[until])}"
        value = f"{runs.sum()} missing, longest run {runs.max()} ({span})"
        self._note("gap", asset, since, value, count=int(runs.sum()), longest=int(runs.max()))


def _near_power(jump: np.ndarray) -> np.ndarray:
    """Return where a log10 ratio is close to a whole number other than 0."""
    power = np.rint(jump)
    return (np.abs(power) >= 1) & (np.abs(jump - power) < _NEAR_POWER)


def _neighbours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each cell, the last value before it and the first one after it, NaN where there is none."""
    n_bars = len(values)
    bars = np.arange(n_bars)[:, None]
    present = ~np.isnan(values)
    seen = np.maximum.accumulate(np.where(present, bars, -1), axis=0)
    coming = np.minimum.accumulate(np.where(present, bars, n_bars)[::-1], axis=0)[::-1]
    padded = np.vstack([values, np.full((1, values.shape[1]), np.nan)])  # -1 and n_bars both find the NaN row
    none = np.full((1, values.shape[1]), n_bars)
    before = np.take_along_axis(padded, np.vstack([none, seen[:-1]]), axis=0)
    after = np.take_along_axis(padded, np.vstack([coming[1:], none]), axis=0)
    return before, after
