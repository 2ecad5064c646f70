"""Lanes: trials that time one asset, side by side in vector registers.

`advance` walks slots: a trial costs some fifty nanoseconds a bar, whatever it holds. Sweeps of timing rules
are thousands of trials of one asset, which decide and fill on few bars and do the same on all others: mark,
fold into running sums, mix into the digest. So `advance_lanes` keeps LANES trials in one flat buffer, a row
for each number, and per bar runs short loops of straight arithmetic over the lanes, without a branch; what is
rare, fills and decisions, is done lane by lane on the `Book` itself. The operations on every number are those
of ``book`` and ``fills`` in their order, so all that `finish` and `summarise` read has the same bytes.

`fits_lanes` says for which tiles that holds. Bars with events, or without a price, are left to `advance`,
which takes over the same book and hands it back. `went_well` says at the end whether nothing happened that
needs the rest of the contract; if not, the tile is run again by `advance` alone.

What makes the loops vector code, seen in the assembly (``_account.inspect_asm``): the trip count and the
distances between rows are constants of one array, so that LLVM needs no checks for overlap; the bits of a
number are taken in a register. A bar of a lane is bound by the processor's units: two divisions, of which one
vector of eight begins every 16 cycles; eight multiplications of 64 bits, three operations each; and some
forty additions and multiplications.
"""

from __future__ import annotations

import numpy as np

from backtest_farm.kernel import state as s
from backtest_farm.kernel.book import _MIX_0, _MIX_1, _SHIFT_0, _SHIFT_1
from backtest_farm.kernel.jit import bare, inlined, widest
from backtest_farm.kernel.slots import CASH_TOLERANCE, DUST, priced, settle, valid

LANES = 64
"""Trials of a block: enough to hide how long operations take; all their numbers stay in the first cache."""

N_SUMS = s.S_GROSS + 1
"""So many of SUMS change on each bar: the first rows of a block."""
(
    MEAN, M2, M3, M4, DOWNSIDE, PEAK, DRAWDOWN, EQUITY_SUM, GROSS_SUM, EQUITY, CASH, NOTIONAL, COSTS, HELD,
    GROSS, TROUGH, RETURN, SEGMENT, SEGMENT_SQ, DIGEST_0, DIGEST_1, SIZE,
) = range(0, 22 * LANES, LANES)  # fmt: skip
"""Where the rows begin. TROUGH is the least equity since the peak; digests are bits in the place of
numbers."""


def fits_lanes(terms: s.Terms, events: s.Events, targets: s.Targets) -> bool:
    """Say whether `advance_lanes` may run a tile: longs of one asset by weight, at costs in proportion.

    No membership is lost, each trial has a schedule of its own, and these come in eights.
    """
    if not targets.listed or targets.kind != s.WEIGHTS or not targets.ids.size:
        return False
    asset = targets.ids.flat[0]
    if (targets.ids != asset).any():
        return False
    return bool(
        targets.fires.shape[1] % 8 == 0
        and np.array_equal(terms.schedule, np.arange(len(terms.schedule)))
        and targets.row_length.max() == 1
        and (targets.values > 0.0).all()
        and (terms.weight > 0.0).all()
        and (terms.fill == s.NEXT_OPEN).all()
        and (terms.sizing == s.SIZE_AT_DECISION).all()
        and not terms.limits[:, :4].any()
        and not terms.costs[:, :, [s.LEAST, s.IMPACT]].any()
        and not (terms.financed or terms.volume.any() or len(terms.rules) or len(terms.caps))
        and s.LEAVES not in events.kind[events.asset == asset]
    )


def new_lanes() -> np.ndarray:
    """Return the buffer of a block."""
    # From the start of a cache line on: a vector that lies in two lines takes twice as long to load or store.
    room = np.zeros(SIZE + 8)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + SIZE]


