"""What the steps of a bar do with one slot: move it, force it out, fill it, close its trade."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined

DUST = 1e-12
"""Orders under this part of equity are dropped; denominators up to it are undefined; so near is equal."""
NOTHING = -1
"""No counter and no reason."""
MAX_DISTANCE = 0.5
"""A fill price is never further from its base than this part of it."""


@inlined
def valid(price):
    """Return whether a price is one."""
    return price > 0.0 and price < np.inf


@inlined
def marked(book, k, i, a):
    """Return what a unit is worth where the bar has no price: the mark, or the base of the first fill."""
    price = book.mark[a]
    if price != price:
        price = book.entry_base[k, i]
    return price


@inlined
def move_slot(book, k, source, place):
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
    for note in range(book.notes.shape[2]):
        book.notes[k, place, note] = book.notes[k, source, note]


@inlined
def force_out(book, k, i, t, reason):
    """Give the position in slot `i` an exit that waits until it is filled, decided at bar `t`."""
    book.target[k, i] = 0.0
    book.order[k, i] = s.WAITING + reason
    book.decided[k, i] = t
    book.noted[k, i] = 0
    book.counters[s.N_ORDERS, k] += 1


@inlined
def close_trade(book, k, i, t):
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
def record_fill(
    record, k, decided, t, a, reason, flat, quantity, base, price, commission, spread, slippage, impact
):
    """Append a row to the ledger; without one, every row lands in the same spare place.

    So there is no branch around these stores, which would cost more than they do.
    """
    row = record.used[0]
    record.keys[row, 0] = k
    record.keys[row, 1] = decided
    record.keys[row, 2] = t
    record.keys[row, 3] = a
    record.keys[row, 4] = reason
    record.keys[row, 5] = flat
    record.values[row, 0] = quantity
    record.values[row, 1] = base
    record.values[row, 2] = price
    record.values[row, 3] = commission
    record.values[row, 4] = spread
    record.values[row, 5] = slippage
    record.values[row, 6] = impact
    record.used[0] = row + record.recording


@inlined
def unit_impact(costs, row, column, impacts, bar, a):
    """Return the price impact of one unit of asset `a`, as a fraction; 0 where no trial has any."""
    impact = 0.0
    if impacts.shape[0] > 0:
        impact = costs[row, column, s.IMPACT] * impacts[bar, a]
    return impact


@inlined
def commission_of(size, notional, costs, row, column):
    """Return the commission of one fill."""
    fee = costs[row, column, s.PER_SHARE] * size + costs[row, column, s.RATE] * notional
    if fee < costs[row, column, s.LEAST]:
        fee = costs[row, column, s.LEAST]
    cap = costs[row, column, s.MOST] * notional
    return cap if fee > cap else fee


@inlined
def outlay_of(size, base, impact, costs, row, column):
    """Return the notional of buying `size` at `base`, and what is paid in all; see `trade` for the rest."""
    distance = costs[row, column, s.HALF_SPREAD] + costs[row, column, s.SLIPPAGE] + impact * np.sqrt(size)
    notional = size * (base * (1.0 + min(distance, MAX_DISTANCE)))
    fee = commission_of(size, notional, costs, row, column)
    return notional, notional + fee


@inlined
def trade(book, record, k, i, t, quantity, after, base, impact, costs, row, column):
    """Fill `quantity` of slot `i` at `base`, which leaves the position at `after`.

    `row` and `column` say where in ``Terms.costs`` the costs stand; `impact` is the price impact, as a
    fraction, of one unit: it grows with the root of the size.
    """
    size = abs(quantity)
    half_spread = costs[row, column, s.HALF_SPREAD]
    slippage = costs[row, column, s.SLIPPAGE]
    push = impact * np.sqrt(size)
    distance = half_spread + slippage + push
    if distance > MAX_DISTANCE:
        # All parts shrink alike, so that the ledger's columns still sum to the price's distance.
        shrink = MAX_DISTANCE / distance
        half_spread *= shrink
        slippage *= shrink
        push *= shrink
        distance = MAX_DISTANCE
    price = base * (1.0 + distance if quantity > 0.0 else 1.0 - distance)
    notional = size * price
    commission = commission_of(size, notional, costs, row, column)
    spread_cost = half_spread * size * base
    slip_cost = slippage * size * base
    push_cost = push * size * base
    flow = quantity * price + commission
    book.cash[k] -= flow
    book.bar_values[2, k] += notional
    book.bar_values[3, k] += commission + spread_cost + slip_cost + push_cost
    book.counters[s.N_FILLS, k] += 1
    held = book.quantity[k, i]
    if held == 0.0:
        book.entry_bar[k, i] = t
        book.entry_base[k, i] = base
        book.flow[k, i] = 0.0
    if book.notes.shape[2] > 0:
        if held == 0.0:
            book.notes[k, i, s.ENTRY] = price
            book.notes[k, i, s.WATER] = price
            book.notes[k, i, s.ATR] = book.notes[k, i, s.ORDER_ATR]
            book.notes[k, i, s.ENTERED] = size
        elif held * quantity > 0.0:
            entered = book.notes[k, i, s.ENTERED]
            paid = book.notes[k, i, s.ENTRY] * entered + notional
            book.notes[k, i, s.ENTRY] = paid / (entered + size)
            book.notes[k, i, s.ENTERED] = entered + size
    book.flow[k, i] -= flow
    book.quantity[k, i] = after
    if after == 0.0:
        close_trade(book, k, i, t)
    reason = book.order[k, i] - s.WAITING
    record_fill(
        record, k, book.decided[k, i], t, book.asset[k, i], reason, after == 0.0, quantity, base, price,
        commission, spread_cost, slip_cost, push_cost,
    )  # fmt: skip


@inlined
def drop_empty(book, k):
    """Let slots that neither hold nor wait go."""
    kept = 0
    for i in range(book.slots[k]):
        if book.quantity[k, i] != 0.0 or book.order[k, i] != s.NO_ORDER:
            if kept != i:
                move_slot(book, k, i, kept)
            kept += 1
    book.slots[k] = kept


@bare
def extremes(high, low, close, a, first, stop):
    """Return the highest and the lowest price of asset `a` on those of the bars ``first ... stop - 1`` that
    have a close, which stands in for a missing high or low. Infinities where there is no such bar.
    """
    best = -np.inf
    worst = np.inf
    for row in range(first, stop):
        last = close[row, a]
        if valid(last):
            for table in (high, low):
                price = table[row, a] if table.shape[0] > 0 else last
                price = price if valid(price) else last
                best = max(best, price)
                worst = min(worst, price)
    return best, worst
