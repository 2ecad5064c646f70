"""Every strategy through the front door, against the oracle on targets made by plain loops."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from tests.oracle.book import Case
from tests.oracle.book import run as oracle

N_BARS, N_ASSETS = 220, 30


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    made = bf.synthetic_panel(tmp_path_factory.mktemp("strategies") / "panel", N_BARS, N_ASSETS, seed=6)
    days = made.timestamps
    fear = 20 + 15 * np.sin(np.arange(N_BARS) / 9)
    spells = pl.DataFrame(
        {
            "symbol": [*made.symbols[:20], *made.symbols[15:25]],
            "start_date": [str(days[0])] * 20 + [str(days[150])] * 10,
            "end_date": [str(days[90])] * 10 + [str(days[140])] * 10 + [None] * 10,
        }
    )
    return made.with_context("fear", pl.DataFrame({"timestamp": days, "fear": fear})).with_universe(
        "club", spells
    )


def member_of(panel: bf.Panel) -> np.ndarray:
    """The club's members by its spells, from the first close on."""
    member = np.zeros(panel.shape, bool)
    member[:90, :10] = True
    member[:140, 10:20] = True
    member[150:, 15:25] = True
    return member & np.logical_or.accumulate(np.isfinite(panel["close"]), axis=0)


def assert_is(result: bf.Result, panel: bf.Panel, targets: np.ndarray, **changes) -> None:
    ends = {
        a: (int(bar), float(panel.ends.payout[a])) for a, bar in enumerate(panel.ends.bar) if bar < N_BARS
    }
    kept = changes.get("keep")
    rows = [row.tolist() if np.isfinite(row).any() else None for row in targets]
    case = Case(
        open=panel["open"].tolist(),
        close=panel["close"].tolist(),
        targets=rows,
        ends=ends,
        **{"commission_bps": 10.0, **changes, "keep": None if kept is None else kept.tolist()},
    )
    want = oracle(case)
    np.testing.assert_allclose(result.equity["equity"].to_numpy(), want.bars["equity"], rtol=1e-9)
    assert result.fills.height == len(want.fills) > 20
    assert {name: result.counters[name] for name in want.counters} == want.counters


def returns_over(panel: bf.Panel, lookback: int) -> np.ndarray:
    close = panel["close"]
    out = np.full(close.shape, np.nan)
    out[lookback:] = close[lookback:] / close[:-lookback] - 1.0
    return out


def ranked(score: np.ndarray, t: int, allowed: np.ndarray) -> list[int]:
    there = [a for a in range(N_ASSETS) if math.isfinite(score[t, a]) and allowed[a]]
    return sorted(there, key=lambda a: (-score[t, a], a))


