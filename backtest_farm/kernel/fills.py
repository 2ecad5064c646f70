"""Steps 3, 5 and 8: waiting orders meet the prices of a bar, in their groups, for the cash there is."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.sizing import limits_of, sized
from backtest_farm.kernel.slots import (
    CASH_TOLERANCE,
    DUST,
    LOT_TOLERANCE,
    MAX_DISTANCE,
    NOTHING,
    commission_of,
    equity_at,
    lay_leg,
    priced,
    record_fill,
    settle,
    valid,
)

FINEST_CUT = 1e-15
"""A step this small ends the search for the part of buys that can be paid."""
NEWTON_STEPS = 8
CUT = -1.0


@inlined
def _outlay(buys, j, size, costs, row, column):
    """Return what buying `size` of order `j` costs in all."""
    push = buys[3, j] * np.sqrt(size) if buys[3, j] > 0.0 else 0.0
    distance = costs[row, column, s.HALF_SPREAD] + costs[row, column, s.SLIPPAGE] + push
    notional = size * (buys[2, j] * (1.0 + min(distance, MAX_DISTANCE)))
    return notional + commission_of(size, notional, costs, row, column)


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
            outlay = _outlay(buys, first, buys[0, first], costs, row, columns[first])
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
                    outlay += _outlay(buys, j, quantity, costs, row, columns[j])
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
    reducing, shorting, growing, columns = scratch.todo[0], scratch.todo[1], scratch.todo[2], scratch.todo[3]
    legs, buying, goals = scratch.legs, scratch.buys, scratch.goal
    capacity = goals.shape[0]
    last_try = 1 if mode == s.SAME_CLOSE else 0
    for k in range(book.slots.shape[0]):
        if book.waiting[k] == 0 or modes[k] != mode:
            continue
        asset, held_now, slot = book.asset[k], book.quantity[k], book.slot[k]
        limited, limits = limits_of(terms.limits, k)
        lot = limits[3]
        policy = terms.afford[k]
        margin = terms.margin[k]
        size_now = terms.sizing[k] == s.SIZE_AT_FILL
        max_wait = terms.max_wait[k] - last_try
        share = volume[k, 0]
        carries = volume[k, 1] != 0.0
        at = cost_row[k]
        bounded = size_now or share > 0.0
        equity = equity_at(book, k, prices) if bounded else np.nan
        reductions = shorts = buys = np.uint32(0)
        waiting = 0
        lowest = 0.0
        for i in range(book.slots[k]):
            state = slot[i, s.ORDER]
            held = held_now[i]
            lowest = min(lowest, held)
            if state == s.NO_ORDER:
                continue
            a = asset[i]
            base = prices[a]
            if not valid(base):
                if np.int64(slot[i, s.NOTED]) & s.NOTED_PRICE == 0:
                    slot[i, s.NOTED] += s.NOTED_PRICE
                    book.counters[s.N_NO_PRICE, k] += 1
                if state == s.WAITING and t - slot[i, s.DECIDED] >= max_wait:
                    book.counters[s.N_EXPIRED, k] += 1
                    slot[i, s.ORDER] = s.NO_ORDER
                else:
                    waiting += 1
                continue
            goal = slot[i, s.TARGET]
            if bounded and state == s.WAITING:
                if size_now and np.int64(slot[i, s.NOTED]) & s.SIZED == 0:
                    goal, ordered, counter = sized(goal, kind, held, base, equity, limited, limits)
                    if counter != NOTHING:
                        book.counters[counter, k] += 1
                    if not ordered:
                        slot[i, s.ORDER] = s.NO_ORDER
                        continue
                    slot[i, s.TARGET] = goal
                    slot[i, s.NOTED] += s.SIZED
                    book.counters[s.N_ORDERS, k] += 1
                if share > 0.0:
                    wish = goal
                    goal = _within_volume(held, wish, base, share * volumes[row, a], lot, DUST * equity)
                    if goal != wish and np.int64(slot[i, s.NOTED]) & s.NOTED_VOLUME == 0:
                        slot[i, s.NOTED] += s.NOTED_VOLUME
                        book.counters[s.N_NO_VOLUME, k] += 1
                    if goal == held:
                        # Nothing can be traded: there is no fill that would end the order.
                        waiting += carries
                        if not carries:
                            slot[i, s.ORDER] = s.NO_ORDER
                        continue
            if goal == held:
                slot[i, s.ORDER] = s.NO_ORDER
                continue
            goals[i] = goal
            # Without branches, as buys and sales take turns at random: an entry is written, then kept or not.
            reduces = ((held > 0.0) & (goal < held)) | ((held < 0.0) & (goal > held))
            shrinks = goal < min(held, 0.0)
            grows = goal > max(held, 0.0)
            first = i
            if reduces & (shrinks | grows):
                # A reversal: what goes beyond 0 is a fill of its own.
                first = capacity + i
                lay_leg(legs, first, goal, goal, base, costs, at, a if wide else 0, impacts, row, a)
                lay_leg(legs, i, -held, 0.0, base, costs, at, a if wide else 0, impacts, row, a)
            else:
                lay_leg(legs, i, goal - held, goal, base, costs, at, a if wide else 0, impacts, row, a)
            reducing[reductions] = i
            shorting[shorts] = first
            growing[buys] = first
            reductions += np.uint32(reduces)
            shorts += np.uint32(shrinks)
            buys += np.uint32(grows)

        # Cash after each group, before anything is changed: what there is for buys, and what they cost.
        cash = book.cash[k]
        for j in range(reductions):
            cash -= legs[reducing[j], s.PAID]
        for j in range(shorts):
            cash -= legs[shorting[j], s.PAID]
        outlay = 0.0
        for j in range(buys):
            outlay += legs[growing[j], s.PAID]
        # Where buys fit into cash and nothing is short, equity and all that it grants is positive.
        if buys > 0 and policy != s.ALLOW and (outlay > cash or margin != 0.0 or lowest < 0.0):
            if not bounded:
                equity = equity_at(book, k, prices)
            free = cash + margin * equity
            slack = CASH_TOLERANCE * equity
            if outlay > free + slack:
                for j in range(buys):
                    e = growing[j]
                    i = e if e < capacity else e - capacity
                    a = asset[i]
                    columns[j] = a if wide else 0
                    buying[0, j] = legs[e, s.QUANTITY]
                    buying[1, j] = legs[e, s.NOTIONAL]
                    buying[2, j] = prices[a]
                    buying[3, j] = (
                        costs[at, columns[j], s.IMPACT] * impacts[row, a] if impacts.shape[0] > 0 else 0.0
                    )
                _afford(buying, columns, buys, outlay, free, slack, DUST * equity, policy, lot, costs, at)
                for j in range(buys):
                    if buying[3, j] != CUT:
                        continue
                    e = growing[j]
                    i = e if e < capacity else e - capacity
                    if np.int64(slot[i, s.NOTED]) & s.NOTED_CASH == 0:
                        slot[i, s.NOTED] += s.NOTED_CASH
                        book.counters[s.N_NO_CASH, k] += 1
                    quantity = buying[0, j]
                    if quantity != legs[e, s.QUANTITY]:
                        a = asset[i]
                        after = (held_now[i] if e == i else 0.0) + quantity
                        lay_leg(legs, e, quantity, after, prices[a], costs, at, columns[j], impacts, row, a)

        cash = book.cash[k]
        traded = book.bar_values[2, k]
        costing = book.bar_values[3, k]
        fills = 0
        for group in range(3):
            todo = reducing if group == 0 else shorting if group == 1 else growing
            n_fills = reductions if group == 0 else shorts if group == 1 else buys
            for j in range(n_fills):
                e = todo[j]
                i = e if e < capacity else e - capacity
                a = asset[i]
                goal = goals[i]
                after = legs[e, s.AFTER]
                quantity = legs[e, s.QUANTITY]
                if quantity != 0.0:
                    flow = legs[e, s.PAID]
                    notional = legs[e, s.NOTIONAL]
                    price = legs[e, s.PRICE]
                    cash -= flow
                    traded += notional
                    costing += legs[e, s.COST]
                    fills += 1
                    if record.recording:
                        column = a if wide else 0
                        _, _, commission, spread, slippage, impact = priced(
                            quantity, prices[a], costs, at, column, impacts, row, a
                        )
                        reason = slot[i, s.ORDER] - s.WAITING
                        record_fill(
                            record, k, slot[i, s.DECIDED], t, a, reason, after == 0.0, quantity, prices[a],
                            price, commission, spread, slippage, impact,
                        )  # fmt: skip
                    settle(book, k, i, t, quantity, after, prices[a], price, notional, flow)
                if group > 0 or after == goal:
                    if carries and goal != slot[i, s.TARGET]:
                        waiting += 1
                    else:
                        slot[i, s.ORDER] = s.NO_ORDER
        book.cash[k] = cash
        book.bar_values[2, k] = traded
        book.bar_values[3, k] = costing
        book.counters[s.N_FILLS, k] += fills
        book.waiting[k] = waiting
