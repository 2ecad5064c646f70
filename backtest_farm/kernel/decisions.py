"""The end of step 7: from what a strategy wants to orders that wait."""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.at_once import rebalance
from backtest_farm.kernel.constraints import constrain
from backtest_farm.kernel.jit import bare, inlined
from backtest_farm.kernel.sizing import limits_of, sized
from backtest_farm.kernel.slots import LOT_TOLERANCE, NOTHING, move_slot

MANY = 8
"""Where new names are more than this part of a book, all slots are gone through once instead of for each."""

EMPTY = -np.inf
"""What is wanted of a slot that holds nothing and waits for nothing: a new name may have it."""


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


@inlined
def _want_of(targets, start, place, top, low, weight, short_weight):
    """Return what is wanted of the candidate at a place of the bar's row; 0 of those between both ends."""
    want = 0.0
    if targets.listed:
        if place < top:
            want = targets.values[start + place] * weight
    else:
        want = weight if place < top else (short_weight if (place >= low) & (place < s.NOWHERE) else 0.0)
    return want


@inlined
def _enter(fresh, asked, count, a, want):
    """Add a new name to those of a decision, which are kept from the last asset to the first."""
    place = count
    while place > 0 and fresh[place - 1] < a:
        fresh[place] = fresh[place - 1]
        asked[place] = asked[place - 1]
        place -= 1
    fresh[place] = a
    asked[place] = want


@inlined
def _seat(book, wanted, k, used, a, want):
    """Give asset `a` a slot at its place in panel order, and return how many there are.

    An empty slot nearby is taken up where there is one, so that only the slots in between move.
    """
    asset = book.asset[k]
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
        move_slot(book, k, np.uint32(hole + step), np.uint32(hole))
        wanted[hole] = wanted[hole + step]
        hole += step
    _sit_down(book, wanted, k, place, a, want)
    return used


@inlined
def _sit_down(book, wanted, k, place, a, want):
    """Make a slot that of an asset that is neither held nor ordered yet."""
    book.asset[k, place] = a
    book.quantity[k, place] = 0.0
    book.slot[k, place, s.ORDER] = s.NO_ORDER
    book.slot[k, place, s.ENTRY_BASE] = np.nan
    book.slot[k, place, s.FLOW] = 0.0
    wanted[place] = want


@inlined
def _seat_many(book, scratch, k, used, count):
    """Give the new names of a decision slots at their places in panel order, and return how many there are.

    Empty slots go. A slot has to move by the new names before it, less the empty slots before it. Slots never
    overtake each other: so those that move down may go in ascending order, the others in descending order
    after them, and none is overwritten before it has gone.
    """
    fresh, asked, spots, wanted, moves = (
        scratch.fresh, scratch.asked, scratch.spots, scratch.wanted, scratch.moves,
    )  # fmt: skip
    asset = book.asset[k]
    kept = up = 0
    left = count
    for i in range(used):
        moves[i] = 0
        if wanted[i] == EMPTY:
            continue
        while left > 0 and fresh[left - 1] < asset[i]:
            left -= 1
            spots[left] = kept + count - 1 - left
        place = kept + count - left
        kept += 1
        if place > i:
            moves[i] = place
            up = i + 1
        elif place < i:
            move_slot(book, k, np.uint32(i), np.uint32(place))
            wanted[place] = wanted[i]
    while left > 0:
        left -= 1
        spots[left] = kept + count - 1 - left
    for i in range(up - 1, -1, -1):
        if moves[i] > 0:
            move_slot(book, k, np.uint32(i), np.uint32(moves[i]))
            wanted[moves[i]] = wanted[i]
    for at in range(count):
        _sit_down(book, wanted, k, spots[at], fresh[at], asked[at])
    return kept + count


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
        if listed or end > 0:
            for i in range(used):
                place = places[asset[i]]
                named = (place < top) | ((place >= low) & (place < s.NOWHERE))
                wanted[i] = _want_of(targets, start, place, top, low, weight, short_weight)
                seen[place if named else length] = serial
                found += named
        else:
            for i in range(used):
                place = places[asset[i]]
                named = place < top
                wanted[i] = weight if named else 0.0
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
            wanted[i] = EMPTY if (quantity[i] == 0.0) & (wanted[i] == 0.0) else wanted[i]
        for i in range(used if left > 0 and book.waiting[k] > 0 else 0):
            wanted[i] = 0.0 if wanted[i] == EMPTY and slot[i, s.ORDER] != s.NO_ORDER else wanted[i]
        sought = left > 0
        entering = 0
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
            _enter(scratch.fresh, scratch.asked, entering, a, want)
            entering += 1
        if entering * MANY > used:
            used = _seat_many(book, scratch, k, used, entering)
        else:
            for at in range(entering):
                used = _seat(book, wanted, k, used, scratch.fresh[at], scratch.asked[at])
        for i in range(used if sought else 0):
            wanted[i] = 0.0 if wanted[i] == EMPTY else wanted[i]

        book.slots[k] = used
        if at_once and rebalance(book, terms, scratch, record, prices, impacts, k, used, t, now):
            continue
        refused = False
        if capped:
            code = constrain(book, terms, scratch, k, used)
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
            places[row[j]] = s.NOWHERE
