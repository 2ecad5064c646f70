"""One backtest: a tile of one, with everything recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from backtest_farm.backtest.result import Result
from backtest_farm.engine.targets import UNITS, fits, ranked_depth, units_of
from backtest_farm.engine.tile import listed_targets, run_tile
from backtest_farm.engine.trials import (
    Ready,
    check_terms,
    made_ready,
    simulated,
    single_values,
    terms_of,
    used_by,
    window_of,
)
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import EVERYONE, Window
from backtest_farm.ingest.targets import target_rows
from backtest_farm.kernel.state import Terms
from backtest_farm.panel import Panel
from backtest_farm.spec import (
    Costs,
    Fill,
    Limits,
    Rules,
    Sizing,
    Trading,
    Universe,
    UniverseSpec,
    has_axes,
    profile_of,
)
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.strategy import AnyStrategy, Strategy
from backtest_farm.strategy.own import usable


def run(
    panel: Panel,
    strategy_or_weights: Any,
    *,
    start: Any = None,
    end: Any = None,
    universe: Any = None,
    cash: float = 1_000_000.0,
    fill: Fill | None = None,
    sizing: Sizing | None = None,
    costs: Costs | None = None,
    limits: Limits | None = None,
    rules: Rules | None = None,
    events: bool = False,
    profile: str = "default",
    unit: Literal["weight", "value", "quantity"] = "weight",
    keep_mask: np.ndarray | None = None,
) -> Result:
    """Run one backtest.

    Parameters
    ----------
    panel : Panel
    strategy_or_weights : strategy, frame or ndarray
        A strategy without axes; or targets: a long frame (timestamp, symbol, and weight, value or quantity)
        with one target set per listed timestamp, where assets that are not listed are closed; or a wide frame
        (timestamp and one column a symbol) or an (n_bars, n_assets) array over the panel's bars (or the
        window's), where a row without any finite number is no decision and NaN in a decision row closes.
        ``bf.KEEP`` in a frame leaves an asset's position and waiting order as they are.
    start, end : date, datetime or str, optional
        The window, both ends included; the panel's first and last bar when not given. Bars before `start`
        only warm factors. A start of ``"auto"`` is the first bar on which the signal can have a value.
    universe : str or mapping, optional
        Name of a universe of the panel (all its assets when not given), or a mapping as in a sweep file that
        means exactly one. Orders only reduce where an asset is no member, and a member that leaves is sold.
    cash : float, default 1,000,000
        Starting cash.
    fill : {"next_open", "next_close", "same_close"}, default "next_open"
        At which price orders decided on a bar fill. ``same_close`` uses a price that the decision has seen:
        the result is stamped ``look_ahead``.
    sizing : {"decision", "fill"}, default "decision"
        Whether quantities follow from equity and marks at the decision or from equity and prices at the fill.
    costs : Costs or mapping, default 10 bps commission
    limits : Limits or mapping, optional
        What bounds targets and orders.
    rules : Rules or mapping, optional
        What ends positions without a target: stops, targets, time exits; and what ends decisions.
    events : bool, default False
        Whether the panel's fields ``split`` and ``dividend`` happen.
    profile : str, default "default"
        The named set of switches that `fill`, `sizing` and `limits` have where they are not given: see
        `backtest_farm.spec.profiles.PROFILES`. What is given beats it, and the result's profile says so.
    unit : {"weight", "value", "quantity"}
        What the numbers of an array or wide frame are: parts of equity, money, or quantities.
    keep_mask : ndarray of bool, shape as the array's, optional
        True leaves an asset's position and waiting order as they are.

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
    asked = {"fill": fill, "sizing": sizing, "costs": costs, "limits": limits, "rules": rules}
    given: dict[str, Any] = {name: part for name, part in asked.items() if part is not None}
    try:
        trading, axes_of_trading = _trading(start, end, cash, profile, events, **given)
    except TypeError:  # a mapping cannot be looked up
        trading, axes_of_trading = _trading.__wrapped__(start, end, cash, profile, events, **given)
    if isinstance(strategy_or_weights, type) and issubclass(strategy_or_weights, Strategy):
        name = strategy_or_weights.__name__
        raise InputError(f"{name} is a class of strategies", hint=f"give one of them: {name}(...)")
    strategy = strategy_or_weights if isinstance(strategy_or_weights, AnyStrategy | Strategy) else None
    if axes := [*(has_axes(strategy) if strategy else ()), *axes_of_trading]:
        raise InputError(
            f"run() takes one value for each parameter, but {', '.join(axes)} is an axis",
            hint="give one value, or make a Sweep of it",
        )
    held = one_universe(panel, universe)
    if strategy is not None:
        if keep_mask is not None or unit != "weight":
            raise InputError("keep_mask and unit belong to arrays of targets, not to a strategy")
        usable(strategy)
        fits(panel, [strategy])
        window = window_of(panel, trading.window, [strategy])
        traded = _traded(panel, window.stop, trading, (*units_of([strategy]),))
        values, depth = single_values(trading, strategy), ranked_depth([strategy])
        # A user's signal is computed anew each time, so that prints, breakpoints and outside data work.
        ready = made_ready(panel, window, strategy, trading, held, 1, values, depth, kept=False)
        return _result(panel, window, trading, held, traded, ready)
    window = window_of(panel, trading.window)
    rows = target_rows(panel.timestamps, panel.symbols, slice(*window), strategy_or_weights, unit, keep_mask)
    traded = _traded(panel, window.stop, trading, (rows.unit,))
    every_bar = np.ones((1, window.stop - window.start), np.uint8)
    targets = listed_targets(rows.values, every_bar, rows.keep, UNITS[rows.unit])
    ready = Ready(partial(run_tile, targets=targets), {}, {}, began)
    return _result(panel, window, trading, held, traded, ready)


