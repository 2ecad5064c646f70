"""Compiled factor and ranking loops over a slab of bars."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel.jit import jit


@jit
def momentum(close, lookback, skip, out):
    """Write ``close[t - skip] / close[t - lookback] - 1`` for every bar and asset.

    Parameters
    ----------
    close : ndarray of float64, shape (n_bars, n_assets)
        NaN = no bar.
    lookback, skip : int
        Bars of the grid, ``lookback > skip >= 0``.
    out : ndarray of float64, shape (n_bars, n_assets)
        NaN where either close is missing or lies before the first bar.
    """
    n_bars, n_assets = close.shape
    for t in range(n_bars):
        if t < lookback:
            out[t, :] = np.nan
            continue
        for a in range(n_assets):
            out[t, a] = close[t - skip, a] / close[t - lookback, a] - 1.0


@jit
def rank_rows(values, last_bar, depth, ids, counts):
    """Write each bar's best assets in order, largest value first.

    Ties go to the lower asset id; NaN and infinities are never ranked, nor is an asset after the end of its
    life. One look at each value against the worst that is still in, then insertion: for a few dozen places
    out of hundreds this is a fraction of a full sort.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
        The factor on the window's bars.
    last_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, in bars of the window.
    depth : int
        Places to fill.
    ids : ndarray of int32, shape (n_bars, depth)
    counts : ndarray of int64, shape (n_bars,)
        Places filled; the rest of a row of `ids` is 0.
    """
    n_bars, n_assets = values.shape
    best = np.empty(depth)
    for row in range(n_bars):
        filled = 0
        for a in range(n_assets):
            value = values[row, a]
            if not abs(value) < np.inf or row > last_bar[a]:
                continue
            if filled == depth:
                if not value > best[depth - 1]:
                    continue
                place = depth - 1
            else:
                place = filled
                filled += 1
            while place > 0 and value > best[place - 1]:
                best[place] = best[place - 1]
                ids[row, place] = ids[row, place - 1]
                place -= 1
            best[place] = value
            ids[row, place] = a
        counts[row] = filled
