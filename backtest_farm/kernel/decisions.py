"""The end of step 7: from what a strategy wants to orders that wait."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.slots import (
    CASH_TOLERANCE,
    DUST,
    LOT_TOLERANCE,
    MAX_DISTANCE,
    NOTHING,
    equity_at,
    marked,
    move_slot,
    priced,
    record_fill,
    settle,
    valid,
)

NOWHERE = 2**31 - 1
"""The place of an asset that is not in a bar's row."""
EMPTY = -np.inf
"""What is wanted of a slot that holds nothing and waits for nothing: a new name may have it."""
WIDE = 128
"""Slots that a trial may have to be filled at once: the length of a row of ``Scratch.work``."""
W_HELD, W_WANT, W_MARK, W_BASE, W_TRADES, W_AFTER, W_PRICE, W_NOTIONAL, W_PAID, W_COST = range(
    0, 10 * WIDE, WIDE
)
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
def _constrain(book, terms, scratch, k, used):
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


@inlined
def _want_of(targets, start, place, top, low, weight, short_weight):
    """Return what is wanted of the candidate at a place of the bar's row; 0 of those between both ends."""
    want = 0.0
    if targets.listed:
        if place < top:
            want = targets.values[start + place] * weight
    else:
        want = weight if place < top else (short_weight if (place >= low) & (place < NOWHERE) else 0.0)
    return want


@inlined
def _seat(book, wanted, k, used, a, want):
    """Give asset `a` a slot at its place in panel order, and return how many there are.

    An empty slot nearby is taken up where there is one, so that only the slots in between move.
    """
    asset, quantity, slot = book.asset[k], book.quantity[k], book.slot[k]
    place = used
    while place > 0 and asset[place - 1] > a:
        place -= 1
    hole = place
    while hole < used and wanted[hole] != EMPTY:
        hole += 1
    if hole == used:
        before = place - 1
        while before >= 0 and wanted[before] != EMPTY:
            before -= 1
        if before >= 0:
            hole = before
            place -= 1
        else:
            used += 1
    step = 1 if hole < place else -1
    while hole != place:
        move_slot(book, k, hole + step, hole)
        wanted[hole] = wanted[hole + step]
        hole += step
    asset[place] = a
    quantity[place] = 0.0
    slot[place, s.ORDER] = s.NO_ORDER
    slot[place, s.ENTRY_BASE] = np.nan
    slot[place, s.FLOW] = 0.0
    wanted[place] = want
    return used


@inlined
def _price_row(work, used, costs, at):
    """Write into the rows of `work` what the trades in it mean in money: see `priced` for the arithmetic.

    Of rows in one array, at distances that the compiler knows, it takes several slots at a time; it would not
    of rows that might overlap. So nothing here may look into another array.
    """
    half_spread, slippage = costs[at, 0, s.HALF_SPREAD], costs[at, 0, s.SLIPPAGE]
    rate, per_share = costs[at, 0, s.RATE], costs[at, 0, s.PER_SHARE]
    least, most = costs[at, 0, s.LEAST], costs[at, 0, s.MOST]
    distance = half_spread + slippage
    if distance > MAX_DISTANCE:
        half_spread *= MAX_DISTANCE / distance
        slippage *= MAX_DISTANCE / distance
        distance = MAX_DISTANCE
    dearer, cheaper = 1.0 + distance, 1.0 - distance
    for i in range(used):
        trades, base = work[W_TRADES + i], work[W_BASE + i]
        size = abs(trades)
        price = base * (dearer if trades > 0.0 else cheaper)
        notional = size * price
        fee = per_share * size + rate * notional
        fee = least if fee < least else fee
        cap = most * notional
        fee = cap if fee > cap else fee
        paid = trades * price + fee
        work[W_PRICE + i] = price
        work[W_NOTIONAL + i] = notional
        work[W_PAID + i] = paid if trades != 0.0 else 0.0
        work[W_COST + i] = fee + half_spread * size * base + slippage * size * base


