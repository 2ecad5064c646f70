"""The bar loop: bars outside, the trials of a tile inside.

`advance` walks the bars of one slab. Each bar runs the steps of the accounting contract in their order, one
compiled function per step with the trial loop inside it:

    finance     step 1  borrowed shorts cost, cash earns or costs
    happen      step 2  splits, dividends, ends of life, lost membership
    fill        step 3  waiting orders meet the open: reductions, shorts, buys
    protect     step 4  stops and targets inside the bar
    fill        step 5  or, by the trial's mode, waiting orders meet the close
    mark        step 6  equity = cash + positions at their last valid close
    guard       step 7  bust, drawdown halt, time exits, rules on the close,
    decide              then the schedule's targets become orders; or, where nothing can stand in the way, a
                        note that they are due, and the next bar decides and fills at once, in step 3
    fill, mark  step 8  of trials that fill at the close of the decision
    account             running sums, digest and recorded columns

Sums over assets run slot by slot, which is panel order; nothing here depends on the other trials of the tile,
so a trial alone and in a tile gives the same bytes. Nothing allocates: when slots or record rows could run
out, `advance` returns before it touches the bar, the caller makes room and calls again.

Slots that have become empty stay where they are until a decision needs the room, or until they are many: an
empty one adds 0.

A function per step, not per trial: a callee that takes the arrays is handed hundreds of words, which once a
bar is nothing. What is asked once a slot is compiled into its callers.
"""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.decisions import chosen, decide
from backtest_farm.kernel.fills import fill
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.rules import guard, protect
from backtest_farm.kernel.slots import DUST, close_trade, force_out, marked, move_slot, record_fill, valid

DONE, NEED_SLOTS, NEED_ROWS = 0, 1, 2
"""What `advance` returns: the slab is finished, or room is needed before the next bar can run."""

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


@bare
def _room(book, terms, targets, record, t):
    """Say whether bar `t` can run in the slots and rows that there are."""
    capacity = book.asset.shape[1]
    n_assets = book.mark.shape[0]
    fires, schedule = targets.fires, terms.schedule
    sizes, quantile, short_weight = terms.n, terms.quantile, terms.short_weight
    total = 0
    for k in range(book.slots.shape[0]):
        most = book.slots[k]
        # The names of this bar's decision, and of the last bar's where that is still due.
        for bar in range(t - 1 if book.due[k] >= 0 else t, t + 1):
            if fires[bar, schedule[k]] == s.DECIDE:
                length = targets.row_length[bar]
                top, end = chosen(length, targets.listed, sizes[k], quantile[k], short_weight[k])
                most += top + end
        most = min(most, n_assets)
        if most > capacity:
            return NEED_SLOTS
        total += most
    # Three rows at most for a slot in a bar: two legs of a reversal, and a rule's exit.
    if record.recording and record.used[0] + 3 * total >= record.keys.shape[0]:
        return NEED_ROWS
    return DONE


@bare
def _finance(book, terms, bars_per_year):
    """Step 1: what shorts cost to borrow, and what cash earns or costs, over the night before the bar."""
    costs, cost_row, interest = terms.costs, terms.cost_row, terms.interest
    wide = costs.shape[1] > 1
    for k in range(book.slots.shape[0]):
        borrowed = 0.0
        for i in range(book.slots[k]):
            quantity = book.quantity[k, i]
            if quantity < 0.0:
                a = book.asset[k, i]
                rate = costs[cost_row[k], a if wide else 0, s.BORROW]
                borrowed -= rate * quantity * marked(book, k, i, a)
        cash = book.cash[k]
        cost = (borrowed - (interest[k, 0] if cash > 0.0 else interest[k, 1]) * cash) / bars_per_year
        book.cash[k] = cash - cost
        book.bar_values[4, k] = cost


