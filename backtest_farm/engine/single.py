"""One backtest: a tile of one, with everything recorded."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from backtest_farm.engine.result import Result
from backtest_farm.engine.tile import Market, listed_targets, ranked_targets, run_tile
from backtest_farm.engine.trials import fits, market_of, single_terms, window_of
from backtest_farm.engine.weights import weight_rows
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import Window, ranked_window
from backtest_farm.kernel.state import Targets, Terms
from backtest_farm.panel import Panel
from backtest_farm.spec import Costs, Fill, Limits, Sizing, Trading, has_axes
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.strategy import TopN

FILL_ROWS = 4096
"""Fills there is room for at first; more is made when a backtest trades more."""


def run(
    panel: Panel,
    strategy_or_weights: Any,
    *,
    start: Any = None,
    end: Any = None,
    cash: float = 1_000_000.0,
    fill: Fill = "next_open",
    sizing: Sizing = "decision",
    costs: Costs | None = None,
    limits: Limits | None = None,
    profile: str = "default",
) -> Result:
    """Run one backtest.

    Parameters
    ----------
    panel : Panel
    strategy_or_weights : TopN, frame or ndarray
        A strategy without axes; or target weights: a long frame (timestamp, symbol, weight) with one target
        set per listed timestamp, where assets that are not listed are closed; or a wide frame (timestamp
        and one column a symbol) or an (n_bars, n_assets) array over the panel's bars (or the window's),
        where a row without any finite weight is no decision and NaN in a decision row closes.
    start, end : date, datetime or str, optional
        The window, both ends included; the panel's first and last bar when not given. Bars before `start`
        only warm factors.
    cash : float, default 1,000,000
        Starting cash.
    fill : {"next_open"}
        Orders decided on a bar fill at the next bar's open.
    sizing : {"decision", "fill"}
        Whether quantities follow from equity and marks at the decision or from equity and prices at the fill.
    costs : Costs or mapping, default 10 bps commission
    limits : Limits or mapping, optional
        What bounds orders.
    profile : {"default"}

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If anything is wrong with the input, with all faults at once.
    """
    began = time.perf_counter()
    if not isinstance(panel, Panel):
        raise InputError(f"{panel!r} is no panel", hint="open it first: bf.Panel.open(path)")
    asked: dict[str, Any] = {"fill": fill, "sizing": sizing, "cash": cash, "profile": profile}
    asked |= {name: part for name, part in (("costs", costs), ("limits", limits)) if part is not None}
    trading = Trading(window=WindowSpec(start=start, end=end), **asked)
    strategy = strategy_or_weights if isinstance(strategy_or_weights, TopN) else None
    axes = [*(has_axes(strategy) if strategy else ()), *has_axes(trading)]
    if axes:
        raise InputError(
            f"run() takes one value for each parameter, but {', '.join(axes)} is an axis",
            hint="give one value, or make a Sweep of it",
        )
    if strategy is not None:
        fits(panel, strategy)
    window = window_of(panel, trading.window, strategy.warmup if strategy else 0)
    if strategy is None:
        targets = listed_targets(weight_rows(panel, window, strategy_or_weights))
    else:
        targets = ranked_targets(*ranked_window(panel, strategy.signal, window, strategy.n))
    prepared = time.perf_counter()
    trial = single_terms(strategy, trading)
    return run_one(panel, window, trial, targets, {"signal": prepared - began}, market_of(panel, window))


def run_one(
    panel: Panel, window: Window, trial: Terms, targets: Targets, timings: dict[str, float], market: Market
) -> Result:
    """Run a tile of one with curve and ledger, and return it as a Result."""
    began = time.perf_counter()
    tile = run_tile(market, trial, targets, record_bars=True, fill_rows=FILL_ROWS)
    timings = {**timings, "simulation": time.perf_counter() - began}
    return Result(
        tile,
        np.asarray(panel.timestamps[window.start : window.stop]),
        panel.symbols,
        cash=float(trial.starting_cash[0]),
        bars_per_year=panel.bars_per_year,
        timings=timings,
    )
