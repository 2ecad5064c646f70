"""From a strategy to the kernel's targets: when each trial decides, and what it may choose from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from backtest_farm.engine.tile import listed_targets, ranked_targets
from backtest_farm.errors import InputError
from backtest_farm.factors.fields import factor_field
from backtest_farm.factors.own import OwnFactor
from backtest_farm.factors.ranks import Window, ranking
from backtest_farm.factors.spec import AnyFactor, Factor
from backtest_farm.ingest.targets import KEEP
from backtest_farm.kernel.state import CLOSE_ALL, DECIDE, IDLE, QUANTITIES, VALUES, WEIGHTS, Targets
from backtest_farm.panel import Panel
from backtest_farm.spec import Universe, values_of
from backtest_farm.strategy import AnyStrategy, ContextFilter, CrossOver, Quantiles, Strategy, Weights
from backtest_farm.strategy.own import usable

UNITS = {"weight": WEIGHTS, "value": VALUES, "quantity": QUANTITIES}

EVERY_BAR = 1
"""The schedule of targets that carry their own decisions."""

PERIODS: dict[str, Literal["week", "month", "quarter"]] = {
    "week_end": "week",
    "month_end": "month",
    "quarter_end": "quarter",
}

RECENT = 8
"""Ranked targets that a process has at hand: whoever varies other things asks for the same ones again."""

TIE = 1e-12
"""Averages whose ratio is this close to 1 are equal."""


_recent: dict[Any, Targets] = {}


class Prepared(NamedTuple):
    """Targets of trials that share a signal, a universe and a filter.

    Attributes
    ----------
    targets : Targets
    schedule : list of int
        For each trial its row of ``targets.fires``.
    builds : dict of str to int
        ``factor_builds``, ``rank_builds`` and ``rank_reuses``: what was computed now, and what was there.
    """

    targets: Targets
    schedule: list[int]
    builds: Mapping[str, int]


def prepare(
    panel: Panel,
    window: Window,
    strategy: AnyStrategy,
    signal: AnyFactor | OwnFactor,
    universe: Universe,
    rebalances: Sequence[Any],
    depth: int | None,
) -> Prepared:
    """Return the targets of some trials.

    Parameters
    ----------
    panel, window : Panel, Window
    strategy : AnyStrategy
        Any one of the trials' strategies, without axes; they differ at most in what each portfolio does.
    signal : AnyFactor or OwnFactor
        What they rank or weigh assets by.
    universe : Universe
    rebalances : sequence
        The schedule of each trial.
    depth : int or None
        How many ranks the trials of the whole sweep need at most; None = all.
    """
    distinct = list(dict.fromkeys(rebalances))
    schedule = [distinct.index(each) for each in rebalances]
    builds = {"factor_builds": 0, "rank_builds": 0, "rank_reuses": 0}
    asked = (panel, window, signal, strategy.filter, universe, depth, *distinct)
    # What is listed has nothing to rank, and a user's code may give something else each time.
    ranked = isinstance(signal, Factor) and not isinstance(strategy, (CrossOver, Weights))
    if ranked and asked in _recent:
        return Prepared(_recent[asked], schedule, {**builds, "rank_reuses": 1})
    fires = np.stack([fires_of(panel, window, each) for each in distinct])
    blocked = filtered(panel, window, strategy.filter)
    if isinstance(strategy, (CrossOver, Weights)):
        field = factor_field(panel, signal, window.stop)
        builds["factor_builds"] += field.fresh
        values = field.values[window.start :]
        if isinstance(strategy, CrossOver):
            flat = strategy.filter is not None and strategy.filter.action == "flat"
            members = panel.members(universe)[window.start : window.stop]
            # Of one account per symbol all columns but one are nobody's.
            assets = np.flatnonzero(members.any(axis=0))
            weights, keep = crossing_rows(
                values[:, assets], members[:, assets], strategy.allow_short, blocked, flat
            )
            targets = listed_targets(weights, fires, keep, assets=assets)
            return Prepared(targets, schedule, builds)
        fires = with_filter(fires, strategy.filter, blocked)
        targets = listed_targets(values, fires, values == KEEP, UNITS[strategy.unit])
        return Prepared(targets, schedule, builds)
    built = ranking(panel, signal, window, depth or panel.shape[1], universe)
    builds["factor_builds"] += built.fresh_factor
    builds["rank_builds" if built.fresh else "rank_reuses"] += 1
    targets = ranked_targets(*built.ranking, with_filter(fires, strategy.filter, blocked))
    if ranked:
        _recent[asked] = targets
        if len(_recent) > RECENT:
            del _recent[next(iter(_recent))]
    return Prepared(targets, schedule, builds)


def fires_of(panel: Panel, window: Window, rebalance: Any) -> np.ndarray:
    """Return on which bars of a window a schedule decides.

    Parameters
    ----------
    panel, window : Panel, Window
    rebalance : int or str
        Every so many bars from the window's first; or ``week_end``, ``month_end``, ``quarter_end``: the last
        session of each period by the panel's calendar. Without a calendar (and for intraday bars) a period
        ends where the next bar of the window lies in another one, so never on the window's last bar.

    Returns
    -------
    ndarray of uint8, shape (n_bars,)
    """
    n_bars = window.stop - window.start
    if isinstance(rebalance, str):
        # Of the bars before the window's end alone: a later one must not tell which was its period's last.
        return panel.closes_period(PERIODS[rebalance], window.stop)[window.start :].astype(np.uint8)
    return (np.arange(n_bars) % rebalance == 0).astype(np.uint8)


def filtered(panel: Panel, window: Window, spec: ContextFilter | None) -> np.ndarray:
    """Return the bars of a window on which a filter is on, shape (n_bars,) bool."""
    on = np.zeros(window.stop - window.start, bool)
    if spec is not None:
        series = panel.context(spec.context)[window.start : window.stop]
        if spec.above is not None:
            on |= series > spec.above
        if spec.below is not None:
            on |= series < spec.below
    return on


def with_filter(fires: np.ndarray, spec: ContextFilter | None, blocked: np.ndarray) -> np.ndarray:
    """Return schedules after a filter has dropped decisions, or turned them into closing everything.

    Parameters
    ----------
    fires : ndarray of uint8, shape (n_schedules, n_bars)
    spec : ContextFilter or None
    blocked : ndarray of bool, shape (n_bars,)
        Bars on which the filter is on.
    """
    if spec is None:
        return fires
    if spec.action == "skip":
        return np.where(blocked, np.uint8(IDLE), fires)
    enters = blocked & ~np.concatenate([[False], blocked[:-1]])
    closes = enters | (fires == DECIDE)
    return np.where(blocked, np.where(closes, np.uint8(CLOSE_ALL), np.uint8(IDLE)), fires)


def crossing_rows(
    ratio: np.ndarray, members: np.ndarray, short: bool, blocked: np.ndarray, flat: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return target rows that open and close positions where a ratio changes its sign.

    Parameters
    ----------
    ratio : ndarray of float64, shape (n_bars, n_assets)
        On the window's bars; NaN keeps the state of the bar before (none at first).
    members : ndarray of uint8, shape (n_bars, n_assets)
        Assets outside the universe have no state.
    short : bool
        Whether a ratio below 0 is a short position, or none.
    blocked : ndarray of bool, shape (n_bars,)
        Bars on which no state changes, or, when `flat`, on which there is none.
    flat : bool

    Returns
    -------
    weights : ndarray of float64, shape (n_bars, n_assets)
        1, -1 or 0 where a state changes, NaN elsewhere.
    keep : ndarray of bool, shape (n_bars, n_assets)
        True elsewhere, so that positions are left alone.
    """
    # Averages of equal value differ by rounding: a tie must not trade on it.
    signs = np.where(np.abs(ratio) <= TIE, 0.0, np.sign(ratio))
    state = np.nan_to_num(_carried(signs))
    if not short:
        state = np.maximum(state, 0.0)
    state *= members == 1
    if flat:
        state[blocked] = 0.0
    else:
        # A state of 0 before the first bar: what is blocked from the start is not held.
        held = np.vstack([np.zeros(state.shape[1]), np.where(blocked[:, None], np.nan, state)])
        state = _carried(held)[1:] * (members == 1)
    changed = np.diff(state, axis=0, prepend=0.0) != 0.0
    # An asset whose state never changes is never held: there is nothing to keep.
    return np.where(changed, state, np.nan), ~changed & changed.any(axis=0)


