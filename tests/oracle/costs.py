"""Price and costs of one fill."""

from __future__ import annotations

import math

from tests.oracle.case import Case
from tests.oracle.state import MAX_FRACTION, Fill


def impact_fraction(case: Case, t: int, asset: int, size: float) -> float:
    """``k * sigma * sqrt(|q| / ADV)``, "fields of bar t-1 (missing: 0)" (T12)."""
    k = case.of("impact", asset)
    if k <= 0 or t == 0:
        return 0.0
    sigma = case.cell("sigma", t - 1, asset)
    # what was known of the volume before a split is in units of before it
    adv = case.cell("adv", t - 1, asset) * case.split_factor(t, asset)
    if not (math.isfinite(sigma) and sigma >= 0 and math.isfinite(adv) and adv > 0):
        return 0.0
    return k * sigma * math.sqrt(size / adv)


def cost_fractions(case: Case, t: int, asset: int, size: float) -> tuple[float, float, float]:
    """Half spread, slippage and impact as fractions of the base price, together at most 0.5 (R8, T12)."""
    half_spread = case.of("half_spread_bps", asset) / 1e4
    slippage = case.of("slippage_bps", asset) / 1e4
    impact = impact_fraction(case, t, asset, size)
    total = half_spread + slippage + impact
    if total > MAX_FRACTION:  # the minimum binds: all parts shrink by one factor
        shrink = MAX_FRACTION / total
        return half_spread * shrink, slippage * shrink, impact * shrink
    return half_spread, slippage, impact


def fill_price(case: Case, t: int, asset: int, quantity: float, base: float) -> float:
    """``fill price = base * (1 +- min(half_spread + slippage + impact, 0.5))``, + for a buy."""
    fraction = min(sum(cost_fractions(case, t, asset, abs(quantity))), MAX_FRACTION)
    return base * (1 + fraction) if quantity > 0 else base * (1 - fraction)


def commission_of(case: Case, asset: int, size: float, price: float) -> float:
    """``min(max(per_share*|q| + bps*notional, minimum), cap*notional)``, notional = |q| x fill price (S6)."""
    notional = size * price
    variable = case.of("per_share", asset) * size + case.of("commission_bps", asset) / 1e4 * notional
    commission = max(variable, case.of("min_commission", asset))
    cap = case.of("max_commission_frac", asset)
    return min(commission, cap * notional) if cap > 0 else commission


def outlay(case: Case, t: int, asset: int, quantity: float) -> float:
    """Cash that a buy takes: "quantity x fill price + commission"; nothing bought costs nothing."""
    if quantity <= 0:
        return 0.0
    price = fill_price(case, t, asset, quantity, case.prices[t][asset])
    return quantity * price + commission_of(case, asset, quantity, price)


def priced(
    case: Case, t: int, asset: int, quantity: float, base: float, decision_bar: int, reason: str
) -> Fill:
    """Make the ledger's row of a fill at a base price, with all costs."""
    price = fill_price(case, t, asset, quantity, base)
    size = abs(quantity)
    half_spread, slippage, impact = cost_fractions(case, t, asset, size)
    return Fill(
        decision_bar=decision_bar,
        bar=t,
        asset=asset,
        quantity=quantity,
        base=base,
        price=price,
        commission=commission_of(case, asset, size, price),
        spread=half_spread * size * base,
        slippage=slippage * size * base,
        impact=impact * size * base,
        reason=reason,
    )


def costs_of(row: Fill) -> float:
    """All costs of a fill, money (S9)."""
    return row.commission + row.spread + row.slippage + row.impact


def notional_of(row: Fill) -> float:
    """Traded notional of a fill, money; a delisting is an event and trades nothing (R9, R13)."""
    return 0.0 if row.reason == "delisting" else abs(row.quantity) * row.price
