"""For those who only have the ledger: positions and marks rebuilt from fills, prices and splits."""

from __future__ import annotations

import math

from tests.oracle.case import Case, valid
from tests.oracle.state import Fill, Holding, Outcome

INSIDE = ("stop_loss", "atr_stop", "trailing", "take_profit")  # what `rules_on` moves from bar to close


def is_inside(case: Case, row: Fill) -> bool:
    """Whether a fill is an exit of step 4, inside the bar."""
    return case.rules_on == "intrabar" and row.reason in INSIDE


def group_of(row: Fill, position: float) -> int:
    """Group of a fill, given the position before it: 1 = (a) reduction, 2 = (b) short, 3 = (c) buy."""
    if position * row.quantity < 0:
        return 1
    return 2 if row.quantity < 0 else 3


def split_between(case: Case, asset: int, first: int, last: int) -> float:
    """Units at bar `last` that one unit held at the end of bar `first` has become."""
    return math.prod(case.split_factor(t, asset) for t in range(first + 1, last + 1))


def before_fills(case: Case, outcome: Outcome) -> list[Holding]:
    """Position before each fill of the ledger, in units of its bar."""
    position, last = [Holding()] * case.n_assets, [0] * case.n_assets
    result = []
    for row in outcome.fills:
        held = position[row.asset].split(split_between(case, row.asset, last[row.asset], row.bar))
        result.append(held)
        position[row.asset], last[row.asset] = held.after(row.quantity), row.bar
    return result


def marks_of(case: Case, outcome: Outcome) -> list[list[float]]:
    """Rebuild the marks at the end of every bar; NaN where there is none.

    Parameters
    ----------
    case : Case
        Gives closes and splits.
    outcome : Outcome
        Gives the fills.

    Returns
    -------
    list of list of float
        Money per unit: last valid close, or the base price of the fill that opened the position until there
        is one, or NaN; in units of the bar.
    """
    closes = [math.nan] * case.n_assets
    opening = [math.nan] * case.n_assets
    rows = list(zip(outcome.fills, before_fills(case, outcome), strict=True))
    result = []
    for t in range(case.n_bars):
        for asset in range(case.n_assets):
            closes[asset] /= case.split_factor(t, asset)
            opening[asset] /= case.split_factor(t, asset)
        for row, position in rows:
            if row.bar == t and position.units == 0:
                opening[row.asset] = row.base
            elif row.bar == t and position.after(row.quantity).units == 0:
                opening[row.asset] = math.nan
        closes = [now if valid(now) else last for now, last in zip(case.close[t], closes, strict=True)]
        pairs = zip(closes, opening, strict=True)
        result.append([close if valid(close) else base for close, base in pairs])
    return result


def in_step_8(case: Case, outcome: Outcome, t: int) -> list[Fill]:
    """Fills of bar `t` that its decision did not see: those of step 8."""
    if case.fill != "same_close":
        return []
    return [
        row
        for row in outcome.fills
        if row.bar == t and row.reason != "delisting" and not is_inside(case, row)
    ]


def step_8_costs(case: Case, outcome: Outcome, t: int) -> float:
    """Costs by which the equity shown for bar `t` is below that of step 6."""
    rows = in_step_8(case, outcome, t)
    return math.fsum(row.commission + row.spread + row.slippage + row.impact for row in rows)


def decided_equity(case: Case, outcome: Outcome, t: int) -> float:
    """Equity of step 6, on which bar `t` decides: fills at the bar's own close only take their costs off."""
    return outcome.bars["equity"][t] + step_8_costs(case, outcome, t)


def decided_quantity(case: Case, outcome: Outcome, t: int) -> list[float]:
    """Positions on which bar `t` decides: those before its step 8."""
    result = list(outcome.quantity[t])
    for row in reversed(in_step_8(case, outcome, t)):
        result[row.asset] -= row.quantity
    return [
        0.0 if abs(held) <= 1e-12 * abs(now) else held
        for held, now in zip(result, outcome.quantity[t], strict=True)
    ]
