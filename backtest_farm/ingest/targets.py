"""Targets as users give them: long frames, wide frames and arrays become one table of rows."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.errors import InputError, nearest

_FAULTS_SHOWN = 5
MOMENTS = ("timestamp", "date", "datetime", "time")
"""What the column of moments may be called, in any case."""


KEEP = -sys.float_info.max
"""Stands for "leave this asset alone" in a column of targets: a float, so that any frame can hold it."""

UNIT_NAMES = ("weight", "value", "quantity")


class TargetRows(NamedTuple):
    """Targets for every bar of a window, (n_bars, n_assets) each.

    Attributes
    ----------
    values : ndarray of float64
        A row without any finite number is no decision; NaN elsewhere closes.
    keep : ndarray of bool, or None
        Where the asset is left alone.
    unit : str
        What the numbers are.
    """

    values: np.ndarray
    keep: np.ndarray | None
    unit: str


def target_rows(
    timestamps: np.ndarray,
    symbols: tuple[str, ...],
    window: slice,
    weights: Any,
    unit: str = "weight",
    keep: np.ndarray | None = None,
) -> TargetRows:
    """Return targets for every bar of a window.

    Parameters
    ----------
    timestamps : ndarray of datetime64
        The panel's bars.
    symbols : tuple of str
        The panel's assets.
    window : slice
        Bars of the panel.
    weights : frame or ndarray
        See `backtest_farm.run`.
    unit : str
        Of an array or wide frame; the column's name says it in a long one.
    keep : ndarray of bool, optional
        Of an array's shape.

    Raises
    ------
    InputError
        If the shape is wrong, a target is infinite, or a frame's rows do not match the panel.
    """
    n_bars, shape = window.stop - window.start, (len(timestamps), len(symbols))
    if unit not in UNIT_NAMES:
        raise InputError(f"unit {unit!r} is not known: {nearest(unit, UNIT_NAMES)}")
    if keep is not None and not isinstance(weights, np.ndarray):
        raise InputError("keep_mask belongs to an array of targets", hint="write bf.KEEP into the frame")
    if keep is not None and (np.asarray(keep).dtype != bool or np.shape(keep) != np.shape(weights)):
        raise InputError(
            f"keep_mask is {np.asarray(keep).dtype} of shape {np.shape(keep)}",
            hint=f"give booleans of the targets' shape {np.shape(weights)}",
        )
    if isinstance(weights, np.ndarray):
        if weights.shape not in {shape, (n_bars, shape[1])}:
            raise InputError(
                f"weights have shape {weights.shape}, but the panel has {shape} (bars, assets)"
                + ("" if n_bars == shape[0] else f" and the window {(n_bars, shape[1])}"),
                hint="give one row a bar and one column an asset, in the order of panel.symbols",
            )
        if weights.dtype.kind not in "fiu":
            raise InputError(f"weights are {weights.dtype}: give numbers")
        table = np.array(weights, dtype=np.float64)
    else:
        from backtest_farm.ingest.matching import read_field  # polars is loaded only for frames

        frame, unit = _long(symbols, weights, unit)
        table = np.array(read_field(unit, frame, timestamps, symbols))
    kept = table == KEEP if keep is None else np.array(keep)
    table[kept] = np.nan
    if table.shape[0] != n_bars:
        kept = kept[window]
        outside = np.isfinite(np.delete(table, window, axis=0)).any()
        table = table[window]
        if outside and not np.isfinite(table).any():
            raise InputError(
                "all weights lie outside the window, so there is no decision in it",
                hint=f"the window is {timestamps[window.start]} .. {timestamps[window.stop - 1]}",
            )
    infinite = np.argwhere(np.isinf(table))
    if len(infinite):
        raise InputError(
            f"{len(infinite)} weights are infinite",
            faults=[
                f"{timestamps[window.start + t]} {symbols[a]}: {table[t, a]}"
                for t, a in infinite[:_FAULTS_SHOWN].tolist()
            ],
            hint="give finite weights; NaN stands for no target",
        )
    return TargetRows(table, kept if kept.any() else None, unit)


def _long(symbols: tuple[str, ...], weights: Any, unit: str) -> tuple[Any, str]:
    """Return a frame of targets in long form and what they are; one with a column per symbol is unpivoted."""
    import polars as pl

    if type(weights).__module__.startswith("pandas") and type(weights).__name__ == "DataFrame":
        if weights.index.nlevels == 1 and not {str(name).lower() for name in weights.columns} & {*MOMENTS}:
            weights = weights.rename_axis(index=weights.index.name or "timestamp")
        named = any(name is not None for name in weights.index.names)
        weights = pl.from_pandas(weights, include_index=named)
    elif type(weights).__module__.startswith("pyarrow"):
        weights = pl.from_arrow(weights)
    if not isinstance(weights, pl.DataFrame):
        raise InputError(
            f"{type(weights).__name__} is neither a strategy nor weights",
            hint="give bf.TopN(...), a frame (timestamp, symbol, weight), or an array of one row a bar",
        )
    names = {name.lower(): name for name in weights.columns}
    given = [name for name in UNIT_NAMES if name in names]
    if "symbol" in names and given:
        if len(given) > 1:
            raise InputError(
                f"this frame has columns {' and '.join(given)}: targets are one of them",
                hint="drop the others",
            )
        if unit not in ("weight", given[0]):
            raise InputError(
                f"unit is {unit!r}, but the frame has a column {given[0]!r}", hint="give one of them"
            )
        return weights, given[0]
    moment = next((names[name] for name in MOMENTS if name in names), None)
    if moment is None or not set(weights.columns) - {moment} <= set(symbols):
        unknown = sorted(set(weights.columns) - {moment, *symbols})
        raise InputError(
            "this frame is no table of weights",
            faults=[f"column {name!r} is no symbol of the panel" for name in unknown[:_FAULTS_SHOWN]],
            hint="give columns timestamp, symbol, weight (or value, or quantity); or timestamp and one "
            "column a symbol",
        )
    long = weights.rename({moment: "timestamp"})
    return long.unpivot(index="timestamp", variable_name="symbol", value_name=unit), unit
