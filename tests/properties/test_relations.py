"""Settings and targets that must mean the same, or the same times two: bitwise, on the kernel itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backtest_farm.engine.tile import TileResult, listed_targets, market, ranked_targets, run_tile, terms
from backtest_farm.kernel import state

N_BARS, N_ASSETS = 160, 24
RNG = np.random.default_rng(11)
CLOSE = 40 * np.exp(np.cumsum(RNG.normal(0, 0.03, (N_BARS, N_ASSETS)), axis=0))
OPEN = CLOSE * np.exp(RNG.normal(0, 0.01, CLOSE.shape))
GONE = RNG.random(CLOSE.shape) < 0.04
OPEN[GONE], CLOSE[GONE] = np.nan, np.nan
END = np.full(N_ASSETS, 2**62)
END[[3, 9]] = [50, 90]
PAYOUT = np.where(END < N_BARS, 7.0, np.nan)
MEMBER = np.cumsum(RNG.random(CLOSE.shape) < 0.02, axis=0) % 2 == 0
SCORE = RNG.normal(0.2, 1.0, CLOSE.shape)
WEIGHTS = np.where(np.abs(SCORE) > 0.8, 0.12 * SCORE, np.nan)
DAILY = np.ones((1, N_BARS), np.uint8)
SOMETIMES = (np.arange(N_BARS) % 4 == 0).astype(np.uint8)[None]
CASH = 1e5
COSTS = {"commission_bps": 7.0, "half_spread_bps": 3.0, "slippage_bps": 1.0}
FILLS = pytest.mark.parametrize("fill", [state.NEXT_OPEN, state.NEXT_CLOSE, state.SAME_CLOSE])
POLICIES = [state.SCALE, state.GREEDY, state.REJECT, state.ALLOW]


def ran(targets, *, money: float = 1.0, member=MEMBER, open_=OPEN, **settings) -> TileResult:
    """Run one trial with everything recorded; all prices and the cash are multiplied by `money`."""
    window = market([{"open": open_ * money, "close": CLOSE * money}], END, PAYOUT * money, 252.0, member)
    trial = terms(1, **{"cash": CASH * money, **COSTS, **settings})
    tile = run_tile(window, trial, targets, record_bars=True, fill_rows=100)
    assert tile.counters[state.N_FILLS, 0] > 40, "too little happens to prove anything"
    return tile


def same(left: TileResult, right: TileResult) -> bool:
    return left.digests == right.digests


@FILLS
@pytest.mark.parametrize(("kind", "unit"), [("WEIGHTS", 0.2), ("VALUES", 0.2 * CASH), ("QUANTITIES", 500.0)])
@pytest.mark.parametrize("policy", POLICIES)
def test_twice_the_money(fill, kind, unit, policy) -> None:
    # The same row twice in three bars: rows that differ little are what bands and lots are for.
    rows = np.where(np.abs(SCORE) > 0.8, unit * SCORE, np.nan)
    rows[1::3] = 1.05 * rows[::3][: len(rows[1::3])]
    often = (np.arange(N_BARS) % 3 != 2).astype(np.uint8)[None]
    values = getattr(state, kind)
    settings = {"fill": fill, "afford": policy, "lot": 64.0, "band": 0.008, "margin": 0.1}
    tiles = [
        ran(
            listed_targets(rows * (money if kind == "VALUES" else 1.0), often, kind=values),
            money=money,
            per_share=0.01 * money,
            min_commission=4.0 * money,
            min_notional=1150.0 * money,
            max_commission_frac=0.02,
            **settings,
        )
        for money in (1.0, 2.0)
    ]
    one, two = tiles
    assert (two.record.bars[:, :2] == 2.0 * one.record.bars[:, :2]).all()
    assert (two.record.values[:, 0] == one.record.values[:, 0]).all(), "quantities"
    assert (two.counters == one.counters).all()
    for name in ("N_BELOW_LOT", "N_BELOW_MINIMUM", "N_IN_BAND"):
        assert one.counters[getattr(state, name), 0] > 0, f"{name}: this limit never binds"
    assert (one.counters[state.N_NO_CASH, 0] > 0) == (policy != state.ALLOW)


@pytest.mark.parametrize("sizing", [state.SIZE_AT_DECISION, state.SIZE_AT_FILL])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_best_names_equal_a_table(n, sizing) -> None:
    ids = np.argsort(-SCORE, axis=1, kind="stable")
    counts = RNG.integers(0, N_ASSETS + 1, N_BARS)
    rows = np.full(SCORE.shape, np.nan)
    for t, count in enumerate(counts):
        rows[t, ids[t, : min(n, count)]] = 0.9 / n
    ranked = ran(ranked_targets(ids, counts, SOMETIMES), n=n, weight=0.9 / n, sizing=sizing)
    assert same(ranked, ran(listed_targets(rows, SOMETIMES), sizing=sizing))


@pytest.mark.parametrize("short", [0.0, 0.6])
@pytest.mark.parametrize("quantile", [0.01, 0.1, 0.2, 0.5])
def test_quantiles_equal_a_table(quantile, short) -> None:
    ids = np.argsort(-SCORE, axis=1, kind="stable")
    counts = np.resize([0, 1, 2, 5, 10, 15, 20, N_ASSETS], N_BARS)
    rows = np.full(SCORE.shape, np.nan)
    for t, count in enumerate(counts.tolist()):
        # Of 10 names a fifth is 2, of 15 it is 3, however 0.2 is rounded.
        names = max(1, int(count * quantile + 1e-9))
        names = min(names, count // 2) if short else min(names, count)
        if names > 0:
            rows[t, ids[t, :names]] = 0.8 / names
        if names > 0 and short:
            rows[t, ids[t, count - names : count]] = -short / names
    settings = {"quantile": quantile, "weight": 0.8, "short_weight": short}
    ranked = ran(ranked_targets(ids, counts, DAILY), **settings)
    assert same(ranked, ran(listed_targets(rows, DAILY)))


def test_closing_everything_equals_a_row_of_zeros() -> None:
    fires = DAILY.copy()
    fires[0, 10::7] = state.CLOSE_ALL
    zeros = np.where(fires[0, :, None] == state.CLOSE_ALL, 0.0, WEIGHTS)
    want = ran(listed_targets(zeros, DAILY))
    assert same(ran(listed_targets(WEIGHTS, fires)), want)
    # It closes on bars without candidates too.
    empty = np.where(fires[0, :, None] == state.CLOSE_ALL, np.nan, WEIGHTS)
    assert same(ran(listed_targets(empty, fires)), want)


def test_a_row_without_numbers_is_no_decision() -> None:
    empty = WEIGHTS.copy()
    empty[5::3] = np.nan
    fires = DAILY.copy()
    fires[0, 5::3] = state.IDLE
    want = ran(listed_targets(WEIGHTS, fires))
    assert same(ran(listed_targets(empty, DAILY)), want)
    keep = np.zeros(WEIGHTS.shape, bool)
    keep[5::3] = True
    assert same(ran(listed_targets(WEIGHTS, DAILY, keep)), want), "KEEP everything is no decision"


def test_schedules_and_factors_belong_to_the_trial() -> None:
    both = np.concatenate([DAILY, SOMETIMES])
    assert same(ran(listed_targets(WEIGHTS, both), schedule=1), ran(listed_targets(WEIGHTS, SOMETIMES)))
    assert same(ran(listed_targets(WEIGHTS, DAILY), weight=0.5), ran(listed_targets(0.5 * WEIGHTS, DAILY)))


def test_the_next_close_is_the_open_of_a_market_that_opens_there() -> None:
    targets = listed_targets(WEIGHTS, SOMETIMES)
    assert same(ran(targets, fill=state.NEXT_CLOSE), ran(targets, open_=CLOSE))


def test_without_want_of_cash_policies_are_the_same() -> None:
    targets = listed_targets(np.abs(0.1 * WEIGHTS), SOMETIMES)
    tiles = [ran(targets, afford=policy, min_commission=1.0) for policy in POLICIES]
    assert all(same(*pair) for pair in itertools.pairwise(tiles))
    rich = listed_targets(np.abs(WEIGHTS), SOMETIMES)
    assert same(ran(rich, margin=1e3), ran(rich, afford=state.ALLOW))
    assert not same(ran(rich), ran(rich, afford=state.ALLOW))


def test_whole_lots_of_whole_targets_change_nothing() -> None:
    rows = np.where(np.abs(SCORE) > 0.8, np.round(100 * SCORE), np.nan)
    targets = listed_targets(rows, SOMETIMES, kind=state.QUANTITIES)
    free = ran(targets, afford=state.ALLOW)
    for down in (0, 1):
        assert same(ran(targets, afford=state.ALLOW, lot=1.0, lot_down=down), free)


def test_limits_that_never_bind_change_nothing() -> None:
    targets = listed_targets(WEIGHTS, SOMETIMES)
    never = {"band": 1e-15, "min_notional": 1e-9, "max_commission_frac": 0.5, "per_share": 1e-300}
    assert same(ran(targets, **never), ran(targets))
    # With a minimum commission the common factor is searched for; here it never matters, so both ways agree.
    near, exact = ran(targets, min_commission=1e-9), ran(targets)
    np.testing.assert_allclose(near.record.bars[:, 0], exact.record.bars[:, 0], rtol=1e-12)


def test_membership() -> None:
    targets = listed_targets(WEIGHTS, SOMETIMES)
    everybody = np.ones(CLOSE.shape, np.uint8)
    assert same(ran(targets, member=everybody), ran(targets, member=None))
    never = everybody.copy()
    never[:, ::3] = 0
    without = WEIGHTS.copy()
    without[:, ::3] = np.nan
    assert same(ran(targets, member=never), ran(listed_targets(without, SOMETIMES), member=None))
    # Out on the bar of a decision and back before the next one: the position goes, nothing replaces the exit.
    tile = ran(targets)
    keys = tile.record.keys[: tile.record.used[0]]
    forced = keys[keys[:, 4] == state.R_MEMBERSHIP]
    assert len(forced) > 15
    for decided, asset in forced[:, [1, 3]]:
        assert MEMBER[decided, asset] and not MEMBER[decided + 1, asset]


def test_columns_in_another_order() -> None:
    """Asset ids decide ties and the order of sums, so only what does not hang on them is the same."""
    order = RNG.permutation(N_ASSETS)
    rows = np.where(SCORE.max(axis=1, keepdims=True) == SCORE, 0.9, np.nan)
    window = market(
        [{"open": OPEN[:, order], "close": CLOSE[:, order]}],
        END[order],
        PAYOUT[order],
        252.0,
        MEMBER[:, order],
    )
    mixed = run_tile(window, terms(1, cash=CASH, **COSTS), listed_targets(rows[:, order], SOMETIMES))
    straight = ran(listed_targets(rows, SOMETIMES))
    assert mixed.counters.tolist() == straight.counters.tolist()
    np.testing.assert_allclose(mixed.metrics, straight.metrics, rtol=1e-9, equal_nan=True)


def test_the_future_is_not_seen() -> None:
    for fill in (state.NEXT_OPEN, state.NEXT_CLOSE, state.SAME_CLOSE):
        settings = {"fill": fill, "lot": 1.0, "band": 0.01, "afford": state.GREEDY}
        whole = ran(listed_targets(WEIGHTS, SOMETIMES), **settings)
        cut = 100
        window = market([{"open": OPEN[:cut], "close": CLOSE[:cut]}], END, PAYOUT, 252.0, MEMBER[:cut])
        part = run_tile(
            window,
            terms(1, cash=CASH, **COSTS, **settings),
            listed_targets(WEIGHTS[:cut], SOMETIMES[:, :cut]),
            record_bars=True,
        )
        assert part.record.bars.tobytes() == whole.record.bars[:cut].tobytes()
