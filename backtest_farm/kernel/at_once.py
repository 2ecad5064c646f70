"""The common case of a decision and its fills in one go, several slots at a time.

Most decisions do not need what `decide` and `fill` do by slots and lists of orders: a long book, nothing
waiting, a price for everything. There each order would be made, found, worked out and dropped again within a
bar. Here all of them are worked out in rows of one array, by loops that LLVM turns into vector code, and only
the sums, whose order is part of the contract, go slot by slot.

Why rows of one array: of two arrays the compiler must assume that they overlap, and takes one slot at a time;
rows at distances that it knows do not. Why the arithmetic of `priced` and `sized` stands here once more: they
look into other arrays, which would end that. Both ways are held against each other, bit by bit, by the tests.
"""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.jit import inlined
from backtest_farm.kernel.sizing import limits_of, sized
from backtest_farm.kernel.slots import (
    CASH_TOLERANCE,
    DUST,
    LOT_TOLERANCE,
    MAX_DISTANCE,
    NOTHING,
    close_trade,
    equity_at,
    move_slot,
    priced,
    record_fill,
    settle,
    valid,
)

W_HELD, W_WANT, W_MARK, W_BASE, W_TRADES, W_AFTER, W_PRICE, W_NOTIONAL, W_PAID, W_COST = range(
    0, s.WORK_ROWS * s.WIDE, s.WIDE
)


@inlined
def _price_row(work, used, costs, at):
    """Write into the rows of `work` what the trades in it mean in money, by the arithmetic of `priced`.

    In its loop nothing may look into another array.
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
def _settle_row(book, scratch, k, used, t):
    """Do `settle` for the trades in the rows of `work`, where no rule keeps notes of positions.

    Which slots open or close a position is hard to foretell: they are listed without a branch, then visited.
    """
    quantity, slot, work, turns = book.quantity[k], book.slot[k], scratch.work, scratch.moves
    turning = np.uint32(0)
    for i in range(used):
        held, after = work[W_HELD + i], work[W_AFTER + i]
        before = slot[i, s.FLOW]
        slot[i, s.FLOW] = (before if held != 0.0 else 0.0) - work[W_PAID + i]
        quantity[i] = after
        turns[turning] = i
        turning += np.uint32((held == 0.0) != (after == 0.0))
    for at in range(turning):
        i = turns[at]
        if work[W_HELD + i] == 0.0:
            slot[i, s.ENTRY_BAR] = t
            slot[i, s.ENTRY_BASE] = work[W_BASE + i]
        else:
            close_trade(book, k, i, t)


@inlined
def rebalance(book, terms, scratch, record, prices, impacts, k, used, decided, t):
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
    done = equity > 0.0 and used <= s.WIDE
    for i in range(used if done else 0):
        a = asset[i]
        work[W_HELD + i] = quantity[i]
        work[W_WANT + i] = wanted[i]
        work[W_MARK + i] = mark[a]
        work[W_BASE + i] = prices[a]
    sound = 0
    for i in range(used if done else 0):
        held, known, base = work[W_HELD + i], work[W_MARK + i], work[W_BASE + i]
        idle = (held == 0.0) & (work[W_WANT + i] == 0.0)
        sound += int(idle | (valid(base) & (known == known) & (held >= 0.0)))
        work[W_MARK + i] = 1.0 if idle else known
        work[W_BASE + i] = 1.0 if idle else base
    done = done and sound == used
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
            fills += trades != 0.0
        if book.notes.shape[2] > 0 or atr.shape[0] > 0:
            for i in range(used):
                trades = work[W_TRADES + i]
                if trades != 0.0:
                    if atr.shape[0] > 0:
                        book.slot[k, i, s.ORDER_ATR] = atr[asset[i]]
                    settle(
                        book, k, i, t, trades, work[W_AFTER + i], work[W_BASE + i], work[W_PRICE + i],
                        work[W_NOTIONAL + i], work[W_PAID + i],
                    )  # fmt: skip
        else:
            _settle_row(book, scratch, k, used, t)
        # Empty slots wait for new names, but each of them costs on every bar: never too many.
        empty = 0
        for i in range(used):
            empty += quantity[i] == 0.0
        if 4 * empty > used:
            kept = 0
            for i in range(used):
                if quantity[i] != 0.0:
                    if kept != i:
                        move_slot(book, k, i, kept)
                    kept += 1
            book.slots[k] = kept
        book.cash[k] = cash
        book.bar_values[2, k] = traded
        book.bar_values[3, k] = costing
        book.counters[s.N_ORDERS, k] += orders
        book.counters[s.N_FILLS, k] += fills
    return done
