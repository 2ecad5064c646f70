"""What a sweep would cost: counts of the work, times what one piece of each took when it was measured.

The constants are CPU seconds on one core of the machine that they were measured on; another machine is that
much slower or faster as a short run of the kernel says.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

from backtest_farm.cache import cache_root
from backtest_farm.engine.targets import ranked_depth
from backtest_farm.engine.tile import market, ranked_targets, run_tile, terms
from backtest_farm.engine.warm import is_compiled
from backtest_farm.errors import InputError
from backtest_farm.factors.fields import LIGHT, identity
from backtest_farm.factors.ranks import Window
from backtest_farm.factors.spec import AnyFactor
from backtest_farm.farm.executor import quickest
from backtest_farm.identity import digest
from backtest_farm.panel import Panel
from backtest_farm.spec import Universe
from backtest_farm.strategy import AnyStrategy, Strategy, Weights
from backtest_farm.strategy.own import block_of, decides_by_bar
from backtest_farm.sweep import Plan

# Of a tile: each bar, and each asset on it; each trial on it, and each name that the trial holds; each order,
# and each name that it is sorted in among.
BAR, ASSET_BAR, TRIAL_BAR, HELD_BAR, ORDER, ORDER_NAME = 2.9e-6, 1.5e-9, 4.7e-8, 5.8e-9, 8e-8, 1.6e-10
# Of a trial that is asked after each bar, in Python; its own code comes on top.
ASKED_BAR = 1e-4
# Of a signal, once for all its trials: each cell by kind, to compute and to keep; each cell of its ranking,
# and each place in it squared.
FACTOR_CELL = {"field": 1e-9, "momentum": 4e-9, "reversal": 5e-8, "rsi": 8e-8, "rank": 9e-8, "expr": 2e-7}
OTHER_FACTOR_CELL, RANK_CELL, RANK_PLACE = 7e-8, 3e-9, 2.5e-10
# Of an atom whose targets are listed cell by cell; of a row; of an atom: its plan, and a file that is synced;
# of the whole: opening panel and caches.
LISTED_CELL, ROW, ATOM, START = 1e-7, 1.5e-5, 8e-3, 0.05

BASE_BYTES = 260 * 2**20
"""A worker with its packages."""
SLOT_BYTES, FRAGMENT_BYTES = 68, 9_000
"""A name in a trial's book; what an atom's file takes beside its rows."""

_DAYS = {"week_end": 5, "month_end": 21, "quarter_end": 63}
_SAMPLE = 64


def estimate(plan: Plan, panel: Panel, window: Window, workers: int | None = None) -> dict[str, Any]:
    """Estimate a sweep of which the study holds nothing yet, and this node perhaps some signals.

    Trials are sampled, so that alternatives and conditions need no special arithmetic.

    Parameters
    ----------
    plan : Plan
    panel, window : Panel, Window
        What it runs over.
    workers : int, optional
        Cores; all that this process may use when not given.

    Returns
    -------
    dict
        The counts of `Plan.estimate`; ``n_bars`` of the window; ``orders`` of all trials and ``held_bars``,
        the names that they hold summed over bars; ``cpu_seconds`` of all workers together; ``executor`` and
        ``workers`` that ``auto`` would take, and ``seconds`` of wall time on these, Ray's start included;
        ``memory_per_worker_bytes``, the panel's mapped files included; ``result_bytes`` of files on disk.
    """
    n_bars, n_assets = window.stop - window.start, panel.shape[1]
    counts = plan.estimate(n_bars)
    names = cache(lambda universe: float(panel.members(universe)[slice(*window)].sum(axis=1).mean()))
    cold = cache(lambda signal: not _kept(panel, signal, window.stop))
    sampled = [*_sampled(plan)]
    loads = [
        _load(
            _block(strategy),
            n_assets if universe == Universe() else names(universe),
            n_bars,
            # Each signal of a class is computed at least once.
            isinstance(strategy, Strategy) or cold(strategy.signal),
        )
        for strategy, universe in sampled
    ]
    by_bar = sum(decides_by_bar(type(strategy)) for strategy, _ in sampled) / len(sampled)
    held, orders, per_order, factor_cell, listed, ranked = np.mean(loads, axis=0).tolist()
    passes, atoms = counts["portfolio_passes"], counts["atoms"]
    depth = min(ranked_depth(plan.spec.strategies) or n_assets, n_assets)
    # A ranking keeps its best so far in order: a new best moves those below it.
    places = depth * depth * (1.0 + math.log(n_assets / max(depth, 1)))
    trials = passes * (n_bars * (TRIAL_BAR + HELD_BAR * held + ASKED_BAR * by_bar) + per_order)
    tiles = atoms * n_bars * (BAR + n_assets * (ASSET_BAR + LISTED_CELL * listed))
    signals = counts["unique_factors"] * window.stop * n_assets * factor_cell
    ranks = counts["unique_rankings"] * n_bars * (n_assets * RANK_CELL + places * RANK_PLACE)
    rows = START + counts["rows"] * ROW + atoms * ATOM
    seconds = node_speed() * (trials + tiles + signals + ranks * ranked + rows)
    cells, width = window.stop * n_assets, min(256, math.ceil(counts["trials"] / max(atoms, 1)))
    # Prices and the signal mapped, two arrays of work, the tile's books with room for as many names again.
    memory = BASE_BYTES + 8 * 5 * cells + round(width * 2 * held * SLOT_BYTES)
    return {
        **counts,
        "n_bars": n_bars,
        "orders": passes * orders,
        "held_bars": passes * held * n_bars,
        "cpu_seconds": seconds,
        **quickest(seconds, workers)._asdict(),
        "memory_per_worker_bytes": memory,
        "result_bytes": counts["bytes"] + atoms * FRAGMENT_BYTES,
    }


def node_speed() -> float:
    """Return how many times as long as by the constants things take here; 1 before the kernel is compiled.

    Measured once (a tenth of a second) and kept beside the compiled kernel.
    """
    path = Path(numba.config.CACHE_DIR) / "speed"  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, ValueError):
        return float(path.read_text())
    if not is_compiled():
        return 1.0
    speed = min(_probe() for _ in range(3))
    with contextlib.suppress(OSError):
        path.write_text(f"{speed:.3f}")
    return speed


def _probe() -> float:
    """Run a small tile, and compare CPU seconds with what the constants say."""
    n_bars, n_assets, n, k = 250, 50, 10, 32
    prices = 100.0 + np.sin(np.arange(n_bars * n_assets, dtype=float)).reshape(n_bars, n_assets)
    never = np.full(n_assets, 2**62)
    ids = (np.arange(n) + 3 * np.arange(n_bars)[:, None]) % n_assets
    one = market([{"open": prices, "close": prices}], never, np.full(n_assets, np.nan), 252.0)
    targets = ranked_targets(ids, np.full(n_bars, n), np.ones((1, n_bars), np.uint8))
    began = time.process_time()
    tile = run_tile(one, terms(k, n=n, weight=1.0 / n), targets)
    took = time.process_time() - began
    trials = k * n_bars * (TRIAL_BAR + HELD_BAR * n) + tile.counters[0].sum() * (ORDER + ORDER_NAME * n)
    return took / (n_bars * (BAR + n_assets * ASSET_BAR) + trials)


def _sampled(plan: Plan) -> Iterator[tuple[AnyStrategy | Strategy, Universe]]:
    """Yield trials from all over the sweep; within the atoms by the golden ratio, in step with no axis."""
    atoms = list(plan.atoms())
    for at in range(_SAMPLE):
        numbers = plan.atom(atoms[at * len(atoms) // _SAMPLE]).numbers
        number = numbers[int(at * 0.6180339887 % 1.0 * len(numbers))]
        yield plan.trial(number).strategy, plan.universe(number)


def _block(strategy: AnyStrategy | Strategy) -> AnyStrategy:
    """Return a strategy, or what a user's class makes of its signal."""
    if not isinstance(strategy, Strategy):
        return strategy
    try:
        return block_of(strategy)
    except InputError:  # which is for the trial to tell
        return Weights()


