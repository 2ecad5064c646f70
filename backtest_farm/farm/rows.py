"""The rows of a study: one a trial, with a schema that follows the kernel's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from backtest_farm.engine.tile import TileResult
from backtest_farm.kernel import CONTRACT_VERSION, RESULT_EPOCH
from backtest_farm.kernel.state import COUNTERS, SEGMENTS
from backtest_farm.kernel.summary import METRICS
from backtest_farm.sweep import Atom, Plan

NUMERICS = f"float64/contract-{CONTRACT_VERSION}/epoch-{RESULT_EPOCH}"
"""How the numbers of a row were made: rows of different tags are not compared."""

NOT_FINITE = "equity was not a finite number"


def atom_table(
    plan: Plan,
    atom: Atom,
    tile: TileResult,
    span: tuple[np.datetime64, np.datetime64],
    n_bars: int,
    bars_per_year: float,
) -> pa.Table:
    """Return the rows of one atom.

    Parameters
    ----------
    plan, atom : Plan, Atom
    tile : TileResult
        Of the atom's trials, in their order.
    span : tuple of datetime64
        First and last bar of the window.
    n_bars : int
        Bars of the window.
    bars_per_year : float

    Returns
    -------
    pyarrow.Table
        Identity (trial, key, sweep, profile, universe, fold, window, numerics), status and error, digest,
        the axes by their dotted paths, metrics (null where the trial failed; NaN where undefined), reason
        counters, and per segment of the window the number of bars and the sums of r and r*r.
    """
    rows = atom.stop - atom.first
    failed = tile.broken

    def same(value, kind: pa.DataType) -> pa.Array:
        return pa.array([value] * rows, kind)

    columns: dict[str, pa.Array] = {
        "trial": pa.array(range(atom.first, atom.stop), pa.int64()),
        "key": pa.array(plan.keys(atom.first, atom.stop), pa.string()),
        "sweep": same(plan.sweep_id, pa.string()),
        "profile": same(atom.base.profile, pa.string()),
        "universe": same("all", pa.string()),
        "fold": same(0, pa.int32()),
        "window_start": pa.array(np.full(rows, span[0].astype("M8[us]"))),
        "window_end": pa.array(np.full(rows, span[1].astype("M8[us]"))),
        "numerics": same(NUMERICS, pa.string()),
        "status": pa.array(np.where(failed, "error", "ok").tolist(), pa.string()),
        "error": pa.array([NOT_FINITE if bad else None for bad in failed.tolist()], pa.string()),
        "digest": pa.array(tile.digests, pa.string()),
    }
    for path, values in atom.columns.items():
        columns[path] = pa.array([str(each) for each in values]) if _mixed(values) else pa.array(values)
    columns["bars"] = same(n_bars, pa.int64())
    columns["bars_per_year"] = same(bars_per_year, pa.float64())
    for at, name in enumerate(METRICS):
        columns[name] = pa.array(tile.metrics[:, at], pa.float64(), mask=failed)
    for at, name in enumerate(COUNTERS):
        # Orders, fills and trades are metrics too: as counts they are whole numbers.
        columns[name] = pa.array(tile.counters[at], pa.int64())
    bars = np.bincount(np.arange(n_bars) * SEGMENTS // n_bars, minlength=SEGMENTS)
    columns["segment_bars"] = _fixed(np.tile(bars.astype(np.int32), rows), pa.int32())
    columns["segment_sum"] = _fixed(tile.segments[0].T, pa.float64())
    columns["segment_sum_sq"] = _fixed(tile.segments[1].T, pa.float64())
    return pa.table(columns)


def _fixed(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1), kind), SEGMENTS
    )


def _mixed(values: list) -> bool:
    """Whether an axis holds text beside numbers (a weight of ``equal`` or 0.04): its column is text."""
    return len({isinstance(value, str) for value in values}) > 1
