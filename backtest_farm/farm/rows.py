"""The rows of a study: one a trial, with a schema that follows the kernel's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from backtest_farm.engine.tile import TileResult
from backtest_farm.factors.ranks import Window
from backtest_farm.kernel import CONTRACT_VERSION, RESULT_EPOCH
from backtest_farm.kernel.state import COUNTERS, SEGMENTS
from backtest_farm.kernel.summary import METRICS
from backtest_farm.panel import Panel
from backtest_farm.sweep import Atom, Plan

NUMERICS = f"float64/contract-{CONTRACT_VERSION}/epoch-{RESULT_EPOCH}"
"""How the numbers of a row were made: rows of different tags are not compared."""

NOT_FINITE = "equity was not a finite number"


def atom_table(plan: Plan, atom: Atom, tile: TileResult, panel: Panel, window: Window) -> pa.Table:
    """Return the rows of one atom.

    Parameters
    ----------
    plan, atom : Plan, Atom
    tile : TileResult
        Of the atom's trials, in their order.
    panel, window : Panel, Window
        What they ran over.

    Returns
    -------
    pyarrow.Table
        Identity (trial, key, sweep, profile, universe, fold, window, numerics), status and error, digest,
        the axes by their dotted paths, metrics (null where the trial failed; NaN where undefined), reason
        counters, and per segment of the window the number of bars and the sums of r and r*r.
    """
    rows = atom.stop - atom.first
    n_bars = window.stop - window.start
    first, last = panel.timestamps[[window.start, window.stop - 1]].astype("M8[us]")

    def same(value) -> pa.Array:
        return pa.repeat(pa.scalar(value), rows)

    columns = {
        "trial": pa.array(range(atom.first, atom.stop), pa.int64()),
        "key": pa.array(plan.keys(atom.first, atom.stop)),
        "sweep": same(plan.sweep_id),
        "profile": same(atom.base.profile),
        "universe": same("all"),
        "fold": same(np.int32(0)),
        "window_start": same(first),
        "window_end": same(last),
        "numerics": same(NUMERICS),
        "status": pa.array(np.where(tile.broken, "error", "ok").tolist()),
        "error": pa.array([NOT_FINITE if bad else None for bad in tile.broken.tolist()], pa.string()),
        "digest": pa.array(tile.digests),
    }
    for axis in plan.axes:
        # By the whole axis, not by this atom's part of it: all fragments need one schema.
        text = len({isinstance(value, str) for value in axis.values}) > 1
        kind = pa.string() if text else pa.array(axis.values).type
        values = atom.columns[axis.column]
        columns[axis.column] = pa.array([str(each) for each in values] if text else values, kind)
    columns["bars"] = same(n_bars)
    columns["bars_per_year"] = same(float(panel.bars_per_year))
    for at, name in enumerate(METRICS):
        columns[name] = pa.array(tile.metrics[:, at], mask=tile.broken)
    # Orders, fills and trades are metrics too: as counts they are whole numbers.
    columns.update({name: pa.array(counts) for name, counts in zip(COUNTERS, tile.counters, strict=True)})
    bars = np.bincount(np.arange(n_bars) * SEGMENTS // n_bars, minlength=SEGMENTS)
    columns["segment_bars"] = _fixed(np.tile(bars.astype(np.int32), (rows, 1)))
    columns["segment_sum"] = _fixed(tile.segments[0].T)
    columns["segment_sum_sq"] = _fixed(tile.segments[1].T)
    return pa.table(columns)


def _fixed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), SEGMENTS)
