"""Step 7 of a bar: bust, drawdown halt, time exits, rules on the close, then the schedule's targets.

Choices made where page and readings leave a gap:

* An infinite target counts like NaN: it is 0, and does not make a row a decision. The number of a KEEP cell
  is not looked at.
* A forced exit counts ``no_price`` like any other order, once. At a decision its asset is passed over: it
  counts neither `replaced` nor `cooldown`. A bust cancels what waits but forced exits: these go on under
  their first reason.
* A target counts `cooldown` if nothing else (end of life, membership) makes it 0 already; it counts before
  the constraints are looked at, also if these then drop the decision.
"""

from __future__ import annotations

import math

from tests.oracle.case import Case, valid
from tests.oracle.constraints import constrained, current_weight
from tests.oracle.rules import bust, drawdown_halt, is_halted, on_the_close, time_exits
from tests.oracle.sizing import sized
from tests.oracle.state import NAN, Book, Order


def decide(case: Case, book: Book, t: int, equity: float) -> None:
    """Let everything that queues orders do so, in this order (T6)."""
    if equity <= 0 and not book.is_bust:
        bust(case, book, t)
    if not book.is_bust:
        drawdown_halt(case, book, t, equity)
    time_exits(case, book, t)
    on_the_close(case, book, t)
    targets(case, book, t, equity)


def targets(case: Case, book: Book, t: int, equity: float) -> None:
    """Turn the schedule's targets of bar `t` into orders."""
    if not case.is_decision(t):
        return
    if book.is_bust or is_halted(book, t):
        book.count("halted", t)  # "decisions of this and the next bars are dropped"
        return
    # "forced exits are not replaced"; "KEEP leaves an asset's position and waiting order as they are"
    free = [asset for asset in range(case.n_assets) if not book.has_forced_exit(asset)]
    numbers = {asset: wanted(case, book, t, asset) for asset in free if not case.is_kept(t, asset)}
    if case.kind == "weights":
        kept = {asset: current_weight(book, asset, equity) for asset in free if case.is_kept(t, asset)}
        weights = constrained(case, book, t, numbers, kept, equity)
        if weights is None:
            return  # "positions and waiting orders stay"
        numbers = weights
        everything = {**weights, **kept}
        book.decided[t] = [everything.get(asset, NAN) for asset in range(case.n_assets)]
    for asset, number in numbers.items():
        # "A target is a set, never an increment, and replaces what waits for that asset" (R2: always)
        order = book.waiting[asset]
        if order is not None:
            book.count("replaced", t, asset, order.decision_bar)
            book.waiting[asset] = None
        queue(case, book, t, asset, number, equity)


def wanted(case: Case, book: Book, t: int, asset: int) -> float:
    """Number an asset gets in the decision of `t`.

    It is 0 for NaN, after the end of life, for non-members and in a cool-down.
    """
    row = case.targets[t]
    assert row is not None
    if not (math.isfinite(row[asset]) and case.is_alive(t, asset) and case.is_member(t, asset)):
        return 0.0
    if row[asset] != 0 and t <= book.cooling[asset]:
        book.count("cooldown", t, asset, t)
        return 0.0
    return row[asset]


def queue(case: Case, book: Book, t: int, asset: int, number: float, equity: float) -> None:
    """Queue the order that leads from the position to the target, if there is one (R2)."""
    atr = case.cell("atr", t, asset)
    if case.sizing == "fill":
        if number != 0 or book.quantity[asset] != 0:
            book.waiting[asset] = Order(t, number, None, atr)
        return
    price = book.mark(asset)
    if number != 0 and not valid(price):
        book.count("no_price", t, asset, t)  # "no mark: dropped, no_price"
        return
    target = sized(case, book, t, asset, t, number, equity, price)
    if target is None:
        return
    book.count("orders", t, asset, t)
    book.waiting[asset] = Order(t, number, target, atr)  # "the target quantity is kept"