@inlined
def _rebalance(book, terms, scratch, record, prices, impacts, k, used, decided, t):
    """Fill at once what a trial wants of its slots, if nothing stands in the way; return whether it did.

    The common case of `decide` and `fill` in one: a long book without waiting orders, whose assets all have
    prices. No order is written down, since none waits; what each would do is the same arithmetic, in the same
    order.
    """
    asset, quantity, wanted, work = book.asset[k], book.quantity[k], scratch.wanted, scratch.work
    mark, atr, costs, at = book.mark, book.atr, terms.costs, terms.cost_row[k]
    policy, margin = terms.afford[k], terms.margin[k]
    limited, limits = limits_of(terms.limits, k)
    equity = book.bar_values[0, k]
    done = equity > 0.0 and used <= WIDE
    for i in range(used if done else 0):
        a = asset[i]
        held, want, known, base = quantity[i], wanted[i], mark[a], prices[a]
        idle = (held == 0.0) & (want == 0.0)
        done &= idle | (valid(base) & (known == known) & (held >= 0.0))
        work[W_HELD + i] = held
        work[W_WANT + i] = want
        work[W_MARK + i] = 1.0 if idle else known
        work[W_BASE + i] = 1.0 if idle else base
    cash = book.cash[k]
    traded, costing = book.bar_values[2, k], book.bar_values[3, k]
    orders = fills = dropped = 0
    if done:
        if limited:
            for i in range(used):
                held, known = work[W_HELD + i], work[W_MARK + i]
                goal, ordered, counter = sized(
                    work[W_WANT + i], s.WEIGHTS, held, known, equity, limited, limits
                )
                dropped += counter != NOTHING
                orders += ordered
                work[W_TRADES + i] = goal - held if ordered else 0.0
                work[W_AFTER + i] = goal if ordered else held
        else:
            # `sized`, several slots at a time.
            least = DUST * equity
            for i in range(used):
                held, known = work[W_HELD + i], work[W_MARK + i]
                goal = work[W_WANT + i] * equity / known
                size = abs(goal - held)
                ordered = (size != 0.0) & ((goal == 0.0) | (size * known >= least))
                orders += int(ordered)
                work[W_TRADES + i] = goal - held if ordered else 0.0
                work[W_AFTER + i] = goal if ordered else held
        _price_row(work, used, costs, at)
        outlay = 0.0
        for i in range(used):
            trades, paid = work[W_TRADES + i], work[W_PAID + i]
            notional, cost = work[W_NOTIONAL + i], work[W_COST + i]
            cash -= paid if trades < 0.0 else 0.0
            traded += notional if trades < 0.0 else 0.0
            costing += cost if trades < 0.0 else 0.0
            outlay += paid if trades > 0.0 else 0.0
        if policy != s.ALLOW and (outlay > cash or margin != 0.0):
            worth = equity_at(book, k, prices)
            free = cash + margin * worth
            if outlay > free + CASH_TOLERANCE * worth:
                # One part of all buys, where costs are in proportion to it.
                done = policy == s.SCALE and not costs[at, 0, s.LEAST] > 0.0
                part = min(free / outlay, 1.0) if free > 0.0 else 0.0
                lot = limits[3]
                for i in range(used if done else 0):
                    buy = work[W_TRADES + i]
                    if buy > 0.0:
                        cut = part * buy
                        if lot > 0.0:
                            cut = np.floor(cut / lot + LOT_TOLERANCE) * lot
                        if cut * work[W_BASE + i] < DUST * worth:
                            cut = 0.0
                        book.counters[s.N_NO_CASH, k] += 1
                        if cut != buy:
                            work[W_TRADES + i] = cut
                            work[W_AFTER + i] = work[W_HELD + i] + cut
                if done:
                    _price_row(work, used, costs, at)
    if done:
        for i in range(used if dropped > 0 else 0):
            _, _, counter = sized(
                work[W_WANT + i], s.WEIGHTS, work[W_HELD + i], work[W_MARK + i], equity, limited, limits
            )
            if counter != NOTHING:
                book.counters[counter, k] += 1
        for buying in range(2 if record.recording else 0):
            for i in range(used):
                trades = work[W_TRADES + i]
                if trades > 0.0 if buying else trades < 0.0:
                    base = work[W_BASE + i]
                    price, _, commission, spread, slippage, impact = priced(
                        trades, base, costs, at, 0, impacts, 0, asset[i]
                    )
                    record_fill(
                        record, k, decided, t, asset[i], s.R_TARGET, work[W_AFTER + i] == 0.0, trades, base,
                        price, commission, spread, slippage, impact,
                    )  # fmt: skip
        for i in range(used):
            trades, paid = work[W_TRADES + i], work[W_PAID + i]
            notional, cost = work[W_NOTIONAL + i], work[W_COST + i]
            cash -= paid if trades > 0.0 else 0.0
            traded += notional if trades > 0.0 else 0.0
            costing += cost if trades > 0.0 else 0.0
            if trades != 0.0:
                fills += 1
                if atr.shape[0] > 0:
                    book.slot[k, i, s.ORDER_ATR] = atr[asset[i]]
                settle(
                    book,
                    k,
                    i,
                    t,
                    trades,
                    work[W_AFTER + i],
                    work[W_BASE + i],
                    work[W_PRICE + i],
                    notional,
                    paid,
                )
        book.cash[k] = cash
        book.bar_values[2, k] = traded
        book.bar_values[3, k] = costing
        book.counters[s.N_ORDERS, k] += orders
        book.counters[s.N_FILLS, k] += fills
    return done


