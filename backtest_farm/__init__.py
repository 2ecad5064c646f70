"""backtest_farm: exact, fast portfolio backtests, one at a time or by the million.

Names are loaded when they are first used, so that importing the package costs nothing: neither Ray nor
compiled code is touched by ``import backtest_farm``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest_farm import factors as factor
    from backtest_farm.backtest import Result, run
    from backtest_farm.errors import FarmError
    from backtest_farm.ingest.targets import KEEP
    from backtest_farm.panel import Panel, synthetic_panel
    from backtest_farm.spec import Costs, Limits, Rules, axis
    from backtest_farm.strategy import ContextFilter, CrossOver, Quantiles, Strategy, TopN, Weights, step
    from backtest_farm.study import Study, Sweep

__version__ = "0.1.0"

_ROOMS = {
    "backtest": ("Result", "run"),
    "errors": ("FarmError",),
    "factors": ("factor",),
    "ingest.targets": ("KEEP",),
    "panel": ("Panel", "synthetic_panel"),
    "spec": ("Costs", "Limits", "Rules", "axis"),
    "strategy": ("ContextFilter", "CrossOver", "Quantiles", "Strategy", "TopN", "Weights", "step"),
    "study": ("Study", "Sweep"),
}
_HOMES = {name: f"backtest_farm.{room}" for room, names in _ROOMS.items() for name in names}

__all__ = [
    "KEEP",
    "ContextFilter",
    "Costs",
    "CrossOver",
    "FarmError",
    "Limits",
    "Panel",
    "Quantiles",
    "Result",
    "Rules",
    "Strategy",
    "Study",
    "Sweep",
    "TopN",
    "Weights",
    "axis",
    "factor",
    "run",
    "step",
    "synthetic_panel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    value = home if name == "factor" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
