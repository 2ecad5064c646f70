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

from backtest_farm.kernel.jit import jit
from backtest_farm.kernel.state import (
    FORCED,
    N_BUST,
    N_CANCELLED,
    N_EXPIRED,
    N_FILLS,
    N_HALTED,
    N_NO_CASH,
    N_NO_PRICE,
    N_ORDERS,
    N_REPLACED,
    N_STALE_BARS,
    N_TRADES,
    N_UNFILLED,
    NO_ORDER,
    R_BUST,
    R_DELISTING,
    R_TARGET,
    S_BARS_HELD,
    S_COSTS,
    S_DOWNSIDE,
    S_DRAWDOWN,
    S_EQUITY,
    S_GROSS,
    S_LOSS,
    S_M2,
    S_M3,
    S_M4,
    S_MEAN,
    S_NOTIONAL,
    S_PEAK,
    S_PROFIT,
    S_WINS,
    SEGMENTS,
    SIZE_AT_FILL,
    WAITING,
)

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


@jit
def _room(book, terms, targets, record, t):
    """Say whether bar `t` can run in the slots and rows that there are."""
    capacity = book.asset.shape[1]
    length = targets.row_length[t]
    total = 0
    for k in range(book.slots.shape[0]):
        used = book.slots[k]
        total += used
        if length > 0 and t >= book.next_decision[k]:
            wanted = length if targets.listed else min(length, terms.n[k])
            if min(used + wanted, book.mark.shape[0]) > capacity:
                return NEED_SLOTS
    # Three rows at most for a slot in a bar: two legs of a reversal, or a delisting.
    if record.keys.shape[0] > 0 and record.used[0] + 3 * total > record.keys.shape[0]:
        return NEED_ROWS
    return DONE


