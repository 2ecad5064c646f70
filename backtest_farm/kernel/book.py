"""The bar loop: bars outside, the trials of a tile inside.

`advance` walks the bars of one slab. Each bar runs the steps of the accounting contract in their order, one
compiled function per step with the trial loop inside it:

    happen      step 2  ends of life are paid out; lost membership forces positions out
    fill        step 3  waiting orders meet the open: reductions, shorts, buys
                step 5  or, by the trial's mode, the close
    mark        step 6  equity = cash + positions at their last valid close
    decide      step 7  bust, then the schedule's targets become orders
    fill, mark  step 8  of trials that fill at the close of the decision
    account             running sums, digest and recorded columns

Sums over assets run slot by slot, which is panel order; nothing here depends on the other trials of the tile,
so a trial alone and in a tile gives the same bytes. Nothing allocates: when slots or record rows could run
out, `advance` returns before it touches the bar, the caller makes room and calls again.

A function per step, not per trial: a compiled callee that takes arrays pays a reference count on each of them
at every call, which once a bar is nothing and once a slot is two thirds of the time.
"""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import inlined, jit

DONE, NEED_SLOTS, NEED_ROWS = 0, 1, 2
"""What `advance` returns: the slab is finished, or room is needed before the next bar can run."""

DUST = 1e-12
"""Orders under this part of equity are dropped; denominators up to it are undefined; so near is equal."""
CASH_TOLERANCE = 1e-9
"""Buys fit if their outlay exceeds free cash by no more than this part of equity."""
LOT_TOLERANCE = 1e-9
"""A lot lacking this part of itself is a whole one."""
FINEST_CUT = 1e-15
"""A step this small ends the search for the part of buys that can be paid."""
NEWTON_STEPS = 8
NOTHING = -1

# Odd 64-bit constants of good avalanche (golden ratio; the first multiplier of splitmix64's finaliser).
_MIX_0 = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT_0 = np.uint64(32)
_SHIFT_1 = np.uint64(29)


@inlined
def _mixed(state, bits, factor, shift):
    """Return a lane of the digest with 64 more bits mixed in."""
    mixed = (state ^ bits) * factor
    return mixed ^ (mixed >> shift)


@inlined
def _move_slot(book, k, source, place):
    """Copy one slot of a trial to another place; what stood there is lost."""
    book.asset[k, place] = book.asset[k, source]
    book.quantity[k, place] = book.quantity[k, source]
    book.target[k, place] = book.target[k, source]
    book.order[k, place] = book.order[k, source]
    book.decided[k, place] = book.decided[k, source]
    book.noted[k, place] = book.noted[k, source]
    book.entry_bar[k, place] = book.entry_bar[k, source]
    book.entry_base[k, place] = book.entry_base[k, source]
    book.flow[k, place] = book.flow[k, source]


@inlined
def _force_out(book, k, i, t, reason):
    """Give the position in slot `i` an exit that waits until it is filled, decided at bar `t`."""
    book.target[k, i] = 0.0
    book.order[k, i] = s.WAITING + reason
    book.decided[k, i] = t
    book.noted[k, i] = 0
    book.counters[s.N_ORDERS, k] += 1


@inlined
def _close_trade(book, k, i, t):
    """Count the round trip that ends at bar `t` in slot `i`."""
    profit = book.flow[k, i]
    book.counters[s.N_TRADES, k] += 1
    book.sums[s.S_BARS_HELD, k] += t - book.entry_bar[k, i]
    if profit > 0.0:
        book.sums[s.S_WINS, k] += 1.0
        book.sums[s.S_PROFIT, k] += profit
    else:
        book.sums[s.S_LOSS, k] -= profit


@inlined
def _record_fill(record, k, decided, t, a, reason, quantity, base, price, commission, spread, slippage):
    """Append a row to the ledger; without one, every row lands in the same spare place.

    A branch around these stores would cost more than they do: numba keeps a reference to each array of a
    conditional use, taken and dropped atomically at every fill.
    """
    row = record.used[0]
    record.keys[row, 0] = k
    record.keys[row, 1] = decided
    record.keys[row, 2] = t
    record.keys[row, 3] = a
    record.keys[row, 4] = reason
    record.values[row, 0] = quantity
    record.values[row, 1] = base
    record.values[row, 2] = price
    record.values[row, 3] = commission
    record.values[row, 4] = spread
    record.values[row, 5] = slippage
    record.used[0] = row + record.recording


