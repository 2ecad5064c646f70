"""Steps 3, 5 and 8 of a bar: one fill pass, with volume cap and affordability.

Choices made where page and readings leave a gap:

* A buy of group (c) that was cut to less than ``1e-12 * E`` (quantity x base) fills nothing, like ``f = 0``
  (the page: "orders under 1e-12 x E are dropped", and ``f`` itself is only defined to 1e-12). Without this
  rounding dust in the cash of a fully invested book decides whether there is a fill, a trade and a position.
  It counts ``no_cash``, also where lots round what is left down to nothing. A carried order that is cut on
  several bars counts it once.
* Equal weights give notionals that differ in the last bit. Who comes first for ``greedy`` and ``reject`` must
  not hang on it: the next order is the first in panel order of those within 1e-12 of the largest one left.
* Where the volume cap leaves a reversal just its leg (a), rounding must not leave dust of either side: the
  leg is whole if what is allowed reaches it within 1e-12 (relatively), and a rest under ``1e-12 * E`` for the
  other leg is nothing.
"""

from __future__ import annotations

import math

from tests.oracle.case import Case, valid
from tests.oracle.costs import fill_price, outlay, priced
from tests.oracle.sizing import sized
from tests.oracle.state import CASH_TOLERANCE, REACHED, Book, Leg, Order, is_dust, round_down


def fill_pass(case: Case, book: Book, t: int) -> None:
    """One fill pass: all (a), then all (b), then all (c), each in panel order."""
    # "E = cash + sum(quantity * base price of this pass, else mark), before any fill of the pass"; before
    # step 6 the marks are those of the end of t-1 (R5, S1), which the book still carries.
    equity = book.cash + sum(
        book.quantity[asset] * (case.prices[t][asset] if valid(case.prices[t][asset]) else book.mark(asset))
        for asset in book.held()
    )
    reductions, shorts, buys = [], [], []
    for asset in range(case.n_assets):
        order = tried(case, book, t, asset)
        if order is None:
            continue
        if order.target is None:
            # sizing fill: "at the fill, p = base price"
            base = case.prices[t][asset]
            order.target = sized(case, book, t, asset, order.decision_bar, order.wanted, equity, base)
            if order.target is None:
                continue
            book.count("orders", t, asset, order.decision_bar)  # R2: counts at the moment it is sized
        reduction, rest = by_volume(case, book, t, asset, order, order.target, equity)
        if reduction != 0:
            reductions.append(Leg(asset, reduction, order))
        if rest < 0:
            shorts.append(Leg(asset, rest, order))
        elif rest > 0:
            buys.append(Leg(asset, rest, order))
    for leg in reductions + shorts:  # "caps, not cash, limit shorts"; covers are never cut
        fill(case, book, t, leg)
    bought = affordable(case, book, t, buys, equity)
    for leg in sorted(bought, key=lambda leg: leg.asset):  # S7: "made and written in panel order"
        fill(case, book, t, leg)


def tried(case: Case, book: Book, t: int, asset: int) -> Order | None:
    """Take the order of an asset that meets a valid base price now out of the waiting ones."""
    order = book.waiting[asset]
    if order is None:
        return None
    if valid(case.prices[t][asset]):
        # R4: "finished with its first try at a valid price, whatever was filled" (but see `by_volume`)
        book.waiting[asset] = None
        return order
    book.count_once("no_price", t, asset, order)  # "no_price (once)"
    # "tried from t+1 (same_close: t) on max_wait bars in all", "forced exits are not ... expired"
    last_try = order.decision_bar + case.first_try + case.max_wait - 1
    if not order.forced and t >= last_try:
        book.waiting[asset] = None
        book.count("expired", t, asset, order.decision_bar)
    return None