def _kept(panel: Panel, signal: AnyFactor, stop: int) -> bool:
    if isinstance(signal, LIGHT):  # which nobody keeps
        return False
    return (cache_root() / "factors" / digest(identity(panel, signal, stop))).exists()


def _load(strategy: AnyStrategy, n_names: float, n_bars: int, cold: bool) -> tuple[float, ...]:
    """Return of one trial: names held, orders, their cost, its factor's cost a cell, and whether its targets
    are listed, or have to be ranked."""
    rebalance: Any = getattr(strategy, "rebalance", 1)
    gap = min(_DAYS.get(rebalance, rebalance), n_bars)
    held = n_names
    match strategy.kind:
        case "TopN":
            held = min(strategy.n, n_names)
        case "Quantiles":
            held = max(1.0, n_names * strategy.quantile) * (1 + (strategy.short > 0))
    # Each decision orders what is held anew, and closes what changed: more of it the longer it waited.
    orders = math.ceil(n_bars / gap) * held * min(2.0, 1.0 + math.log2(gap) / 10)
    if strategy.kind == "CrossOver":
        held = n_names if strategy.allow_short else n_names / 2
        # How often the difference of two averages of a random walk changes its sign.
        orders = n_names * n_bars * 0.5 / math.sqrt((strategy.fast or 20) * (strategy.slow or 50))
    factor = getattr(strategy.signal, "factor", "")
    cell = cold * FACTOR_CELL.get(factor, OTHER_FACTOR_CELL)
    listed = strategy.kind in {"CrossOver", "Weights"}
    return held, orders, orders * (ORDER + ORDER_NAME * held), cell, listed, cold and not listed
