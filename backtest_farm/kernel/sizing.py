"""From what is wanted of an asset to a target quantity: bands, minimum notional, lots."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.slots import DUST, LOT_TOLERANCE, NOTHING


@inlined
def limits_of(table, k):
    """Return whether anything limits a trial's orders, and its row of ``Terms.limits``."""
    limits = (table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4])
    return limits[0] > 0.0 or limits[1] > 0.0 or limits[2] > 0.0 or limits[3] > 0.0, limits


@bare
def _within_limits(target, wanted, kind, held, price, equity, limits):
    """Apply the band, the minimum and lots to an order that leads from `held` to `target`, both in units.

    Returns
    -------
    target : float
    ordered : bool
        Whether there is still an order.
    counter : int
        What dropped the order or the new side of a reversal; NOTHING if nothing did.
    """
    band, band_rel, least, lot, lot_round = limits
    weight = wanted if kind == s.WEIGHTS else (wanted if kind == s.VALUES else wanted * price) / equity
    counter = NOTHING
    stays = held * target > 0.0
    # Lots count the change of a position that keeps its side, and the whole of a new one.
    start = held if stays else 0.0
    size = np.floor(abs(target - start) / lot + lot_round + LOT_TOLERANCE) * lot if lot > 0.0 else 0.0
    if (
        stays
        and (band > 0.0 or band_rel > 0.0)
        and abs(weight - held * price / equity) <= max(band, band_rel * abs(weight)) + DUST
    ):
        counter = s.N_IN_BAND
    elif abs(target - held) * price < least * (1.0 - DUST):
        counter = s.N_BELOW_MINIMUM
    elif lot > 0.0 and size == 0.0:
        counter = s.N_BELOW_LOT
    elif lot > 0.0 and abs(target) < abs(start) and size >= abs(start) - LOT_TOLERANCE * lot:
        target = 0.0
    elif lot > 0.0:
        target = start + size if target > start else start - size
    ordered = counter == NOTHING
    if counter == s.N_BELOW_LOT and held != 0.0 and not stays:
        # Too small for a new side, a reversal still closes the old one.
        target = 0.0
        ordered = True
    return target, ordered, counter


@inlined
def sized(wanted, kind, held, price, equity, limited, limits):
    """Turn what is wanted of an asset into a target quantity; see `_within_limits` for what is returned."""
    target = 0.0
    if wanted != 0.0 and equity > 0.0:
        if kind == s.WEIGHTS:
            target = wanted * equity / price
        else:
            target = wanted / price if kind == s.VALUES else wanted
    size = abs(target - held)
    ordered = held != 0.0 if target == 0.0 else size != 0.0 and not size * price < DUST * equity
    counter = NOTHING
    if limited and ordered and target != 0.0:
        target, ordered, counter = _within_limits(target, wanted, kind, held, price, equity, limits)
    return target, ordered, counter