def _carried(values: np.ndarray) -> np.ndarray:
    """Return values with each NaN replaced by the last number above it in its column."""
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=0), axis=0)


def ranked_depth(strategies: Sequence[AnyStrategy | Strategy]) -> int | None:
    """Return how many ranks some strategies need at most; None = all of them."""
    depth = 0
    for strategy in strategies:
        if isinstance(strategy, Quantiles):
            return None
        # Classes of the user's say it trial by trial.
        depth = max(depth, 0 if isinstance(strategy, Strategy) else strategy.most_names or 0)
    return depth


def units_of(strategies: Iterable[AnyStrategy | Strategy]) -> set[str]:
    """Return what the numbers of some strategies' targets are: weights, unless a block says otherwise."""
    units = (each.unit if isinstance(each, Weights) else "weight" for each in strategies)
    return {unit for each in units for unit in values_of(each)}


def fits(panel: Panel, strategies: Iterable[AnyStrategy | Strategy]) -> None:
    """Refuse strategies that cannot run, ask for more names than the panel has, or for data that it lacks.

    Raises
    ------
    InputError
        With the numbers or names.
    """
    for strategy in strategies:
        if isinstance(strategy, Strategy):
            usable(strategy)
            continue
        for name in strategy.fields:
            panel.read(name, 0, 1)
        for name in strategy.contexts:
            panel.context(name)
        most = strategy.most_names
        if most is not None and most > panel.shape[1]:
            raise InputError(
                f"n is {most:,}, but the panel has {panel.shape[1]:,} assets",
                hint="take a smaller n: each name gets 1/n of equity, so the rest would stay in cash",
            )