@jit
def _commission(size, notional, fees):
    """Return the commission of one fill."""
    rate, per_share, least, most = fees
    fee = per_share * size + rate * notional
    if fee < least:
        fee = least
    cap = most * notional
    return cap if fee > cap else fee


@inlined
def _trade(book, record, k, i, t, quantity, after, base, half_spread, slippage, fees):
    """Fill `quantity` of slot `i` at `base`, which leaves the position at `after`."""
    size = abs(quantity)
    distance = half_spread + slippage
    price = base * (1.0 + distance if quantity > 0.0 else 1.0 - distance)
    notional = size * price
    commission = _commission(size, notional, fees)
    spread = half_spread * size * base
    slip = slippage * size * base
    flow = quantity * price + commission
    book.cash[k] -= flow
    book.bar_values[2, k] += notional
    book.bar_values[3, k] += commission + spread + slip
    book.counters[s.N_FILLS, k] += 1
    if book.quantity[k, i] == 0.0:
        book.entry_bar[k, i] = t
        book.entry_base[k, i] = base
        book.flow[k, i] = 0.0
    book.flow[k, i] -= flow
    book.quantity[k, i] = after
    if after == 0.0:
        _close_trade(book, k, i, t)
    reason = book.order[k, i] - s.WAITING
    a = book.asset[k, i]
    _record_fill(record, k, book.decided[k, i], t, a, reason, quantity, base, price, commission, spread, slip)


@inlined
def _limits(table, k):
    """Return whether anything limits a trial's orders, and its row of ``Terms.limits``."""
    limits = (table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4])
    return limits[0] > 0.0 or limits[1] > 0.0 or limits[2] > 0.0 or limits[3] > 0.0, limits


@jit
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
def _sized(wanted, kind, held, price, equity, limited, limits):
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


@jit
def _chosen(count, listed, n, quantile, short_weight):
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


@jit
def _room(book, terms, targets, record, t):
    """Say whether bar `t` can run in the slots and rows that there are."""
    capacity = book.asset.shape[1]
    n_assets = book.mark.shape[0]
    length = targets.row_length[t]
    # Names of their own: taken in the loop, each of these arrays would be counted there.
    fires, schedule = targets.fires, terms.schedule
    sizes, quantile, short_weight = terms.n, terms.quantile, terms.short_weight
    total = 0
    for k in range(book.slots.shape[0]):
        most = book.slots[k]
        if fires[t, schedule[k]] == s.DECIDE:
            top, end = _chosen(length, targets.listed, sizes[k], quantile[k], short_weight[k])
            most = min(most + top + end, n_assets)
        if most > capacity:
            return NEED_SLOTS
        total += most
    # Three rows at most for a slot in a bar: two legs of a reversal, or a delisting.
    if record.recording and record.used[0] + 3 * total >= record.keys.shape[0]:
        return NEED_ROWS
    return DONE


