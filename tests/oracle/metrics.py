"""Every metric of the contract from its written formula, over plain lists, independent of the bar loop."""

from __future__ import annotations

import math

TINY = 1e-12  # a denominator at or below this makes a metric NaN
NAN = math.nan


def ratio(numerator: float, denominator: float) -> float:
    """Quotient, NaN where the denominator is <= 1e-12 (so also where it is negative) or NaN."""
    return numerator / denominator if denominator > TINY else NAN


def mean(values: list[float]) -> float:
    """Arithmetic mean; NaN for an empty list or where any value is NaN."""
    if not values or any(math.isnan(value) for value in values):
        return NAN
    return math.fsum(values) / len(values)


def central_moment(values: list[float], order: int) -> float:
    """Compute the population moment about the mean: sum (x - mean)^order / n, in two passes."""
    middle = mean(values)
    return math.fsum((value - middle) ** order for value in values) / len(values)


def sample_std(values: list[float]) -> float:
    """Compute the standard deviation with ddof = 1; NaN for fewer than two values."""
    n = len(values)
    return math.sqrt(central_moment(values, 2) * n / (n - 1)) if n > 1 else NAN


def returns(equity: list[float], starting_cash: float) -> list[float]:
    """Bar returns ``E[t]/E[t-1] - 1``, the first from starting cash; 0 after the first bar with equity <= 0.

    Parameters
    ----------
    equity : list of float
        Equity per bar, money.
    starting_cash : float
        E_0, money, > 0.

    Returns
    -------
    list of float
        n returns, fractions.
    """
    result, before = [], starting_cash
    for now in equity:
        result.append(now / before - 1 if before > 0 else 0.0)
        # Once at or below zero the book stays "ruined", even where a payout lifts equity above zero again.
        before = now if before > 0 else 0.0
    return result


def cagr(end: float, start: float, bars_per_year: float, n: int) -> float:
    """``(E_end/E_0)^(A/n) - 1``; -1 if E_end <= 0; NaN where the power overflows ("never infinite")."""
    if end <= 0:
        return -1.0
    try:
        return (end / start) ** (bars_per_year / n) - 1
    except OverflowError:
        return NAN


def max_drawdown(equity: list[float], starting_cash: float) -> float:
    """Deepest fall ``E/peak - 1`` (<= 0), the peak starting at E_0."""
    peak, deepest = starting_cash, 0.0
    for now in equity:
        peak = max(peak, now)
        deepest = min(deepest, now / peak - 1)
    return deepest


def compute(
    *,
    equity: list[float],
    starting_cash: float,
    gross: list[float],
    notional: list[float],
    costs: list[float],
    pnl: list[float],
    bars_held: list[int],
    orders: int,
    fills: int,
    bars_per_year: float,
    risk_free: float,
) -> dict[str, float]:
    """Compute all metrics of the contract.

    Parameters
    ----------
    equity : list of float
        Equity of each bar, money.
    starting_cash : float
        E_0, money.
    gross : list of float
        Gross exposure of each bar, fraction; a NaN makes `exposure` NaN.
    notional : list of float
        Traded notional of each fill (events left out), money.
    costs : list of float
        Costs of each bar, money.
    pnl, bars_held : list
        Of each closed trade, money and bars.
    orders, fills : int
        Counts; fills without events.
    bars_per_year : float
        A.
    risk_free : float
        Annual rate, fraction.

    Returns
    -------
    dict of float
        Undefined values (a denominator <= 1e-12, one bar for std, no trades, no losses) are NaN, never inf.
    """
    n = len(equity)
    r = returns(equity, starting_cash)
    year = math.sqrt(bars_per_year)
    std = sample_std(r)
    m2, m3, m4 = (central_moment(r, order) for order in (2, 3, 4))
    is_spread = math.sqrt(m2) > TINY
    excess = mean([value - risk_free / bars_per_year for value in r])
    downside = math.sqrt(mean([min(value, 0.0) ** 2 for value in r]))
    growth = cagr(equity[-1], starting_cash, bars_per_year, n)
    deepest = max_drawdown(equity, starting_cash)
    gains = math.fsum(value for value in pnl if value > 0)
    losses = math.fsum(-value for value in pnl if value < 0)
    return {
        "total_return": equity[-1] / starting_cash - 1,
        "cagr": growth,
        "volatility": std * year,
        "sharpe": ratio(excess, std) * year,
        "sortino": ratio(excess * year, downside),
        "max_drawdown": deepest,
        "calmar": ratio(growth, abs(deepest)),
        "skew": m3 / m2**1.5 if is_spread else NAN,
        "kurtosis": m4 / m2**2 - 3 if is_spread else NAN,
        "turnover": ratio(math.fsum(notional) * bars_per_year / n, mean(equity)) / 2,
        "exposure": mean(gross),
        "costs": math.fsum(costs),
        "orders": orders,
        "fills": fills,
        "trades": len(pnl),
        "win_rate": mean([float(value > 0) for value in pnl]),
        "profit_factor": ratio(gains, losses),
        "avg_bars_held": mean([float(bars) for bars in bars_held]),
    }
