"""Metrics of a finished tile, from its running sums.

Powers and roots are applied here, once per trial, after the pass. Every name has one formula, written in
``docs/accounting.md``; an undefined metric (a denominator up to 1e-12, one return for a deviation, no closed
trades or no losses) is NaN, never infinite.
"""

from __future__ import annotations

import math

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.book import DUST
from backtest_farm.kernel.jit import jit

METRICS = (
    "total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "skew",
    "kurtosis", "turnover", "exposure", "costs", "orders", "fills", "trades", "win_rate",
    "profit_factor", "avg_bars_held",
)  # fmt: skip


@jit
def summarise(book, starting_cash, n_bars, bars_per_year, risk_free, out):
    """Write the metrics of every trial of a finished tile.

    Parameters
    ----------
    book : Book
        State after the last bar.
    starting_cash : ndarray of float64, shape (K,)
    n_bars : int
        Bars of the window, at least 1.
    bars_per_year : float
        A of the contract.
    risk_free : float
        Annual rate taken off returns in `sharpe` and `sortino`.
    out : ndarray of float64, shape (K, len(METRICS))
    """
    root = math.sqrt(bars_per_year)
    for k in range(book.slots.shape[0]):
        sums = book.sums[:, k]
        end = book.equity[k]
        begin = starting_cash[k]
        cagr = math.pow(end / begin, bars_per_year / n_bars) - 1.0 if end > 0.0 else -1.0
        if cagr == np.inf:  # a huge gain over a few bars has no yearly rate that a float can hold
            cagr = np.nan
        deviation = math.sqrt(sums[s.S_M2] / (n_bars - 1)) if n_bars > 1 else np.nan
        spread = math.sqrt(sums[s.S_M2] / n_bars)
        excess = sums[s.S_MEAN] - risk_free / bars_per_year
        downside = math.sqrt(sums[s.S_DOWNSIDE] / n_bars)
        drawdown = sums[s.S_DRAWDOWN]
        mean_equity = sums[s.S_EQUITY] / n_bars
        trades = book.counters[s.N_TRADES, k]
        row = out[k]
        row[:] = np.nan
        row[0] = end / begin - 1.0
        row[1] = cagr
        row[2] = deviation * root
        if deviation > DUST:
            row[3] = excess / deviation * root
        if downside > DUST:
            row[4] = excess * root / downside
        row[5] = drawdown
        if abs(drawdown) > DUST:
            row[6] = cagr / abs(drawdown)
        if spread > DUST:
            row[7] = sums[s.S_M3] / n_bars / (spread * spread * spread)
            row[8] = sums[s.S_M4] / n_bars / (spread * spread * spread * spread) - 3.0
        if mean_equity > DUST:
            row[9] = sums[s.S_NOTIONAL] * bars_per_year / n_bars / mean_equity / 2.0
        row[10] = sums[s.S_GROSS] / n_bars
        row[11] = sums[s.S_COSTS]
        row[12] = book.counters[s.N_ORDERS, k]
        row[13] = book.counters[s.N_FILLS, k]
        row[14] = trades
        if trades > 0:
            row[15] = sums[s.S_WINS] / trades
            row[17] = sums[s.S_BARS_HELD] / trades
        if sums[s.S_LOSS] > DUST:
            row[16] = sums[s.S_PROFIT] / sums[s.S_LOSS]
