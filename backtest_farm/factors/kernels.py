"""Compiled loops over bars and assets: factors along time, and rankings.

All take C-ordered float64 arrays of shape (n_bars, n_assets), NaN = no value. A value depends on its own bar
and on earlier ones of its own asset, by operations in a fixed order: later bars and other assets change no
bit of it.
"""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel.jit import inlined, jit
from backtest_farm.kernel.state import frozen


@jit
def momentum(close, lookback, skip, out):
    """Write ``close[t - skip] / close[t - lookback] - 1`` for the last bars, and every asset.

    Parameters
    ----------
    close : ndarray of float64, shape (n_bars, n_assets)
        NaN = no bar.
    lookback, skip : int
        Bars of the grid, ``lookback > skip >= 0``.
    out : ndarray of float64, shape (n_last, n_assets)
        For the last `n_last` bars; NaN where either close is missing or lies before the first bar.
    """
    n_bars, n_assets = close.shape
    first = n_bars - len(out)
    for t in range(first, n_bars):
        if t < lookback:
            out[t - first, :] = np.nan
            continue
        for a in range(n_assets):
            out[t - first, a] = close[t - skip, a] / close[t - lookback, a] - 1.0


@inlined
def _joined(mean_x, mean_y, products, x, y, count):
    """Return two means and the sum of products of deviations with one pair more, the `count`-th.

    Welford, Technometrics 4 (1962).
    """
    apart = x - mean_x
    mean_y += (y - mean_y) / count
    return mean_x + apart / count, mean_y, products + apart * (y - mean_y)


@jit
def rolling(x, y, lookback):
    """Return mean and sum of products of deviations of the last `lookback` values.

    Time is cut into blocks of `lookback` bars, at bars fixed by the look-back alone. A window is the tail of
    one block and the head of the next: a head grows bar by bar, the tails of a block are summed up backwards
    when it is complete, and the two are joined by the pairwise formula of Chan, Golub and LeVeque (1979). So
    the time per value does not grow with the window; and as nothing is ever subtracted again, no rounding
    builds up, equal values deviate by exactly 0, and a NaN is forgotten when it leaves the window.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n_bars, n_assets)
        Twice the same for a sum of squares.
    lookback : int
        >= 1.

    Returns
    -------
    mean, products : ndarray of float64, shape (n_bars, n_assets)
        Of x, and of x and y; NaN while the window holds a NaN or begins before the first bar.
    """
    n_bars, n_assets = x.shape
    mean, products = np.empty(x.shape), np.empty(x.shape)
    head = np.empty((3, n_assets))
    # tail[:, i]: of the bars after the i-th one of the block before; there are none after its last one.
    tail = np.full((3, min(lookback, n_bars), n_assets), np.nan)
    tail[:, lookback - 1 :] = 0.0
    for t in range(n_bars):
        i = t % lookback
        if i == 0:
            head[:] = 0.0
        new = (i + 1.0) / lookback
        for a in range(n_assets):
            mean_x, mean_y, shared = _joined(head[0, a], head[1, a], head[2, a], x[t, a], y[t, a], i + 1.0)
            head[0, a], head[1, a], head[2, a] = mean_x, mean_y, shared
            apart_x, apart_y = mean_x - tail[0, i, a], mean_y - tail[1, i, a]
            mean[t, a] = tail[0, i, a] + apart_x * new
            products[t, a] = tail[2, i, a] + shared + apart_x * apart_y * (new * (lookback - i - 1.0))
        if i == lookback - 1:
            for j in range(lookback - 2, -1, -1):
                bar, count = t - i + j + 1, lookback - 1.0 - j
                for a in range(n_assets):
                    tail[0, j, a], tail[1, j, a], tail[2, j, a] = _joined(
                        tail[0, j + 1, a], tail[1, j + 1, a], tail[2, j + 1, a], x[bar, a], y[bar, a], count
                    )
    return mean, products


