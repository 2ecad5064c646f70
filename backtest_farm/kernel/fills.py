"""Steps 3, 5 and 8: waiting orders meet the prices of a bar, in their groups, for the cash there is."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.decisions import LOT_TOLERANCE, limits_of, sized
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.slots import (
    DUST,
    MAX_DISTANCE,
    NOTHING,
    drop_empty,
    marked,
    outlay_of,
    trade,
    unit_impact,
    valid,
)

CASH_TOLERANCE = 1e-9
"""Buys fit if their outlay exceeds free cash by no more than this part of equity."""
FINEST_CUT = 1e-15
"""A step this small ends the search for the part of buys that can be paid."""
NEWTON_STEPS = 8
CUT = -1.0


@bare
def _largest_part(buys, columns, first, last, outlay, free, costs, row):
    """Return the largest f in [0, 1] at which the orders ``first ... last - 1``, each cut to f of itself,
    cost no more than `free`, commissions included; whole they cost `outlay`, which is more.

    Without minimum commissions and impact everything is in proportion. Otherwise the cost grows with f in
    pieces, whose corners are where a commission meets its minimum or its cap, or a price its greatest
    distance. Newton's step is exact within a straight piece; where it leaves the bracket, or does not settle,
    the bracket is halved.
    """
    proportional = True
    floor = 0.0
    for j in range(first, last):
        least = costs[row, columns[j], s.LEAST]
        if least > 0.0 or buys[3, j] > 0.0:
            proportional = False
        if costs[row, columns[j], s.MOST] == s.NO_CAP:
            floor += least
    if free <= 0.0 or (floor > 0.0 and floor >= free):
        return 0.0
    part = min(free / outlay, 1.0)
    low = 0.0
    high = 1.0
    step = 0
    while not proportional and high - low > FINEST_CUT:
        cost = 0.0
        slope = 0.0
        for j in range(first, last):
            column = columns[j]
            rate, per_share = costs[row, column, s.RATE], costs[row, column, s.PER_SHARE]
            least, most = costs[row, column, s.LEAST], costs[row, column, s.MOST]
            size = part * buys[0, j]
            push = buys[3, j] * np.sqrt(size)
            distance = costs[row, column, s.HALF_SPREAD] + costs[row, column, s.SLIPPAGE] + push
            if distance > MAX_DISTANCE:
                distance = MAX_DISTANCE
                push = 0.0
            notional = size * (buys[2, j] * (1.0 + distance))
            growth = buys[0, j] * (buys[2, j] * (1.0 + distance + 0.5 * push))
            fee = per_share * size + rate * notional
            fee_growth = per_share * buys[0, j] + rate * growth
            if fee < least:
                fee = least
                fee_growth = 0.0
            if fee > most * notional:
                fee = most * notional
                fee_growth = most * growth
            cost += notional + fee
            slope += growth + fee_growth
        if cost <= free:
            low = part
        else:
            high = part
        change = (free - cost) / slope
        if abs(change) <= FINEST_CUT:
            break
        part += change
        step += 1
        if step > NEWTON_STEPS or not low < part < high:
            part = 0.5 * (low + high)
    return part


@bare
def _afford(buys, columns, n, outlay, free, slack, dust, policy, lot, costs, row):
    """Let buys that cost more than there is buy what the policy allows.

    Parameters
    ----------
    buys : ndarray of float64, shape (4, C)
        Quantity (cut here), notional, base price and impact of `n` orders in panel order.
    columns : ndarray of int64, shape (C,)
        Where in row `row` of `costs` each order's costs stand.
    outlay, free : float
        What they cost and what there is, money.
    slack : float
        An order fits if it costs no more than this beyond what is left.
    dust : float
        A cut order of less money buys nothing.

    The impact of an order that was cut is set to CUT.
    """
    first = 0
    last = n
    for _ in range(1 if policy == s.SCALE else n):
        if policy != s.SCALE:
            # One after another, the largest first; of equal ones, but for rounding, the first of the panel.
            largest = 0.0
            for j in range(n):
                largest = max(largest, buys[1, j])
            first = 0
            while buys[1, first] < largest * (1.0 - DUST):
                first += 1
            last = first + 1
            _, outlay = outlay_of(buys[0, first], buys[2, first], buys[3, first], costs, row, columns[first])
        if outlay > free + slack:
            part = 0.0
            if policy != s.REJECT:
                part = _largest_part(buys, columns, first, last, outlay, free, costs, row)
            outlay = 0.0
            for j in range(first, last):
                quantity = part * buys[0, j]
                if lot > 0.0:
                    quantity = np.floor(quantity / lot + LOT_TOLERANCE) * lot
                # Rounding leaves a fully invested book cash of 1e-16 of equity: no order of that size.
                if quantity * buys[2, j] < dust:
                    quantity = 0.0
                if quantity > 0.0:
                    _, paid = outlay_of(quantity, buys[2, j], buys[3, j], costs, row, columns[j])
                    outlay += paid
                buys[0, j] = quantity
                buys[3, j] = CUT
        free -= outlay
        buys[1, first] = -1.0


@inlined
def _within_volume(held, target, base, cap, lot, dust):
    """Return where an order from `held` to `target` may lead when so many units can be traded."""
    size = abs(target - held)
    if not (cap >= 0.0 and cap < np.inf):
        cap = 0.0
    goal = target
    if size > cap * (1.0 + DUST):
        if lot > 0.0:
            cap = np.floor(cap / lot + LOT_TOLERANCE) * lot
        if cap * base < dust:
            cap = 0.0
        goal = held + cap if target > held else held - cap
        left = cap - abs(held)
        if held * target < 0.0 and left >= -DUST * abs(held) and left * base < dust:
            goal = 0.0
    return goal


@bare
def fill(book, slab, row, terms, record, scratch, kind, mode, t):
    """Every waiting order of trials of this mode meets the base prices of bar `t`.

    Orders are sized and sorted into their groups, then filled: reductions and covers (a), new or larger
    shorts (b), buys that open or enlarge longs (c). A reversal stands in (a) and again in (b) or (c).
    """
    prices = slab.open[row] if mode == s.NEXT_OPEN else slab.close[row]
    impacts, volumes = slab.impact, slab.volume
    modes, costs, cost_row, volume = terms.fill, terms.costs, terms.cost_row, terms.volume
    wide = costs.shape[1] > 1
    todo, buying, goals = scratch.todo, scratch.buys, scratch.goal
    columns = scratch.todo[3]
    last_try = 1 if mode == s.SAME_CLOSE else 0
    for k in range(book.slots.shape[0]):
        if book.waiting[k] == 0 or modes[k] != mode:
            continue
        used = book.slots[k]

        # Equity at the prices of this pass, before any fill of it.
        equity = book.cash[k]
        for i in range(used):
            quantity = book.quantity[k, i]
            if quantity != 0.0:
                a = book.asset[k, i]
                price = prices[a]
                if not valid(price):
                    price = marked(book, k, i, a)
                equity += quantity * price

        at = cost_row[k]
        limited, limits = limits_of(terms.limits, k)
        lot = limits[3]
        policy = terms.afford[k]
        margin = terms.margin[k]
        size_now = terms.sizing[k] == s.SIZE_AT_FILL
        max_wait = terms.max_wait[k] - last_try
        share = volume[k, 0]
        carries = volume[k, 1] != 0.0
        outlay = 0.0
        reductions = shorts = buys = waiting = empty = 0
        for i in range(used):
            state = book.order[k, i]
            if state == s.NO_ORDER:
                continue
            held = book.quantity[k, i]
            a = book.asset[k, i]
            base = prices[a]
            if not valid(base):
                if book.noted[k, i] & s.NOTED_PRICE == 0:
                    book.noted[k, i] |= s.NOTED_PRICE
                    book.counters[s.N_NO_PRICE, k] += 1
                if state == s.WAITING and t - book.decided[k, i] >= max_wait:
                    book.counters[s.N_EXPIRED, k] += 1
                    book.order[k, i] = s.NO_ORDER
                    empty += held == 0.0
                else:
                    waiting += 1
                continue
            target = book.target[k, i]
            if size_now and state == s.WAITING and book.noted[k, i] & s.SIZED == 0:
                target, ordered, counter = sized(target, kind, held, base, equity, limited, limits)
                if counter != NOTHING:
                    book.counters[counter, k] += 1
                if not ordered:
                    book.order[k, i] = s.NO_ORDER
                    empty += held == 0.0
                    continue
                book.target[k, i] = target
                book.noted[k, i] |= s.SIZED
                book.counters[s.N_ORDERS, k] += 1
            goal = target
            if share > 0.0 and state == s.WAITING:
                goal = _within_volume(held, target, base, share * volumes[row, a], lot, DUST * equity)
                if goal != target and book.noted[k, i] & s.NOTED_VOLUME == 0:
                    book.noted[k, i] |= s.NOTED_VOLUME
                    book.counters[s.N_NO_VOLUME, k] += 1
                if goal == held:
                    # Nothing can be traded: there is no fill that would end the order.
                    waiting += carries
                    if not carries:
                        book.order[k, i] = s.NO_ORDER
                        empty += held == 0.0
                    continue
            goals[i] = goal
            if (held > 0.0 and goal <= held) or (held < 0.0 and goal >= held):
                # A reduction stops at 0; a reversal goes on from there as a second fill.
                todo[0, reductions] = i
                reductions += 1
                held = goal if goal * held > 0.0 else 0.0
            if goal < held:
                todo[1, shorts] = i
                shorts += 1
            elif goal > held:
                size = goal - held
                column = a if wide else 0
                impact = unit_impact(costs, at, column, impacts, row, a)
                notional, paid = outlay_of(size, base, impact, costs, at, column)
                outlay += paid
                todo[2, buys] = i
                columns[buys] = column
                buying[0, buys] = size
                buying[1, buys] = notional
                buying[2, buys] = base
                buying[3, buys] = impact
                buys += 1

        for group in range(3):
            n_fills = reductions if group == 0 else shorts if group == 1 else buys
            cut = False
            if group == 2:
                free = book.cash[k] + margin * equity
                slack = CASH_TOLERANCE * equity
                cut = outlay > free + slack and policy != s.ALLOW
                if cut:
                    _afford(buying, columns, buys, outlay, free, slack, DUST * equity, policy, lot, costs, at)
            for j in range(n_fills):
                i = todo[group, j]
                held = book.quantity[k, i]
                goal = goals[i]
                after = goal if group > 0 or goal * held > 0.0 else 0.0
                quantity = after - held
                if cut and buying[3, j] == CUT:
                    if book.noted[k, i] & s.NOTED_CASH == 0:
                        book.noted[k, i] |= s.NOTED_CASH
                        book.counters[s.N_NO_CASH, k] += 1
                    if buying[0, j] != quantity:
                        quantity = buying[0, j]
                        after = held + quantity
                if quantity != 0.0:
                    a = book.asset[k, i]
                    column = a if wide else 0
                    impact = unit_impact(costs, at, column, impacts, row, a)
                    trade(book, record, k, i, t, quantity, after, prices[a], impact, costs, at, column)
                if group > 0 or after == goal:
                    if carries and goal != book.target[k, i]:
                        waiting += 1
                    else:
                        book.order[k, i] = s.NO_ORDER
                        empty += after == 0.0
        book.waiting[k] = waiting

        if empty > 0:
            drop_empty(book, k)
