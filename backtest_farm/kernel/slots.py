"""What the steps of a bar do with one slot: move it, force it out, fill it, close its trade."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import bare, inlined

DUST = 1e-12
"""Orders under this part of equity are dropped; denominators up to it are undefined; so near is equal."""
CASH_TOLERANCE = 1e-9
"""Buys fit if their outlay exceeds free cash by no more than this part of equity."""
LOT_TOLERANCE = 1e-9
"""A lot lacking this part of itself is a whole one."""
NOTHING = -1
"""No counter and no reason."""
LARGEST = np.finfo(np.float64).max
MAX_DISTANCE = 0.5
"""A fill price is never further from its base than this part of it."""


@inlined
def valid(price):
    """Return whether a price is one."""
    # Not `< inf`: LLVM makes a dozen operations on bits of that pair.
    return (price > 0.0) & (price <= LARGEST)


@inlined
def marked(book, k, i, a):
    """Return what a unit is worth where the bar has no price: the mark, or the base of the first fill."""
    price = book.mark[a]
    if price != price:
        price = book.slot[k, i, s.ENTRY_BASE]
    return price


@inlined
def equity_at(book, k, prices):
    """Return a trial's equity at the prices of a pass, before any fill of it."""
    asset, quantity = book.asset[k], book.quantity[k]
    equity = book.cash[k]
    for i in range(book.slots[k]):
        held = quantity[i]
        if held != 0.0:
            price = prices[asset[i]]
            if not valid(price):
                price = marked(book, k, i, asset[i])
            equity += held * price
    return equity


@inlined
def move_slot(book, k, source, place):
    """Copy one slot of a trial to another place; what stood there is lost."""
    book.asset[k, place] = book.asset[k, source]
    book.quantity[k, place] = book.quantity[k, source]
    # All are read before any is written, so that a slot moves as one piece.
    now = book.slot[k, source]
    f0, f1, f2, f3, f4, f5, f6, f7 = now[0], now[1], now[2], now[3], now[4], now[5], now[6], now[7]
    then = book.slot[k, place]
    then[0], then[1], then[2], then[3], then[4], then[5], then[6], then[7] = f0, f1, f2, f3, f4, f5, f6, f7
    for note in range(book.notes.shape[2]):
        book.notes[k, place, note] = book.notes[k, source, note]


@inlined
def force_out(book, k, i, t, reason):
    """Give the position in slot `i` an exit that waits until it is filled, decided at bar `t`."""
    book.slot[k, i, s.TARGET] = 0.0
    book.slot[k, i, s.ORDER] = s.WAITING + reason
    book.slot[k, i, s.DECIDED] = t
    book.slot[k, i, s.NOTED] = 0
    book.counters[s.N_ORDERS, k] += 1


@inlined
def close_trade(book, k, i, t):
    """Count the round trip that ends at bar `t` in slot `i`."""
    profit = book.slot[k, i, s.FLOW]
    book.counters[s.N_TRADES, k] += 1
    book.sums[s.S_BARS_HELD, k] += t - book.slot[k, i, s.ENTRY_BAR]
    if profit > 0.0:
        book.sums[s.S_WINS, k] += 1.0
        book.sums[s.S_PROFIT, k] += profit
    else:
        book.sums[s.S_LOSS, k] -= profit


@inlined
def record_fill(
    record, k, decided, t, a, reason, flat, quantity, base, price, commission, spread, slippage, impact
):
    """Append a row to the ledger; without one, it lands in a spare place."""
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
def commission_of(size, notional, costs, row, column):
    """Return the commission of one fill."""
    fee = costs[row, column, s.PER_SHARE] * size + costs[row, column, s.RATE] * notional
    if fee < costs[row, column, s.LEAST]:
        fee = costs[row, column, s.LEAST]
    cap = costs[row, column, s.MOST] * notional
    return cap if fee > cap else fee


@inlined
def priced(quantity, base, costs, row, column, impacts, bar, a):
    """Return what filling `quantity` of asset `a` at `base` means in money.

    `row` and `column` say where in ``Terms.costs`` the costs stand. The impact is a fraction that grows with
    the root of the size.

    Returns
    -------
    price : float
        Per unit.
    notional, commission, spread, slippage, impact : float
    """
    size = abs(quantity)
    half_spread = costs[row, column, s.HALF_SPREAD]
    slippage = costs[row, column, s.SLIPPAGE]
    push = 0.0
    if impacts.shape[0] > 0:
        push = costs[row, column, s.IMPACT] * impacts[bar, a] * np.sqrt(size)
    distance = half_spread + slippage + push
    if distance > MAX_DISTANCE:
        # All parts shrink alike, so that the ledger's columns still sum to the price's distance.
        shrink = MAX_DISTANCE / distance
        half_spread *= shrink
        slippage *= shrink
        push *= shrink
        distance = MAX_DISTANCE
    price = base * (1.0 + (distance if quantity > 0.0 else -distance))
    notional = size * price
    commission = commission_of(size, notional, costs, row, column)
    return price, notional, commission, half_spread * size * base, slippage * size * base, push * size * base


@inlined
def lay_leg(legs, e, quantity, after, base, costs, row, column, impacts, bar, a):
    """Write down what one fill will mean."""
    price, notional, commission, spread, slippage, impact = priced(
        quantity, base, costs, row, column, impacts, bar, a
    )
    # What trades nothing costs nothing, whatever the least commission is.
    paid = quantity * price + commission
    paid = paid if quantity != 0.0 else 0.0
    cost = commission + spread + slippage + impact
    legs[e, s.QUANTITY] = quantity
    legs[e, s.AFTER] = after
    legs[e, s.PRICE] = price
    legs[e, s.NOTIONAL] = notional
    legs[e, s.PAID] = paid
    legs[e, s.COST] = cost


@inlined
def settle(book, k, i, t, quantity, after, base, price, notional, flow):
    """Change slot `i` for a fill of `quantity`, which leaves the position at `after` and costs `flow`."""
    held = book.quantity[k, i]
    before = book.slot[k, i, s.FLOW]
    if held == 0.0:
        book.slot[k, i, s.ENTRY_BAR] = t
        book.slot[k, i, s.ENTRY_BASE] = base
        before = 0.0
    if book.notes.shape[2] > 0:
        size = abs(quantity)
        if held == 0.0:
            book.notes[k, i, s.ENTRY] = price
            book.notes[k, i, s.WATER] = price
            book.notes[k, i, s.ATR] = book.slot[k, i, s.ORDER_ATR]
            book.notes[k, i, s.ENTERED] = size
        elif held * quantity > 0.0:
            entered = book.notes[k, i, s.ENTERED]
            paid = book.notes[k, i, s.ENTRY] * entered + notional
            book.notes[k, i, s.ENTRY] = paid / (entered + size)
            book.notes[k, i, s.ENTERED] = entered + size
    book.slot[k, i, s.FLOW] = before - flow
    book.quantity[k, i] = after
    if after == 0.0:
        close_trade(book, k, i, t)


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