@pytest.mark.parametrize("universe", ["all", "club"])
@pytest.mark.parametrize("short", [0.0, 0.7])
def test_quantiles_hold_both_ends_of_the_ranking(panel, universe, short) -> None:
    score = returns_over(panel, 10)
    member = member_of(panel) if universe == "club" else np.ones(panel.shape, bool)
    targets = np.full(panel.shape, np.nan)
    for t in range(0, N_BARS, 7):
        names = ranked(score, t, member[t] & (t <= panel.ends.bar))
        each = max(1, math.floor(len(names) * 0.2 + 1e-9))
        each = min(each, len(names) // 2) if short else min(each, len(names))
        if each:
            targets[t] = 0.0
            targets[t, names[:each]] = 1.0 / each
            if short:
                targets[t, names[-each:]] = -short / each
    strategy = bf.Quantiles(signal=bf.factor.momentum(10), quantile=0.2, short=short, rebalance=7)
    result = bf.run(panel, strategy, universe=universe)
    assert_is(result, panel, targets, member=member.tolist())
    if universe == "club":
        assert "membership" in result.fills["reason"].to_list()


@pytest.mark.parametrize("action", ["skip", "flat"])
def test_a_filter_skips_decisions_or_goes_flat(panel, action) -> None:
    score, fear = returns_over(panel, 5), panel.context("fear")
    targets = np.full(panel.shape, np.nan)
    for t in range(N_BARS):
        on, due = fear[t] > 30.0, t % 4 == 0
        names = ranked(score, t, t <= panel.ends.bar)[:6]
        if on and action == "flat" and (due or (t > 0 and not fear[t - 1] > 30.0)):
            targets[t] = 0.0
        elif due and not on and names:
            targets[t] = 0.0
            targets[t, names] = 1.0 / 6.0
    closes_all = np.isfinite(targets).all(axis=1) & (targets == 0.0).all(axis=1)
    assert closes_all.any() == (action == "flat")
    strategy = bf.TopN(
        signal=bf.factor.momentum(5),
        n=6,
        rebalance=4,
        filter=bf.ContextFilter(context="fear", above=30, action=action),
    )
    assert_is(bf.run(panel, strategy), panel, targets)


@pytest.mark.parametrize("short", [False, True])
def test_a_crossover_trades_where_the_averages_cross(panel, short) -> None:
    close, fast, slow = panel["close"], 3, 11
    state = np.zeros(panel.shape)
    for a in range(N_ASSETS):
        for t in range(N_BARS):
            state[t, a] = state[t - 1, a] if t else 0.0
            if t >= slow - 1 and np.isfinite(close[t - slow + 1 : t + 1, a]).all():
                gap = close[t - fast + 1 : t + 1, a].mean() / close[t - slow + 1 : t + 1, a].mean() - 1.0
                state[t, a] = np.sign(gap) if short else max(np.sign(gap), 0.0)
    changed = np.diff(state, axis=0, prepend=0.0) != 0.0
    targets = np.where(changed, state / 40, np.nan)
    result = bf.run(panel, bf.CrossOver(fast=fast, slow=slow, slots=40, allow_short=short))
    assert_is(result, panel, targets, keep=~changed)


@pytest.mark.parametrize("unit", ["weight", "value", "quantity"])
def test_targets_of_a_field_in_each_unit(panel, unit, tmp_path) -> None:
    scale = {"weight": 1.0, "value": 1_000_000.0, "quantity": 10_000.0}[unit]
    rng = np.random.default_rng(3)
    targets = np.full(panel.shape, np.nan)
    for t in range(0, N_BARS, 9):
        targets[t, rng.choice(N_ASSETS, 5, replace=False)] = 0.15 * scale
    kind = {"weight": "weights", "value": "values", "quantity": "quantities"}[unit]
    by_field = bf.run(panel.with_field(f"mine_{unit}", targets), bf.Weights(field=f"mine_{unit}", unit=unit))
    assert_is(by_field, panel, targets, kind=kind)
    assert bf.run(panel, targets, unit=unit).digest == by_field.digest


def test_keep_in_a_frame_and_in_a_mask_are_the_same(panel) -> None:
    rng = np.random.default_rng(4)
    targets, keep = np.full(panel.shape, np.nan), np.zeros(panel.shape, bool)
    for t in range(0, N_BARS, 6):
        targets[t, rng.choice(N_ASSETS, 5, replace=False)] = 0.15
        keep[t] = np.isnan(targets[t]) & (rng.random(N_ASSETS) < 0.5)
    result = bf.run(panel, targets, keep_mask=keep)
    assert_is(result, panel, targets, keep=keep)
    spoken = np.where(keep, bf.KEEP, targets)
    rows = [
        (panel.timestamps[t], panel.symbols[a], float(spoken[t, a]))
        for t, a in np.argwhere(np.isfinite(spoken)).tolist()
    ]
    stamps, symbols, values = zip(*rows, strict=True)
    frame = pl.DataFrame({"timestamp": np.array(stamps), "symbol": symbols, "weight": values})
    assert bf.run(panel, frame).digest == result.digest


@pytest.mark.parametrize(
    ("fill", "limits", "costs"),
    [
        ("next_close", {"afford": "greedy"}, {"per_share": 0.01, "min_commission": 5.0}),
        ("same_close", {"lot": 10.0, "lot_rounding": "down"}, {"commission_bps": 3.0}),
        ("next_open", {"band": 0.01, "min_notional": 500.0, "afford": "reject"}, {}),
        ("next_open", {"margin": 0.5, "band_rel": 0.2}, {"commission_bps": 20, "max_commission_frac": 0.001}),
    ],
)
def test_every_switch_reaches_the_kernel(panel, fill, limits, costs) -> None:
    rng = np.random.default_rng(9)
    targets = np.full(panel.shape, np.nan)
    for t in range(0, N_BARS, 5):
        targets[t, rng.choice(N_ASSETS, 8, replace=False)] = rng.uniform(0.05, 0.2, 8)
    result = bf.run(panel, targets, fill=fill, limits=limits, costs=costs)
    assert_is(result, panel, targets, fill=fill, **limits, **{"commission_bps": 0.0, **costs})
    assert result.look_ahead == (fill == "same_close")


def test_start_auto_is_the_first_bar_with_a_signal(panel) -> None:
    result = bf.run(panel, bf.TopN(signal=bf.factor.momentum(60), n=3, rebalance=5), start="auto")
    assert result.equity.height == N_BARS - 60
    assert result.fills["bar"][0] == 1


def test_trades_and_positions_follow_from_the_fills(panel) -> None:
    strategy = bf.Quantiles(signal=bf.factor.momentum(10), quantile=0.2, rebalance=5)
    result = bf.run(panel, strategy, costs={"commission_bps": 5, "half_spread_bps": 3})
    trades, fills = result.trades, result.fills
    assert trades.height == result.counters["trades"] > 50
    assert (trades["pnl"] > 0).mean() == pytest.approx(result.metrics["win_rate"])
    assert trades["bars_held"].mean() == pytest.approx(result.metrics["avg_bars_held"])
    assert set(trades["side"].unique()) == {-1, 1}
    long = trades.filter((pl.col("side") == 1) & (pl.col("reason") != "delisting")).row(0, named=True)
    one = fills.filter(
        (pl.col("symbol") == long["symbol"]) & pl.col("bar").is_between(long["entry_bar"], long["exit_bar"])
    )
    paid = one.filter(pl.col("quantity") > 0)
    assert long["entry_price"] == pytest.approx(
        (paid["quantity"] * paid["price"]).sum() / paid["quantity"].sum()
    )

    held = result.positions.group_by("timestamp").agg(value=pl.col("value").sum(), n=pl.len())
    joined = result.equity.join(held, on="timestamp", how="left").fill_null(0)
    np.testing.assert_allclose(joined["cash"] + joined["value"], joined["equity"], rtol=1e-9)
    assert joined["n"].to_list() == joined["positions"].to_list()


def test_a_backtest_without_a_fill_has_empty_frames(panel) -> None:
    table = np.full(panel.shape, np.nan)
    table[-1, 0] = 1.0
    result = bf.run(panel, table)
    assert result.fills.height == result.trades.height == result.positions.height == 0
    assert result.counters["unfilled_at_end"] == 1