def went_well(book: s.Book, terms: s.Terms) -> bool:
    """Say whether lanes were enough: equity stayed finite and clearly above 0."""
    lowest = (1.0 + book.sums[s.S_DRAWDOWN]) * terms.starting_cash
    return bool((lowest > 1e3 * DUST).all() and np.isfinite(book.sums[s.S_EQUITY]).all())


@bare
def _move_in(book, lanes, first, stop, segment):
    """Copy a block of trials from the book; lanes to spare hold one unit of cash."""
    lanes[:] = 0.0
    for k in range(LANES):
        lanes[EQUITY + k] = lanes[CASH + k] = lanes[PEAK + k] = lanes[TROUGH + k] = 1.0
    for at in range(first, stop):
        k = at - first
        for j in range(N_SUMS):
            lanes[j * LANES + k] = book.sums[j, at]
        lanes[EQUITY + k] = book.equity[at]
        lanes[CASH + k] = book.cash[at]
        lanes[HELD + k] = book.quantity[at, 0]
        # The drawdown holds what came before.
        lanes[TROUGH + k] = lanes[PEAK + k]
        lanes[SEGMENT + k] = book.segments[0, segment, at]
        lanes[SEGMENT_SQ + k] = book.segments[1, segment, at]
        lanes[DIGEST_0 + k] = np.uint64(book.digest[0, at]).view(np.float64)
        lanes[DIGEST_1 + k] = np.uint64(book.digest[1, at]).view(np.float64)


@bare
def _move_out(book, lanes, first, stop, segment):
    """Copy a block back into the book."""
    for at in range(first, stop):
        k = at - first
        for j in range(N_SUMS):
            book.sums[j, at] = lanes[j * LANES + k]
        book.equity[at] = lanes[EQUITY + k]
        book.segments[0, segment, at] = lanes[SEGMENT + k]
        book.segments[1, segment, at] = lanes[SEGMENT_SQ + k]
        book.digest[0, at] = np.float64(lanes[DIGEST_0 + k]).view(np.uint64)
        book.digest[1, at] = np.float64(lanes[DIGEST_1 + k]).view(np.uint64)


@inlined
def _fill(book, slab, terms, k, t, base, a):
    """Fill the order of one trial at `base`: `fill` of ``fills`` for longs of one asset.

    Return what was traded and what it cost, money.
    """
    row = terms.cost_row[k]
    column = a if terms.costs.shape[1] > 1 else 0
    held = book.quantity[k, 0]
    after = book.slot[k, 0, s.TARGET]
    quantity = after - held
    price, notional, commission, spread, slippage, impact = priced(
        quantity, base, terms.costs, row, column, slab.impact, 0, a
    )
    paid = quantity * price + commission
    if quantity > 0.0:
        equity = book.cash[k] + held * base
        free = book.cash[k] + terms.margin[k] * equity
        if paid > free + CASH_TOLERANCE * equity and terms.afford[k] != s.ALLOW:
            part = min(free / paid, 1.0) if free > 0.0 and terms.afford[k] != s.REJECT else 0.0
            cut = part * quantity
            if cut * base < DUST * equity:
                cut = 0.0
            book.counters[s.N_NO_CASH, k] += 1
            after = after if cut == quantity else held + cut
            quantity = cut
            price, notional, commission, spread, slippage, impact = priced(
                quantity, base, terms.costs, row, column, slab.impact, 0, a
            )
            paid = quantity * price + commission
    book.slot[k, 0, s.ORDER] = s.NO_ORDER
    if quantity == 0.0:
        return 0.0, 0.0
    settle(book, k, 0, t, quantity, after, base, price, notional, paid)
    book.cash[k] -= paid
    book.counters[s.N_FILLS, k] += 1
    return notional, commission + spread + slippage + impact


