"""A made-up market that behaves like one: for demos, tests and benchmarks.

Daily log returns are a market factor whose volatility switches between a calm and a wild regime, sector
factors, and fat-tailed noise of each name. Names list late, go bust or are taken over, and miss bars. A
``score`` field forecasts the next month's own return with a small, real edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import NO_END, Ends, Grid

SECTORS = (
    "Energy", "Materials", "Industrials", "Consumer Discretionary", "Consumer Staples", "Health Care",
    "Financials", "Information Technology", "Communication Services", "Utilities", "Real Estate",
)  # fmt: skip
FIRST_SESSION = np.datetime64("2010-01-04")
HORIZON = 21
"""Bars that the score looks ahead."""

_CALM, _WILD = 0.007, 0.022  # daily volatility of the market factor
_SWITCH = (0.01, 0.04)  # chance a day to leave the calm and the wild regime
_EDGE = 0.05  # correlation of the score with the return it forecasts
_LATE, _BUST, _TAKEN, _GAPPY = 0.15, 0.04, 0.06, 0.10  # shares of the names
_CELLS = 2**20  # of a matrix at once, where it is gone through to learn what comes after it

_Draw: TypeAlias = np.random.Generator
Arrays: TypeAlias = dict[str, np.ndarray]


class _Lives(NamedTuple):
    first: np.ndarray
    last: np.ndarray
    bust: np.ndarray
    taken: np.ndarray


def _skip(draw: _Draw, sample: Callable[[_Draw, tuple[int, int]], Any], n_bars: int, n_assets: int) -> _Draw:
    """Let `draw` come to what follows a matrix of samples; return one that begins the matrix again."""
    again = deepcopy(draw)
    for first, stop in _steps(n_bars, n_assets):
        sample(draw, (stop - first, n_assets))
    return again


def _steps(n_bars: int, n_assets: int) -> Iterator[tuple[int, int]]:
    size = max(1, _CELLS // n_assets)
    return ((first, min(first + size, n_bars)) for first in range(0, n_bars, size))


class SyntheticMarket:
    """A market of daily bars that is made block by block: the same bytes in blocks of any size.

    Parameters
    ----------
    n_bars, n_assets, seed : int
        See `synthetic_grid`.

    Attributes
    ----------
    timestamps, symbols, statics, ends
        As in `Grid`.
    fields : tuple of str
        Their names.

    Raises
    ------
    InputError
        If `n_bars` or `n_assets` is below 1.
    """

    fields = ("open", "high", "low", "close", "volume", "score")

    def __init__(self, n_bars: int = 2520, n_assets: int = 500, seed: int = 0) -> None:
        if n_bars < 1 or n_assets < 1:
            size = f"{n_bars} bars x {n_assets} assets"
            raise InputError(f"a market of {size} is empty: give at least 1 of each")
        shape = n_bars, n_assets
        draw = np.random.Generator(np.random.PCG64(seed))
        symbols = _tickers(draw, n_assets)
        self._sector = draw.integers(0, len(SECTORS), n_assets)
        self._life = _life_spans(draw, n_bars, n_assets)
        self._heat, self._market, self._sectors = _factors(draw, n_bars)
        self._own = _skip(draw, lambda to, size: to.standard_t(4, size), *shape)
        self._volatility = draw.uniform(0.008, 0.024, n_assets)
        self._beta, self._drift = draw.normal(1.0, 0.3, n_assets), draw.normal(0.0, 0.0002, n_assets)
        self._fates = _fates(draw, self._life)
        self._start = draw.lognormal(3.5, 0.8, n_assets)
        normal, exponential = _Draw.standard_normal, _Draw.standard_exponential
        self._noises = [_skip(draw, sample, *shape) for sample in (normal, exponential)]
        self._traded = draw.lognormal(13.0, 1.0, n_assets)
        self._noises += [_skip(draw, sample, *shape) for sample in (normal, normal)]
        self._gaps = _gaps(draw, n_bars, self._life)
        self.timestamps = np.busday_offset(FIRST_SESSION, np.arange(n_bars))
        ends = self._ends(draw)
        # Asset ids follow the sorted symbols; drawing order and names are unrelated, so no id tells a fate.
        order = self._order = sorted(range(n_assets), key=symbols.__getitem__)
        self.symbols = tuple(symbols[a] for a in order)
        self.statics = {"sector": tuple(SECTORS[self._sector[a]] for a in order)}
        self.ends = Ends(ends.bar[order], ends.payout[order])

    def blocks(self, n: int) -> Iterator[tuple[int, Arrays]]:
        """Give the first bar of each block of `n` bars and its fields, float64 (n, n_assets), in order."""
        n_bars, n_assets = len(self.timestamps), len(self.symbols)
        starts = range(0, n_bars, n)
        walk = self._walk(min(first + n + HORIZON, n_bars) for first in starts)
        noises = deepcopy(self._noises)
        kept = np.empty((0, n_assets)), np.empty((0, n_assets))  # what the score has looked ahead at
        for first in starts:
            returns, totals = map(np.concatenate, zip(kept, next(walk), strict=True))
            fields = self._fields(first, returns[:n], totals, noises)
            kept = returns[n:].copy(), totals[n:].copy()
            del returns, totals
            yield first, fields

    def _walk(self, stops: Iterable[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give log returns up to each of `stops`, and their sums from the first bar on."""
        draw, first, total = deepcopy(self._own), 0, np.zeros(len(self._sector))
        for stop in stops:
            own = draw.standard_t(4, (stop - first, len(total))) / np.sqrt(2.0)
            own *= self._volatility
            own *= np.sqrt(self._heat[first:stop])[:, None]
            own += self._market[first:stop, None] * self._beta
            own += self._sectors[first:stop, self._sector]
            own = np.clip(own + self._drift, -0.6, 0.6)
            for a, start, end, factor, more in self._fates:
                bars = slice(max(start - first, 0), max(end - first, 0))
                own[bars, a] = own[bars, a] * factor + more
            totals = np.cumsum(np.concatenate([total[None], own]), axis=0)
            total, first = totals[-1].copy(), stop
            yield own, totals[1:]

    def _fields(self, first: int, returns: np.ndarray, totals: np.ndarray, noises: list[_Draw]) -> Arrays:
        """Make the bars of these returns; their sums go on as far as the score looks ahead."""
        night, reach, crowd, doubt = noises
        bars, shape = np.arange(first, first + len(returns)), returns.shape
        close = self._start * np.exp(totals[: len(returns)])
        fields = _bars(close, returns, night.standard_normal(shape), reach.standard_exponential(shape))
        volume = self._traded * np.exp(0.4 * crowd.standard_normal(shape) + 8 * np.abs(returns))
        fields["volume"] = np.round(volume) + 1.0
        ahead = np.minimum(bars + HORIZON, len(self.timestamps) - 1) - first
        fields["score"] = _score(totals[ahead] - totals[: len(returns)], doubt.standard_normal(shape))
        absent = (bars[:, None] < self._life.first) | (bars[:, None] > self._life.last)
        for a, start, stop in self._gaps:
            absent[max(start - first, 0) : max(stop - first, 0), a] = True
        for values in fields.values():
            values[absent] = np.nan
        return {name: np.ascontiguousarray(fields.pop(name)[:, self._order]) for name in self.fields}

    def _ends(self, draw: _Draw) -> Ends:
        """Draw the payouts, which go by the last closes: the returns are gone through for them."""
        life, n_assets = self._life, len(self._sector)
        ended, (final, payout) = life.bust | life.taken, np.full((2, n_assets), np.nan)
        steps = list(_steps(len(self.timestamps), n_assets))
        for (first, stop), (_, totals) in zip(steps, self._walk(stop for _, stop in steps), strict=True):
            here = np.flatnonzero(ended & (first <= life.last) & (life.last < stop))
            final[here] = _rounded(self._start[here] * np.exp(totals[life.last[here] - first, here]))
        cash = life.taken & (draw.random(n_assets) < 0.7)
        payout[life.bust] = np.round(final * draw.uniform(0.0, 0.05, n_assets), 4)[life.bust]
        payout[cash] = np.round(final * draw.uniform(1.0, 1.02, n_assets), 4)[cash]
        return Ends(np.where(ended, life.last, NO_END).astype(np.int64), payout)


