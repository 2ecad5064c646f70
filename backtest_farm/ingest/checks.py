"""Warnings about bars: possible, but worth a look. They never refuse a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backtest_farm.ingest.grid import NO_END, PRICE_FIELDS, Ends, show_time
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.report import LISTED, Report
from backtest_farm.ingest.table import shown_row

_NEAR_POWER = 0.12  # log10 distance from a power of ten: a factor of 1.3
_REVERTS = 0.15  # log10 distance between the closes before and after: a factor of 1.4
_ELSEWHERE = 0.5  # log10 distance to both neighbours: a real crash starts at the one and ends at the other
_SUSPECT = 10 ** (1 - _NEAR_POWER - _REVERTS)
"""What is within this factor of all closes around has not slipped: logarithms of the others are enough."""
_SLAB_CELLS = 2**17  # cells looked at together: what that takes beside the block stays small
_ROW_BITS = 40

_At: TypeAlias = tuple[np.ndarray, np.ndarray]  # cells of a slab: lines and columns


def place_of(file: int, rows: np.ndarray) -> np.ndarray:
    """Return where rows come from, as one int64 each: the number of their file, and theirs in it."""
    return (file << _ROW_BITS) + rows


def row_at(place: int, files: Sequence[str]) -> dict[str, Any]:
    """Return file and row of a place, for a finding; nothing is known of -1."""
    if place < 0:
        return {}
    return {"file": files[place >> _ROW_BITS], "row": shown_row(place & (2**_ROW_BITS - 1))}


class _Cells(NamedTuple):
    """What cells of a slab are: their bars and places, (n, n_assets of the slab), and its asset ids."""

    bars: np.ndarray
    places: np.ndarray
    assets: np.ndarray


class Survey:
    """Looks at bars, block after block, and reports the same whatever the blocks.

    Parameters
    ----------
    timestamps : numpy.ndarray
        Of all blocks together, (n_bars,).
    symbols : tuple of str
        One name per asset id.
    ends : Ends
        Ends of life; a negative bar lies before all of these.
    file : str
        The source's name in the findings.
    ledger : Ledger, optional
        Holds what was found before, which is then part of the report.
    files : sequence of str
        The files that `take`'s places speak of.
    n_known : int
        The first so many assets had bars before these: they are not listed late.
    """

    def __init__(
        self,
        timestamps: np.ndarray,
        symbols: tuple[str, ...],
        ends: Ends,
        file: str,
        ledger: Ledger | None = None,
        *,
        files: Sequence[str] = (),
        n_known: int = 0,
    ) -> None:
        n_assets = len(symbols)
        self.timestamps, self.symbols, self.ends, self.file = timestamps, symbols, ends, file
        self.ledger = Ledger() if ledger is None else ledger
        self._files, self._n_known = files, n_known
        self._found: dict[str, _Found] = {}
        # Of each asset: its first bar with a close and its last so far, with the rows they stand in.
        self._first, self._first_row = np.full(n_assets, len(timestamps)), np.full(n_assets, -1)
        self._last, self._last_row = np.full(n_assets, -1), np.full(n_assets, -1)
        # The last bar is judged when its next close has come: its prices, and the close before it.
        self._waiting: dict[str, np.ndarray] = {}
        self._before = np.full(n_assets, np.nan)
        self._missing, self._longest = np.zeros(n_assets, np.int64), np.zeros(n_assets, np.int64)
        self._gap = np.full(n_assets, -1)

    def take(self, first_bar: int, fields: Mapping[str, np.ndarray], rows: np.ndarray | None = None) -> None:
        """Look at the next bars.

        Parameters
        ----------
        first_bar : int
            The block's first bar; blocks follow each other.
        fields : mapping of str to numpy.ndarray
            float64 (n, n_assets), the same fields each time.
        rows : numpy.ndarray, optional
            Where each cell comes from, from `place_of`; -1 where from nowhere.
        """
        n_bars, n_assets = next(iter(fields.values())).shape
        step = max(1, _SLAB_CELLS // n_bars)
        for start in range(0, n_assets, step):
            assets = slice(start, start + step)
            slab = {name: values[:, assets] for name, values in fields.items()}
            places = np.full((n_bars, len(self.symbols[assets])), -1) if rows is None else rows[:, assets]
            bars = np.broadcast_to(np.arange(first_bar, first_bar + n_bars)[:, None], places.shape)
            self._take_slab(slab, _Cells(bars, places, np.arange(n_assets)[assets]))

    def _take_slab(self, fields: Mapping[str, np.ndarray], cells: _Cells) -> None:
        if all(name in fields for name in PRICE_FIELDS):
            opened, high, low, close = prices = [fields[name] for name in PRICE_FIELDS]
            # fmax and fmin pass over an empty price; comparisons with NaN are false, so
            # a bar without one is fine.
            wrong = (high < np.fmax(opened, close)) | (low > np.fmin(opened, close))
            at, text = _by_asset(wrong), "open {:g}, high {:g}, low {:g}, close {:g}"
            self._note("non_bracketing", at, cells, text, *(values[at] for values in prices))
        if "volume" in fields:
            self._note("zero_volume", _by_asset(fields["volume"] == 0), cells, "volume 0")
        if "close" in fields:
            self._take_closes(fields, cells)

    def _take_closes(self, fields: Mapping[str, np.ndarray], cells: _Cells) -> None:
        assets = cells.assets
        names = [name for name in PRICE_FIELDS if name in fields]
        for name in names:
            self._waiting.setdefault(name, np.full(len(self.symbols), np.nan))
        # The waiting bar of each asset goes above its block, whichever bar of the panel it is.
        prices = {name: np.vstack([self._waiting[name][assets], fields[name]]) for name in names}
        bars = np.vstack([self._last[assets], cells.bars])
        places = np.vstack([self._last_row[assets], cells.places])
        cells = _Cells(bars, places, assets)
        close = prices["close"]
        present = ~np.isnan(close)
        before, after = _neighbours(close, present)
        columns = np.arange(len(assets))
        before_bar = np.where(before < 0, -1, bars[before, columns])
        earlier = np.where(before < 0, np.nan, close[before, columns])
        earlier[0] = self._before[assets]
        later = np.where(after == len(close), np.nan, close[np.minimum(after, len(close) - 1), columns])
        self._shifts(prices, earlier, later, present & ~np.isnan(later), cells)
        self._note_gaps(present, bars, before_bar, assets)

        some = present[1:].any(axis=0)
        first = 1 + present[1:].argmax(axis=0)
        new = some & (self._last[assets] < 0)
        self._first[assets[new]] = bars[first, columns][new]
        self._first_row[assets[new]] = places[first, columns][new]
        last = len(present) - 1 - present[::-1].argmax(axis=0)
        concerned = assets[some]
        for name in names:
            self._waiting[name][concerned] = prices[name][last, columns][some]
        self._before[concerned] = earlier[last, columns][some]
        self._last[concerned] = bars[last, columns][some]
        self._last_row[concerned] = places[last, columns][some]

    def _shifts(
        self,
        prices: Mapping[str, np.ndarray],
        before: np.ndarray,
        after: np.ndarray,
        judged: np.ndarray,
        cells: _Cells,
    ) -> None:
        """Note closes a power of ten away from their neighbours, and other prices that far from the close."""
        close = prices["close"]
        around = before, close, after
        with np.errstate(all="ignore"):
            low, high = reduce(np.fmax, around) / _SUSPECT, reduce(np.fmin, around) * _SUSPECT

            def suspects(price: np.ndarray) -> tuple[_At, list[np.ndarray]]:
                at = _by_asset(((price < low) | (price > high)) & judged)
                return at, [np.log10(values[at]) for values in (price, *around)]

            at, (_, back, here, ahead) = suspects(close)
            shifted = _near_power(here - (back + ahead) / 2) & (np.abs(ahead - back) < _REVERTS)
            at = at[0][shifted], at[1][shifted]
            text = "close {:g} between {:g} and {:g}"
            self._note("decimal_shift", at, cells, text, close[at], before[at], after[at])
            for name in [price for price in ("open", "high", "low") if price in prices]:
                at, (level, back, here, ahead) = suspects(prices[name])
                # The middle of three closes is right even where one of them has slipped itself.
                middle = np.maximum(np.minimum(back, here), np.minimum(np.maximum(back, here), ahead))
                middle = np.where(np.isnan(back) | np.isnan(ahead), here, middle)
                away = ~(np.abs(level - back) < _ELSEWHERE) & ~(np.abs(level - ahead) < _ELSEWHERE)
                slipped = _near_power(level - middle) & away
                at = at[0][slipped], at[1][slipped]
                text = name + " {:g} beside closes near {:g}"
                self._note("decimal_shift", at, cells, text, prices[name][at], 10 ** middle[slipped])

    def _note_gaps(
        self, present: np.ndarray, bars: np.ndarray, before_bar: np.ndarray, assets: np.ndarray
    ) -> None:
        runs = np.where(present & (before_bar >= 0), bars - before_bar - 1, 0)
        runs[0] = 0  # counted when that bar was in its block
        longest = runs.max(axis=0)
        wider = longest > self._longest[assets]
        start = before_bar[runs.argmax(axis=0), np.arange(len(assets))] + 1
        self._missing[assets] += runs.sum(axis=0)
        self._longest[assets[wider]] = longest[wider]
        self._gap[assets[wider]] = start[wider]

    def has_bars(self) -> np.ndarray:
        """Return which assets had a close so far."""
        return self._last >= 0

    def report(self) -> Report:
        """Return what was found in all blocks together."""
        if self._waiting:
            assets = np.arange(len(self.symbols))
            prices = {name: values[None] for name, values in self._waiting.items()}
            never = np.full((1, len(assets)), np.nan)
            alive = (self._last >= 0)[None]
            cells = _Cells(self._last[None], self._last_row[None], assets)
            self._shifts(prices, self._before[None], never, alive, cells)
        for kind, found in self._found.items():
            places, symbols = (place for _, place in found.places), np.flatnonzero(found.concerned)
            self.ledger.note(
                kind, self.file, places, count=found.count, symbols=[self.symbols[a] for a in symbols]
            )
        self._found = {}
        self._lives()
        return self.ledger.report()

    def _lives(self) -> None:
        symbols, times, end = self.symbols, self.timestamps, self.ends.bar
        n_bars = len(times)
        first, last = self._first, self._last

        def show_gap(a: int) -> str:
            since, until = (
                show_time(times[bar]) for bar in (self._gap[a], self._gap[a] + self._longest[a] - 1)
            )
            return f"{self._missing[a]} missing, longest run {self._longest[a]} ({since} .. {until})"

        gaps = np.flatnonzero(self._missing)
        gaps = gaps[np.argsort(-self._missing[gaps], kind="stable")]
        if len(gaps):
            count, longest = int(self._missing.sum()), int(self._longest.max())
            self._note_assets("gap", gaps, self._gap, None, show_gap, count=count, longest=longest)
        alive = last >= 0
        late = np.flatnonzero(alive & (first > 0) & (np.arange(len(symbols)) >= self._n_known))
        self._note_assets("late_listing", late, first, self._first_row, lambda a: f"bar {first[a]}")
        early = np.flatnonzero(alive & (last < n_bars - 1) & (end == NO_END))
        self._note_assets(
            "early_end",
            early,
            last,
            self._last_row,
            lambda a: f"{n_bars - 1 - last[a]} bars before the panel's last",
            lambda a: f": ({symbols[a]}, {show_time(times[last[a]])}, null)",
        )
        lively = np.flatnonzero(alive & (end != NO_END) & (last > end))
        self._note_assets(
            "bars_after_end",
            lively,
            last,
            self._last_row,
            lambda a: f"end of life {show_time(times[end[a]]) if end[a] >= 0 else 'before these bars'}",
        )

    def _note_assets(
        self,
        kind: str,
        assets: np.ndarray,
        bars: np.ndarray,
        rows: np.ndarray | None,
        show: Callable[[int], str],
        more: Callable[[int], str] = lambda a: "",
        *,
        count: int | None = None,
        longest: int = 1,
    ) -> None:
        """Note a finding for each of `assets`, at its bar of `bars`."""
        if not len(assets):
            return
        places = (
            {
                **({} if rows is None else row_at(int(rows[a]), self._files)),
                "symbol": self.symbols[a],
                "timestamp": show_time(self.timestamps[bars[a]]),
                "value": show(a),
                "more": more(a),
            }
            for a in assets.tolist()
        )
        names = [self.symbols[a] for a in assets]
        self.ledger.note(
            kind,
            self.file,
            places,
            count=len(assets) if count is None else count,
            symbols=names,
            longest=longest,
        )

    def _note(self, kind: str, at: _At, cells: _Cells, text: str, *shown: np.ndarray) -> None:
        """Note a finding in each cell of `at`; the values of `shown`, one a cell, go into `text`."""
        lines, columns = at
        if not len(columns):
            return
        found = self._found.setdefault(kind, _Found(len(self.symbols)))
        found.count += len(columns)
        found.concerned[cells.assets[columns]] = True
        for number, (t, a) in enumerate(zip(lines[:LISTED].tolist(), columns[:LISTED].tolist(), strict=True)):
            asset, bar = int(cells.assets[a]), int(cells.bars[t, a])
            place = {
                **row_at(int(cells.places[t, a]), self._files),
                "symbol": self.symbols[asset],
                "timestamp": show_time(self.timestamps[bar]),
                "value": text.format(*(values[number] for values in shown)),
            }
            found.places.append(((asset, bar), place))
        found.places.sort(key=lambda placed: placed[0])
        del found.places[LISTED:]


class _Found:
    """Findings of one kind: how many, in which assets, and the first few by asset and bar."""

    def __init__(self, n_assets: int) -> None:
        self.count = 0
        self.concerned = np.zeros(n_assets, bool)
        self.places: list[tuple[tuple[int, int], dict[str, Any]]] = []


def _by_asset(mask: np.ndarray) -> _At:
    """Return the cells of a mask by asset, then bar: what one name went through reads in one piece."""
    lines, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    order = np.argsort(columns, kind="stable")
    return lines[order], columns[order]


def _near_power(jump: np.ndarray) -> np.ndarray:
    """Return where a log10 ratio is close to a whole number other than 0."""
    power = np.rint(jump)
    return (np.abs(power) >= 1) & (np.abs(jump - power) < _NEAR_POWER)


def _neighbours(values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each cell, the line of the last value before it and of the first one after it.

    Where there is none, these are -1 and the number of lines.
    """
    n_lines = len(values)
    lines = np.arange(n_lines)[:, None]
    seen = np.maximum.accumulate(np.where(present, lines, -1), axis=0)
    coming = np.minimum.accumulate(np.where(present, lines, n_lines)[::-1], axis=0)[::-1]
    edge = np.full((1, values.shape[1]), -1)
    return np.vstack([edge, seen[:-1]]), np.vstack([coming[1:], np.full_like(edge, n_lines)])
