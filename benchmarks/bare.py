"""The accounting contract's common path as one bare numba loop: the limit that the kernel is compared with.

Nothing of the package is imported here, and nothing here can be configured but what the benchmarks need: the
best N names at one weight each, decided every so many bars, filled at the next open (or at the close of the
decision), a commission and a slippage in parts of notional, one cash account without credit. Within that it
is the contract of ``docs/accounting.md``: orders that wait for a price and expire, buys that are cut by one
common factor where cash binds, marks that outlive a missing bar, every counter that can occur, all metrics,
sums by segment and a running digest. What cannot happen to an unlevered long book with positive prices (bust,
halts, shorts) is not there; neither are lots, bands, caps, rules, events and ends of life.

So the difference to the package is the price of its generality. For that to mean something, **this file is
never edited in a commit that claims a ratio**.

Two orders of the loops, with the same arithmetic: `advance` with ``width=1`` walks one trial after the other
over all bars; with a larger width bars are outside, and that many trials that share a ranking advance
together. Within a bar, what was decided on the bar before and its fill are one stage.
"""

# mypy: disable-error-code="assignment"
# What is compiled has the types that numba finds.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

NEXT_OPEN, SAME_CLOSE = 0, 1
MAX_WAIT = 5
SEGMENTS = 16
COUNTERS = (
    "orders", "fills", "trades", "replaced", "no_price", "expired", "no_cash", "stale_bars", "unfilled_at_end"
)  # fmt: skip
ORDERS, FILLS, TRADES, REPLACED, NO_PRICE, EXPIRED, NO_CASH, STALE, UNFILLED = range(len(COUNTERS))
METRICS = (
    "total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "skew", "kurtosis",
    "turnover", "exposure", "costs", "orders", "fills", "trades", "win_rate", "profit_factor",
    "avg_bars_held",
)  # fmt: skip

# Sums of a tile lie in one array in rows of LANES, of which one lane is one trial. With constant offsets into
# one array the compiler knows that rows do not overlap, and takes four or eight trials at a time.
LANES = 64
EQUITY, CASH, VALUE, TRADED, COST = 0 * LANES, 1 * LANES, 2 * LANES, 3 * LANES, 4 * LANES
BEFORE, PEAK, FALL, RETURN, FIRST = 5 * LANES, 6 * LANES, 7 * LANES, 8 * LANES, 9 * LANES
SUM_1, SUM_2, SUM_3, SUM_4, SUM_DOWN = 10 * LANES, 11 * LANES, 12 * LANES, 13 * LANES, 14 * LANES
SUM_EQUITY, SUM_GROSS, SUM_TRADED, SUM_COST = 15 * LANES, 16 * LANES, 17 * LANES, 18 * LANES
GAINS, LOSSES, WINS, HELD_BARS = 19 * LANES, 20 * LANES, 21 * LANES, 22 * LANES
PARTS = 23 * LANES
SPARE = 7
ROWS = 23 + 2 * SEGMENTS
_ONE, _TWO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_R1, _R2 = np.uint64(29), np.uint64(32)

jit = njit(error_model="numpy", cache=True)


class Ranks(NamedTuple):
    """The best names of every bar, in order of their ids.

    Attributes
    ----------
    ids, places : ndarray of uint16, shape (n_bars, depth)
        Which assets, ascending, and how many are better.
    counts : ndarray of int64, shape (n_bars,)
        How many of a row are filled.
    """

    ids: np.ndarray
    places: np.ndarray
    counts: np.ndarray


class Outcome(NamedTuple):
    """What trials leave behind: by trial; see `METRICS` and `COUNTERS` for the columns."""

    equity: np.ndarray
    metrics: np.ndarray
    counters: np.ndarray
    segments: np.ndarray
    digests: np.ndarray


@jit
def _last(closes, t, a):
    """Return the last usable close up to bar t, NaN if there is none."""
    while t >= 0 and not 0.0 < closes[t, a] < np.inf:
        t -= 1
    return closes[t, a] if t >= 0 else np.nan


