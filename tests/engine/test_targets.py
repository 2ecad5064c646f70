"""When trials decide, and what they may choose from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from backtest_farm.engine.targets import (
    CLOSE_ALL,
    DECIDE,
    IDLE,
    crossing_rows,
    filtered,
    fires_of,
    ranked_depth,
    with_filter,
)
from backtest_farm.factors.ranks import Window
from backtest_farm.factors.spec import momentum
from backtest_farm.panel import Panel
from backtest_farm.strategy import ContextFilter, CrossOver, Quantiles, TopN

NO_BARS = np.zeros(0, bool)


class Grid(SimpleNamespace):
    """A panel as far as schedules and filters look at it."""

    closes_period = Panel.closes_period


def panel_of(timestamps: np.ndarray, calendar: str | None = None, **contexts) -> Grid:
    return Grid(
        calendar=calendar,
        timestamps=timestamps,
        context=lambda name: np.array(contexts[name]),
    )


DAYS = np.arange("2020-01-27", "2020-03-01", dtype="M8[D]")  # 31 January and 29 February are bars 4 and 33


def test_bar_counts_begin_at_the_window() -> None:
    fires = fires_of(panel_of(DAYS), Window(3, 15), 5)
    assert np.flatnonzero(fires).tolist() == [0, 5, 10]


def test_month_ends_without_a_calendar_need_the_next_bar_to_be_known() -> None:
    panel = panel_of(DAYS)
    assert np.flatnonzero(fires_of(panel, Window(0, 34), "month_end")).tolist() == [4]
    assert np.flatnonzero(fires_of(panel, Window(2, 20), "month_end")).tolist() == [2]
    # The window ends on 31 January: its next bar is not one of the window.
    assert not fires_of(panel, Window(0, 5), "month_end").any()


def test_month_ends_of_a_calendar_fire_on_the_last_bar_too() -> None:
    panel = panel_of(DAYS, calendar="24/7")
    assert np.flatnonzero(fires_of(panel, Window(0, 34), "month_end")).tolist() == [4, 33]
    assert np.flatnonzero(fires_of(panel, Window(0, 5), "month_end")).tolist() == [4]


def test_intraday_bars_after_the_window_do_not_say_which_was_a_sessions_last() -> None:
    hours = np.arange("2024-01-30T00", "2024-02-02T00", dtype="M8[h]").astype("M8[us]")
    long, short = panel_of(hours, calendar="XNYS"), panel_of(hours[:46], calendar="XNYS")
    window = Window(0, 46)
    np.testing.assert_array_equal(fires_of(long, window, "month_end"), fires_of(short, window, "month_end"))
    assert fires_of(long, Window(0, 70), "month_end").sum() == 1


def test_a_filter_is_on_beyond_its_levels_and_never_where_nothing_is_known() -> None:
    panel = panel_of(DAYS, vix=[np.nan, 10.0, 30.0, 31.0, 5.0, 12.0])
    window = Window(0, 6)

    def on(**levels) -> list[int]:
        return np.flatnonzero(filtered(panel, window, ContextFilter(context="vix", **levels))).tolist()

    assert on(above=30) == [3]
    assert on(below=10) == [4]
    assert on(above=30, below=10) == [3, 4]
    assert not filtered(panel, window, None).any()


def test_skip_drops_decisions_and_flat_closes_once_and_where_decisions_were() -> None:
    fires = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 0, 1]], np.uint8)
    on = np.array([0, 0, 1, 1, 1, 0, 0], bool)
    skip = with_filter(fires, ContextFilter(context="vix", above=1, action="skip"), on)
    assert skip.tolist() == [[1, 1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 0, 1]]
    flat = with_filter(fires, ContextFilter(context="vix", above=1, action="flat"), on)
    assert flat[0].tolist() == [DECIDE, DECIDE, CLOSE_ALL, CLOSE_ALL, CLOSE_ALL, DECIDE, DECIDE]
    assert flat[1].tolist() == [DECIDE, IDLE, CLOSE_ALL, CLOSE_ALL, IDLE, IDLE, DECIDE]
    assert with_filter(fires, None, on) is fires


def plain_states(ratio, members, short, blocked, flat) -> np.ndarray:
    """The state of each asset, bar by bar in plain Python."""
    states = np.zeros(ratio.shape)
    for a in range(ratio.shape[1]):
        last = 0.0
        for t in range(len(ratio)):
            if not np.isnan(ratio[t, a]):
                last = float(np.sign(ratio[t, a]))
            now = last if short else max(last, 0.0)
            if blocked[t]:
                now = 0.0 if flat or t == 0 else states[t - 1, a]
            states[t, a] = now if members[t, a] else 0.0
    return states


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_crossings_are_the_changes_of_a_plain_loops_states(short, flat) -> None:
    rng = np.random.default_rng(5)
    ratio = np.cumsum(rng.normal(size=(80, 12)), axis=0)
    ratio[rng.random(ratio.shape) < 0.1] = np.nan
    ratio[:, 3] = np.nan
    members = (np.cumsum(rng.random(ratio.shape) < 0.02, axis=0) % 2 == 0).astype(np.uint8)
    blocked = rng.random(80) < 0.2
    weights, keep = crossing_rows(ratio, members, short, blocked, flat)

    states = plain_states(ratio, members, short, blocked, flat)
    before = np.vstack([np.zeros(12), states[:-1]])
    changes = states != before
    assert changes.sum() > 40
    np.testing.assert_array_equal(np.where(changes, states, np.nan), weights)
    assert not (keep & changes).any()
    held = np.maximum.accumulate(states != 0.0, axis=0)
    assert (keep | changes)[held].all(), "what may be held is kept or changed, never closed by absence"
    assert not keep[:, 3].any()


def test_crossings_do_not_look_ahead() -> None:
    rng = np.random.default_rng(6)
    ratio = rng.normal(size=(60, 4))
    everyone, never = np.ones((60, 4), np.uint8), np.zeros(60, bool)
    whole, _ = crossing_rows(ratio, everyone, True, never, False)
    part, _ = crossing_rows(ratio[:40], everyone[:40], True, never[:40], False)
    np.testing.assert_array_equal(whole[:40], part)


def test_averages_that_differ_by_rounding_alone_do_not_cross() -> None:
    ratio = np.array([[0.01], [2.2e-16], [-2.2e-16], [0.02]])
    weights, _ = crossing_rows(ratio, np.ones((4, 1), np.uint8), True, np.zeros(4, bool), False)
    np.testing.assert_array_equal(weights[:, 0], [1.0, 0.0, np.nan, 1.0])


def test_how_deep_a_ranking_must_be() -> None:
    signal = momentum(5)
    tops = [TopN(signal=signal, n=7), TopN(signal=signal, n=3)]
    assert ranked_depth(tops) == 7
    assert ranked_depth([*tops, Quantiles(signal=signal, quantile=0.1)]) is None
    assert ranked_depth([CrossOver(fast=2, slow=5)]) == 0