@inlined
def _decide(book, k, t, want, equity, price):
    """Turn what one trial wants into an order, or none: `decide` of ``decisions`` for one asset.

    Return whether an order waited before.
    """
    held = book.quantity[k, 0]
    waited = book.slot[k, 0, s.ORDER] != s.NO_ORDER
    book.counters[s.N_REPLACED, k] += waited
    if waited or held != 0.0 or want != 0.0:
        target = want * equity / price if want != 0.0 else 0.0
        size = abs(target - held)
        ordered = held != 0.0 if want == 0.0 else size != 0.0 and not size * price < DUST * equity
        book.slot[k, 0, s.TARGET] = target
        book.slot[k, 0, s.ORDER] = s.WAITING if ordered else s.NO_ORDER
        book.slot[k, 0, s.DECIDED] = t
        book.slot[k, 0, s.NOTED] = 0
        book.counters[s.N_ORDERS, k] += ordered
    return waited


@inlined
def _mixed(state, first, second, factor, shift):
    """Return a lane of the digest with two more numbers mixed in: `_mixed` of ``book``, twice."""
    bits = (np.float64(state).view(np.uint64) ^ np.float64(first).view(np.uint64)) * factor
    bits = ((bits ^ (bits >> shift)) ^ np.float64(second).view(np.uint64)) * factor
    return np.uint64(bits ^ (bits >> shift)).view(np.float64)


@inlined
def _settle_drawdown(lanes):
    """Take the trough since the peak into the drawdown.

    Division and subtraction round monotonically, so the least equity under a peak gives the least ratio: one
    division a peak instead of one a bar.
    """
    for k in range(LANES):
        lanes[DRAWDOWN + k] = min(lanes[DRAWDOWN + k], lanes[TROUGH + k] / lanes[PEAK + k] - 1.0)


@bare
def _account(lanes, t, price):
    """Mark a block at `price`, fold the bar into sums and digests: `_mark` and `_account` of ``book``.

    Each loop has one of the divisions, which a processor begins every 16 cycles alone, and multiplications of
    the digest to do beside it.
    """
    widest()
    count = t + 1.0
    share = 1.0 / count
    fourth = count * count - 3.0 * count + 3.0
    third = count - 2.0
    peaks = 0
    for k in range(LANES):
        value = lanes[HELD + k] * price
        cash = lanes[CASH + k]
        equity = cash + value
        lanes[RETURN + k] = equity / lanes[EQUITY + k] - 1.0
        lanes[GROSS + k] = abs(value)
        lanes[EQUITY + k] = equity
        lanes[EQUITY_SUM + k] += equity
        lanes[TROUGH + k] = min(lanes[TROUGH + k], equity)
        peaks += equity > lanes[PEAK + k]
        lanes[DIGEST_0 + k] = _mixed(lanes[DIGEST_0 + k], equity, cash, _MIX_0, _SHIFT_0)
        lanes[DIGEST_1 + k] = _mixed(lanes[DIGEST_1 + k], equity, cash, _MIX_1, _SHIFT_1)
    for k in range(LANES):
        r = lanes[RETURN + k]
        delta = r - lanes[MEAN + k]
        step = delta * share
        square = step * step
        term = delta * step * t
        m2 = lanes[M2 + k]
        m3 = lanes[M3 + k]
        lanes[M4 + k] += term * square * fourth + 6.0 * square * m2 - 4.0 * step * m3
        lanes[M3 + k] = m3 + term * step * third - 3.0 * step * m2
        lanes[M2 + k] = m2 + term
        lanes[MEAN + k] += step
        low = min(r, 0.0)
        lanes[DOWNSIDE + k] += low * low
        lanes[SEGMENT + k] += r
        lanes[SEGMENT_SQ + k] += r * r
    for k in range(LANES):
        notional, costs = lanes[NOTIONAL + k], lanes[COSTS + k]
        lanes[GROSS_SUM + k] += lanes[GROSS + k] / lanes[EQUITY + k]
        lanes[DIGEST_0 + k] = _mixed(lanes[DIGEST_0 + k], notional, costs, _MIX_0, _SHIFT_0)
        lanes[DIGEST_1 + k] = _mixed(lanes[DIGEST_1 + k], notional, costs, _MIX_1, _SHIFT_1)
    if peaks > 0:
        _settle_drawdown(lanes)
        for k in range(LANES):
            equity = lanes[EQUITY + k]
            peak = lanes[PEAK + k]
            lanes[TROUGH + k] = equity if equity > peak else lanes[TROUGH + k]
            lanes[PEAK + k] = max(peak, equity)


