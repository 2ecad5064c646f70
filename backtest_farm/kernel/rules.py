"""Step 4 and the first part of step 7: what ends positions without a target, and what ends decisions."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.slots import (
    DUST,
    NOTHING,
    force_out,
    move_slot,
    priced,
    record_fill,
    settle,
    valid,
)


@bare
def _stop_of(side, entry, water, atr, age, stop, atr_stop, trailing, step, floor):
    """Return the level of the tightest stop of a position, and its reason; NOTHING without one.

    `side` is 1 for a long and -1 for a short; `age` counts bars since the entry bar.
    """
    level = 0.0
    reason = NOTHING
    if stop > 0.0:
        level = entry * (1.0 - side * stop)
        reason = s.R_STOP_LOSS
    if atr_stop > 0.0 and valid(atr):
        nearer = entry - side * atr_stop * atr
        if reason == NOTHING or side * (nearer - level) > DUST * abs(level):
            level = nearer
            reason = s.R_ATR_STOP
    if trailing > 0.0:
        nearer = water * (1.0 - side * max(floor, trailing - step * age))
        if reason == NOTHING or side * (nearer - level) > DUST * abs(level):
            level = nearer
            reason = s.R_TRAILING
    return level, reason


@inlined
def _stopped(side, price, level):
    """Return whether a price is at a stop or beyond it."""
    return price <= level * (1.0 + DUST) if side > 0.0 else price >= level * (1.0 - DUST)


@inlined
def _reached(side, price, level):
    """Return whether a price is at a target or beyond it."""
    return price >= level * (1.0 - DUST) if side > 0.0 else price <= level * (1.0 + DUST)


@inlined
def _levels(book, rules, k, i, t, side):
    """Return the tightest stop of slot `i`, its reason, and the profit target (0 and none without one)."""
    level, reason = _stop_of(
        side,
        book.notes[k, i, s.ENTRY],
        book.notes[k, i, s.WATER],
        book.notes[k, i, s.ATR],
        t - book.slot[k, i, s.ENTRY_BAR],
        rules[k, s.STOP_LOSS],
        rules[k, s.ATR_STOP],
        rules[k, s.TRAILING],
        rules[k, s.TRAILING_STEP],
        rules[k, s.TRAILING_FLOOR],
    )
    return level, reason, book.notes[k, i, s.ENTRY] * (1.0 + side * rules[k, s.TAKE_PROFIT])


@inlined
def _cool(book, rules, k, a, t):
    """Begin the cool-down of an asset after a rule's exit triggered at `t`."""
    if rules[k, s.COOLDOWN] > 0.0:
        book.cooled[k, a] = t + np.int64(rules[k, s.COOLDOWN])


