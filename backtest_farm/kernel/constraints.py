"""Constraints on the weights of a decision: names, sizes, groups, gross, net, turnover."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare
from backtest_farm.kernel.slots import DUST, NOTHING, marked

OUT, KEPT, FREE, CHOSEN = 0, 1, 2, 3
"""What constraints may do with a slot: it takes no part, it counts but stays, it may change, it stays within
the number of positions."""


@bare
def _share_of(weights, bound, groups, group, asset, k, used):
    """Return the summed size of fixed and of free weights, of one group or of all slots (group -1)."""
    fixed = 0.0
    free = 0.0
    for i in range(used):
        if bound[i] != OUT and (group < 0 or groups[asset[k, i]] == group):
            if bound[i] == FREE:
                free += abs(weights[i])
            else:
                fixed += abs(weights[i])
    return fixed, free


@bare
def constrain(book, terms, scratch, k, used):
    """Apply the constraints on weights to a decision whose targets stand in ``scratch.wanted``, by slot.

    Assets whose position is on its way out take no part; what is kept counts with its weight and is not
    changed; all others may be. The new weights replace the wanted ones.

    Returns
    -------
    int
        The counter of what was done: N_CAPPED, N_OVER_LIMIT (the decision is to be dropped) or NOTHING.
    """
    caps, groups = terms.caps, terms.group
    asset, wanted = book.asset, scratch.wanted
    weights, now, bound = scratch.weights[0], scratch.weights[1], scratch.bound
    equity = book.bar_values[0, k]
    rejects = caps[k, s.REJECTS] != 0.0
    changed = False
    names = kept_names = 0
    for i in range(used):
        a = asset[k, i]
        held = book.quantity[k, i]
        now[i] = held * marked(book, k, i, a) / equity if held != 0.0 else 0.0
        want = wanted[i]
        bound[i] = OUT if book.slot[k, i, s.ORDER] > s.WAITING else KEPT if want != want else FREE
        weights[i] = want if bound[i] == FREE else now[i]
        if bound[i] != OUT and weights[i] != 0.0:
            names += 1
            kept_names += bound[i] == KEPT

    if names > max(caps[k, s.CAP_POSITIONS], kept_names):
        changed = True
        # The places that are left go to the largest; of equal ones, but for rounding, to the panel's first.
        for _ in range(max(int(caps[k, s.CAP_POSITIONS]) - kept_names, 0)):
            largest = 0.0
            for i in range(used):
                if bound[i] == FREE:
                    largest = max(largest, abs(weights[i]))
            i = 0
            while bound[i] != FREE or abs(weights[i]) < largest * (1.0 - DUST):
                i += 1
            bound[i] = CHOSEN
        for i in range(used):
            if bound[i] == FREE:
                weights[i] = 0.0
            elif bound[i] == CHOSEN:
                bound[i] = FREE
    if changed and rejects:
        return s.N_OVER_LIMIT

    cap = caps[k, s.CAP_WEIGHT]
    for i in range(used):
        if bound[i] == FREE and abs(weights[i]) > cap:
            changed = changed or abs(weights[i]) > cap + DUST
            weights[i] = min(max(weights[i], -cap), cap)
    if changed and rejects:
        return s.N_OVER_LIMIT

    last = -1
    if caps[k, s.CAP_GROUP] < np.inf:
        for i in range(used):
            last = max(last, groups[asset[k, i]])
    # The groups one by one, and then all slots together: the gross cap.
    for at in range(last + 2):
        group = at if at <= last else -1
        cap = caps[k, s.CAP_GROUP] if group >= 0 else caps[k, s.CAP_GROSS]
        fixed, free = _share_of(weights, bound, groups, group, asset, k, used)
        if fixed + free > cap + DUST:
            part = max(cap - fixed, 0.0) / free if free > 0.0 else 1.0
            changed = changed or free > 0.0
            for i in range(used):
                if bound[i] == FREE and (group < 0 or groups[asset[k, i]] == group):
                    weights[i] *= part
    if changed and rejects:
        return s.N_OVER_LIMIT

    net = heavier = 0.0
    for i in range(used):
        if bound[i] != OUT:
            net += weights[i]
    side = 1.0 if net > 0.0 else -1.0
    for i in range(used):
        if bound[i] == FREE:
            heavier += max(side * weights[i], 0.0)
    if side * net > caps[k, s.CAP_NET] + DUST and heavier > 0.0:
        changed = True
        part = max(0.0, (heavier - (side * net - caps[k, s.CAP_NET])) / heavier)
        for i in range(used):
            if bound[i] == FREE and side * weights[i] > 0.0:
                weights[i] *= part
    if changed and rejects:
        return s.N_OVER_LIMIT

    turnover = 0.0
    for i in range(used):
        if bound[i] == FREE:
            turnover += 0.5 * abs(weights[i] - now[i])
    if turnover > caps[k, s.CAP_TURNOVER] + DUST:
        changed = True
        part = caps[k, s.CAP_TURNOVER] / turnover
        for i in range(used):
            if bound[i] == FREE:
                weights[i] = now[i] + (weights[i] - now[i]) * part
    if changed and rejects:
        return s.N_OVER_LIMIT

    for i in range(used):
        if bound[i] == FREE:
            wanted[i] = weights[i]
    return s.N_CAPPED if changed else NOTHING