@jit
def _value(closes, t, ids, held, k, n_held):
    """Return what trial k holds at bar t, where closes are missing: the rare path."""
    value = 0.0
    for i in range(n_held):
        value += held[k, i] * _last(closes, t, ids[k, i])
    return value


@jit
def rank(values, lookback, step, depth, ids, places, counts):
    """Rank a table on every `step`-th bar, largest first, ties to the lower id.

    What is ranked is ``values[t]``, or with `lookback` > 0 ``values[t] / values[t - lookback] - 1`` of values
    that are above 0 or missing.

    A bar's best are about as good as those of the bar before: a guess from these lets a few too many pass,
    and is mended where it does not. It takes a product where a division gives the same answer slower. Places
    are counted, each value against all others, which has no branches.
    """
    n_bars, n_assets = values.shape
    best, found = np.empty(n_assets + 64), np.empty(n_assets + 1, np.uint32)
    better = np.empty(n_assets, np.int64)
    lowest = -1.0 if lookback > 0 else -np.inf
    guess, slope = lowest, 0.0
    for t in range((lookback + step - 1) // step * step, n_bars, step):
        now, then = values[t], values[t - lookback]
        for attempt in range(8):
            passed = 0
            if lookback > 0:
                limit = (1.0 + guess) * (1.0 - 1e-12)
                for a in range(n_assets):
                    passed += np.int64(now[a] >= limit * then[a])
            else:
                for a in range(n_assets):
                    passed += np.int64(now[a] >= guess)
            if guess == lowest or depth <= passed <= depth + 2 * SPARE or (passed > depth and attempt > 3):
                break
            guess += slope * (passed - depth - SPARE)
            if attempt == 6 or not guess > lowest:
                guess = lowest
        n = 0
        if lookback > 0:
            limit = (1.0 + guess) * (1.0 - 1e-12)
            for a in range(n_assets):
                found[n] = a
                n += np.int64(now[a] >= limit * then[a])
            for i in range(n):
                best[i] = now[found[i]] / then[found[i]] - 1.0
        else:
            for a in range(n_assets):
                found[n] = a
                n += np.int64(now[a] >= guess)
            for i in range(n):
                best[i] = now[found[i]]
        finite = 0
        for i in range(n):
            finite += np.int64(abs(best[i]) < np.inf)
        if finite < n:
            finite = 0
            for i in range(n):
                best[finite], found[finite] = best[i], found[i]
                finite += np.int64(abs(best[finite]) < np.inf)
            n = finite
        total = 0
        if n <= 64:
            # The usual case, at a length that the compiler knows.
            for i in range(n, 64):
                best[i] = -np.inf
            for i in range(n):
                value, above = best[i], 0
                for j in range(64):
                    above += np.int64(best[j] > value)
                better[i] = above
                total += above
        else:
            for i in range(n):
                value, above = best[i], 0
                for j in range(n):
                    above += np.int64(best[j] > value)
                better[i] = above
                total += above
        if total != n * (n - 1) // 2:
            for i in range(n):
                for j in range(i):
                    better[i] += best[j] == best[i]
        kept, last, middle = 0, 0.0, 0.0
        for i in range(n):
            if better[i] < depth:
                ids[t, kept] = found[i]
                places[t, kept] = better[i]
                kept += 1
                last = best[i] if better[i] == depth - 1 else last
                middle = best[i] if better[i] == depth // 2 else middle
        counts[t] = kept
        guess, slope = lowest, 0.0
        if kept == depth and depth > 1:
            slope = max(middle - last, 1e-9) / (depth - 1 - depth // 2)
            guess = last - slope * SPARE


@jit
def _late(
    fresh, over, t, decided, equity, cash, weight, names, n_names, closes, price, bps, slip,
    book, ids, held, n_held, wait_id, wait_quantity, wait_tries, n_waiting, counters, sums, k,
):  # fmt: skip
    """Fill what lacks a price, has waited, or is left at the end: the rare path, one trial, nothing assumed.

    Returns how many are held and how many wait, cash, notional traded, costs, and whether the room was not
    enough.
    """
    room, n_assets = len(ids), len(price)
    if fresh:
        counters[REPLACED] += n_waiting
        n_waiting = i = j = 0
        while i < n_held or j < n_names:
            a = min(ids[i] if i < n_held else n_assets, names[j] if j < n_names else n_assets)
            target, mark, known = 0.0, 0.0, True
            if i < n_held and ids[i] == a:
                i += 1
            if j < n_names and names[j] == a:
                j += 1
                mark = _last(closes, decided, a)
                known = mark > 0.0
                target = weight * equity / mark
            if not known:
                counters[NO_PRICE] += 1
            elif target == 0.0 or not abs(target - book[a, 0]) * mark < 1e-12 * equity:
                counters[ORDERS] += 1
                if n_waiting == room:
                    return n_held, n_waiting, cash, 0.0, 0.0, True
                wait_id[n_waiting], wait_quantity[n_waiting], wait_tries[n_waiting] = a, target, 0
                n_waiting += 1
    if over:
        counters[UNFILLED] += n_waiting
        return n_held, 0, cash, 0.0, 0.0, False
    worth, traded, costs, outlay = cash, 0.0, 0.0, 0.0
    for i in range(n_held):
        a = ids[i]
        worth += book[a, 0] * (price[a] if 0.0 < price[a] < np.inf else _last(closes, t, a))
    for w in range(n_waiting):
        a, target = wait_id[w], wait_quantity[w]
        order = target - book[a, 0]
        if 0.0 < price[a] < np.inf and order > 0.0:
            outlay += order * price[a] * (1.0 + slip) * (1.0 + bps)
        elif 0.0 < price[a] < np.inf and order < 0.0:
            each = -order * price[a] * (1.0 - slip)
            got = each - each * bps
            cash += got
            traded += each
            costs += each * bps - order * price[a] * slip
            book[a, 0] = target
            book[a, 1] += got
            counters[FILLS] += 1
            if target == 0.0:
                counters[TRADES] += 1
                sums[HELD_BARS + k] += t - book[a, 2]
                sums[WINS + k] += 1.0 if book[a, 1] > 0.0 else 0.0
                sums[GAINS + k] += max(book[a, 1], 0.0)
                sums[LOSSES + k] -= min(book[a, 1], 0.0)
                book[a, 1], book[a, 2] = 0.0, np.inf
    fits = outlay <= cash + 1e-9 * worth
    part = 1.0 if fits else max(cash, 0.0) / outlay
    left = 0
    for w in range(n_waiting):
        a, target = wait_id[w], wait_quantity[w]
        if not 0.0 < price[a] < np.inf:
            counters[NO_PRICE] += 1 if wait_tries[w] == 0 else 0
            if wait_tries[w] + 1 == MAX_WAIT:
                counters[EXPIRED] += 1
                continue
            wait_id[left], wait_quantity[left], wait_tries[left] = a, target, wait_tries[w] + 1
            left += 1
        elif target > book[a, 0]:
            counters[NO_CASH] += 0 if fits else 1
            bought = part * (target - book[a, 0])
            if not bought * price[a] > 1e-12 * worth:
                continue
            if book[a, 0] == 0.0:
                if n_held == room:
                    return n_held, left, cash, traded, costs, True
                ids[n_held] = a
                n_held += 1
                book[a, 2] = t
            each = bought * price[a] * (1.0 + slip)
            paid = each + each * bps
            cash -= paid
            traded += each
            costs += each * bps + bought * price[a] * slip
            book[a, 0] = target if fits else book[a, 0] + bought
            book[a, 1] -= paid
            counters[FILLS] += 1
    kept = 0
    for i in range(n_held):
        a, at = ids[i], kept
        if book[a, 0] == 0.0:
            continue
        # New names came last: back into the order of ids, one by one.
        while at > 0 and ids[at - 1] > a:
            ids[at] = ids[at - 1]
            at -= 1
        ids[at] = a
        kept += 1
    for i in range(kept):
        held[i] = book[ids[i], 0]
    return kept, left, cash, traded, costs, False


@jit
def walk(
    opens, closes, rank_ids, rank_places, rank_counts, numbers, weights, every, cash,
    bps, slip, same_close, bars_per_year, final, metrics, counters, segments, digests,
):  # fmt: skip
    """Advance up to LANES trials that share a ranking over all bars; False if a book had too little room."""
    n_bars, n_assets = closes.shape
    n_trials = len(numbers)
    depth = rank_ids.shape[1]
    room = min(n_assets, 4 * depth)
    # The book by asset: quantity, cash flows since it was flat, bar of entry (infinite while flat); and what
    # is held, as a list.
    book = np.zeros((n_trials * n_assets, 4))
    book[:, 2] = np.inf
    ids, held = np.zeros((n_trials, room), np.uint32), np.zeros((n_trials, room))
    n_held = np.zeros(n_trials, np.int64)
    wait_id, wait_quantity = np.zeros((n_trials, room), np.uint32), np.zeros((n_trials, room))
    wait_tries, n_waiting = np.zeros((n_trials, room), np.int64), np.zeros(n_trials, np.int64)
    due = np.zeros(n_trials, np.int64)
    names, n_names, complete = np.zeros(depth + 1, np.uint32), 0, True
    place_of, placed = np.full(n_assets, depth, np.uint16), -1
    leaving = np.zeros(room + 1, np.uint32)
    name_mark, name_price, had = np.zeros(depth), np.zeros(depth), np.zeros(depth)
    wanted, basis, paid = np.zeros(depth), np.zeros(depth), np.zeros(depth)
    sums = np.zeros(ROWS * LANES)
    bits = sums.view(np.uint64)
    mixed = np.zeros(2 * LANES, np.uint64)
    for k in range(LANES):
        sums[EQUITY + k] = sums[CASH + k] = sums[BEFORE + k] = sums[PEAK + k] = cash
    for t in range(n_bars + 1 - same_close):
        over = t == n_bars
        decided = t if same_close else t - 1
        mark = closes[min(t, n_bars - 1)]
        mark_before = closes[max(decided, 0)]
        price = mark if same_close or over else opens[t]
        listed = -1
        for k in range(n_trials):
            sums[TRADED + k] = 0.0
            sums[COST + k] = 0.0
            fires, done, sound = decided == due[k], False, True
            if fires:
                due[k] += every[k]
                fires = rank_counts[decided] > 0
            if fires:
                if placed != decided:
                    if placed >= 0:
                        for at in range(rank_counts[placed]):
                            place_of[rank_ids[placed, at]] = depth
                    placed = decided
                    for at in range(rank_counts[placed]):
                        place_of[rank_ids[placed, at]] = rank_places[placed, at]
                if listed != numbers[k]:
                    listed, n_names = numbers[k], 0
                    for at in range(rank_counts[decided]):
                        names[n_names] = rank_ids[decided, at]
                        n_names += np.int64(rank_places[decided, at] < listed)
                    low, high = 1.0, 0.0
                    for j in range(n_names):
                        known, base = mark_before[names[j]], price[names[j]]
                        name_mark[j], name_price[j] = known, base
                        low = known if known < low else low
                        low = base if base < low else low
                        high += known + base
                    complete = low > 0.0 and high < np.inf
                equity = sums[EQUITY + k]
                if same_close:
                    value, low = 0.0, 1.0
                    for i in range(n_held[k]):
                        known = mark[ids[k, i]]
                        low = known if known < low else low
                        value += held[k, i] * known
                    sound = low > 0.0 and value < np.inf
                    equity = sums[CASH + k] + (value if sound else _value(closes, t, ids, held, k, n_held[k]))
                if complete and not over and n_waiting[k] == 0:
                    # The common case, without a branch by asset: hold what is listed, close the rest.
                    traded, proceeds, outlay, based, n_leaving, filled = 0.0, 0.0, 0.0, 0.0, 0, 0
                    first, now = np.uint64(k * n_assets), np.float64(t)
                    for i in range(n_held[k]):
                        leaving[n_leaving] = ids[k, i]
                        n_leaving += np.int64(place_of[ids[k, i]] >= listed)
                    low = 1.0
                    for i in range(n_leaving):
                        base = price[leaving[i]]
                        low = base if base < low else low
                        base *= book[first + leaving[i], 0]
                        each = base * (1.0 - slip)
                        proceeds += each - each * bps
                        traded += each
                        based += base
                    worth, tiny = weights[k] * equity, 1e-12 / weights[k]
                    # Gather, then arithmetic on neighbours, then sums in order: each loop does one thing
                    # well.
                    for j in range(n_names):
                        had[j] = book[first + names[j], 0]
                    for j in range(n_names):
                        target = worth / name_mark[j]
                        change = target - had[j]
                        small = abs(change) < target * tiny
                        change = 0.0 if small else change
                        wanted[j] = had[j] if small else target
                        base = change * name_price[j]
                        each = base + abs(base) * slip
                        basis[j] = base
                        paid[j] = each + abs(each) * bps
                    for j in range(n_names):
                        outlay += paid[j] if paid[j] > 0.0 else 0.0
                        proceeds -= 0.0 if paid[j] > 0.0 else paid[j]
                        traded += abs(basis[j] + abs(basis[j]) * slip)
                        based += abs(basis[j])
                        filled += wanted[j] != had[j]
                    free = sums[CASH + k] + proceeds
                    if low > 0.0 and proceeds < np.inf and proceeds == proceeds:
                        done = outlay <= free
                        if not done:
                            holdings = sums[CASH + k]
                            for i in range(n_held[k]):
                                holdings += held[k, i] * price[ids[k, i]]
                            done = outlay <= free + 1e-9 * holdings
                            if not done and free > 1e-6 * outlay:
                                # Cash binds: one factor for all buys.
                                done = True
                                part = free / outlay
                                dearer = 1.0 / ((1.0 + slip) * (1.0 + bps))
                                for j in range(n_names):
                                    change = wanted[j] - had[j]
                                    buys = change > 0.0
                                    counters[k, NO_CASH] += buys
                                    wanted[j] = had[j] + part * change if buys else wanted[j]
                                    paid[j] = part * paid[j] if buys else paid[j]
                                traded -= (outlay - free) / (1.0 + bps)
                                based -= (outlay - free) * dearer
                                outlay = free
                if done:
                    value = 0.0
                    gains, losses, wins, bars = 0.0, 0.0, 0, 0.0
                    for i in range(n_leaving):
                        a = leaving[i]
                        flow, entry = book[first + a, 1], book[first + a, 2]
                        each = book[first + a, 0] * price[a] * (1.0 - slip)
                        profit = flow + each - each * bps
                        gains += profit if profit > 0.0 else 0.0
                        losses -= 0.0 if profit > 0.0 else profit
                        wins += profit > 0.0
                        bars += t - entry
                        book[first + a, 0], book[first + a, 1], book[first + a, 2] = 0.0, 0.0, np.inf
                    for j in range(n_names):
                        a, target, pays = names[j], wanted[j], paid[j]
                        entry = book[first + a, 2]
                        book[first + a, 2] = now if now < entry else entry
                        book[first + a, 1] -= pays
                        book[first + a, 0] = target
                        ids[k, j] = a
                        held[k, j] = target
                    low = 1.0
                    for j in range(n_names):
                        known = mark[names[j]]
                        low = known if known < low else low
                        value += wanted[j] * known
                    sound = low > 0.0 and value < np.inf
                    sums[GAINS + k] += gains
                    sums[LOSSES + k] += losses
                    sums[WINS + k] += wins
                    sums[HELD_BARS + k] += bars
                    n_held[k] = n_names
                    sums[VALUE + k] = value
                    sums[CASH + k] = free - outlay
                    sums[TRADED + k] = traded
                    sums[COST + k] = traded * bps + based * slip
                    counters[k, TRADES] += n_leaving
                    counters[k, ORDERS] += filled + n_leaving
                    counters[k, FILLS] += filled + n_leaving
            if (fires and not done) or (n_waiting[k] > 0 and not fires):
                n_held[k], n_waiting[k], sums[CASH + k], sums[TRADED + k], sums[COST + k], full = _late(
                    fires, over, t, decided, equity if fires else 0.0, sums[CASH + k], weights[k],
                    names, n_names, closes, price, bps, slip,
                    book[k * n_assets : (k + 1) * n_assets], ids[k], held[k], n_held[k],
                    wait_id[k], wait_quantity[k], wait_tries[k], n_waiting[k], counters[k], sums, k,
                )  # fmt: skip
                if full:
                    return False
            if not done:
                # A missing close makes the sum NaN, one that is infinite makes it so, and the least tells the
                # rest.
                value, low = 0.0, 1.0
                for i in range(n_held[k]):
                    known = mark[ids[k, i]]
                    low = known if known < low else low
                    value += held[k, i] * known
                sound = low > 0.0 and value < np.inf
                sums[VALUE + k] = value
            if not sound and not over:
                sums[VALUE + k] = _value(closes, t, ids, held, k, n_held[k])
                for i in range(n_held[k]):
                    counters[k, STALE] += 0 if 0.0 < closes[t, ids[k, i]] < np.inf else 1
        if over:
            break
        for k in range(n_trials):
            equity = sums[CASH + k] + sums[VALUE + k]
            sums[EQUITY + k] = equity
            change = equity / sums[BEFORE + k] - 1.0
            sums[RETURN + k] = change if sums[BEFORE + k] > 0.0 else 0.0
            sums[BEFORE + k] = equity
            peak = max(sums[PEAK + k], equity)
            sums[PEAK + k] = peak
            sums[FALL + k] = min(sums[FALL + k], equity / peak - 1.0)
        if t == 0:
            for k in range(n_trials):
                sums[FIRST + k] = sums[RETURN + k]
        for k in range(n_trials):
            change = sums[RETURN + k]
            apart = change - sums[FIRST + k]
            square = apart * apart
            down = min(change, 0.0)
            sums[SUM_1 + k] += apart
            sums[SUM_2 + k] += square
            sums[SUM_3 + k] += square * apart
            sums[SUM_4 + k] += square * square
            sums[SUM_DOWN + k] += down * down
        for k in range(n_trials):
            sums[SUM_EQUITY + k] += sums[EQUITY + k]
            sums[SUM_GROSS + k] += sums[VALUE + k] / sums[EQUITY + k]
            sums[SUM_TRADED + k] += sums[TRADED + k]
            sums[SUM_COST + k] += sums[COST + k]
        segment = PARTS + 2 * LANES * (t * SEGMENTS // n_bars)
        for k in range(n_trials):
            sums[segment + k] += sums[RETURN + k]
            sums[segment + LANES + k] += sums[RETURN + k] * sums[RETURN + k]
        for k in range(n_trials):
            one, two = mixed[k], mixed[LANES + k]
            one = (one ^ bits[EQUITY + k]) * _ONE
            two = (two ^ bits[CASH + k]) * _TWO
            one = ((one ^ (one >> _R1)) ^ bits[TRADED + k]) * _TWO
            two = ((two ^ (two >> _R2)) ^ bits[COST + k]) * _ONE
            mixed[k] = one ^ (two >> _R1)
            mixed[LANES + k] = two ^ (one >> _R2)
    year = bars_per_year
    for k in range(n_trials):
        counters[k, UNFILLED] += n_waiting[k]
        for at in range(len(COUNTERS)):
            word = np.uint64(counters[k, at])
            mixed[k] = (mixed[k] ^ word) * _ONE
            mixed[LANES + k] = (mixed[LANES + k] ^ (mixed[k] >> _R1)) * _TWO
        digests[k, 0], digests[k, 1] = mixed[k], mixed[LANES + k]
        final[k] = sums[EQUITY + k]
        for at in range(SEGMENTS):
            segments[k, 0, at] = sums[PARTS + 2 * LANES * at + k]
            segments[k, 1, at] = sums[PARTS + 2 * LANES * at + LANES + k]
        growth = sums[EQUITY + k] / cash
        s1, s2 = sums[SUM_1 + k] / n_bars, sums[SUM_2 + k] / n_bars
        s3, s4 = sums[SUM_3 + k] / n_bars, sums[SUM_4 + k] / n_bars
        mean = s1 + sums[FIRST + k]
        variance = max(s2 - s1 * s1, 0.0)
        deviation = np.sqrt(variance * n_bars / (n_bars - 1)) if n_bars > 1 else np.nan
        downside = np.sqrt(sums[SUM_DOWN + k] / n_bars)
        m = metrics[k]
        m[0] = growth - 1.0
        m[1] = growth ** (year / n_bars) - 1.0
        m[2] = deviation * np.sqrt(year)
        m[3] = mean / deviation * np.sqrt(year) if deviation > 1e-12 else np.nan
        m[4] = mean / downside * np.sqrt(year) if downside > 1e-12 else np.nan
        m[5] = sums[FALL + k]
        m[6] = m[1] / -m[5] if -m[5] > 1e-12 else np.nan
        spread = np.sqrt(variance)
        third = s3 - 3.0 * s1 * s2 + 2.0 * s1**3
        fourth = s4 - 4.0 * s1 * s3 + 6.0 * s1 * s1 * s2 - 3.0 * s1**4
        m[7] = third / spread**3 if spread > 1e-12 else np.nan
        m[8] = fourth / variance**2 - 3.0 if spread > 1e-12 else np.nan
        m[9] = sums[SUM_TRADED + k] * year / n_bars / (sums[SUM_EQUITY + k] / n_bars) / 2.0
        m[10] = sums[SUM_GROSS + k] / n_bars
        m[11] = sums[SUM_COST + k]
        m[12], m[13], m[14] = counters[k, ORDERS], counters[k, FILLS], counters[k, TRADES]
        trades = counters[k, TRADES]
        m[15] = sums[WINS + k] / trades if trades > 0 else np.nan
        m[16] = sums[GAINS + k] / sums[LOSSES + k] if sums[LOSSES + k] > 1e-12 else np.nan
        m[17] = sums[HELD_BARS + k] / trades if trades > 0 else np.nan
    return True


def ranked(values: np.ndarray, lookback: int, depth: int, step: int = 1) -> Ranks:
    """Rank a table of values, or with `lookback` > 0 the momentum of a table of closes, on every `step`-th
    bar."""
    n_bars, n_assets = values.shape
    depth = min(depth, n_assets)
    ids, places = np.zeros((n_bars, depth), np.uint16), np.zeros((n_bars, depth), np.uint16)
    counts = np.zeros(n_bars, np.int64)
    rank(values, lookback, step, depth, ids, places, counts)
    return Ranks(ids, places, counts)


def advance(
    opens: np.ndarray,
    closes: np.ndarray,
    ranks: Ranks,
    numbers: np.ndarray,
    weights: np.ndarray,
    every: np.ndarray,
    *,
    cash: float = 1_000_000.0,
    commission_bps: float = 10.0,
    slippage_bps: float = 0.0,
    fill: int = NEXT_OPEN,
    bars_per_year: float = 252.0,
    width: int = LANES,
) -> Outcome:
    """Run trials that share a ranking, `width` (up to LANES) at a time with bars outside; 1 is trial by
    trial.

    Trials next to each other with the same number of names share a list of them.
    """
    n_trials = len(numbers)
    out = Outcome(
        np.zeros(n_trials),
        np.zeros((n_trials, len(METRICS))),
        np.zeros((n_trials, len(COUNTERS)), np.int64),
        np.zeros((n_trials, 2, SEGMENTS)),
        np.zeros((n_trials, 2), np.uint64),
    )
    for first in range(0, n_trials, width):
        some = slice(first, first + width)
        enough = walk(
            opens, closes, *ranks, numbers[some], weights[some], every[some], cash, commission_bps / 1e4,
            slippage_bps / 1e4, fill, bars_per_year, *(each[some] for each in out),
        )  # fmt: skip
        if not enough:
            raise MemoryError("a book holds more names than the bare loop has room for")
    return out