def by_volume(
    case: Case, book: Book, t: int, asset: int, order: Order, target: float, equity: float
) -> tuple[float, float]:
    """Quantities of leg (a) and of the leg that opens or enlarges, after the volume cap (T11)."""
    position = book.quantity[asset]
    # "A reversal is one order with two fills, (a) and then (b) or (c)." Leg (a) ends at exactly 0 (R7).
    reduction = 0.0
    if (position > 0 and target < position) or (position < 0 and target > position):
        between = max(target, 0.0) if position > 0 else min(target, 0.0)
        reduction = between - position
        position = between
    rest = target - position
    if case.participation <= 0 or order.forced:
        return reduction, rest
    # "|order| <= participation * volume[t] (NaN: 0; whole lots)"
    volume = case.cell("volume", t, asset)
    cap = case.participation * volume if math.isfinite(volume) and volume >= 0 else 0.0
    if abs(target - book.quantity[asset]) <= cap * (1 + REACHED):
        return reduction, rest
    book.count_once("no_volume", t, asset, order)
    book.count("cut_by_volume", t, asset, order.decision_bar)
    if case.carry:
        # "the order keeps its target and waits on", whatever cash will say
        book.waiting[asset] = order
    base = case.prices[t][asset]
    allowed = round_down(cap, case.lot)
    if is_dust(allowed * base, equity):
        allowed = 0.0
    if allowed < abs(reduction) * (1 - REACHED):
        return math.copysign(allowed, reduction), 0.0
    allowed -= abs(reduction)
    return reduction, 0.0 if allowed <= 0 or is_dust(allowed * base, equity) else math.copysign(allowed, rest)


def affordable(case: Case, book: Book, t: int, buys: list[Leg], equity: float) -> list[Leg]:
    """Cut the buys of group (c) to the cash there is (R6, S7)."""
    free = book.cash + case.margin * equity  # "free = cash after (b) + margin x E"
    slack = CASH_TOLERANCE * equity
    if case.afford == "allow" or not buys or outlay_of_all(case, t, buys) <= free + slack:
        return buys
    bought = []
    if case.afford == "scale":
        f = largest_fraction(case, t, buys, free)
        for leg in buys:
            book.count_once("no_cash", t, leg.asset, leg.order)  # "each cut order counts no_cash"
            bought.append(cut(case, t, leg, f, equity))
    else:
        left = free
        for leg in by_notional(case, book, t, buys):
            if outlay_of_all(case, t, [leg]) > left + slack:
                book.count_once("no_cash", t, leg.asset, leg.order)
                # "greedy: the same one order after another; reject: as greedy, all or nothing"
                f = largest_fraction(case, t, [leg], left) if case.afford == "greedy" else 0.0
                leg = cut(case, t, leg, f, equity)
            left -= outlay_of_all(case, t, [leg])
            bought.append(leg)
    return [leg for leg in bought if leg.quantity > 0]


def by_notional(case: Case, book: Book, t: int, buys: list[Leg]) -> list[Leg]:
    """Sort by "larger notional first, ties in panel order"; see the module's docstring on ties."""

    def notional(leg: Leg) -> float:
        return leg.quantity * fill_price(case, t, leg.asset, leg.quantity, case.prices[t][leg.asset])

    left, result = list(buys), []
    while left:
        largest = max(notional(leg) for leg in left)
        ties = [leg for leg in left if notional(leg) >= largest * (1 - REACHED)]
        if len(ties) > 1:
            book.count("tie", t, ties[0].asset, ties[0].order.decision_bar)
        left.remove(ties[0])
        result.append(ties[0])
    return result


def largest_fraction(case: Case, t: int, buys: list[Leg], free: float) -> float:
    """Find "the largest common f in [0, 1] whose summed outlay of f*q is <= free"; 0 if there is none.

    The outlay grows with f, so halving the interval finds it, with minimum commissions and impact or without.
    """

    def fits(f: float) -> bool:
        part = [Leg(leg.asset, f * leg.quantity, leg.order) for leg in buys]
        return outlay_of_all(case, t, part) <= free

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def cut(case: Case, t: int, leg: Leg, f: float, equity: float) -> Leg:
    """Cut one buy to `f` of its quantity; "after a cut, lots round down", and dust is nothing (S7)."""
    quantity = round_down(f * leg.quantity, case.lot)
    if is_dust(quantity * case.prices[t][leg.asset], equity):
        quantity = 0.0
    return Leg(leg.asset, quantity, leg.order)


def outlay_of_all(case: Case, t: int, buys: list[Leg]) -> float:
    """Cash that buys take together."""
    return sum(outlay(case, t, leg.asset, leg.quantity) for leg in buys)


def fill(case: Case, book: Book, t: int, leg: Leg) -> None:
    """Fill one leg at the base price of this pass, with costs."""
    order, base = leg.order, case.prices[t][leg.asset]
    row = priced(case, t, leg.asset, leg.quantity, base, order.decision_bar, order.reason)
    book.record(row, order.atr)
