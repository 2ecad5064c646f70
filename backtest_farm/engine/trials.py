"""From specs and a panel to a finished tile: the windows, terms and targets of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from backtest_farm.engine.tile import Market, market, terms
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import Window
from backtest_farm.identity import digest
from backtest_farm.kernel.state import SIZE_AT_DECISION, SIZE_AT_FILL, Terms
from backtest_farm.panel import Panel
from backtest_farm.spec import Trading, values_of
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.strategy import TopN

PRICE_FIELDS = ("open", "close")
"""What every backtest reads to fill and to mark."""

SIZINGS = {"decision": SIZE_AT_DECISION, "fill": SIZE_AT_FILL}


def fits(panel: Panel, strategy: TopN) -> None:
    """Refuse a strategy that asks for more names than the panel has.

    Raises
    ------
    InputError
        With both numbers.
    """
    most = max(values_of(strategy.n))
    if most > panel.shape[1]:
        raise InputError(
            f"n is {most:,}, but the panel has {panel.shape[1]:,} assets",
            hint="take a smaller n: each name gets 1/n of equity, so the rest would stay in cash for good",
        )


def window_of(panel: Panel, window: WindowSpec, warmup: int = 0) -> Window:
    """Return the bars of the panel that a window means: both its ends are included.

    Parameters
    ----------
    panel : Panel
    window : backtest_farm.spec.Window
    warmup : int, default 0
        Bars before the first bar on which the strategy can choose anything.

    Raises
    ------
    InputError
        If no bar of the panel lies in the window, or the strategy could not choose anything on any of them.
    """
    start = 0 if window.start is None else panel.bar_of(window.start, "left")
    stop = panel.shape[0] if window.end is None else panel.bar_of(window.end, "right")
    if start >= stop:
        raise InputError(
            f"no bar of the panel lies in the window {window.start or ''} .. {window.end or ''}",
            hint=f"the panel's bars are {panel.timestamps[0]} .. {panel.timestamps[-1]}",
        )
    if warmup >= stop:
        raise InputError(
            f"the longest look-back is {warmup:,} bars, but only {stop:,} bars lie before the window's end: "
            "there is no signal on any of them",
            hint="take shorter look-backs, or a panel with a longer past",
        )
    return Window(start, stop)


def market_of(panel: Panel, window: Window) -> Market:
    """Return prices and ends of life of a window, mapped and not copied."""
    rows = slice(window.start, window.stop)
    return market(
        panel["open"][rows],
        panel["close"][rows],
        panel.ends.bar - window.start,
        panel.ends.payout,
        panel.bars_per_year,
    )


def data_digest(panel: Panel, fields: Sequence[str], window: Window) -> str:
    """Return the hash of everything that trials which read `fields` take from a panel."""
    content = panel.digest({*PRICE_FIELDS, *fields}, window.stop)
    return digest({"content": content, "bars_per_year": panel.bars_per_year})


def terms_of(n_trials: int, values: Callable[[str], Sequence[Any]]) -> Terms:
    """Return the terms of trials.

    Parameters
    ----------
    n_trials : int
    values : callable
        Gives one parameter of all trials by the name it has in results: ``n``, ``costs.commission_bps``.
    """
    n = values("n")
    return terms(
        n_trials,
        n=n,
        weight=[
            1.0 / names if each == "equal" else each for each, names in zip(values("weight"), n, strict=True)
        ],
        rebalance=values("rebalance"),
        sizing=[SIZINGS[each] for each in values("sizing")],
        max_wait=values("limits.max_wait"),
        commission_bps=values("costs.commission_bps"),
        half_spread_bps=values("costs.half_spread_bps"),
        slippage_bps=values("costs.slippage_bps"),
        cash=values("cash"),
    )


def single_terms(strategy: TopN | None, trading: Trading) -> Terms:
    """Return the terms of one trial; without a strategy those of listed weights."""
    schedule = strategy or SimpleNamespace(n=1, weight=0.0, rebalance=1)

    def values(path: str) -> list[Any]:
        return [attrgetter(path)(schedule if hasattr(schedule, path) else trading)]

    return terms_of(1, values)