@bare
def protect(book, slab, row, terms, record, t):
    """Step 4: prices inside the bar that reach a stop or a target end the position at once."""
    rules, costs, cost_row = terms.rules, terms.costs, terms.cost_row
    opens, highs, lows, closes, impacts = slab.open, slab.high, slab.low, slab.close, slab.impact
    fill = terms.fill
    wide = costs.shape[1] > 1
    for k in range(book.slots.shape[0]):
        stops = rules[k, s.STOP_LOSS] > 0.0 or rules[k, s.ATR_STOP] > 0.0 or rules[k, s.TRAILING] > 0.0
        gains = rules[k, s.TAKE_PROFIT] > 0.0
        if rules[k, s.ON_CLOSE] != 0.0 or not (stops or gains):
            continue
        for i in range(book.slots[k]):
            held = book.quantity[k, i]
            a = book.asset[k, i]
            close = closes[row, a]
            # What filled at the close has not lived through its entry bar.
            lived = fill[k] == s.NEXT_OPEN or book.slot[k, i, s.ENTRY_BAR] < t
            if held == 0.0 or not lived or not valid(close):
                continue
            side = 1.0 if held > 0.0 else -1.0
            level, stop, target = _levels(book, rules, k, i, t, side)
            first = opens[row, a]
            high = highs[row, a] if highs.shape[0] > 0 else close
            low = lows[row, a] if lows.shape[0] > 0 else close
            high = high if valid(high) else close
            low = low if valid(low) else close
            worst = low if side > 0.0 else high
            best = high if side > 0.0 else low
            reason = NOTHING
            base = first
            if valid(first) and stop != NOTHING and _stopped(side, first, level):
                reason = stop
            elif valid(first) and gains and _reached(side, first, target):
                reason = s.R_TAKE_PROFIT
            elif stop != NOTHING and _stopped(side, worst, level):
                reason = stop
                base = level
            elif gains and _reached(side, best, target):
                reason = s.R_TAKE_PROFIT
                base = target
            if reason == NOTHING:
                water = book.notes[k, i, s.WATER]
                book.notes[k, i, s.WATER] = max(water, best) if side > 0.0 else min(water, best)
                continue
            if book.slot[k, i, s.ORDER] != s.NO_ORDER:
                book.counters[s.N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            force_out(book, k, i, t - 1, reason)
            book.counters[reason + s.RULE_COUNTER, k] += 1
            _cool(book, rules, k, a, t)
            column = a if wide else 0
            price, notional, commission, spread, slippage, impact = priced(
                -held, base, costs, cost_row[k], column, impacts, row, a
            )
            flow = -held * price + commission
            record_fill(
                record, k, t - 1, t, a, reason, True, -held, base, price, commission, spread, slippage, impact
            )
            settle(book, k, i, t, -held, 0.0, base, price, notional, flow)
            book.cash[k] -= flow
            book.bar_values[2, k] += notional
            book.bar_values[3, k] += commission + spread + slippage + impact
            book.counters[s.N_FILLS, k] += 1
            book.slot[k, i, s.ORDER] = s.NO_ORDER


@inlined
def _force_all_out(book, k, t, reason):
    """Give every position a forced exit and let everything else go."""
    kept = 0
    for i in range(book.slots[k]):
        if book.slot[k, i, s.ORDER] == s.WAITING:
            book.counters[s.N_CANCELLED, k] += 1
        if book.quantity[k, i] == 0.0:
            continue
        move_slot(book, k, i, kept)
        if book.slot[k, kept, s.ORDER] <= s.WAITING:
            force_out(book, k, kept, t, reason)
        kept += 1
    book.slots[k] = kept
    book.waiting[k] = kept


@bare
def guard(book, slab, row, terms, t):
    """Step 7 before the schedule: bust, drawdown halt, time exits, rules on the close."""
    rules, fill, closes = terms.rules, terms.fill, slab.close
    ruled = rules.shape[0] > 0
    for k in range(book.slots.shape[0]):
        equity = book.bar_values[0, k]
        if equity <= 0.0 and book.bust[k] == 0:
            book.bust[k] = 1
            book.counters[s.N_BUST, k] = 1
            _force_all_out(book, k, t, s.R_BUST)
        if not ruled:
            continue
        if rules[k, s.HALT_DRAWDOWN] > 0.0 and book.bust[k] == 0 and t > book.halt_end[k]:
            if book.halt_end[k] >= 0:
                book.halt_peak[k] = equity
                book.halt_end[k] = -1
            book.halt_peak[k] = max(book.halt_peak[k], equity)
            if equity / book.halt_peak[k] - 1.0 <= -rules[k, s.HALT_DRAWDOWN] + DUST:
                for_good = rules[k, s.HALT_BARS] == np.inf
                book.halt_end[k] = s.NEVER if for_good else t + np.int64(rules[k, s.HALT_BARS])
                book.counters[s.N_HALT, k] += 1
                _force_all_out(book, k, t, s.R_HALT)
        most = rules[k, s.MAX_BARS]
        due = t if fill[k] == s.SAME_CLOSE else t + 1
        stops = rules[k, s.STOP_LOSS] > 0.0 or rules[k, s.ATR_STOP] > 0.0 or rules[k, s.TRAILING] > 0.0
        gains = rules[k, s.TAKE_PROFIT] > 0.0
        on_close = rules[k, s.ON_CLOSE] != 0.0 and (stops or gains)
        if most == 0.0 and not on_close:
            continue
        for i in range(book.slots[k]):
            held = book.quantity[k, i]
            if held == 0.0 or book.slot[k, i, s.ORDER] > s.WAITING:
                continue
            a = book.asset[k, i]
            close = closes[row, a]
            lived = fill[k] == s.NEXT_OPEN or book.slot[k, i, s.ENTRY_BAR] < t
            reason = NOTHING
            if most > 0.0 and due - book.slot[k, i, s.ENTRY_BAR] >= most:
                reason = s.R_TIME_EXIT
            elif on_close and lived and valid(close):
                side = 1.0 if held > 0.0 else -1.0
                level, stop, target = _levels(book, rules, k, i, t, side)
                if stop != NOTHING and _stopped(side, close, level):
                    reason = stop
                elif gains and _reached(side, close, target):
                    reason = s.R_TAKE_PROFIT
                else:
                    water = book.notes[k, i, s.WATER]
                    book.notes[k, i, s.WATER] = max(water, close) if side > 0.0 else min(water, close)
            if reason == NOTHING:
                continue
            if book.slot[k, i, s.ORDER] == s.WAITING:
                book.counters[s.N_CANCELLED, k] += 1
                book.waiting[k] -= 1
            force_out(book, k, i, t, reason)
            book.waiting[k] += 1
            book.counters[reason + s.RULE_COUNTER, k] += 1
            _cool(book, rules, k, a, t)
