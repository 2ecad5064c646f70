"""From specs and a panel to finished trials: their windows, terms and targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.engine.targets import EVERY_BAR, prepare
from backtest_farm.engine.tile import Market, TileResult, run_tile, terms
from backtest_farm.engine.tile import market as market_from
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import Window
from backtest_farm.identity import digest
from backtest_farm.kernel import state
from backtest_farm.kernel.state import Terms
from backtest_farm.panel import Panel
from backtest_farm.spec import Costs, Universe
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.strategy import AnyStrategy

PRICE_FIELDS = ("open", "close")
"""What every backtest reads to fill and to mark."""

FILLS = {"next_open": state.NEXT_OPEN, "next_close": state.NEXT_CLOSE, "same_close": state.SAME_CLOSE}
SIZINGS = {"decision": state.SIZE_AT_DECISION, "fill": state.SIZE_AT_FILL}
POLICIES = {"scale": state.SCALE, "greedy": state.GREEDY, "reject": state.REJECT, "allow": state.ALLOW}

Values = Callable[[str], Sequence[Any]]
"""Gives one parameter of all trials by the name it has in results: ``n``, ``costs.commission_bps``."""


class Ran(NamedTuple):
    """A tile that ran.

    Attributes
    ----------
    tile : TileResult
    market : Market
        What it ran on.
    builds : dict of str to int
        What was computed for it: see `Prepared`.
    seconds : dict of str to float
        By stage.
    """

    tile: TileResult
    market: Market
    builds: dict[str, int]
    seconds: dict[str, float]


def window_of(panel: Panel, window: WindowSpec, strategies: Sequence[AnyStrategy] = ()) -> Window:
    """Return the bars of the panel that a window means: both its ends are included.

    Parameters
    ----------
    panel : Panel
    window : backtest_farm.spec.Window
        A start of ``auto`` is the first bar on which all signals can have values.
    strategies : sequence of AnyStrategy
        Those that trade in it.

    Raises
    ------
    InputError
        If no bar of the panel lies in the window, or a strategy could not choose anything on any of them.
    """
    stop = panel.shape[0] if window.end is None else panel.bar_of(window.end, "right")
    living = max((_first_signal(panel, each) for each in strategies), default=0)
    if window.start == "auto":
        start = living
    else:
        start = 0 if window.start is None else panel.bar_of(window.start, "left")
    if living >= stop:
        raise InputError(
            f"the signals need {living:,} bars before they have values, but only {stop:,} lie before the "
            "window's end: there is no signal on any of them",
            hint="take shorter look-backs, or a panel with a longer past",
        )
    if start >= stop:
        raise InputError(
            f"no bar of the panel lies in the window {window.start or ''} .. {window.end or ''}",
            hint=f"the panel's bars are {panel.timestamps[0]} .. {panel.timestamps[-1]}",
        )
    return Window(start, stop)


def _first_signal(panel: Panel, strategy: AnyStrategy) -> int:
    """Return the first bar on which a strategy's longest signal can have a value."""
    first = 0
    for name in strategy.fields:
        rows = (t for t in range(panel.shape[0]) if np.isfinite(panel.read(name, t, t + 1)).any())
        first = max(first, next(rows, panel.shape[0]))
    for name in strategy.contexts:
        known = np.flatnonzero(np.isfinite(panel.context(name)))
        first = max(first, int(known[0]) if len(known) else panel.shape[0])
    return first + strategy.warmup


@lru_cache(maxsize=2)  # the atoms of a sweep come one after the other for the same market
def market_of(panel: Panel, window: Window, universe: Universe) -> Market:
    """Return prices, membership and ends of life of a window: mapped, except where a block was written
    before some assets were listed."""
    blocks = []
    for slab in panel.slabs():
        start, stop = max(window.start, slab.first), min(window.stop, slab.first + slab.n_bars)
        if start < stop:
            blocks.append((panel.read("open", start, stop), panel.read("close", start, stop)))
    everyone = universe == Universe()
    return market_from(
        blocks,
        panel.ends.bar - window.start,
        panel.ends.payout,
        panel.bars_per_year,
        member=None if everyone else panel.members(universe)[window.start : window.stop],
    )


def data_digest(panel: Panel, strategy: AnyStrategy, window: Window) -> str:
    """Return the hash of everything that trials of a strategy take from a panel, and of where they begin.

    The first bar is part of it because ``start: auto`` depends on the other strategies of the sweep.
    """
    content = panel.digest({*PRICE_FIELDS, *strategy.fields}, window.stop, contexts=strategy.contexts)
    return digest({"content": content, "bars_per_year": panel.bars_per_year, "first_bar": window.start})


def run_trials(
    panel: Panel,
    window: Window,
    spec: Any,
    universe: Universe,
    n_trials: int,
    values: Values,
    depth: int | None,
    **recording: Any,
) -> Ran:
    """Run trials that share a signal, a universe and a filter, in one tile.

    Parameters
    ----------
    panel, window : Panel, Window
    spec : SweepSpec
        Any one of the trials, without axes.
    universe : Universe
    n_trials : int
    values : Values
    depth : int or None
        See `prepare`.
    **recording
        See `run_tile`.
    """
    began = time.perf_counter()
    strategy = spec.strategy
    rebalances = values("rebalance") if hasattr(strategy, "rebalance") else [EVERY_BAR] * n_trials
    ready = prepare(panel, window, strategy, universe, rebalances, depth)
    portfolio = portfolio_terms(strategy, values)
    prepared = time.perf_counter()
    trials = terms_of(n_trials, values, schedule=ready.schedule, **portfolio)
    market = market_of(panel, window, universe)
    tile = run_tile(market, trials, ready.targets, **recording)
    seconds = {"signal": prepared - began, "simulation": time.perf_counter() - prepared}
    return Ran(tile, market, dict(ready.builds), seconds)


def single_values(spec: Any) -> Values:
    """Return the parameters of one trial alone, as `run_trials` asks for them."""

    def values(path: str) -> Sequence[Any]:
        # A strategy's own parameters go by their bare names.
        owner = spec if hasattr(spec, path.partition(".")[0]) else spec.strategy
        return [attrgetter(path)(owner)]

    return values


def portfolio_terms(strategy: AnyStrategy, values: Values) -> dict[str, Sequence[float]]:
    """Return what the trials' portfolios do with the targets of their strategy."""
    match strategy.kind:
        case "TopN":
            n = values("n")
            weights = zip(values("weight"), n, strict=True)
            return {"n": n, "weight": [1.0 / names if each == "equal" else each for each, names in weights]}
        case "Quantiles":
            return {
                "quantile": values("quantile"),
                "weight": values("long"),
                "short_weight": values("short"),
            }
        case "CrossOver":
            return {"weight": [1.0 / slots for slots in values("slots")]}
    return {"weight": [1.0]}


def terms_of(n_trials: int, values: Values, **portfolio: Any) -> Terms:
    """Return the terms of trials: how each of them trades, and what its portfolio does."""

    def coded(path: str, codes: dict[str, int]) -> list[int]:
        return [codes[each] for each in values(path)]

    return terms(
        n_trials,
        fill=coded("fill", FILLS),
        sizing=coded("sizing", SIZINGS),
        cash=values("cash"),
        **{name: values(f"costs.{name}") for name in Costs.model_fields},
        **{name: values(f"limits.{name}") for name in ("max_wait", "margin", "lot", "band", "band_rel")},
        min_notional=values("limits.min_notional"),
        lot_down=[each == "down" for each in values("limits.lot_rounding")],
        afford=coded("limits.afford", POLICIES),
        **portfolio,
    )