def synthetic_grid(n_bars: int = 2520, n_assets: int = 500, seed: int = 0) -> Grid:
    """Make a market of daily bars.

    Parameters
    ----------
    n_bars, n_assets : int
        Size; sessions are the weekdays from 2010-01-04 on.
    seed : int
        The same seed gives the same bytes.

    Returns
    -------
    Grid
        Fields open, high, low, close, volume, score; static ``sector``; ends of life with a payout near 0 for
        busts, a premium over the last close for cash takeovers, and NaN (the last mark) for the rest.

    Raises
    ------
    InputError
        If `n_bars` or `n_assets` is below 1.
    """
    market = SyntheticMarket(n_bars, n_assets, seed)
    ((_, fields),) = market.blocks(n_bars)
    return Grid(market.timestamps, market.symbols, fields, market.statics, market.ends)


def _tickers(draw: _Draw, n: int) -> list[str]:
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    length = 3 if n <= 5000 else 5
    names: dict[str, None] = {}
    while len(names) < n:
        names.update(dict.fromkeys("".join(row) for row in letters[draw.integers(0, 26, (n, length))]))
    return list(names)[:n]


def _life_spans(draw: _Draw, n_bars: int, n_assets: int) -> _Lives:
    fate = draw.random((2, n_assets))
    late = fate[0] < _LATE
    bust = fate[1] < _BUST
    taken = (fate[1] >= _BUST) & (fate[1] < _BUST + _TAKEN)
    first = np.where(late, (n_bars * draw.uniform(0.02, 0.6, n_assets)).astype(np.int64), 0)
    share = draw.uniform(0.35, 0.98, n_assets)
    ended = (bust | taken) & (n_bars >= 4)
    last = np.where(ended, first + ((n_bars - 1 - first) * share).astype(np.int64), n_bars - 1)
    return _Lives(first, last, bust & ended, taken & ended)