@bare
def advance_lanes(book, slab, terms, targets, words, lanes, queue, until, n_bars):
    """Walk a tile from its next bar up to `until` (exclusive); see `advance`.

    Parameters
    ----------
    book, slab, terms, targets
        As for `advance`, of a tile that `fits_lanes`, where the bars have no events, and prices or no trades.
    words : ndarray of uint64, shape (T, S / 8)
        ``targets.fires``, eight at a time: most of them are 0.
    lanes : ndarray of float64, shape (SIZE,)
        Working memory, and so is `queue`.
    queue : ndarray of int64, shape (LANES,)
        The trials of a block whose orders wait.
    until, n_bars : int
        As for `advance`.
    """
    begin = book.clock[0]
    a = targets.ids[0]
    fires = targets.fires
    n_trials = book.cash.shape[0]
    for first in range(0, n_trials, LANES):
        stop = min(first + LANES, n_trials)
        segment = begin * s.SEGMENTS // n_bars
        waiting = 0
        for k in range(first, stop):
            book.asset[k, 0] = a
            if book.slots[k] == 0:
                book.quantity[k, 0] = 0.0
                book.slot[k, 0, s.ORDER] = s.NO_ORDER
            queue[waiting] = k
            waiting += book.slot[k, 0, s.ORDER] != s.NO_ORDER
        _move_in(book, lanes, first, stop, segment)
        # Where the next segment begins; a division on each bar would take as long as a block's vectors.
        ends = -(-(segment + 1) * n_bars // s.SEGMENTS)
        for t in range(begin, until):
            while t >= ends:
                _settle_drawdown(lanes)
                _move_out(book, lanes, first, stop, segment)
                segment += 1
                ends = -(-(segment + 1) * n_bars // s.SEGMENTS)
                _move_in(book, lanes, first, stop, segment)
            filled = waiting
            waiting = 0
            for j in range(filled):
                k = queue[j]
                if book.slot[k, 0, s.ORDER] != s.NO_ORDER:
                    notional, costs = _fill(book, slab, terms, k, t, slab.open[t - slab.first, a], a)
                    lanes[CASH + k - first] = book.cash[k]
                    lanes[HELD + k - first] = book.quantity[k, 0]
                    lanes[NOTIONAL + k - first] = notional
                    lanes[COSTS + k - first] = costs
                    book.sums[s.S_NOTIONAL, k] += notional
                    book.sums[s.S_COSTS, k] += costs
            close = slab.close[t - slab.first, a]
            # Where there is no price nothing is held.
            _account(lanes, t, close if valid(close) else 0.0)
            if filled > 0:
                for k in range(2 * LANES):
                    lanes[NOTIONAL + k] = 0.0
            for word in range(first // 8, (stop + 7) // 8):
                if words[t, word] == 0:
                    continue
                for k in range(8 * word, min(8 * word + 8, stop)):
                    if fires[t, k] != s.IDLE:
                        invests = fires[t, k] == s.DECIDE and book.eligible[a]
                        want = targets.values[targets.row_start[t]] * terms.weight[k] if invests else 0.0
                        # What waited is in the queue already.
                        if not _decide(book, k, t, want, lanes[EQUITY + k - first], close):
                            queue[waiting] = k
                            waiting += book.slot[k, 0, s.ORDER] != s.NO_ORDER
        _settle_drawdown(lanes)
        _move_out(book, lanes, first, stop, segment)
    for k in range(n_trials):
        book.waiting[k] = book.slot[k, 0, s.ORDER] != s.NO_ORDER
        book.slots[k] = book.waiting[k] > 0 or book.quantity[k, 0] != 0.0
    close = slab.close[until - 1 - slab.first, a]
    if valid(close):
        book.mark[a] = close
    book.clock[0] = until
