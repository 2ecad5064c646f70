"""What metrics are called and how their numbers are written."""

from __future__ import annotations

import math
from typing import Any

DECIMALS = {"percent": 2, "ratio": 3, "multiple": 2, "money": 0, "count": 0, "bars": 1}
"""Digits behind the point, by unit, where a number stands alone."""

CELL_STEP = {"percent": 0.001, "ratio": 0.01, "multiple": 0.1, "money": 1.0, "count": 1.0, "bars": 1.0}
"""What is told apart, by unit, where there is little room."""

_NAMES = {
    "total_return": ("Total return", "percent"),
    "cagr": ("Growth a year (CAGR)", "percent"),
    "volatility": ("Volatility (annual)", "percent"),
    "sharpe": ("Sharpe ratio (annual)", "ratio"),
    "sortino": ("Sortino ratio (annual)", "ratio"),
    "max_drawdown": ("Maximum drawdown", "percent"),
    "calmar": ("Calmar ratio", "ratio"),
    "skew": ("Skewness of returns", "ratio"),
    "kurtosis": ("Excess kurtosis", "ratio"),
    "turnover": ("Turnover a year", "multiple"),
    "exposure": ("Mean gross exposure", "percent"),
    "costs": ("Costs (money)", "money"),
    "orders": ("Orders", "count"),
    "fills": ("Fills", "count"),
    "trades": ("Round trips", "count"),
    "win_rate": ("Win rate of trades", "percent"),
    "profit_factor": ("Profit factor", "ratio"),
    "avg_bars_held": ("Bars held (mean)", "bars"),
}
_SUFFIX = {"percent": "%", "multiple": "×"}


def title_of(metric: str) -> str:
    """Return what a metric is called, with its period or unit."""
    return _NAMES.get(metric, (metric.replace("_", " ").capitalize(), ""))[0]


def unit_of(metric: str) -> str:
    """Return the unit of a metric: one of `DECIMALS`."""
    return _NAMES.get(metric, ("", "ratio"))[1]


def shown(value: Any, unit: str, step: float | None = None) -> str:
    """Write a number as a reader wants it.

    Parameters
    ----------
    value : number or None
        In base units: 0.05 is 5%. None and what is not finite are written as a dash.
    unit : str
        One of `DECIMALS`.
    step : float, optional
        Distance between neighbouring values, such as ticks: as many digits as tell these apart.
    """
    if value is None or not math.isfinite(value):
        return "–"
    scale, suffix, decimals = 100.0 if unit == "percent" else 1.0, _SUFFIX.get(unit, ""), DECIMALS[unit]
    if step is not None:
        if unit in {"money", "count"} and (size := max(abs(value), step)) >= 10_000:
            scale, suffix = (1e-9, "bn") if size >= 1e9 else (1e-6, "m") if size >= 1e6 else (1e-3, "k")
        # A step of 0.25 needs two digits, although its size alone asks for one.
        decimals = next(
            d
            for d in range(12)
            if d == 11 or math.isclose(round(step * scale, d), step * scale, rel_tol=1e-6)
        )
    number = f"{value * scale:,.{decimals}f}"
    return (number.removeprefix("-") if not number.strip("-0.,") else number) + suffix