@jit
def _end_lives(book, lives, record, t):
    """Step 2: on the bar after its end of life a position is closed at the payout, without costs."""
    recording = record.keys.shape[0] > 0
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
            if book.order[k, found] != NO_ORDER:
                book.counters[N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            quantity = book.quantity[k, found]
            if quantity != 0.0:
                price = lives.payout[event]
                if price != price:
                    price = book.mark[a]
                    if price != price:
                        price = book.entry_base[k, found]
                book.cash[k] += quantity * price
                profit = book.flow[k, found] + quantity * price
                book.counters[N_TRADES, k] += 1
                book.sums[S_BARS_HELD, k] += t - book.entry_bar[k, found]
                if profit > 0.0:
                    book.sums[S_WINS, k] += 1.0
                    book.sums[S_PROFIT, k] += profit
                else:
                    book.sums[S_LOSS, k] -= profit
                if recording:
                    row = record.used[0]
                    record.keys[row, 0] = k
                    record.keys[row, 1] = t - 1
                    record.keys[row, 2] = t
                    record.keys[row, 3] = a
                    record.keys[row, 4] = R_DELISTING
                    record.values[row, :] = 0.0
                    record.values[row, 0] = -quantity
                    record.values[row, 1] = price
                    record.values[row, 2] = price
                    record.used[0] = row + 1
            for i in range(found, used - 1):
                book.asset[k, i] = book.asset[k, i + 1]
                book.quantity[k, i] = book.quantity[k, i + 1]
                book.target[k, i] = book.target[k, i + 1]
                book.order[k, i] = book.order[k, i + 1]
                book.decided[k, i] = book.decided[k, i + 1]
                book.noted[k, i] = book.noted[k, i + 1]
                book.entry_bar[k, i] = book.entry_bar[k, i + 1]
                book.entry_base[k, i] = book.entry_base[k, i + 1]
                book.flow[k, i] = book.flow[k, i + 1]
            book.slots[k] = used - 1
        event += 1
    book.clock[1] = event


@jit
def _fill(book, slab, terms, record, leg, t):
    """Step 3: every waiting order meets the open of bar `t` in one pass.

    `leg` is scratch of shape (C, 3): the signed quantity of each slot in group (a) reductions and covers,
    (b) new or larger shorts, (c) buys that open or enlarge longs.
    """
    recording = record.keys.shape[0] > 0
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

        # Which orders meet a price, and what each of them is in (a), (b), (c).
        sell_fraction = 1.0 - (terms.half_spread[k] + terms.slippage[k])
        buy_fraction = 1.0 + (terms.half_spread[k] + terms.slippage[k])
        commission_fraction = terms.commission[k]
        outlay = 0.0
        groups = 0
        for i in range(used):
            leg[i, 0] = 0.0
            leg[i, 1] = 0.0
            leg[i, 2] = 0.0
            state = book.order[k, i]
            if state == NO_ORDER:
                continue
            a = book.asset[k, i]
            base = slab.open[row, a]
            if not (base > 0.0 and base < np.inf):
                if book.noted[k, i] == 0:
                    book.noted[k, i] = 1
                    book.counters[N_NO_PRICE, k] += 1
                if state == WAITING and t - book.decided[k, i] >= terms.max_wait[k]:
                    book.counters[N_EXPIRED, k] += 1
                    book.order[k, i] = NO_ORDER
                    book.waiting[k] -= 1
                continue
            held = book.quantity[k, i]
            target = book.target[k, i]
            if state == WAITING and terms.sizing[k] == SIZE_AT_FILL:
                target = target * equity / base if equity > 0.0 else 0.0
                closing = target == 0.0 and held != 0.0
                size = abs(target - held)
                if not closing and (size == 0.0 or size * base < DUST * equity):
                    book.order[k, i] = NO_ORDER
                    book.waiting[k] -= 1
                    continue
                book.target[k, i] = target
                book.counters[N_ORDERS, k] += 1
            rest = held
            if held > 0.0 and target < held:
                rest = target if target > 0.0 else 0.0
                leg[i, 0] = rest - held
                groups |= 1
            elif held < 0.0 and target > held:
                rest = target if target < 0.0 else 0.0
                leg[i, 0] = rest - held
                groups |= 1
            if target < rest:
                leg[i, 1] = target - rest
                groups |= 2
            elif target > rest:
                leg[i, 2] = target - rest
                outlay += (target - rest) * (base * buy_fraction) * (1.0 + commission_fraction)
                groups |= 4
            if leg[i, 0] == 0.0 and leg[i, 1] == 0.0 and leg[i, 2] == 0.0:
                book.order[k, i] = NO_ORDER
                book.waiting[k] -= 1

        for group in range(3):
            if groups & (1 << group) == 0:
                continue
            scale = 1.0
            if group == 2:
                free = book.cash[k]
                if outlay > free + CASH_TOLERANCE * equity:
                    scale = min(max(free / outlay, 0.0), 1.0)
            for i in range(used):
                quantity = leg[i, group]
                if quantity == 0.0:
                    continue
                a = book.asset[k, i]
                base = slab.open[row, a]
                held = book.quantity[k, i]
                # An uncut last leg lands on the target itself, so that a closing is exactly 0.
                after = 0.0
                if group != 0 or held * book.target[k, i] > 0.0:
                    after = book.target[k, i]
                if scale < 1.0:
                    book.counters[N_NO_CASH, k] += 1
                    quantity *= scale
                    # Rounding leaves a fully invested book cash of 1e-16 of its equity: no order of that
                    # size.
                    if quantity * base < DUST * equity:
                        quantity = 0.0
                    after = held + quantity
                if quantity != 0.0:
                    size = abs(quantity)
                    price = base * (buy_fraction if quantity > 0.0 else sell_fraction)
                    notional = size * price
                    commission = commission_fraction * notional
                    spread = terms.half_spread[k] * size * base
                    slippage = terms.slippage[k] * size * base
                    book.cash[k] -= quantity * price + commission
                    book.bar_values[2, k] += notional
                    book.bar_values[3, k] += commission + spread + slippage
                    book.counters[N_FILLS, k] += 1
                    if held == 0.0:
                        book.entry_bar[k, i] = t
                        book.entry_base[k, i] = base
                        book.flow[k, i] = 0.0
                    book.flow[k, i] -= quantity * price + commission
                    book.quantity[k, i] = after
                    if after == 0.0:
                        profit = book.flow[k, i]
                        book.counters[N_TRADES, k] += 1
                        book.sums[S_BARS_HELD, k] += t - book.entry_bar[k, i]
                        if profit > 0.0:
                            book.sums[S_WINS, k] += 1.0
                            book.sums[S_PROFIT, k] += profit
                        else:
                            book.sums[S_LOSS, k] -= profit
                    if recording:
                        out = record.used[0]
                        record.keys[out, 0] = k
                        record.keys[out, 1] = book.decided[k, i]
                        record.keys[out, 2] = t
                        record.keys[out, 3] = a
                        record.keys[out, 4] = R_BUST if book.order[k, i] == FORCED else R_TARGET
                        record.values[out, 0] = quantity
                        record.values[out, 1] = base
                        record.values[out, 2] = price
                        record.values[out, 3] = commission
                        record.values[out, 4] = spread
                        record.values[out, 5] = slippage
                        record.values[out, 6] = 0.0
                        record.used[0] = out + 1

        # An order ends with its first try at a price; what is neither held nor waiting leaves its slot.
        kept = 0
        for i in range(used):
            if leg[i, 0] != 0.0 or leg[i, 1] != 0.0 or leg[i, 2] != 0.0:
                book.order[k, i] = NO_ORDER
                book.waiting[k] -= 1
            if book.quantity[k, i] == 0.0 and book.order[k, i] == NO_ORDER:
                continue
            if kept != i:
                book.asset[k, kept] = book.asset[k, i]
                book.quantity[k, kept] = book.quantity[k, i]
                book.target[k, kept] = book.target[k, i]
                book.order[k, kept] = book.order[k, i]
                book.decided[k, kept] = book.decided[k, i]
                book.noted[k, kept] = book.noted[k, i]
                book.entry_bar[k, kept] = book.entry_bar[k, i]
                book.entry_base[k, kept] = book.entry_base[k, i]
                book.flow[k, kept] = book.flow[k, i]
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
        book.counters[N_STALE_BARS, k] += stale
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
    start = targets.row_start[t]
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        if equity <= 0.0 and book.bust[k] == 0:
            book.bust[k] = 1
            book.counters[N_BUST, k] = 1
            kept = 0
            for i in range(book.slots[k]):
                if book.order[k, i] != NO_ORDER:
                    book.counters[N_CANCELLED, k] += 1
                if book.quantity[k, i] == 0.0:
                    continue
                book.asset[k, kept] = book.asset[k, i]
                book.quantity[k, kept] = book.quantity[k, i]
                book.entry_bar[k, kept] = book.entry_bar[k, i]
                book.entry_base[k, kept] = book.entry_base[k, i]
                book.flow[k, kept] = book.flow[k, i]
                book.target[k, kept] = 0.0
                book.order[k, kept] = FORCED
                book.decided[k, kept] = t
                book.noted[k, kept] = 0
                book.counters[N_ORDERS, k] += 1
                kept += 1
            book.slots[k] = kept
            book.waiting[k] = kept

        if t < book.next_decision[k]:
            continue
        book.next_decision[k] += terms.rebalance[k]
        names = length if targets.listed else min(length, terms.n[k])
        if names == 0:
            continue
        if book.bust[k]:
            book.counters[N_HALTED, k] += 1
            continue

        # Serial numbers grow with every decision of every trial, so that none of them meets an old owner.
        serial = 2 * (t * book.slots.shape[0] + k) + 2
        for j in range(start, start + names):
            a = targets.ids[j]
            weight = targets.weights[j] if targets.listed else terms.weight[k]
            if weight != 0.0 and t <= lives.last_bar[a]:
                wanted[a] = weight
                owner[a] = serial
        at_fill = terms.sizing[k] == SIZE_AT_FILL

        # Assets that are held or waited for: a target is a set, absent assets are closed.
        used = book.slots[k]
        kept = 0
        for i in range(used):
            a = book.asset[k, i]
            held = book.quantity[k, i]
            if book.order[k, i] != NO_ORDER:
                book.counters[N_REPLACED, k] += 1
            weight = 0.0
            if owner[a] == serial:
                weight = wanted[a]
                owner[a] = serial + 1
            state = NO_ORDER
            target = weight
            if at_fill:
                if weight != 0.0 or held != 0.0:
                    state = WAITING
            else:
                price = book.mark[a]
                if price != price and held != 0.0:
                    price = book.entry_base[k, i]
                if weight != 0.0 and price != price:
                    book.counters[N_NO_PRICE, k] += 1
                else:
                    target = weight * equity / price if weight != 0.0 and equity > 0.0 else 0.0
                    size = abs(target - held)
                    closing = target == 0.0 and held != 0.0
                    if closing or (size != 0.0 and not size * price < DUST * equity):
                        state = WAITING
                        book.counters[N_ORDERS, k] += 1
            if held == 0.0 and state == NO_ORDER:
                continue
            book.asset[k, kept] = a
            book.quantity[k, kept] = held
            book.entry_bar[k, kept] = book.entry_bar[k, i]
            book.entry_base[k, kept] = book.entry_base[k, i]
            book.flow[k, kept] = book.flow[k, i]
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
                    book.counters[N_NO_PRICE, k] += 1
                    continue
                target = target * equity / price if equity > 0.0 else 0.0
                size = abs(target)
                if size == 0.0 or size * price < DUST * equity:
                    continue
                book.counters[N_ORDERS, k] += 1
            i = kept
            while i > 0 and book.asset[k, i - 1] > a:
                book.asset[k, i] = book.asset[k, i - 1]
                book.quantity[k, i] = book.quantity[k, i - 1]
                book.target[k, i] = book.target[k, i - 1]
                book.order[k, i] = book.order[k, i - 1]
                book.decided[k, i] = book.decided[k, i - 1]
                book.noted[k, i] = book.noted[k, i - 1]
                book.entry_bar[k, i] = book.entry_bar[k, i - 1]
                book.entry_base[k, i] = book.entry_base[k, i - 1]
                book.flow[k, i] = book.flow[k, i - 1]
                i -= 1
            book.asset[k, i] = a
            book.quantity[k, i] = 0.0
            book.target[k, i] = target
            book.order[k, i] = WAITING
            book.decided[k, i] = t
            book.noted[k, i] = 0
            book.entry_bar[k, i] = 0
            book.entry_base[k, i] = np.nan
            book.flow[k, i] = 0.0
            kept += 1
        book.slots[k] = kept
        orders = 0
        for i in range(kept):
            if book.order[k, i] != NO_ORDER:
                orders += 1
        book.waiting[k] = orders


@jit
def _account(book, terms, record, t, n_bars):
    """Fold the bar into running sums and digest, and record it when asked."""
    sums = book.sums
    count = t + 1.0
    share = 1.0 / count
    segment = t * SEGMENTS // n_bars
    recording = record.bars.shape[0] > 0
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        before = book.equity[k]
        notional = book.bar_values[2, k]
        # Once equity was not positive, a return has no meaning any more: 0 from the next bar on.
        if sums[S_PEAK, k] < 0.0:
            r = 0.0
        else:
            r = equity / before - 1.0
        gross = book.exposure[0, k] / equity if equity > DUST else np.nan
        if recording:
            out = record.bars[t, :, k]
            out[0] = equity
            out[1] = book.bar_values[1, k]
            out[2] = gross
            out[3] = book.exposure[1, k] / equity if equity > DUST else np.nan
            out[4] = notional / 2.0 / before if before > DUST else np.nan
            out[5] = book.bar_values[3, k]
            out[8] = book.exposure[2, k]

        # Moments by the one-pass update of Pébay (Sandia report SAND2008-6212): no cancellation however small
        # the deviation is beside the mean; 1/count is the same for the whole tile.
        delta = r - sums[S_MEAN, k]
        step = delta * share
        square = step * step
        term = delta * step * t
        m2 = sums[S_M2, k]
        m3 = sums[S_M3, k]
        sums[S_M4, k] += (
            term * square * (count * count - 3.0 * count + 3.0) + 6.0 * square * m2 - 4.0 * step * m3
        )
        sums[S_M3, k] = m3 + term * step * (count - 2.0) - 3.0 * step * m2
        sums[S_M2, k] = m2 + term
        sums[S_MEAN, k] += step
        low = min(r, 0.0)
        sums[S_DOWNSIDE, k] += low * low
        book.segments[0, segment, k] += r
        book.segments[1, segment, k] += r * r

        # A peak below zero marks a book that was bust on an earlier bar; its drawdown still counts.
        peak = abs(sums[S_PEAK, k])
        if equity > peak:
            peak = equity
        sums[S_DRAWDOWN, k] = min(sums[S_DRAWDOWN, k], equity / peak - 1.0)
        sums[S_PEAK, k] = -peak if (equity <= 0.0 or sums[S_PEAK, k] < 0.0) else peak
        sums[S_EQUITY, k] += equity
        sums[S_GROSS, k] += gross
        sums[S_NOTIONAL, k] += notional
        sums[S_COSTS, k] += book.bar_values[3, k]
        if not abs(equity) < np.inf:
            book.broken[k] = 1
        book.equity[k] = equity
    for column in range(4):
        for k in range(book.slots.shape[0]):
            bits = book.bar_bits[column, k]
            h0 = (book.digest[0, k] ^ bits) * _MIX_0
            book.digest[0, k] = h0 ^ (h0 >> _SHIFT_0)
            h1 = (book.digest[1, k] + bits) * _MIX_1
            book.digest[1, k] = h1 ^ (h1 >> _SHIFT_1)
    for k in range(book.slots.shape[0]):
        book.bar_values[2, k] = 0.0
        book.bar_values[3, k] = 0.0


@jit
def advance(book, slab, terms, lives, targets, record, leg, wanted, owner, until, n_bars):
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
    leg : ndarray of float64, shape (C, 3)
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
        _fill(book, slab, terms, record, leg, t)
        _mark(book, slab, t)
        _decide(book, terms, lives, targets, wanted, owner, t)
        _account(book, terms, record, t, n_bars)
    book.clock[0] = until
    return DONE


@jit
def finish(book):
    """Close the books after the last bar: count open orders and mix the counters into the digest."""
    for k in range(book.slots.shape[0]):
        book.counters[N_UNFILLED, k] = book.waiting[k]
        for column in range(book.counters.shape[0]):
            bits = np.uint64(book.counters[column, k])
            h0 = (book.digest[0, k] ^ bits) * _MIX_0
            book.digest[0, k] = h0 ^ (h0 >> _SHIFT_0)
            h1 = (book.digest[1, k] + bits) * _MIX_1
            book.digest[1, k] = h1 ^ (h1 >> _SHIFT_1)
