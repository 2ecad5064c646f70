"""The end of step 7: from what a strategy wants to orders that wait."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.slots import DUST, NOTHING, marked, move_slot

LOT_TOLERANCE = 1e-9
"""A lot lacking this part of itself is a whole one."""

OUT, KEPT, FREE, CHOSEN = 0, 1, 2, 3
"""What constraints may do with a slot: it takes no part, it counts but stays, it may change, it stays within
the number of positions."""


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


@bare
def chosen(count, listed, n, quantile, short_weight):
    """Return how many of a row's `count` candidates a trial takes from its top, and how many from its end."""
    top = count
    end = 0
    if not listed and n > 0:
        top = min(n, count)
    elif not listed:
        top = min(max(int(count * quantile + LOT_TOLERANCE), 1), count)
        if short_weight > 0.0:
            top = min(top, count // 2)
            end = top
    return top, end


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
def _constrain(book, terms, scratch, k, used, serial):
    """Apply the constraints on weights to a decision whose targets stand in ``scratch.wanted``.

    Assets whose position is on its way out take no part; what is kept counts with its weight and is not
    changed; all others may be. The new weights replace the wanted ones.

    Returns
    -------
    int
        The counter of what was done: N_CAPPED, N_OVER_LIMIT (the decision is to be dropped) or NOTHING.
    """
    caps, groups = terms.caps, terms.group
    asset, wanted, owner = book.asset, scratch.wanted, scratch.owner
    weights, now, bound = scratch.weights[0], scratch.weights[1], scratch.bound
    equity = book.bar_values[0, k]
    rejects = caps[k, s.REJECTS] != 0.0
    changed = False
    names = kept_names = 0
    for i in range(used):
        a = asset[k, i]
        held = book.quantity[k, i]
        now[i] = held * marked(book, k, i, a) / equity if held != 0.0 else 0.0
        want = wanted[a] if owner[a] == serial else 0.0
        bound[i] = OUT if book.order[k, i] > s.WAITING else KEPT if want != want else FREE
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
            wanted[asset[k, i]] = weights[i]
            owner[asset[k, i]] = serial
    return s.N_CAPPED if changed else NOTHING


@bare
def decide(book, terms, targets, scratch, t):
    """Step 7, its end: the schedule's targets replace what waits, unless trading has ended.

    The target of an asset, ``scratch.wanted``, counts only while ``scratch.owner`` holds the serial number of
    the decision at hand, so nothing is cleared between decisions.
    """
    length = targets.row_length[t]
    start = targets.row_start[t]
    listed = targets.listed
    kind = targets.kind
    fires, schedule = targets.fires, terms.schedule
    ids, values = targets.ids, targets.values
    wanted, owner, eligible = scratch.wanted, scratch.owner, book.eligible
    sizes, quantile = terms.n, terms.quantile
    weights, short_weights = terms.weight, terms.short_weight
    sizing, table = terms.sizing, terms.limits
    notes, atr, cooled, caps = book.notes, book.atr, book.cooled, terms.caps
    cools, noting, capped = cooled.shape[1] > 0, atr.shape[0] > 0, caps.shape[0] > 0
    for k in range(book.slots.shape[0]):
        code = fires[t, schedule[k]]
        if code == s.IDLE:
            continue
        count = length if code == s.DECIDE else 0
        top, end = chosen(count, listed, sizes[k], quantile[k], short_weights[k])
        names = top + end
        if names == 0 and code == s.DECIDE and not listed:
            continue
        if book.bust[k] or t <= book.halt_end[k]:
            book.counters[s.N_HALTED, k] += 1
            continue

        # Serial numbers grow with every decision of every trial, so that none of them meets an old owner.
        equity = book.bar_values[0, k]
        serial = 2 * (t * book.slots.shape[0] + k) + 2
        weight = weights[k]
        if not listed and sizes[k] == 0:
            weight /= max(top, 1)
        short_weight = -short_weights[k] / max(end, 1)
        below = start + length - names
        for j in range(names):
            at = start + j if j < top else below + j
            a = ids[at]
            want = values[at] * weight if listed else (weight if j < top else short_weight)
            if want != 0.0 and eligible[a]:
                if cools and cooled[k, a] >= t and want == want:
                    leaving = 0
                    for i in range(book.slots[k]):
                        leaving += book.asset[k, i] == a and book.order[k, i] > s.WAITING
                    book.counters[s.N_COOLDOWN, k] += 1 - leaving
                    continue
                wanted[a] = want
                owner[a] = serial
        at_fill = sizing[k] == s.SIZE_AT_FILL
        limited, limits = limits_of(table, k)

        # New names enter their slot in panel order; those that are to be kept as they are need none.
        used = book.slots[k]
        for i in range(used):
            a = book.asset[k, i]
            if owner[a] == serial:
                owner[a] = serial + 1
        for j in range(names):
            a = ids[start + j if j < top else below + j]
            if owner[a] != serial or wanted[a] != wanted[a]:
                continue
            owner[a] = serial + 1
            i = used
            while i > 0 and book.asset[k, i - 1] > a:
                move_slot(book, k, i - 1, i)
                i -= 1
            book.asset[k, i] = a
            book.quantity[k, i] = 0.0
            book.order[k, i] = s.NO_ORDER
            book.entry_bar[k, i] = 0
            book.entry_base[k, i] = np.nan
            book.flow[k, i] = 0.0
            used += 1

        refused = False
        if capped:
            code = _constrain(book, terms, scratch, k, used, serial + 1)
            refused = code == s.N_OVER_LIMIT
            if code != NOTHING:
                book.counters[code, k] += 1

        # A target is a set: absent assets are closed. What is kept, or on its way out, is left alone.
        kept = waiting = orders = 0
        for i in range(used):
            a = book.asset[k, i]
            held = book.quantity[k, i]
            state = book.order[k, i]
            want = wanted[a] if owner[a] == serial + 1 else 0.0
            if want == want and state <= s.WAITING and not refused:
                if state == s.WAITING:
                    book.counters[s.N_REPLACED, k] += 1
                target = want
                if at_fill:
                    ordered = want != 0.0 or held != 0.0
                else:
                    price = book.mark[a]
                    if price != price and held != 0.0:
                        price = book.entry_base[k, i]
                    if want != 0.0 and price != price:
                        ordered = False
                        counter = s.N_NO_PRICE
                    else:
                        target, ordered, counter = sized(want, kind, held, price, equity, limited, limits)
                    if counter != NOTHING:
                        book.counters[counter, k] += 1
                    orders += ordered
                state = s.WAITING if ordered else s.NO_ORDER
                book.target[k, i] = target
                book.order[k, i] = state
                book.decided[k, i] = t
                book.noted[k, i] = 0
                if noting:
                    notes[k, i, s.ORDER_ATR] = atr[a]
            if held == 0.0 and state == s.NO_ORDER:
                continue
            if kept != i:
                move_slot(book, k, i, kept)
            kept += 1
            waiting += state != s.NO_ORDER
        book.slots[k] = kept
        book.waiting[k] = waiting
        book.counters[s.N_ORDERS, k] += orders