def _factors(draw: _Draw, n_bars: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how much wilder each bar is than the calm, and returns of the market and of each sector."""
    wild = np.empty(n_bars, bool)
    state = False
    for t, chance in enumerate(draw.random(n_bars)):
        state ^= bool(chance < _SWITCH[state])
        wild[t] = state
    heat = np.where(wild, _WILD / _CALM, 1.0)
    # Student t with 5 degrees of freedom has variance 5/3: divided out, so that the volatilities above are
    # true.
    market = 0.0006 - 0.0011 * wild + _CALM * heat * draw.standard_t(5, n_bars) / np.sqrt(5 / 3)
    sectors = 0.004 * np.sqrt(heat)[:, None] * draw.standard_normal((n_bars, len(SECTORS)))
    return heat, market, sectors


def _fates(draw: _Draw, life: _Lives) -> list[tuple[int, int, int, float, float]]:
    """Return what fates make of returns: asset, first bar, bar after the last one, factor, and what is added.

    Busts slide for up to half a year before their end, and takeovers jump shortly before theirs.
    """
    fates = []
    for a in np.flatnonzero(life.bust).tolist():
        start, stop = max(life.first[a], life.last[a] - 126), life.last[a] + 1
        fates.append((a, start, stop, 1.0, -3.0 / (stop - start)))
    for a in np.flatnonzero(life.taken).tolist():
        notice = max(life.first[a], life.last[a] - int(draw.integers(20, 90)))
        fates.append((a, notice, notice + 1, 1.0, draw.uniform(0.15, 0.40)))
        fates.append((a, notice + 1, life.last[a] + 1, 0.1, 0.0))  # the price waits near the offer
    return fates


def _bars(close: np.ndarray, returns: np.ndarray, night: np.ndarray, reach: np.ndarray) -> Arrays:
    """Make open, high and low around `close`; rounding first keeps high and low on the outside."""
    spread = 0.25 * np.abs(returns) + 0.002
    opened = _rounded(close * np.exp(-returns) * np.exp(spread * night))
    close = _rounded(close)
    reach = np.exp(spread * reach)
    high = np.round(np.maximum(opened, close) * reach, 4)
    low = np.round(np.minimum(opened, close) / reach, 4)
    return {
        "open": opened,
        "high": np.maximum(high, np.maximum(opened, close)),
        "low": np.maximum(np.minimum(low, np.minimum(opened, close)), 0.0001),
        "close": close,
    }


def _rounded(prices: np.ndarray) -> np.ndarray:
    return np.round(np.maximum(prices, 0.01), 4)


def _score(coming: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Return a noisy forecast of each name's return over the next `HORIZON` bars, relative to the others."""
    coming -= coming.mean(axis=1, keepdims=True)
    scale = coming.std(axis=1, keepdims=True)
    signal = np.divide(coming, scale, out=np.zeros_like(coming), where=scale > 0)
    return _EDGE * signal + np.sqrt(1 - _EDGE**2) * doubt


def _gaps(draw: _Draw, n_bars: int, life: _Lives) -> list[tuple[int, int, int]]:
    """Return assets and the bars (first, stop) that they miss."""
    gaps = []
    for a in np.flatnonzero(draw.random(len(life.first)) < _GAPPY):
        for _ in range(int(draw.integers(1, 4))):
            start = int(draw.integers(0, n_bars))
            stop = start + int(min(draw.geometric(0.4), 30))
            # A life keeps its first and last bar: a gap lies inside.
            gaps.append((int(a), int(max(start, life.first[a] + 1)), int(min(stop, life.last[a]))))
    return gaps
