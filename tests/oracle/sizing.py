"""From the number of a decision to a target quantity, at the decision or at the fill.

A choice where page and readings leave a gap: positions in lots of 0.1 carry rounding, so a reduction that
would leave less than 1e-9 lots leaves nothing.
"""

from __future__ import annotations

import math

from tests.oracle.case import Case
from tests.oracle.state import LOT_TOLERANCE, REACHED, Book, is_dust


def sized(
    case: Case, book: Book, t: int, asset: int, decided: int, number: float, equity: float, price: float
) -> float | None:
    """Target quantity of an order after band, minimum notional and lots; None is no order (S5)."""
    position = book.quantity[asset]
    target = target_quantity(case, number, equity, price)
    if target == 0:  # a closing is exempt from all that follows; 0 to 0 is no order
        return 0.0 if position != 0 else None
    order = target - position
    # "Orders under 1e-12 x E are dropped, except closings."
    if order == 0 or is_dust(abs(order) * price, equity):
        return None
    # "Band (position of the same sign): no order if |w - quantity*p/E| <= max(abs, rel*|w|)"
    if position * target > 0 and (case.band > 0 or case.band_rel > 0):
        weight = number if case.kind == "weights" else target * price / equity
        if abs(weight - position * price / equity) <= max(case.band, case.band_rel * abs(weight)) + REACHED:
            book.count("in_band", t, asset, decided)
            return None
    # "Minimum notional: no order if |order| x p is below it"
    if abs(order) * price < case.min_notional * (1 - REACHED):
        book.count("below_minimum", t, asset, decided)
        return None
    if case.lot > 0:
        return in_lots(case, book, t, asset, decided, target)
    return target


def target_quantity(case: Case, number: float, equity: float, price: float) -> float:
    """Raw quantity = w*E/p, v/p or q; "E <= 0 gives 0" (S4). Only a target other than 0 needs a price."""
    if number == 0 or equity <= 0:
        return 0.0
    if case.kind == "quantities":
        return number
    return number * equity / price if case.kind == "weights" else number / price


def in_lots(case: Case, book: Book, t: int, asset: int, decided: int, target: float) -> float | None:
    """Target quantity whose order is whole lots; "the new position, if opened or reversed" (S5)."""
    position = book.quantity[asset]
    is_same_sign = position * target > 0
    raw = target - position if is_same_sign else target
    lots = round_to_lots(case, raw)
    if lots == 0:
        book.count("below_lot", t, asset, decided)
        # a reversal whose new position is nothing goes on as a closing
        return None if is_same_sign or position == 0 else 0.0
    if abs(lots - raw) > LOT_TOLERANCE * case.lot:
        book.count("lots_up" if abs(lots) > abs(raw) else "lots_down", t, asset, decided)
    if not is_same_sign:
        return lots
    # "never more than a reduction's position", which then is closed exactly
    if position * raw < 0 and abs(lots) >= abs(position) - LOT_TOLERANCE * case.lot:
        book.count("closed_by_lots", t, asset, decided)
        return 0.0
    return position + lots


def round_to_lots(case: Case, quantity: float) -> float:
    """``floor(|q|/lot + 1/2 + 1e-9)`` lots, or without 1/2 for "down"."""
    half = 0.5 if case.lot_rounding == "nearest" else 0.0
    return math.copysign(math.floor(abs(quantity) / case.lot + half + LOT_TOLERANCE) * case.lot, quantity)
