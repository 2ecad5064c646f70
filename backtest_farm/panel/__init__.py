"""Panels: standard Parquet on disk that maps straight into the kernel."""

from backtest_farm.panel.panel import Panel, synthetic_panel

__all__ = ["Panel", "synthetic_panel"]
