"""A made-up market that behaves like one: for demos, tests and benchmarks.

Daily log returns are a market factor whose volatility switches between a calm and a wild regime, sector
factors, and fat-tailed noise of each name. Names list late, go bust or are taken over, and miss bars. A
``score`` field forecasts the next month's own return with a small, real edge.
"""

from __future__ import annotations

from typing import NamedTuple

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


class _Lives(NamedTuple):
    first: np.ndarray
    last: np.ndarray
    bust: np.ndarray
    taken: np.ndarray


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
    if n_bars < 1 or n_assets < 1:
        raise InputError(f"a market of {n_bars} bars x {n_assets} assets is empty: give at least 1 of each")
    draw = np.random.Generator(np.random.PCG64(seed))
    symbols = _tickers(draw, n_assets)
    sector = draw.integers(0, len(SECTORS), n_assets)
    life = _life_spans(draw, n_bars, n_assets)
    returns = _returns(draw, n_bars, sector)
    _pull_to_fate(draw, returns, life)
    close = draw.lognormal(3.5, 0.8, n_assets) * np.exp(np.cumsum(returns, axis=0))
    fields = _bars(draw, close, returns)
    fields["score"] = _score(draw, returns)
    absent = _absences(draw, n_bars, life)
    for values in fields.values():
        values[absent] = np.nan
    ends = _ends(draw, fields["close"], life)
    # Asset ids follow the sorted symbols; drawing order and names are unrelated, so no id tells a fate.
    order = sorted(range(n_assets), key=symbols.__getitem__)
    return Grid(
        timestamps=np.busday_offset(FIRST_SESSION, np.arange(n_bars)),
        symbols=tuple(symbols[a] for a in order),
        fields={name: np.ascontiguousarray(values[:, order]) for name, values in fields.items()},
        statics={"sector": tuple(SECTORS[sector[a]] for a in order)},
        ends=Ends(ends.bar[order], ends.payout[order]),
    )


def _tickers(draw: np.random.Generator, n: int) -> list[str]:
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    length = 3 if n <= 5000 else 5
    names: dict[str, None] = {}
    while len(names) < n:
        names.update(dict.fromkeys("".join(row) for row in letters[draw.integers(0, 26, (n, length))]))
    return list(names)[:n]


def _life_spans(draw: np.random.Generator, n_bars: int, n_assets: int) -> _Lives:
    fate = draw.random((2, n_assets))
    late = fate[0] < _LATE
    bust = fate[1] < _BUST
    taken = (fate[1] >= _BUST) & (fate[1] < _BUST + _TAKEN)
    first = np.where(late, (n_bars * draw.uniform(0.02, 0.6, n_assets)).astype(np.int64), 0)
    share = draw.uniform(0.35, 0.98, n_assets)
    ended = (bust | taken) & (n_bars >= 4)
    last = np.where(ended, first + ((n_bars - 1 - first) * share).astype(np.int64), n_bars - 1)
    return _Lives(first, last, bust & ended, taken & ended)


def _returns(draw: np.random.Generator, n_bars: int, sector: np.ndarray) -> np.ndarray:
    n_assets = len(sector)
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
    own = draw.standard_t(4, (n_bars, n_assets)) / np.sqrt(2.0)
    own *= draw.uniform(0.008, 0.024, n_assets)
    own *= np.sqrt(heat)[:, None]
    own += market[:, None] * draw.normal(1.0, 0.3, n_assets)
    own += sectors[:, sector]
    own += draw.normal(0.0, 0.0002, n_assets)
    return np.clip(own, -0.6, 0.6, out=own)


def _pull_to_fate(draw: np.random.Generator, returns: np.ndarray, life: _Lives) -> None:
    """Let busts slide for up to half a year before their end, and takeovers jump shortly before theirs."""
    for a in np.flatnonzero(life.bust):
        start = max(life.first[a], life.last[a] - 126)
        returns[start : life.last[a] + 1, a] -= 3.0 / (life.last[a] + 1 - start)
    for a in np.flatnonzero(life.taken):
        notice = max(life.first[a], life.last[a] - int(draw.integers(20, 90)))
        returns[notice, a] += draw.uniform(0.15, 0.40)
        returns[notice + 1 : life.last[a] + 1, a] *= 0.1  # the price waits near the offer


def _bars(draw: np.random.Generator, close: np.ndarray, returns: np.ndarray) -> dict[str, np.ndarray]:
    """Make open, high, low and volume around `close`; rounding first keeps high and low on the outside."""
    shape = close.shape
    before = close * np.exp(-returns)
    spread = 0.25 * np.abs(returns) + 0.002
    opened = before * np.exp(spread * draw.standard_normal(shape))
    for values in (close, opened):
        np.round(np.maximum(values, 0.01), 4, out=values)
    reach = np.exp(spread * draw.exponential(1.0, shape))
    high = np.round(np.maximum(opened, close) * reach, 4)
    low = np.round(np.minimum(opened, close) / reach, 4)
    volume = draw.lognormal(13.0, 1.0, shape[1]) * np.exp(
        0.4 * draw.standard_normal(shape) + 8 * np.abs(returns)
    )
    return {
        "open": opened,
        "high": np.maximum(high, np.maximum(opened, close)),
        "low": np.maximum(np.minimum(low, np.minimum(opened, close)), 0.0001),
        "close": close,
        "volume": np.round(volume) + 1.0,
    }


def _score(draw: np.random.Generator, returns: np.ndarray) -> np.ndarray:
    """Return a noisy forecast of each name's return over the next `HORIZON` bars, relative to the others."""
    total = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, axis=0)])
    ahead = np.minimum(np.arange(len(returns)) + 1 + HORIZON, len(returns))
    coming = total[ahead] - total[1:]
    coming -= coming.mean(axis=1, keepdims=True)
    scale = coming.std(axis=1, keepdims=True)
    signal = np.divide(coming, scale, out=np.zeros_like(coming), where=scale > 0)
    return _EDGE * signal + np.sqrt(1 - _EDGE**2) * draw.standard_normal(returns.shape)


def _absences(draw: np.random.Generator, n_bars: int, life: _Lives) -> np.ndarray:
    bars = np.arange(n_bars)[:, None]
    absent = (bars < life.first) | (bars > life.last)
    for a in np.flatnonzero(draw.random(len(life.first)) < _GAPPY):
        for _ in range(int(draw.integers(1, 4))):
            start = int(draw.integers(0, n_bars))
            stop = start + int(min(draw.geometric(0.4), 30))
            # A life keeps its first and last bar: a gap lies inside.
            absent[max(start, life.first[a] + 1) : min(stop, life.last[a]), a] = True
    return absent


def _ends(draw: np.random.Generator, close: np.ndarray, life: _Lives) -> Ends:
    assets = np.arange(len(life.first))
    final = close[life.last, assets]
    cash = life.taken & (draw.random(len(assets)) < 0.7)
    payout = np.full(len(assets), np.nan)
    payout[life.bust] = np.round(final * draw.uniform(0.0, 0.05, len(assets)), 4)[life.bust]
    payout[cash] = np.round(final * draw.uniform(1.0, 1.02, len(assets)), 4)[cash]
    return Ends(np.where(life.bust | life.taken, life.last, NO_END).astype(np.int64), payout)
