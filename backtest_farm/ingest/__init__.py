"""Getting data in: readers and checks that report every fault at once, and synthetic markets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from backtest_farm.ingest.grid import NO_END, Ends, Grid
from backtest_farm.ingest.report import Finding, Report, Tally

if TYPE_CHECKING:
    from backtest_farm.ingest.options import ReadOptions
    from backtest_farm.ingest.readers import Reading, read, read_later, stream
    from backtest_farm.ingest.synthetic import synthetic_grid

__all__ = [
    "NO_END",
    "Ends",
    "Finding",
    "Grid",
    "ReadOptions",
    "Reading",
    "Report",
    "Tally",
    "read",
    "read_later",
    "stream",
    "synthetic_grid",
]

# Readers load polars; whoever only opens a panel must not pay for that.
_LAZY = {
    **dict.fromkeys(("Reading", "read", "read_later", "stream"), "backtest_farm.ingest.readers"),
    "ReadOptions": "backtest_farm.ingest.options",
    "synthetic_grid": "backtest_farm.ingest.synthetic",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