@jit
def smoothed(x, lookback, part):
    """Return exponential averages, each started as the mean of an asset's first `lookback` values.

    Parameters
    ----------
    x : ndarray of float64, shape (n_bars, n_assets)
        A NaN is passed over: it leaves the average as it is and gives NaN on its bar.
    lookback : int
        >= 1.
    part : float
        What a further value contributes: ``average += (x[t] - average) * part``.

    Returns
    -------
    ndarray of float64, shape (n_bars, n_assets)
    """
    n_bars, n_assets = x.shape
    out = np.full(x.shape, np.nan)
    seen, average = np.zeros(n_assets, np.int64), np.zeros(n_assets)
    for t in range(n_bars):
        for a in range(n_assets):
            if np.isnan(x[t, a]):
                continue
            seen[a] += 1
            if seen[a] > lookback:
                average[a] += (x[t, a] - average[a]) * part
            else:
                average[a] += x[t, a]
                if seen[a] < lookback:
                    continue
                average[a] /= lookback
            out[t, a] = average[a]
    return out


@jit
def rank_rows(values, last_bar, member, depth, ids, counts):
    """Write each bar's best assets in order, largest value first.

    Ties go to the lower asset id; NaN and infinities are never ranked, nor is an asset after the end of its
    life or where it is no member. The best of the bar before are ranked first: most of them are so again, in
    nearly the same order, and the last of them bars the way to nearly all the others, which then take one
    comparison each.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
        The factor on the window's bars.
    last_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, in bars of the window.
    member : ndarray of uint8, shape (n_bars, n_assets) or (0, 0)
        1 = may be ranked; without rows all may.
    depth : int
        Places to fill.
    ids : ndarray of int32, shape (n_bars, depth)
    counts : ndarray of int64, shape (n_bars,)
        Places filled; the rest of a row of `ids` is left alone.
    """
    n_bars, n_assets = values.shape
    everyone = member.shape[0] == 0
    best, ahead = np.empty(depth), np.empty(n_assets, np.int64)
    ranked_at = np.full(n_assets, -1)
    filled = 0
    for row in range(n_bars):
        n_ahead, filled = filled, 0
        for place in range(n_ahead):
            ahead[place] = ids[row - 1, place]
        for again in range(2):
            if again:
                least = best[depth - 1] if filled == depth else -np.inf
                n_ahead = 0
                for a in range(n_assets):
                    # Without a branch: which ones pass is hard to foretell.
                    ahead[n_ahead] = a
                    n_ahead += values[row, a] >= least
            for at in range(n_ahead):
                a = ahead[at]
                value = values[row, a]
                if ranked_at[a] == row or not abs(value) < np.inf:
                    continue
                if row > last_bar[a] or not (everyone or member[row, a]):
                    continue
                ranked_at[a] = row
                place = filled
                if filled < depth:
                    filled += 1
                elif not _leads(value, a, best[depth - 1], ids[row, depth - 1]):
                    continue
                else:
                    place = depth - 1
                while place > 0 and _leads(value, a, best[place - 1], ids[row, place - 1]):
                    best[place] = best[place - 1]
                    ids[row, place] = ids[row, place - 1]
                    place -= 1
                best[place] = value
                ids[row, place] = a
        counts[row] = filled


@inlined
def _leads(value, a, other, b):
    """Whether asset `a` with its value stands before asset `b`."""
    return value > other or (value == other and a < b)


def warm() -> None:
    """Call every compiled function once with arrays of the types that it always gets."""
    x = frozen(np.ones((2, 1)))
    momentum(x, 1, 0, np.empty((2, 1)))
    rolling(x, x, 1)
    smoothed(x, 1, 1.0)
    places, counts = np.zeros((2, 1), np.int32), np.zeros(2, np.int64)
    rank_rows(x, frozen(np.ones(1), np.int64), frozen(np.ones((2, 1)), np.uint8), 1, places, counts)
