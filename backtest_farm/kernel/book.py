"""The bar loop: bars outside, the trials of a tile inside.

`advance` walks the bars of one slab. Each bar runs the steps of the accounting contract in their order, one
compiled function per step with the trial loop inside it:

    end_lives   step 2  positions whose asset's life ended are paid out
    fill        step 3  waiting orders meet the open: reductions, shorts, buys
    mark        step 6  equity = cash + positions at their last valid close
    decide      step 7  bust, then the schedule's targets become orders
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
"""Orders under this part of equity are dropped; denominators up to it are undefined."""
CASH_TOLERANCE = 1e-9
"""Buys fit if their outlay exceeds free cash by no more than this part of equity."""

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


@inlined
def _trade(book, terms, record, k, i, t, quantity, after, base):
    """Fill `quantity` of slot `i` at `base`, which leaves the position at `after`."""
    size = abs(quantity)
    distance = terms.half_spread[k] + terms.slippage[k]
    price = base * (1.0 + distance if quantity > 0.0 else 1.0 - distance)
    notional = size * price
    commission = terms.commission[k] * notional
    spread = terms.half_spread[k] * size * base
    slippage = terms.slippage[k] * size * base
    flow = quantity * price + commission
    book.cash[k] -= flow
    book.bar_values[2, k] += notional
    book.bar_values[3, k] += commission + spread + slippage
    book.counters[s.N_FILLS, k] += 1
    if book.quantity[k, i] == 0.0:
        book.entry_bar[k, i] = t
        book.entry_base[k, i] = base
        book.flow[k, i] = 0.0
    book.flow[k, i] -= flow
    book.quantity[k, i] = after
    if after == 0.0:
        _close_trade(book, k, i, t)
    reason = s.R_BUST if book.order[k, i] == s.FORCED else s.R_TARGET
    a = book.asset[k, i]
    _record_fill(
        record, k, book.decided[k, i], t, a, reason, quantity, base, price, commission, spread, slippage
    )


@jit
def _room(book, terms, targets, record, t):
    """Say whether bar `t` can run in the slots and rows that there are."""
    capacity = book.asset.shape[1]
    length = targets.row_length[t]
    total = 0
    sizes = terms.n
    for k in range(book.slots.shape[0]):
        used = book.slots[k]
        total += used
        if length > 0 and t >= book.next_decision[k]:
            wanted = length if targets.listed else min(length, sizes[k])
            if min(used + wanted, book.mark.shape[0]) > capacity:
                return NEED_SLOTS
    # Three rows at most for a slot in a bar: two legs of a reversal, or a delisting.
    if record.recording and record.used[0] + 3 * total >= record.keys.shape[0]:
        return NEED_ROWS
    return DONE


@jit
def _end_lives(book, lives, record, t):
    """Step 2: on the bar after its end of life a position is closed at the payout, without costs."""
    event = book.clock[1]
    while event < lives.end_bar.shape[0] and lives.end_bar[event] < t:
        # Lives that ended before the window have nothing to close: no trial could hold them.
        a = lives.end_asset[event]
        for k in range(book.slots.shape[0]):
            used = book.slots[k]
            found = -1
            for i in range(used):
                if book.asset[k, i] == a:
                    found = i
                    break
            if found < 0:
                continue
            if book.order[k, found] != s.NO_ORDER:
                book.counters[s.N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            quantity = book.quantity[k, found]
            if quantity != 0.0:
                price = lives.payout[event]
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
        event += 1
    book.clock[1] = event


@jit
def _fill(book, slab, terms, record, todo, t):
    """Step 3: every waiting order meets the open of bar `t` in one pass.

    Reductions and covers, group (a), are filled as they are met. `todo` (2, C) is scratch for the slots whose
    order goes on: to a new or larger short (b), or to a buy that opens or enlarges a long (c).
    """
    row = t - slab.first
    for k in range(book.slots.shape[0]):
        if book.waiting[k] == 0:
            continue
        used = book.slots[k]

        # Equity at the prices of this pass, before any fill of it.
        equity = book.cash[k]
        for i in range(used):
            quantity = book.quantity[k, i]
            if quantity != 0.0:
                a = book.asset[k, i]
                price = slab.open[row, a]
                if not (price > 0.0 and price < np.inf):
                    price = book.mark[a]
                    if price != price:
                        price = book.entry_base[k, i]
                equity += quantity * price

        distance = terms.half_spread[k] + terms.slippage[k]
        outlay_per_money = (1.0 + distance) * (1.0 + terms.commission[k])
        size_now = terms.sizing[k] == s.SIZE_AT_FILL
        max_wait = terms.max_wait[k]
        outlay = 0.0
        shorts = 0
        buys = 0
        waiting = 0
        empty = 0
        for i in range(used):
            state = book.order[k, i]
            if state == s.NO_ORDER:
                continue
            held = book.quantity[k, i]
            base = slab.open[row, book.asset[k, i]]
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
                target = target * equity / base if equity > 0.0 else 0.0
                closing = target == 0.0 and held != 0.0
                size = abs(target - held)
                if not closing and (size == 0.0 or size * base < DUST * equity):
                    book.order[k, i] = s.NO_ORDER
                    empty += held == 0.0
                    continue
                book.target[k, i] = target
                book.counters[s.N_ORDERS, k] += 1
            if (held > 0.0 and target < held) or (held < 0.0 and target > held):
                # A reduction stops at 0; a reversal goes on from there as a second fill.
                after = target if target * held > 0.0 else 0.0
                _trade(book, terms, record, k, i, t, after - held, after, base)
                held = after
            if target < held:
                todo[0, shorts] = i
                shorts += 1
            elif target > held:
                todo[1, buys] = i
                buys += 1
                outlay += (target - held) * base * outlay_per_money
            else:
                book.order[k, i] = s.NO_ORDER
                empty += held == 0.0

        for group in range(2):
            scale = 1.0
            if group == 1 and outlay > book.cash[k] + CASH_TOLERANCE * equity:
                scale = min(max(book.cash[k] / outlay, 0.0), 1.0)
                book.counters[s.N_NO_CASH, k] += buys
            for j in range(buys if group == 1 else shorts):
                i = todo[group, j]
                held = book.quantity[k, i]
                after = book.target[k, i]
                quantity = after - held
                base = slab.open[row, book.asset[k, i]]
                if scale < 1.0:
                    quantity *= scale
                    # Rounding leaves a fully invested book cash of 1e-16 of equity: no order of that size.
                    if quantity * base < DUST * equity:
                        quantity = 0.0
                    after = held + quantity
                if quantity != 0.0:
                    _trade(book, terms, record, k, i, t, quantity, after, base)
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
def _mark(book, slab, t):
    """Step 6: equity is cash plus every position at its last valid close."""
    row = t - slab.first
    for a in range(book.mark.shape[0]):
        close = slab.close[row, a]
        if close > 0.0 and close < np.inf:
            book.mark[a] = close
    for k in range(book.slots.shape[0]):
        net = 0.0
        gross = 0.0
        positions = 0
        stale = 0
        for i in range(book.slots[k]):
            quantity = book.quantity[k, i]
            if quantity == 0.0:
                continue
            a = book.asset[k, i]
            price = slab.close[row, a]
            if not (price > 0.0 and price < np.inf):
                stale += 1
                price = book.mark[a]
                if price != price:
                    price = book.entry_base[k, i]
            value = quantity * price
            net += value
            gross += abs(value)
            positions += 1
        book.counters[s.N_STALE_BARS, k] += stale
        book.exposure[0, k] = gross
        book.exposure[1, k] = net
        book.exposure[2, k] = positions
        book.bar_values[0, k] = book.cash[k] + net
        book.bar_values[1, k] = book.cash[k]


@jit
def _decide(book, terms, lives, targets, wanted, owner, t):
    """Step 7: a bust ends all trading; otherwise the schedule's targets replace what waits.

    `wanted` (A,) float64 and `owner` (A,) int64 are scratch: the target weight of an asset counts only while
    `owner` holds the serial number of the decision at hand, so nothing is cleared between decisions.
    """
    length = targets.row_length[t]
    sizes = terms.n
    start = targets.row_start[t]
    weights = targets.weights  # a name of its own: taken in the loop, it would be counted there
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        if equity <= 0.0 and book.bust[k] == 0:
            book.bust[k] = 1
            book.counters[s.N_BUST, k] = 1
            kept = 0
            for i in range(book.slots[k]):
                if book.order[k, i] != s.NO_ORDER:
                    book.counters[s.N_CANCELLED, k] += 1
                if book.quantity[k, i] == 0.0:
                    continue
                _move_slot(book, k, i, kept)
                book.target[k, kept] = 0.0
                book.order[k, kept] = s.FORCED
                book.decided[k, kept] = t
                book.noted[k, kept] = 0
                book.counters[s.N_ORDERS, k] += 1
                kept += 1
            book.slots[k] = kept
            book.waiting[k] = kept

        if t < book.next_decision[k]:
            continue
        book.next_decision[k] += terms.rebalance[k]
        names = length if targets.listed else min(length, sizes[k])
        if names == 0:
            continue
        if book.bust[k]:
            book.counters[s.N_HALTED, k] += 1
            continue

        # Serial numbers grow with every decision of every trial, so that none of them meets an old owner.
        serial = 2 * (t * book.slots.shape[0] + k) + 2
        equal_weight = terms.weight[k]
        for j in range(start, start + names):
            a = targets.ids[j]
            weight = weights[j] if targets.listed else equal_weight
            if weight != 0.0 and t <= lives.last_bar[a]:
                wanted[a] = weight
                owner[a] = serial
        at_fill = terms.sizing[k] == s.SIZE_AT_FILL

        # Assets that are held or waited for: a target is a set, absent assets are closed.
        used = book.slots[k]
        kept = 0
        for i in range(used):
            a = book.asset[k, i]
            held = book.quantity[k, i]
            if book.order[k, i] != s.NO_ORDER:
                book.counters[s.N_REPLACED, k] += 1
            weight = 0.0
            if owner[a] == serial:
                weight = wanted[a]
                owner[a] = serial + 1
            state = s.NO_ORDER
            target = weight
            if at_fill:
                if weight != 0.0 or held != 0.0:
                    state = s.WAITING
            else:
                price = book.mark[a]
                if price != price and held != 0.0:
                    price = book.entry_base[k, i]
                if weight != 0.0 and price != price:
                    book.counters[s.N_NO_PRICE, k] += 1
                else:
                    target = weight * equity / price if weight != 0.0 and equity > 0.0 else 0.0
                    size = abs(target - held)
                    closing = target == 0.0 and held != 0.0
                    if closing or (size != 0.0 and not size * price < DUST * equity):
                        state = s.WAITING
                        book.counters[s.N_ORDERS, k] += 1
            if held == 0.0 and state == s.NO_ORDER:
                continue
            if kept != i:
                _move_slot(book, k, i, kept)
            book.target[k, kept] = target
            book.order[k, kept] = state
            book.decided[k, kept] = t
            book.noted[k, kept] = 0
            kept += 1

        # New names enter their slot in panel order.
        for j in range(start, start + names):
            a = targets.ids[j]
            if owner[a] != serial:
                continue
            owner[a] = serial + 1
            target = wanted[a]
            if not at_fill:
                price = book.mark[a]
                if price != price:
                    book.counters[s.N_NO_PRICE, k] += 1
                    continue
                target = target * equity / price if equity > 0.0 else 0.0
                size = abs(target)
                if size == 0.0 or size * price < DUST * equity:
                    continue
                book.counters[s.N_ORDERS, k] += 1
            i = kept
            while i > 0 and book.asset[k, i - 1] > a:
                _move_slot(book, k, i - 1, i)
                i -= 1
            book.asset[k, i] = a
            book.quantity[k, i] = 0.0
            book.target[k, i] = target
            book.order[k, i] = s.WAITING
            book.decided[k, i] = t
            book.noted[k, i] = 0
            book.entry_bar[k, i] = 0
            book.entry_base[k, i] = np.nan
            book.flow[k, i] = 0.0
            kept += 1
        book.slots[k] = kept
        orders = 0
        for i in range(kept):
            if book.order[k, i] != s.NO_ORDER:
                orders += 1
        book.waiting[k] = orders


@jit
def _account(book, terms, record, t, n_bars):
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
def advance(book, slab, terms, lives, targets, record, todo, wanted, owner, until, n_bars):
    """Walk the tile from its next bar up to `until` (exclusive), as far as the room allows.

    Parameters
    ----------
    book : Book
        State; changed in place. ``book.clock[0]`` is the next bar.
    slab : Slab
        Prices of at least the bars to walk.
    terms, lives, targets : Terms, Lives, Targets
        The trials' parameters, ends of life, candidates of each bar of the window.
    record : Record
        Where fills and per-bar columns go; zero rows switch recording off.
    todo : ndarray of int64, shape (2, C)
    wanted : ndarray of float64, shape (A,)
    owner : ndarray of int64, shape (A,), zero before the first call
        Scratch.
    until : int
        Bar of the window to stop before.
    n_bars : int
        Bars of the whole window, which fixes the segments.

    Returns
    -------
    int
        DONE, NEED_SLOTS or NEED_ROWS; in the latter two the bar ``book.clock[0]`` has not begun.
    """
    for t in range(book.clock[0], until):
        room = _room(book, terms, targets, record, t)
        if room != DONE:
            book.clock[0] = t
            return room
        _end_lives(book, lives, record, t)
        _fill(book, slab, terms, record, todo, t)
        _mark(book, slab, t)
        _decide(book, terms, lives, targets, wanted, owner, t)
        _account(book, terms, record, t, n_bars)
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
