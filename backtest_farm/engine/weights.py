"""Target weights as users give them: long frames, wide frames and arrays become one table of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import Window
from backtest_farm.panel import Panel

_FAULTS_SHOWN = 5
MOMENTS = ("timestamp", "date", "datetime", "time")
"""What the column of moments may be called, in any case."""


def weight_rows(panel: Panel, window: Window, weights: Any) -> np.ndarray:
    """Return target weights for every bar of a window.

    Parameters
    ----------
    panel : Panel
    window : Window
    weights : frame or ndarray
        See `backtest_farm.run`.

    Returns
    -------
    ndarray of float64, shape (n_bars, n_assets)
        A row without any finite weight is no decision; NaN elsewhere is weight 0.

    Raises
    ------
    InputError
        If the shape is wrong, a weight is infinite, or a frame's rows do not match the panel.
    """
    n_bars, n_assets = window.stop - window.start, panel.shape[1]
    if isinstance(weights, np.ndarray):
        if weights.shape not in {panel.shape, (n_bars, n_assets)}:
            raise InputError(
                f"weights have shape {weights.shape}, but the panel has {panel.shape} (bars, assets)"
                + ("" if n_bars == panel.shape[0] else f" and the window {(n_bars, n_assets)}"),
                hint="give one row a bar and one column an asset, in the order of panel.symbols",
            )
        if weights.dtype.kind not in "fiu":
            raise InputError(f"weights are {weights.dtype}: give numbers")
        table = np.array(weights, dtype=np.float64)
    else:
        table = panel.align("weight", _long(panel, weights))
    if table.shape[0] != n_bars:
        outside = np.isfinite(np.delete(table, slice(window.start, window.stop), axis=0)).any()
        table = table[window.start : window.stop]
        if outside and not np.isfinite(table).any():
            raise InputError(
                "all weights lie outside the window, so there is no decision in it",
                hint=f"the window is {panel.timestamps[window.start]} .. {panel.timestamps[window.stop - 1]}",
            )
    infinite = np.argwhere(np.isinf(table))
    if len(infinite):
        raise InputError(
            f"{len(infinite)} weights are infinite",
            faults=[
                f"{panel.timestamps[window.start + t]} {panel.symbols[a]}: {table[t, a]}"
                for t, a in infinite[:_FAULTS_SHOWN].tolist()
            ],
            hint="give finite weights; NaN stands for no target",
        )
    return table


def _long(panel: Panel, weights: Any) -> Any:
    """Return a frame of weights in long form; one with a column per symbol is unpivoted."""
    import polars as pl

    if type(weights).__module__.startswith("pandas") and type(weights).__name__ == "DataFrame":
        if not {str(column).lower() for column in weights.columns} & {*MOMENTS}:
            weights = weights.rename_axis(index=weights.index.name or "timestamp")
        weights = pl.from_pandas(weights, include_index=weights.index.name is not None)
    elif type(weights).__module__.startswith("pyarrow"):
        weights = pl.from_arrow(weights)
    if not isinstance(weights, pl.DataFrame):
        raise InputError(
            f"{type(weights).__name__} is neither a strategy nor weights",
            hint="give bf.TopN(...), a frame (timestamp, symbol, weight), or an array of one row a bar",
        )
    names = {name.lower(): name for name in weights.columns}
    if {"symbol", "weight"} <= set(names):
        return weights
    moment = next((names[name] for name in MOMENTS if name in names), None)
    if moment is None or not set(weights.columns) - {moment} <= set(panel.symbols):
        unknown = sorted(set(weights.columns) - {moment, *panel.symbols})
        raise InputError(
            "this frame is no table of weights",
            faults=[f"column {name!r} is no symbol of the panel" for name in unknown[:_FAULTS_SHOWN]],
            hint="give columns timestamp, symbol, weight; or timestamp and one column a symbol",
        )
    return weights.rename({moment: "timestamp"}).unpivot(
        index="timestamp", variable_name="symbol", value_name="weight"
    )
