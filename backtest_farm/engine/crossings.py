"""Targets of trials that time one asset by two averages: many pairs in one tile, each average made once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from backtest_farm.engine.targets import TIE, Prepared, filtered
from backtest_farm.factors.fields import averaged
from backtest_farm.factors.ranks import Window
from backtest_farm.kernel.crossings import crossed
from backtest_farm.kernel.state import WEIGHTS, Targets, frozen
from backtest_farm.panel import Panel
from backtest_farm.spec import Universe

KEPT_BYTES = 32 * 2**20
"""Of averages that a process keeps: those of some hundred look-backs on some thousand bars."""

_kept: dict[Hashable, np.ndarray] = {}


def timed_asset(panel: Panel, window: Window, universe: Universe, strategy: Any) -> int | None:
    """Return the one asset that crossings of a universe trade, long alone; None where it is not so."""
    if strategy.kind != "CrossOver" or strategy.allow_short or strategy.fast is None:
        return None
    members = panel.members(universe)[window.start : window.stop]
    assets = np.flatnonzero(members.any(axis=0))
    return int(assets[0]) if len(assets) == 1 else None


def prepare_crossings(
    panel: Panel,
    window: Window,
    strategy: Any,
    universe: Universe,
    asset: int,
    pairs: Sequence[tuple[int, int]],
) -> Prepared:
    """Return the targets of crossings of one asset.

    A trial's decisions are its column of ``fires``; the rows say what all of them decide on: the asset.

    Parameters
    ----------
    panel, window : Panel, Window
    strategy : CrossOver
        Any one of the trials' strategies; they differ in their averages at most.
    universe : Universe
    asset : int
        See `timed_asset`.
    pairs : sequence of (int, int)
        The look-backs of each trial, fast and slow.
    """
    n_bars = window.stop - window.start
    builds = {"factor_builds": 0, "rank_builds": 0, "rank_reuses": 0}
    averages = {}
    for bars in dict.fromkeys(bars for pair in pairs for bars in pair):
        key = panel, window, strategy.field, strategy.average, asset, bars
        builds["factor_builds"] += key not in _kept
        # What was used last stands last.
        averages[bars] = _kept[key] = _kept.pop(key) if key in _kept else _average(*key)
    excess = sum(each.nbytes for each in _kept.values()) - KEPT_BYTES
    while excess > 0:
        excess -= _kept.pop(next(iter(_kept))).nbytes
    blocked = filtered(panel, window, strategy.filter)
    flat = strategy.filter is not None and strategy.filter.action == "flat"
    member = np.ascontiguousarray(panel.members(universe)[window.start : window.stop, asset])
    # In eights, as lanes look at them.
    fires = np.zeros((n_bars, -(-len(pairs) // 8) * 8), np.uint8)
    for k, (fast, slow) in enumerate(pairs):
        crossed(averages[fast], averages[slow], TIE, frozen(member, np.uint8), blocked, flat, fires[:, k])
    rows = frozen(np.arange(n_bars + 1), np.int64), frozen(np.ones(n_bars), np.int64)
    ids, values = frozen(np.full(n_bars, asset), np.uint32), frozen(np.ones(n_bars))
    targets = Targets(frozen(fires, np.uint8), *rows, ids, values, 1, WEIGHTS)
    return Prepared(targets, [*range(len(pairs))], builds)


def _average(panel: Panel, window: Window, field: str, average: str, asset: int, bars: int) -> np.ndarray:
    """Return an average of one asset on a window's bars, made from all bars before its end."""
    prices = frozen(panel.read(field, 0, window.stop)[:, [asset]])
    return frozen(averaged(prices, average, bars)[window.start :, 0])
