"""Warnings about bars: possible, but worth a look. They never refuse a build."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backtest_farm.ingest.grid import NO_END, PRICE_FIELDS, Grid, lives, show_time
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.report import Report

_NEAR_POWER = 0.12  # log10 distance from a power of ten: a factor of 1.3
_REVERTS = 0.15  # log10 distance between the closes before and after: a factor of 1.4
_ELSEWHERE = 0.5  # log10 distance to both neighbours: a real crash starts at the one and ends at the other


def survey(grid: Grid, file: str, rows: np.ndarray | None = None, ledger: Ledger | None = None) -> Report:
    """Look at every bar of `grid` and report the warnings.

    Parameters
    ----------
    grid : Grid
        At least a ``close``; further checks need the fields they speak of.
    file : str
        The source's name in the findings.
    rows : numpy.ndarray, optional
        The source's row number of each cell, (n_bars, n_assets), NaN where it has none.
    ledger : Ledger, optional
        Holds what was found before, which is then part of the report.
    """
    look = _Survey(grid, file, rows, Ledger() if ledger is None else ledger)
    fields = grid.fields
    if all(name in fields for name in PRICE_FIELDS):
        look.bracketing()
    if "close" in fields:
        look.decimal_shifts(fields["close"])
        look.gaps_and_lives(fields["close"])
    if "volume" in fields:
        look.note_where("zero_volume", fields["volume"] == 0, "volume 0")
    return look.ledger.report()


class _Survey:
    def __init__(self, grid: Grid, file: str, rows: np.ndarray | None, ledger: Ledger) -> None:
        self.grid = grid
        self.file = file
        self.rows = np.full(grid.shape, np.nan) if rows is None else rows
        self.ledger = ledger

    def note(
        self,
        kind: str,
        bars: np.ndarray,
        assets: np.ndarray,
        show: Callable[[int, int], str],
        more: Callable[[int, int], str] = lambda t, a: "",
        *,
        count: int | None = None,
        longest: int = 1,
    ) -> None:
        """Note a finding at each (bar, asset); `show` makes its value, `more` what its advice adds."""
        if not len(bars):
            return
        symbols, timestamps, rows = self.grid.symbols, self.grid.timestamps, self.rows
        places = (
            {
                "row": None if np.isnan(rows[t, a]) else int(rows[t, a]),
                "symbol": symbols[a],
                "timestamp": show_time(timestamps[t]),
                "value": show(t, a),
                "more": more(t, a),
            }
            for t, a in zip(bars.tolist(), assets.tolist(), strict=True)
        )
        concerned = [symbols[a] for a in np.unique(assets)]
        count = len(bars) if count is None else count
        self.ledger.note(kind, self.file, places, count=count, symbols=concerned, longest=longest)

    def note_where(self, kind: str, mask: np.ndarray, value: str, *shown: np.ndarray) -> None:
        """Note a finding in each cell of `mask`; the cells of `shown` are formatted into its `value`."""
        # By asset, then bar: what one name went through reads in one piece.
        assets, bars = np.nonzero(mask.T)
        self.note(kind, bars, assets, lambda t, a: value.format(*(grid[t, a] for grid in shown)))

    def bracketing(self) -> None:
        opened, high, low, close = prices = [self.grid.fields[name] for name in PRICE_FIELDS]
        # fmax and fmin pass over an empty price; comparisons with NaN are false, so
        # a bar without one is fine.
        wrong = (high < np.fmax(opened, close)) | (low > np.fmin(opened, close))
        self.note_where("non_bracketing", wrong, "open {:g}, high {:g}, low {:g}, close {:g}", *prices)

    def decimal_shifts(self, close: np.ndarray) -> None:
        """Note closes a power of ten away from their neighbours, and other prices that far from the close."""
        before, after = _neighbours(close)
        with np.errstate(divide="ignore", invalid="ignore"):
            back, here, ahead = np.log10(before), np.log10(close), np.log10(after)
            shifted = _near_power(here - (back + ahead) / 2) & (np.abs(ahead - back) < _REVERTS)
            self.note_where(
                "decimal_shift", shifted, "close {:g} between {:g} and {:g}", close, before, after
            )
            # The middle of three closes is right even where one of them has slipped itself.
            middle = np.maximum(np.minimum(back, here), np.minimum(np.maximum(back, here), ahead))
            middle = np.where(np.isnan(back) | np.isnan(ahead), here, middle)
            for name in [price for price in ("open", "high", "low") if price in self.grid.fields]:
                prices = self.grid.fields[name]
                level = np.log10(prices)
                away = ~(np.abs(level - back) < _ELSEWHERE) & ~(np.abs(level - ahead) < _ELSEWHERE)
                slipped = _near_power(level - middle) & away
                value = name + " {:g} beside closes near {:g}"
                self.note_where("decimal_shift", slipped, value, prices, 10**middle)

    def gaps_and_lives(self, close: np.ndarray) -> None:
        times, end = self.grid.timestamps, self.grid.ends.bar
        n_bars = len(times)
        first, last = lives(close)
        self._gaps(close, first, last)
        alive = last >= first
        late = np.flatnonzero(alive & (first > 0))
        self.note("late_listing", first[late], late, lambda t, a: f"bar {t}")
        early = np.flatnonzero(alive & (last < n_bars - 1) & (end == NO_END))
        self.note(
            "early_end",
            last[early],
            early,
            lambda t, a: f"{n_bars - 1 - t} bars before the panel's last",
            lambda t, a: f": ({self.grid.symbols[a]}, {show_time(times[t])}, null)",
        )
        lively = np.flatnonzero((end != NO_END) & (last > end))
        self.note(
            "bars_after_end", last[lively], lively, lambda t, a: f"end of life {show_time(times[end[a]])}"
        )

    def _gaps(self, close: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        """Note each asset that misses bars inside its life, at the longest run; most missing first."""
        bars = np.arange(len(close))
        missing = (np.isnan(close) & (bars[:, None] > first) & (bars[:, None] < last)).T
        # A run inside a life begins and ends inside the grid, so that its two edges follow each other.
        assets, edges = np.nonzero(missing[:, 1:] != missing[:, :-1])
        assets, starts, stops = assets[::2], edges[::2] + 1, edges[1::2] + 1
        if not len(assets):
            return
        runs = stops - starts
        total = np.bincount(assets, runs).astype(np.int64)
        order = np.lexsort((-runs, assets, -total[assets]))
        widest = order[np.diff(assets[order], prepend=-1) != 0]
        longest = dict(zip(assets[widest].tolist(), runs[widest].tolist(), strict=True))

        def show(t: int, a: int) -> str:
            since, until = (show_time(self.grid.timestamps[bar]) for bar in (t, t + longest[a] - 1))
            return f"{total[a]} missing, longest run {longest[a]} ({since} .. {until})"

        self.note("gap", starts[widest], assets[widest], show, count=int(runs.sum()), longest=int(runs.max()))


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
