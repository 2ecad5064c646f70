"""The rows of a study: one a trial, with a schema that follows the kernel's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest_farm.engine.tile import TileResult
from backtest_farm.factors.ranks import Window
from backtest_farm.identity import digest
from backtest_farm.kernel import CONTRACT_VERSION, RESULT_EPOCH
from backtest_farm.kernel.state import COUNTERS, SEGMENTS
from backtest_farm.kernel.summary import METRICS
from backtest_farm.panel import Panel
from backtest_farm.sweep import Atom, Plan

NUMERICS = f"float64/contract-{CONTRACT_VERSION}/epoch-{RESULT_EPOCH}"
"""How the numbers of a row were made: rows of different tags are not compared."""

NOT_FINITE = "equity was not a finite number"

# Orders, fills and trades are metrics too: as counts they are whole numbers.
_NUMBERS = {name: pa.int64() if name in COUNTERS else pa.float64() for name in (*METRICS, *COUNTERS)}
_SEGMENTS = dict.fromkeys(("segment_sum", "segment_sum_sq"), pa.list_(pa.float64(), SEGMENTS))
OUTCOME = pa.schema(
    {**dict.fromkeys(("status", "error", "digest"), pa.string()), **_NUMBERS, **_SEGMENTS}.items()
)
"""What comes out of a trial; the other columns say what went in."""


def simulated(tile: TileResult) -> pa.Table:
    """Return the outcome of a tile's trials, in their order."""
    broken = tile.broken.tolist()
    columns = {
        "status": pa.array(["error" if bad else "ok" for bad in broken]),
        "error": pa.array([NOT_FINITE if bad else None for bad in broken], pa.string()),
        "digest": pa.array(tile.digests),
    }
    columns |= {name: pa.array(tile.metrics[:, at], mask=tile.broken) for at, name in enumerate(METRICS)}
    columns |= {name: pa.array(counts) for name, counts in zip(COUNTERS, tile.counters, strict=True)}
    for name, sums in zip(_SEGMENTS, tile.segments, strict=True):
        columns[name] = _fixed(sums.T)
    return pa.table([columns[name] for name in OUTCOME.names], schema=OUTCOME)


def failed(status: str, message: str, n_trials: int) -> pa.Table:
    """Return the outcome of trials without a result: all of it null but status, error and digest.

    The digest says which kind of failure it was, the message up to its colon, and nothing else: the rest may
    name places and times.
    """
    row = {
        "status": status,
        "error": message[:200],
        "digest": digest([status, message.partition(":")[0]]),
    }
    return pa.Table.from_pylist([row] * n_trials, OUTCOME)


def copied(keys: Sequence[str], sources: Sequence[pa.Table]) -> tuple[list[int], pa.Table]:
    """Return which of `keys` have rows in `sources`, as places in `keys`, and the outcomes that stand there.

    Rows that a version with other columns wrote are left aside: what they lack must be run.
    """
    usable = [table for table in sources if {"key", *OUTCOME.names} <= set(table.column_names)]
    rows = pa.concat_tables([table.select(["key", *OUTCOME.names]) for table in usable] or [_NOTHING])
    found = pc.index_in(pa.array(keys, pa.string()), rows["key"].combine_chunks())
    places = np.flatnonzero(found.is_valid()).tolist()
    return places, rows.select(OUTCOME.names).take(found.drop_null())


_NOTHING = pa.schema([("key", pa.string()), *OUTCOME]).empty_table()


def atom_table(
    plan: Plan, atom: Atom, keys: Sequence[str], outcome: pa.Table, panel: Panel, window: Window
) -> pa.Table:
    """Return the rows of one atom.

    Parameters
    ----------
    plan, atom : Plan, Atom
    keys : sequence of str
        Of the atom's trials.
    outcome : pyarrow.Table
        Theirs, in their order, with the schema `OUTCOME`.
    panel, window : Panel, Window
        What they ran over.

    Returns
    -------
    pyarrow.Table
        Identity (trial, key, sweep, profile, universe, fold, window, numerics), status and error, digest,
        the axes by their dotted paths (null where an alternative has no such parameter), metrics (null where
        the trial failed; NaN where undefined), reason counters (null where it raised), and per segment of
        the window the number of bars and the sums of r and r*r.
    """
    rows = len(atom.numbers)
    n_bars = window.stop - window.start
    first, last = panel.timestamps[[window.start, window.stop - 1]].astype("M8[us]")
    results = dict(zip(outcome.column_names, outcome.columns, strict=True))

    def same(value) -> pa.Array:
        return pa.repeat(pa.scalar(value), rows)

    columns = {
        "trial": pa.array(atom.numbers, pa.int64()),
        "key": pa.array(keys),
        "sweep": same(plan.sweep_id),
        "profile": pa.array(atom.profiles),
        "universe": same(atom.universe.label),
        "fold": same(np.int32(0)),
        "window_start": same(first),
        "window_end": same(last),
        "numerics": same(NUMERICS),
        **{name: results.pop(name) for name in ("status", "error", "digest")},
    }
    for axis in plan.axes:
        # By the whole axis, not by this atom's part of it: all fragments need one schema.
        columns[axis.column] = parameters(atom.columns[axis.column], axis.values)
    columns["bars"] = same(n_bars)
    columns["bars_per_year"] = same(float(panel.bars_per_year))
    bars = np.bincount(np.arange(n_bars) * SEGMENTS // n_bars, minlength=SEGMENTS)
    columns["segment_bars"] = _fixed(np.tile(bars.astype(np.int32), (rows, 1)))
    return pa.table({**columns, **results})


def parameters(values: Sequence[Any], axis: Sequence[Any]) -> pa.Array:
    """Return values of a column with the type that holds its whole `axis`: text where that mixes kinds.

    Whole numbers and fractions are one kind; a boolean is none of them, though Python thinks so.
    """
    if len({float if type(value) is int else type(value) for value in axis}) <= 1:
        return pa.array(values, pa.array(axis).type)
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _fixed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), SEGMENTS)
