"""Where averages cross: the decisions of trials that time one asset."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel.jit import jit
from backtest_farm.kernel.state import CLOSE_ALL, DECIDE

CLEARLY = 1e-9
"""Averages further apart than this part of them need no division to tell which is greater."""
SMALL = 1e-290
"""From here on a price is known to less digits than that."""


@jit
def crossed(fast, slow, tie, member, blocked, flat, fires):
    """Write on which bars one trial decides to hold an asset, or to hold nothing.

    The states are those of `backtest_farm.engine.targets.crossing_rows` without shorts.

    Parameters
    ----------
    fast, slow : ndarray of float64, shape (n_bars,)
        Averages; where their ratio is NaN the state stays.
    tie : float
        A ratio this close to 1 is equality.
    member : ndarray of uint8, shape (n_bars,)
        Nothing is held where it is 0.
    blocked : ndarray of bool, shape (n_bars,)
        Bars on which no state changes, or, if `flat`, on which nothing is held.
    flat : bool
    fires : ndarray of uint8, shape (n_bars,)
        Zeros before.
    """
    above = allowed = held = 0
    for t in range(fast.shape[0]):
        # A division takes longer than all of the rest, and on nearly all bars tells nothing new.
        if slow[t] > SMALL and fast[t] > slow[t] * (1.0 + CLEARLY):
            above = 1
        elif slow[t] > SMALL and fast[t] < slow[t] * (1.0 - CLEARLY):
            above = 0
        else:
            ratio = fast[t] / slow[t] - 1.0
            if not np.isnan(ratio):
                above = 1 if ratio > tie else 0
        if not blocked[t]:
            allowed = above if member[t] == 1 else 0
        elif flat:
            allowed = 0
        state = allowed if member[t] == 1 else 0
        if state != held:
            fires[t] = DECIDE if state else CLOSE_ALL
        held = state