@lru_cache(maxsize=64, typed=True)
def _trading(
    start: Any, end: Any, cash: Any, profile: Any, events: Any, **given: Any
) -> tuple[Trading, list[str]]:
    """Return the terms that arguments of `run` mean, and the axes in them."""
    window = WindowSpec(start=start, end=end)
    trading = Trading(window=window, cash=cash, profile=profile, events=events, **given)
    return trading, has_axes(trading)


def run_one(
    panel: Panel, window: Window, spec: Any, universe: Universe, depth: int | None, kept: bool = True
) -> Result:
    """Run one trial of a sweep with curve and ledger.

    Parameters
    ----------
    panel, window : Panel, Window
    spec : SweepSpec
        Without axes.
    universe : Universe
    depth : int or None
        How many ranks to take from the node's cache, or build: see `ranked_depth`.
    kept : bool, default True
        Whether the signal of a user's class may come from the node's cache.
    """
    values = single_values(spec, spec.strategy)
    ready = made_ready(panel, window, spec.strategy, spec, universe, 1, values, depth, kept)
    # A specification of a sweep holds more than terms, and seldom comes twice.
    return _result(panel, window, spec, universe, _traded.__wrapped__(panel, window.stop, spec, ()), ready)


def one_universe(panel: Panel, universe: Any) -> Universe:
    """Return the one universe that a name or mapping means on a panel.

    Raises
    ------
    InputError
        If it means several, or the panel lacks it.
    """
    if universe is None:
        return EVERYONE
    asked = universe if isinstance(universe, Mapping) else {"of": universe or "all"}
    found = panel.expand(UniverseSpec(**asked))
    if len(found) != 1:
        raise InputError(
            f"run() takes one universe, but {universe!r} means {len(found)}",
            hint="give a name, or make a Sweep with universes of it",
        )
    return found[0]


class Traded(NamedTuple):
    """What follows from the terms of trading alone: fields that are used, terms, the profile's full name."""

    used: tuple[tuple[str, str], ...]
    terms: Terms
    profile: str


@lru_cache(maxsize=8)  # runs of one loop often trade by the same terms
def _traded(panel: Panel, stop: int, trading: Trading, units: tuple[str, ...]) -> Traded:
    """Return what trading before a bar means; refuse what the panel or the targets cannot serve."""
    check_terms(panel, trading, units, stop)
    values = single_values(trading)
    used = used_by(panel, values, looked_at=True)
    return Traded(used, terms_of(panel, stop, 1, values), profile_of(trading))


def _result(
    panel: Panel, window: Window, trading: Trading, universe: Universe, traded: Traded, ready: Ready
) -> Result:
    """Simulate one trial with everything recorded."""
    # Room for so many fills at first; more is made when a backtest trades more.
    fill_rows = min(4096, 8 * (window.stop - window.start))
    ran = simulated(
        panel, window, universe, traded.used, traded.terms, ready, record_bars=True, fill_rows=fill_rows
    )
    return Result(
        ran.tile,
        np.asarray(panel.timestamps[window.start : window.stop]),
        panel.symbols,
        cash=trading.cash,
        bars_per_year=panel.bars_per_year,
        market=ran.market,
        terms=traded.terms,
        timings=ran.seconds,
        profile=traded.profile,
        fill=trading.fill,
    )