@bare
def decide(book, terms, targets, scratch, record, prices, impacts, t, now, direct):
    """Step 7, its end: the schedule's targets replace what waits, unless trading has ended.

    While a bar's decisions are made, ``scratch.place`` says of each asset where it stands in the bar's row:
    a trial asks its slots, not the row, which of them are wanted.

    A decision that nothing stands in the way of is made when it is filled, all at once: at `t` where it fills
    at the close, and where it fills at the next open, it is put down as due and made when that bar has come.

    Parameters
    ----------
    prices : ndarray of float64, shape (A,)
        What can be filled at now: closes of bar `t`, or opens of bar `now`.
    impacts : ndarray of float64, shape (n or 0, A)
    t : int
        Bar of the decision.
    now : int
        `t`; or the bar after, to make the decisions of `t` that are due.
    direct : int
        1 if decisions may be filled at once; 0 turns them into orders.
    """
    length = targets.row_length[t]
    start = targets.row_start[t]
    listed = targets.listed
    kind = targets.kind
    fires, schedule = targets.fires, terms.schedule
    row = targets.ids[start : start + length]
    wanted, places, seen, eligible = scratch.wanted, scratch.place, scratch.seen, book.eligible
    sizes, quantile = terms.n, terms.quantile
    weights, short_weights = terms.weight, terms.short_weight
    sizing, table = terms.sizing, terms.limits
    atr, cooled, caps = book.atr, book.cooled, terms.caps
    mark = book.mark
    cools, noting, capped = cooled.shape[1] > 0, atr.shape[0] > 0, caps.shape[0] > 0
    modes, shares = terms.fill, terms.volume
    plain = direct != 0 and not listed and not capped and terms.costs.shape[1] == 1 and impacts.shape[0] == 0
    placed = False
    for k in range(book.slots.shape[0]):
        code = fires[t, schedule[k]]
        if code == s.IDLE or (now > t and book.due[k] != t):
            continue
        count = length if code == s.DECIDE else 0
        top, end = chosen(count, listed, sizes[k], quantile[k], short_weights[k])
        if top + end == 0 and code == s.DECIDE and not listed:
            continue
        if now == t and (book.bust[k] or t <= book.halt_end[k]):
            book.counters[s.N_HALTED, k] += 1
            continue
        at_once = (
            plain and book.waiting[k] == 0 and sizing[k] == s.SIZE_AT_DECISION and modes[k] != s.NEXT_CLOSE
        )
        at_once = at_once and end == 0 and weights[k] >= 0.0 and shares[k, 0] == 0.0
        if at_once and now == t and modes[k] == s.NEXT_OPEN:
            book.due[k] = t
            continue
        book.due[k] = -1
        if not placed:
            for j in range(length):
                if eligible[row[j]]:
                    places[row[j]] = j
            placed = True

        equity = book.bar_values[0, k]
        # Numbers that grow with every decision of every trial, so that what is seen is never cleared.
        serial = t * book.slots.shape[0] + k + 1
        weight = weights[k]
        if not listed and sizes[k] == 0:
            weight /= max(top, 1)
        short_weight = -short_weights[k] / max(end, 1)
        low = length - end if end > 0 else length
        used = book.slots[k]
        asset, quantity, slot = book.asset[k], book.quantity[k], book.slot[k]
        found = 0
        for i in range(used):
            place = places[asset[i]]
            named = (place < top) | ((place >= low) & (place < NOWHERE))
            wanted[i] = _want_of(targets, start, place, top, low, weight, short_weight)
            seen[place if named else length] = serial
            found += named
        if cools:
            for i in range(used):
                if wanted[i] == wanted[i] and wanted[i] != 0.0 and cooled[k, asset[i]] >= t:
                    book.counters[s.N_COOLDOWN, k] += slot[i, s.ORDER] <= s.WAITING
                    wanted[i] = 0.0

        # New names get a slot; those that are to be kept as they are need none. Last ones first: who was not
        # wanted before seldom comes in at the top.
        left = top + end - found
        for i in range(used if left > 0 else 0):
            empty = (quantity[i] == 0.0) & (wanted[i] == 0.0) & (slot[i, s.ORDER] == s.NO_ORDER)
            wanted[i] = EMPTY if empty else wanted[i]
        sought = left > 0
        j = top + end
        while j > 0 and left > 0:
            j -= 1
            place = j if j < top else low + j - top
            a = row[place]
            if seen[place] == serial or places[a] != place:
                continue
            left -= 1
            want = _want_of(targets, start, place, top, low, weight, short_weight)
            if want != want or want == 0.0:
                continue
            if cools and cooled[k, a] >= t:
                book.counters[s.N_COOLDOWN, k] += 1
                continue
            used = _seat(book, wanted, k, used, a, want)
        for i in range(used if sought else 0):
            wanted[i] = 0.0 if wanted[i] == EMPTY else wanted[i]

        book.slots[k] = used
        if at_once and _rebalance(book, terms, scratch, record, prices, impacts, k, used, t, now):
            continue
        refused = False
        if capped:
            code = _constrain(book, terms, scratch, k, used)
            refused = code == s.N_OVER_LIMIT
            if code != NOTHING:
                book.counters[code, k] += 1

        # A target is a set: absent assets are closed. What is kept, or on its way out, is left alone.
        at_fill = sizing[k] == s.SIZE_AT_FILL
        limited, limits = limits_of(table, k)
        kept = np.uint32(0)
        waiting = orders = replaced = 0
        for i in range(used):
            held = quantity[i]
            state = slot[i, s.ORDER]
            want = wanted[i]
            if want == want and state <= s.WAITING and not refused:
                replaced += state == s.WAITING
                goal = want
                if at_fill:
                    ordered = want != 0.0 or held != 0.0
                else:
                    price = mark[asset[i]]
                    if price != price and held != 0.0:
                        price = book.slot[k, i, s.ENTRY_BASE]
                    if want != 0.0 and price != price:
                        ordered = False
                        counter = s.N_NO_PRICE
                    else:
                        goal, ordered, counter = sized(want, kind, held, price, equity, limited, limits)
                    if counter != NOTHING:
                        book.counters[counter, k] += 1
                    orders += ordered
                state = s.WAITING if ordered else s.NO_ORDER
                slot[i, s.TARGET] = goal
                slot[i, s.ORDER] = state
                slot[i, s.DECIDED] = t
                slot[i, s.NOTED] = 0
                if noting:
                    slot[i, s.ORDER_ATR] = atr[asset[i]]
            if held == 0.0 and state == s.NO_ORDER:
                continue
            if kept != i:
                move_slot(book, k, i, kept)
            kept += np.uint32(1)
            waiting += state != s.NO_ORDER
        book.slots[k] = kept
        book.waiting[k] = waiting
        book.counters[s.N_ORDERS, k] += orders
        book.counters[s.N_REPLACED, k] += replaced
    if placed:
        for j in range(length):
            places[row[j]] = NOWHERE