@jit
def _happen(book, events, record, t):
    """Step 2: on the bar after its end of life a position is closed at the payout, without costs; where
    membership is lost, what waits is cancelled and a position is forced out.
    """
    event = book.clock[1]
    while event < events.bar.shape[0] and events.bar[event] <= t:
        a = events.asset[event]
        kind = events.kind[event]
        payout = events.payout[event]
        event += 1
        book.eligible[a] = kind == s.JOINS
        if kind == s.JOINS:
            continue
        for k in range(book.slots.shape[0]):
            used = book.slots[k]
            found = -1
            for i in range(used):
                if book.asset[k, i] == a:
                    found = i
                    break
            if found < 0 or (kind == s.LEAVES and book.order[k, found] > s.WAITING):
                continue
            if book.order[k, found] != s.NO_ORDER:
                book.counters[s.N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            quantity = book.quantity[k, found]
            if quantity != 0.0 and kind == s.LEAVES:
                _force_out(book, k, found, t - 1, s.R_MEMBERSHIP)
                book.waiting[k] += 1
                continue
            if quantity != 0.0:
                price = payout
                if price != price:
                    price = book.mark[a]
                    if price != price:
                        price = book.entry_base[k, found]
                book.cash[k] += quantity * price
                book.flow[k, found] += quantity * price
                _close_trade(book, k, found, t)
                _record_fill(record, k, t - 1, t, a, s.R_DELISTING, -quantity, price, price, 0.0, 0.0, 0.0)
            for i in range(found, used - 1):
                _move_slot(book, k, i + 1, i)
            book.slots[k] = used - 1
    book.clock[1] = event


@jit
def _largest_part(buys, first, last, outlay, free, fees):
    """Return the largest f in [0, 1] at which the orders ``first ... last - 1``, each cut to f of itself,
    cost no more than `free`, commissions included; whole they cost `outlay`, which is more.

    Without a minimum commission everything is in proportion. Otherwise the cost grows with f in straight
    pieces, whose corners are where a commission meets its minimum or its cap. Newton's step is exact within a
    piece; where it leaves the bracket, or does not settle, the bracket is halved.
    """
    rate, per_share, least, most = fees
    if free <= 0.0 or (most == s.NO_CAP and (last - first) * least >= free):
        return 0.0
    part = min(free / outlay, 1.0)
    low = 0.0
    high = 1.0
    step = 0
    while least > 0.0 and high - low > FINEST_CUT:
        cost = 0.0
        slope = 0.0
        for j in range(first, last):
            growth = per_share * buys[0, j] + rate * buys[1, j]
            fee = part * growth
            if fee < least:
                fee = least
                growth = 0.0
            if fee > part * (most * buys[1, j]):
                growth = most * buys[1, j]
                fee = part * growth
            cost += part * buys[1, j] + fee
            slope += buys[1, j] + growth
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


@jit
def _afford(buys, n, outlay, free, slack, dust, policy, lot, fees):
    """Let buys that cost more than there is buy what the policy allows.

    Parameters
    ----------
    buys : ndarray of float64, shape (3, C)
        Quantity (cut here), notional and base price of `n` orders in panel order.
    outlay, free : float
        What they cost and what there is, money.
    slack : float
        An order fits if it costs no more than this beyond what is left.
    dust : float
        A cut order of less money buys nothing.

    Returns
    -------
    int
        How many orders were cut.
    """
    first = 0
    last = n
    n_cut = 0
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
            outlay = buys[1, first] + _commission(buys[0, first], buys[1, first], fees)
        if outlay > free + slack:
            part = 0.0
            if policy != s.REJECT:
                part = _largest_part(buys, first, last, outlay, free, fees)
            outlay = 0.0
            for j in range(first, last):
                quantity = part * buys[0, j]
                if lot > 0.0:
                    quantity = np.floor(quantity / lot + LOT_TOLERANCE) * lot
                # Rounding leaves a fully invested book cash of 1e-16 of equity: no order of that size.
                if quantity * buys[2, j] < dust:
                    quantity = 0.0
                if quantity > 0.0:
                    paid = buys[1, j] * (quantity / buys[0, j])
                    outlay += paid + _commission(quantity, paid, fees)
                buys[0, j] = quantity
            n_cut += last - first
        free -= outlay
        buys[1, first] = -1.0
    return n_cut


@jit
def _fill(book, prices, terms, record, scratch, kind, mode, t):
    """Steps 3, 5 and 8: every waiting order of trials of this mode meets the base prices of bar `t`, (A,).

    Orders are sized and sorted into their groups, then filled: reductions and covers (a), new or larger
    shorts (b), buys that open or enlarge longs (c). A reversal stands in (a) and again in (b) or (c).
    """
    modes = terms.fill
    todo = scratch.todo
    buying = scratch.buys
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
                if not (price > 0.0 and price < np.inf):
                    price = book.mark[a]
                    if price != price:
                        price = book.entry_base[k, i]
                equity += quantity * price

        half_spread = terms.half_spread[k]
        slippage = terms.slippage[k]
        dearer = 1.0 + (half_spread + slippage)
        fees = (terms.fees[k, 0], terms.fees[k, 1], terms.fees[k, 2], terms.fees[k, 3])
        limited, limits = _limits(terms.limits, k)
        lot = limits[3]
        policy = terms.afford[k]
        margin = terms.margin[k]
        size_now = terms.sizing[k] == s.SIZE_AT_FILL
        max_wait = terms.max_wait[k] - last_try
        outlay = 0.0
        reductions = shorts = buys = waiting = empty = 0
        for i in range(used):
            state = book.order[k, i]
            if state == s.NO_ORDER:
                continue
            held = book.quantity[k, i]
            base = prices[book.asset[k, i]]
            if not (base > 0.0 and base < np.inf):
                if book.noted[k, i] == 0:
                    book.noted[k, i] = 1
                    book.counters[s.N_NO_PRICE, k] += 1
                if state == s.WAITING and t - book.decided[k, i] >= max_wait:
                    book.counters[s.N_EXPIRED, k] += 1
                    book.order[k, i] = s.NO_ORDER
                    empty += held == 0.0
                else:
                    waiting += 1
                continue
            target = book.target[k, i]
            if size_now and state == s.WAITING:
                target, ordered, counter = _sized(target, kind, held, base, equity, limited, limits)
                if counter != NOTHING:
                    book.counters[counter, k] += 1
                if not ordered:
                    book.order[k, i] = s.NO_ORDER
                    empty += held == 0.0
                    continue
                book.target[k, i] = target
                book.counters[s.N_ORDERS, k] += 1
            if (held > 0.0 and target <= held) or (held < 0.0 and target >= held):
                # A reduction stops at 0; a reversal goes on from there as a second fill.
                todo[0, reductions] = i
                reductions += 1
                held = target if target * held > 0.0 else 0.0
            if target < held:
                todo[1, shorts] = i
                shorts += 1
            elif target > held:
                size = target - held
                notional = size * (base * dearer)
                outlay += notional + _commission(size, notional, fees)
                todo[2, buys] = i
                buying[0, buys] = size
                buying[1, buys] = notional
                buying[2, buys] = base
                buys += 1

        for group in range(3):
            n_fills = reductions if group == 0 else shorts if group == 1 else buys
            cut = False
            if group == 2:
                free = book.cash[k] + margin * equity
                slack = CASH_TOLERANCE * equity
                cut = outlay > free + slack and policy != s.ALLOW
                if cut:
                    book.counters[s.N_NO_CASH, k] += _afford(
                        buying, buys, outlay, free, slack, DUST * equity, policy, lot, fees
                    )
            for j in range(n_fills):
                i = todo[group, j]
                held = book.quantity[k, i]
                target = book.target[k, i]
                after = target if group > 0 or target * held > 0.0 else 0.0
                quantity = after - held
                if cut and buying[0, j] != quantity:
                    quantity = buying[0, j]
                    after = held + quantity
                if quantity != 0.0:
                    base = prices[book.asset[k, i]]
                    _trade(book, record, k, i, t, quantity, after, base, half_spread, slippage, fees)
                if group > 0 or after == target:
                    book.order[k, i] = s.NO_ORDER
                    empty += after == 0.0
        book.waiting[k] = waiting

        # What is neither held nor waited for leaves its slot.
        if empty > 0:
            kept = 0
            for i in range(used):
                if book.quantity[k, i] != 0.0 or book.order[k, i] != s.NO_ORDER:
                    if kept != i:
                        _move_slot(book, k, i, kept)
                    kept += 1
            book.slots[k] = kept


@jit
def _mark(book, closes, terms, again):
    """Step 6: equity is cash plus every position at its last valid close, (A,).

    `again` is 1 in step 8, where only trials that have just filled at the close are marked once more.
    """
    for a in range(book.mark.shape[0]):
        close = closes[a]
        if close > 0.0 and close < np.inf:
            book.mark[a] = close
    modes = terms.fill
    for k in range(book.slots.shape[0]):
        if again and modes[k] != s.SAME_CLOSE:
            continue
        net = 0.0
        gross = 0.0
        positions = 0
        stale = 0
        for i in range(book.slots[k]):
            quantity = book.quantity[k, i]
            if quantity == 0.0:
                continue
            a = book.asset[k, i]
            price = closes[a]
            if not (price > 0.0 and price < np.inf):
                stale += 1
                price = book.mark[a]
                if price != price:
                    price = book.entry_base[k, i]
            value = quantity * price
            net += value
            gross += abs(value)
            positions += 1
        book.counters[s.N_STALE_BARS, k] += 0 if again else stale
        book.exposure[0, k] = gross
        book.exposure[1, k] = net
        book.exposure[2, k] = positions
        book.bar_values[0, k] = book.cash[k] + net
        book.bar_values[1, k] = book.cash[k]


@jit
def _decide(book, terms, targets, scratch, t):
    """Step 7: a bust ends all trading; otherwise the schedule's targets replace what waits.

    The target of an asset, ``scratch.wanted``, counts only while ``scratch.owner`` holds the serial number of
    the decision at hand, so nothing is cleared between decisions.
    """
    length = targets.row_length[t]
    start = targets.row_start[t]
    listed = targets.listed
    kind = targets.kind
    # Names of their own: taken in the loop, each of these arrays would be counted there.
    fires, schedule = targets.fires, terms.schedule
    ids, values = targets.ids, targets.values
    wanted, owner, eligible = scratch.wanted, scratch.owner, book.eligible
    sizes, quantile = terms.n, terms.quantile
    weights, short_weights = terms.weight, terms.short_weight
    sizing, table = terms.sizing, terms.limits
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        if equity <= 0.0 and book.bust[k] == 0:
            book.bust[k] = 1
            book.counters[s.N_BUST, k] = 1
            kept = 0
            for i in range(book.slots[k]):
                if book.order[k, i] == s.WAITING:
                    book.counters[s.N_CANCELLED, k] += 1
                if book.quantity[k, i] == 0.0:
                    continue
                _move_slot(book, k, i, kept)
                if book.order[k, kept] <= s.WAITING:
                    _force_out(book, k, kept, t, s.R_BUST)
                kept += 1
            book.slots[k] = kept
            book.waiting[k] = kept

        code = fires[t, schedule[k]]
        if code == s.IDLE:
            continue
        count = length if code == s.DECIDE else 0
        top, end = _chosen(count, listed, sizes[k], quantile[k], short_weights[k])
        names = top + end
        if names == 0 and code == s.DECIDE and not listed:
            continue
        if book.bust[k]:
            book.counters[s.N_HALTED, k] += 1
            continue

        # Serial numbers grow with every decision of every trial, so that none of them meets an old owner.
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
                wanted[a] = want
                owner[a] = serial
        at_fill = sizing[k] == s.SIZE_AT_FILL
        limited, limits = _limits(table, k)

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
                _move_slot(book, k, i - 1, i)
                i -= 1
            book.asset[k, i] = a
            book.quantity[k, i] = 0.0
            book.order[k, i] = s.NO_ORDER
            book.entry_bar[k, i] = 0
            book.entry_base[k, i] = np.nan
            book.flow[k, i] = 0.0
            used += 1

        # A target is a set: absent assets are closed. What is kept, or on its way out, is left alone.
        kept = waiting = orders = 0
        for i in range(used):
            a = book.asset[k, i]
            held = book.quantity[k, i]
            state = book.order[k, i]
            want = wanted[a] if owner[a] == serial + 1 else 0.0
            if want == want and state <= s.WAITING:
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
                        target, ordered, counter = _sized(want, kind, held, price, equity, limited, limits)
                    if counter != NOTHING:
                        book.counters[counter, k] += 1
                    orders += ordered
                state = s.WAITING if ordered else s.NO_ORDER
                book.target[k, i] = target
                book.order[k, i] = state
                book.decided[k, i] = t
                book.noted[k, i] = 0
            if held == 0.0 and state == s.NO_ORDER:
                continue
            if kept != i:
                _move_slot(book, k, i, kept)
            kept += 1
            waiting += state != s.NO_ORDER
        book.slots[k] = kept
        book.waiting[k] = waiting
        book.counters[s.N_ORDERS, k] += orders


@jit
def _account(book, record, t, n_bars):
    """Fold the bar into running sums and digest, and record it when asked."""
    sums = book.sums
    count = t + 1.0
    share = 1.0 / count
    segment = t * s.SEGMENTS // n_bars
    recording = record.bars.shape[0] > 0
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        before = book.equity[k]
        notional = book.bar_values[2, k]
        # Once equity was not positive, a return has no meaning any more: 0 from the next bar on.
        if sums[s.S_PEAK, k] < 0.0:
            r = 0.0
        else:
            r = equity / before - 1.0
        gross = book.exposure[0, k] / equity if equity > DUST else np.nan
        if recording:
            record.bars[t, 0, k] = equity
            record.bars[t, 1, k] = book.bar_values[1, k]
            record.bars[t, 2, k] = gross
            record.bars[t, 3, k] = book.exposure[1, k] / equity if equity > DUST else np.nan
            record.bars[t, 4, k] = notional / 2.0 / before if before > DUST else np.nan
            record.bars[t, 5, k] = book.bar_values[3, k]
            record.bars[t, 8, k] = book.exposure[2, k]

        # Moments by the one-pass update of Pébay (Sandia report SAND2008-6212): no cancellation however small
        # the deviation is beside the mean; 1/count is the same for the whole tile.
        delta = r - sums[s.S_MEAN, k]
        step = delta * share
        square = step * step
        term = delta * step * t
        m2 = sums[s.S_M2, k]
        m3 = sums[s.S_M3, k]
        sums[s.S_M4, k] += (
            term * square * (count * count - 3.0 * count + 3.0) + 6.0 * square * m2 - 4.0 * step * m3
        )
        sums[s.S_M3, k] = m3 + term * step * (count - 2.0) - 3.0 * step * m2
        sums[s.S_M2, k] = m2 + term
        sums[s.S_MEAN, k] += step
        low = min(r, 0.0)
        sums[s.S_DOWNSIDE, k] += low * low
        book.segments[0, segment, k] += r
        book.segments[1, segment, k] += r * r

        # A peak below zero marks a book that was bust on an earlier bar; its drawdown still counts.
        peak = abs(sums[s.S_PEAK, k])
        if equity > peak:
            peak = equity
        sums[s.S_DRAWDOWN, k] = min(sums[s.S_DRAWDOWN, k], equity / peak - 1.0)
        sums[s.S_PEAK, k] = -peak if (equity <= 0.0 or sums[s.S_PEAK, k] < 0.0) else peak
        sums[s.S_EQUITY, k] += equity
        sums[s.S_GROSS, k] += gross
        sums[s.S_NOTIONAL, k] += notional
        sums[s.S_COSTS, k] += book.bar_values[3, k]
        if not abs(equity) < np.inf:
            book.broken[k] = 1
        book.equity[k] = equity
    for column in range(4):
        for k in range(book.slots.shape[0]):
            bits = book.bar_bits[column, k]
            book.digest[0, k] = _mixed(book.digest[0, k], bits, _MIX_0, _SHIFT_0)
            book.digest[1, k] = _mixed(book.digest[1, k], bits, _MIX_1, _SHIFT_1)
    for k in range(book.slots.shape[0]):
        book.bar_values[2, k] = 0.0
        book.bar_values[3, k] = 0.0


@jit
def advance(book, slab, terms, events, targets, record, scratch, until, n_bars):
    """Walk the tile from its next bar up to `until` (exclusive), as far as the room allows.

    Parameters
    ----------
    book : Book
        State; changed in place. ``book.clock[0]`` is the next bar.
    slab : Slab
        Prices of at least the bars to walk.
    terms, events, targets : Terms, Events, Targets
        The trials' parameters, what happens to assets, candidates of each bar of the window.
    record : Record
        Where fills and per-bar columns go; zero rows switch recording off.
    scratch : Scratch
        Room for as many slots as the book has.
    until : int
        Bar of the window to stop before.
    n_bars : int
        Bars of the whole window, which fixes the segments.

    Returns
    -------
    int
        DONE, NEED_SLOTS or NEED_ROWS; in the latter two the bar ``book.clock[0]`` has not begun.
    """
    at_open = np.any(terms.fill == s.NEXT_OPEN)
    at_close = np.any(terms.fill == s.NEXT_CLOSE)
    at_once = np.any(terms.fill == s.SAME_CLOSE)
    for t in range(book.clock[0], until):
        room = _room(book, terms, targets, record, t)
        if room != DONE:
            book.clock[0] = t
            return room
        closes = slab.close[t - slab.first]
        _happen(book, events, record, t)
        if at_open:
            _fill(book, slab.open[t - slab.first], terms, record, scratch, targets.kind, s.NEXT_OPEN, t)
        if at_close:
            _fill(book, closes, terms, record, scratch, targets.kind, s.NEXT_CLOSE, t)
        _mark(book, closes, terms, False)
        _decide(book, terms, targets, scratch, t)
        if at_once:
            _fill(book, closes, terms, record, scratch, targets.kind, s.SAME_CLOSE, t)
            _mark(book, closes, terms, True)
        _account(book, record, t, n_bars)
    book.clock[0] = until
    return DONE


@jit
def finish(book):
    """Close the books after the last bar: count open orders and mix the counters into the digest."""
    for k in range(book.slots.shape[0]):
        book.counters[s.N_UNFILLED, k] = book.waiting[k]
        for column in range(book.counters.shape[0]):
            bits = np.uint64(book.counters[column, k])
            book.digest[0, k] = _mixed(book.digest[0, k], bits, _MIX_0, _SHIFT_0)
            book.digest[1, k] = _mixed(book.digest[1, k], bits, _MIX_1, _SHIFT_1)