@bare
def _happen(book, terms, events, record, kind, t):
    """Step 2: splits change units and dividends pay; on the bar after its end of life a position is closed at
    the payout, without costs; where membership is lost, what waits is cancelled and a position is forced out.

    `kind` says what the numbers of targets are: an order for so many units is split too.
    """
    sizing = terms.sizing
    event = book.clock[1]
    while event < events.bar.shape[0] and events.bar[event] <= t:
        a = events.asset[event]
        happens = events.kind[event]
        amount = events.amount[event]
        event += 1
        if happens <= s.ENDS:
            book.eligible[a] = happens == s.JOINS
        if happens == s.JOINS:
            continue
        for k in range(book.slots.shape[0]):
            used = book.slots[k]
            found = -1
            for i in range(used):
                if book.asset[k, i] == a:
                    found = i
                    break
            if found < 0:
                continue
            quantity = book.quantity[k, found]
            if happens == s.SPLIT:
                book.quantity[k, found] = quantity * amount
                book.slot[k, found, s.ENTRY_BASE] /= amount
                book.slot[k, found, s.ORDER_ATR] *= 1.0 / amount
                for note in range(book.notes.shape[2]):
                    book.notes[k, found, note] *= amount if note == s.ENTERED else 1.0 / amount
                whole = kind == s.QUANTITIES or sizing[k] == s.SIZE_AT_DECISION
                if whole or np.int64(book.slot[k, found, s.NOTED]) & s.SIZED != 0:
                    book.slot[k, found, s.TARGET] *= amount
                continue
            if happens == s.DIVIDEND:
                paid = quantity * amount
                book.cash[k] += paid
                book.slot[k, found, s.FLOW] += paid
                book.bar_values[5, k] += paid
                continue
            if happens == s.LEAVES and book.slot[k, found, s.ORDER] > s.WAITING:
                continue
            if book.slot[k, found, s.ORDER] != s.NO_ORDER:
                book.counters[s.N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            if quantity != 0.0 and happens == s.LEAVES:
                force_out(book, k, found, t - 1, s.R_MEMBERSHIP)
                book.waiting[k] += 1
                continue
            if quantity != 0.0:
                price = amount
                if price != price:
                    price = marked(book, k, found, a)
                book.cash[k] += quantity * price
                book.slot[k, found, s.FLOW] += quantity * price
                close_trade(book, k, found, t)
                record_fill(
                    record, k, t - 1, t, a, s.R_DELISTING, True, -quantity, price, price, 0.0, 0.0, 0.0, 0.0
                )
            for i in range(found, used - 1):
                move_slot(book, k, i + 1, i)
            book.slots[k] = used - 1
        if happens == s.SPLIT:
            book.mark[a] /= amount
    book.clock[1] = event


@bare
def _mark(book, closes, terms, known, again):
    """Step 6: equity is cash plus every position at its last valid close, (A,).

    `known` is room for the valid closes, NaN in place of the others: where a sum of slots is NaN, one of them
    has no price. `again` is 1 in step 8, where only trials that have just filled at the close are marked once
    more.
    """
    mark = book.mark
    for a in range(mark.shape[0]):
        close = closes[a]
        known[a] = close if valid(close) else np.nan
        mark[a] = close if valid(close) else mark[a]
    modes = terms.fill
    for k in range(book.slots.shape[0]):
        if again and modes[k] != s.SAME_CLOSE:
            continue
        asset, held = book.asset[k], book.quantity[k]
        net = 0.0
        gross = 0.0
        for i in range(book.slots[k]):
            value = held[i] * known[asset[i]]
            net += value
            gross += abs(value)
        if net != net:
            # Seldom: once more, with care for what has no price.
            net = gross = 0.0
            stale = 0
            for i in range(book.slots[k]):
                if held[i] != 0.0:
                    price = known[asset[i]]
                    if price != price:
                        stale += 1
                        price = marked(book, k, i, asset[i])
                    net += held[i] * price
                    gross += abs(held[i] * price)
            book.counters[s.N_STALE_BARS, k] += 0 if again else stale
        book.exposure[0, k] = gross
        book.exposure[1, k] = net
        book.bar_values[0, k] = book.cash[k] + net
        book.bar_values[1, k] = book.cash[k]


@bare
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
            record.bars[t, 6, k] = book.bar_values[4, k]
            record.bars[t, 7, k] = book.bar_values[5, k]
            positions = 0
            for i in range(book.slots[k]):
                positions += book.quantity[k, i] != 0.0
            record.bars[t, 8, k] = positions

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
        for column in range(2, 6):
            book.bar_values[column, k] = 0.0


@bare
def _any_is(values, value):
    """Return whether any trial has this value."""
    found = False
    for k in range(values.shape[0]):
        found = found or values[k] == value
    return found


@bare
def _disturbed(events, event, t):
    """Return whether at bar `t` anything happens but dividends: it would change orders that wait."""
    found = False
    while event < events.bar.shape[0] and events.bar[event] <= t:
        found = found or events.kind[event] != s.DIVIDEND
        event += 1
    return found


@bare
def advance(book, slab, terms, events, targets, record, scratch, until, n_bars):
    """Walk the tile from its next bar up to `until` (exclusive), as far as the room allows.

    Parameters
    ----------
    book : Book
        State; changed in place. ``book.clock[0]`` is the next bar.
    slab : Slab
        What is known of at least the bars to walk.
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
    at_open = _any_is(terms.fill, s.NEXT_OPEN)
    at_close = _any_is(terms.fill, s.NEXT_CLOSE)
    at_once = _any_is(terms.fill, s.SAME_CLOSE)
    ruled = terms.rules.shape[0] > 0
    kind = targets.kind
    first, again = np.int64(0), np.int64(1)  # not literals, or each would have `_mark` compiled for itself
    for t in range(book.clock[0], until):
        room = _room(book, terms, targets, record, t)
        if room != DONE:
            book.clock[0] = t
            return room
        row = t - slab.first
        closes = slab.close[row]
        due = at_open and t > 0 and _any_is(book.due, t - 1)
        calm = np.int64(not (due and _disturbed(events, book.clock[1], t)))
        if not calm:
            decide(book, terms, targets, scratch, record, closes, slab.impact, t - 1, t, calm)
        if terms.financed and t > 0:
            _finance(book, terms, slab.bars_per_year)
        _happen(book, terms, events, record, kind, t)
        if due and calm:
            decide(book, terms, targets, scratch, record, slab.open[row], slab.impact, t - 1, t, calm)
        if at_open:
            fill(book, slab, row, terms, record, scratch, kind, s.NEXT_OPEN, t)
        if ruled:
            protect(book, slab, row, terms, record, t)
        if at_close:
            fill(book, slab, row, terms, record, scratch, kind, s.NEXT_CLOSE, t)
        _mark(book, closes, terms, scratch.known, first)
        for a in range(book.atr.shape[0]):
            book.atr[a] = slab.atr[row, a]
        guard(book, slab, row, terms, t)
        decide(book, terms, targets, scratch, record, closes, slab.impact, t, t, np.int64(t + 1 < n_bars))
        if at_once:
            fill(book, slab, row, terms, record, scratch, kind, s.SAME_CLOSE, t)
            _mark(book, closes, terms, scratch.known, again)
        _account(book, record, t, n_bars)
    book.clock[0] = until
    return DONE


@bare
def finish(book):
    """Close the books after the last bar: count open orders and mix the counters into the digest."""
    for k in range(book.slots.shape[0]):
        book.counters[s.N_UNFILLED, k] = book.waiting[k]
        for column in range(book.counters.shape[0]):
            bits = np.uint64(book.counters[column, k])
            book.digest[0, k] = _mixed(book.digest[0, k], bits, _MIX_0, _SHIFT_0)
            book.digest[1, k] = _mixed(book.digest[1, k], bits, _MIX_1, _SHIFT_1)
