"""Every metric is its written formula, over random curves, and empyrical's where the two mean the same.

The oracle's metrics are plain loops over hand ledgers and generated books of forty bars at most. Here are
longer and odder curves, the formulas as arrays, and the edges of definition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import empyrical
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_farm.backtest.ledgers import Fill, round_trips
from backtest_farm.engine.tile import TileResult, listed_targets, market, run_tile, terms
from backtest_farm.kernel import state
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS, SEGMENTS
from backtest_farm.kernel.summary import METRICS

CASH = 1000.0
NO_END = np.full(1, 2**62)
NO_PAYOUT = np.full(1, np.nan)
SHAPES = ("walk", "wild", "calm", "rising", "falling", "flat", "leap")
EXACT = 1e-9
TINY = 1e-12
OF_RETURNS = ("volatility", "sharpe", "sortino", "skew", "kurtosis")
"""What hangs on how returns differ."""


class Curves(NamedTuple):
    """One market of one asset, and what some trials do in it."""

    price: np.ndarray  # (n,)
    quantity: np.ndarray  # (n,): units to hold from a bar's close on; NaN is no decision
    size: np.ndarray  # (K,): the trials' factors of `quantity`
    bars_per_year: float
    risk_free: float
    commission_bps: float


def ran(curves: Curves, **given) -> TileResult:
    """Trade at the close of each decision, on credit where need be, and record everything."""
    column = curves.price[:, None]
    window = market([{"open": column, "close": column}], NO_END, NO_PAYOUT, curves.bars_per_year)
    fires = np.ones((1, len(column)), np.uint8)
    trials = terms(
        len(curves.size),
        weight=curves.size,
        cash=CASH,
        fill=state.SAME_CLOSE,
        afford=state.ALLOW,
        commission_bps=curves.commission_bps,
        **given,
    )
    targets = listed_targets(curves.quantity[:, None], fires, kind=state.QUANTITIES)
    return run_tile(window, trials, targets, record_bars=True, fill_rows=100, risk_free=curves.risk_free)


def held(price: list[float], size: float = 1.0, **given) -> dict[str, float]:
    """Metrics of holding `size` units from the first close on, with starting cash of 1,000."""
    settings = {"bars_per_year": 252.0, "risk_free": 0.0, "commission_bps": 0.0, **given}
    prices = np.array(price, float)
    quantity = np.full(len(prices), np.nan)
    quantity[0] = 1.0
    tile = ran(Curves(prices, quantity, np.array([size]), **settings))
    return dict(zip(METRICS, tile.metrics[0].tolist(), strict=True))


def returns_of(equity: np.ndarray) -> np.ndarray:
    before = np.concatenate([[CASH], equity[:-1]])
    r = np.divide(equity, before, out=np.ones_like(equity), where=before > 0.0) - 1.0
    r[np.maximum.accumulate(before <= 0.0)] = 0.0
    return r


def ratio(above: float, below: float) -> float:
    return above / below if below > TINY else math.nan


def formulas(curves: Curves, tile: TileResult, k: int) -> dict[str, float]:
    """All metrics as the contract writes them, from a trial's curve, ledger and closed trades."""
    column = {name: tile.record.bars[:, at, k] for at, name in enumerate(BAR_COLUMNS)}
    equity = column["equity"]
    n, year = len(equity), curves.bars_per_year
    r = returns_of(equity)
    used = int(tile.record.used[0])
    mine = tile.record.keys[:used, 0] == k
    keys, values = tile.record.keys[:used][mine].tolist(), tile.record.values[:used][mine]
    rows = [
        Fill(bar, asset, reason, flat, *numbers)
        for (_, _, bar, asset, reason, flat), numbers in zip(keys, values[:, :4].tolist(), strict=True)
    ]
    window = market(
        [{"open": curves.price[:, None], "close": curves.price[:, None]}], NO_END, NO_PAYOUT, year
    )
    trades = round_trips(rows, window, at_close=True)
    pnl = np.array([trade["pnl"] for trade in trades])
    notional = np.abs(values[:, 0]) @ values[:, 2] if used else 0.0
    excess = float(np.mean(r - curves.risk_free / year))
    deviation = float(np.std(r, ddof=1)) if n > 1 else math.nan
    spread = np.std(r)
    growth = equity[-1] / CASH
    with np.errstate(over="ignore"):
        cagr = growth ** (year / n) - 1.0 if growth > 0.0 else -1.0
    cagr = cagr if np.isfinite(cagr) else math.nan
    drawdown = min(0.0, np.min(equity / np.maximum(np.maximum.accumulate(equity), CASH) - 1.0))
    return {
        "total_return": growth - 1.0,
        "cagr": cagr,
        "volatility": deviation * math.sqrt(year),
        "sharpe": ratio(excess * math.sqrt(year), deviation),
        "sortino": ratio(excess * math.sqrt(year), np.sqrt(np.mean(np.minimum(r, 0.0) ** 2))),
        "max_drawdown": drawdown,
        "calmar": ratio(cagr, -drawdown),
        "skew": np.mean((r - r.mean()) ** 3) / spread**3 if spread > TINY else math.nan,
        "kurtosis": np.mean((r - r.mean()) ** 4) / spread**4 - 3.0 if spread > TINY else math.nan,
        "turnover": ratio(notional * year / n, equity.mean()) / 2.0,
        "exposure": column["gross"].mean(),
        "costs": values[:, 3:].sum(),
        "orders": len(rows) - sum(_crosses(rows)),
        "fills": len(rows),
        "trades": len(trades),
        "win_rate": float(np.mean(pnl > 0.0)) if len(pnl) else math.nan,
        "profit_factor": ratio(pnl[pnl > 0.0].sum(), -pnl[pnl < 0.0].sum()),
        "avg_bars_held": np.mean([trade["bars_held"] for trade in trades]) if trades else math.nan,
    }


def _crosses(rows: list[Fill]) -> list[bool]:
    """Which fills are the second one of a reversal: an order of two fills."""
    return [
        at > 0
        and rows[at - 1].flat == 1
        and rows[at - 1].bar == row.bar
        and row.quantity * rows[at - 1].quantity > 0
        for at, row in enumerate(rows)
    ]


@st.composite
def random_curves(draw: st.DrawFn) -> Curves:
    """Prices of some shape, and quantities that hold, trade or turn round, up to far beyond the cash."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, shape = draw(st.integers(1, 120)), draw(st.sampled_from(SHAPES))
    steps = {
        "walk": rng.normal(0.0, 0.02, n),
        "wild": rng.normal(0.0, 0.4, n),
        "calm": 1e-5 * rng.normal(0.0, 1.0, n),
        "rising": np.abs(rng.normal(0.0, 0.01, n)),
        "falling": -np.abs(rng.normal(0.0, 0.01, n)),
        "flat": np.zeros(n),
        "leap": np.where(rng.random(n) < 0.1, rng.choice([-3.0, 3.0], n), 0.0),
    }[shape]
    price = 100.0 * np.exp(np.cumsum(steps))
    quantity = np.where(
        rng.random(n) < draw(st.sampled_from([0.0, 0.3, 0.9])), rng.integers(-1, 2, n), np.nan
    )
    quantity[0] = 1.0
    size = rng.uniform(0.5, 30.0, 4) * rng.choice([-1.0, 1.0], 4)
    return Curves(
        price,
        quantity,
        size,
        bars_per_year=draw(st.sampled_from([252.0, 365.0, 52.0, 12.0, 98_280.0])),
        risk_free=draw(st.sampled_from([0.0, 0.03, -0.01])),
        commission_bps=draw(st.sampled_from([0.0, 10.0])),
    )


SEEN: set[str] = set()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_curves())
def _check_formulas(curves: Curves) -> None:
    tile = ran(curves)
    assert not np.isinf(tile.metrics).any(), "undefined is NaN, never infinite"
    assert not tile.broken.any()
    for k in range(len(curves.size)):
        have = dict(zip(METRICS, tile.metrics[k].tolist(), strict=True))
        want = formulas(curves, tile, k)
        r = returns_of(tile.record.bars[:, 0, k])
        for name in METRICS:
            # Where returns differ by rounding alone, these are nothing else.
            if name in OF_RETURNS and 0.0 < np.ptp(r) < 1e-9:
                continue
            np.testing.assert_allclose(have[name], want[name], 1e-6, EXACT, err_msg=f"{name}, trial {k}")
            SEEN.add(name if np.isfinite(have[name]) else f"no {name}")
        equity = tile.record.bars[:, 0, k]
        SEEN.add("bust" if (equity <= 0.0).any() else "solvent")


def test_every_metric_is_its_formula_on_random_curves() -> None:
    SEEN.clear()
    _check_formulas()
    always = {"total_return", "max_drawdown", "costs", "orders", "fills", "trades"}
    assert {*METRICS, "bust", "solvent"} <= SEEN
    missing = {f"no {name}" for name in set(METRICS) - always} - SEEN
    assert not missing, f"the curves never leave these undefined: {missing}"
    assert not {f"no {name}" for name in always} & SEEN


@settings(max_examples=80, deadline=None, derandomize=True)
@given(random_curves())
def test_empyrical_says_the_same_of_the_same_returns(curves: Curves) -> None:
    tile = ran(curves)
    year = curves.bars_per_year
    for k in range(len(curves.size)):
        have = dict(zip(METRICS, tile.metrics[k].tolist(), strict=True))
        equity = tile.record.bars[:, 0, k]
        r = returns_of(equity)
        if (equity <= 0.0).any() or len(r) < 2 or np.ptp(r) < 1e-9:
            continue
        want = {
            "total_return": empyrical.cum_returns_final(r),
            "volatility": empyrical.annual_volatility(r, annualization=year),
            "sharpe": empyrical.sharpe_ratio(r, risk_free=curves.risk_free / year, annualization=year),
            "max_drawdown": empyrical.max_drawdown(r),
            "skew": scipy.stats.skew(r),
            "kurtosis": scipy.stats.kurtosis(r),
        }
        if np.isfinite(have["cagr"]):
            want["cagr"] = empyrical.cagr(r, annualization=year)
        if np.isfinite(have["calmar"]):
            want["calmar"] = empyrical.calmar_ratio(r, annualization=year)
        if curves.risk_free == 0.0 and np.isfinite(have["sortino"]):
            want["sortino"] = empyrical.sortino_ratio(r, annualization=year)
        for name, value in want.items():
            np.testing.assert_allclose(have[name], value, 1e-6, 1e-9, err_msg=f"{name}, trial {k}")


def test_where_empyrical_says_something_else() -> None:
    """What is undefined here is often infinite there; see `test_equity_that_was_lost` for the rest."""
    # No falling bar: no downside to divide by.
    r = returns_of(CASH + np.array([0.0, 1.0, 3.0]))
    assert empyrical.sortino_ratio(r) == math.inf
    assert math.isnan(held([100.0, 101.0, 103.0])["sortino"])
    # With a risk-free rate the downside is below 0 here, and below the rate there.
    moves = [100.0, 90.0, 105.0, 104.0]
    r = returns_of(CASH + np.array(moves) - 100.0)
    want = np.mean(r - 0.001) * math.sqrt(252.0) / math.sqrt(np.mean(np.minimum(r, 0.0) ** 2))
    assert held(moves, risk_free=0.252)["sortino"] == pytest.approx(want, rel=1e-9)
    assert empyrical.sortino_ratio(r, required_return=0.001) != pytest.approx(want, rel=1e-3)
    # One return, with a downside but without a deviation.
    assert math.isnan(empyrical.sortino_ratio(np.array([-0.001])))
    assert held([100.0], commission_bps=100.0)["sortino"] == pytest.approx(-math.sqrt(252.0))
    # A fall of nothing but rounding is no drawdown to divide by.
    assert empyrical.calmar_ratio(np.array([0.01, -1e-14])) > 1e12
    assert math.isnan(held([100.0, 110.0, 110.0 * (1.0 - 1e-14)])["calmar"])
    # A yearly rate beyond all floats.
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert empyrical.cagr(np.array([1e9])) == math.inf
    assert math.isnan(held([1e-6, 1e6], 1000.0)["cagr"])


# --- the edges of definition ------------------------------------------------------------------------------
def test_one_bar() -> None:
    have = held([100.0], commission_bps=100.0)
    assert have["total_return"] == pytest.approx(-0.001)
    assert have["cagr"] == pytest.approx(0.999**252 - 1.0)
    assert have["max_drawdown"] == pytest.approx(-0.001), "the peak begins at starting cash"
    assert have["sortino"] == pytest.approx(-math.sqrt(252.0))
    undefined = {"volatility", "sharpe", "skew", "kurtosis", "win_rate", "profit_factor", "avg_bars_held"}
    assert {name for name, value in have.items() if math.isnan(value)} == undefined


def test_no_trades() -> None:
    have = held([100.0, 101.0, 99.0], 0.0)
    zeros = {"total_return", "cagr", "volatility", "max_drawdown", "turnover", "exposure", "costs", "orders"}
    zeros |= {"fills", "trades"}
    assert {name: have[name] for name in zeros} == dict.fromkeys(zeros, 0.0)
    assert all(math.isnan(have[name]) for name in set(METRICS) - zeros)


def test_constant_equity_with_a_position() -> None:
    have = held([100.0] * 20, 5.0, risk_free=0.05)
    assert have["exposure"] == 0.5 and have["volatility"] == 0.0
    for name in ("sharpe", "sortino", "calmar", "skew", "kurtosis"):
        assert math.isnan(have[name]), name


def trades_of(prices: list[float], quantity: list[float]) -> dict[str, float]:
    curves = Curves(np.array(prices, float), np.array(quantity, float), np.ones(1), 252.0, 0.0, 0.0)
    return dict(zip(METRICS, ran(curves).metrics[0].tolist(), strict=True))


def test_all_wins_all_losses_and_nothing_won() -> None:
    turns = [1.0, 0.0, 1.0, 0.0]
    wins = trades_of([100.0, 110.0, 100.0, 120.0], turns)
    assert (wins["trades"], wins["win_rate"]) == (2.0, 1.0)
    assert math.isnan(wins["profit_factor"]), "no losses"
    losses = trades_of([100.0, 90.0, 100.0, 80.0], turns)
    assert (losses["win_rate"], losses["profit_factor"]) == (0.0, 0.0)
    even = trades_of([100.0, 100.0, 100.0, 120.0], turns)
    assert (even["win_rate"], even["avg_bars_held"]) == (0.5, 1.0), "a trade that earned nothing is no win"
    both = trades_of([100.0, 90.0, 100.0, 130.0], turns)
    assert (both["win_rate"], both["profit_factor"]) == (0.5, 3.0)


@pytest.mark.parametrize("last", [-200.0, 0.0, 500.0], ids=["below", "at 0", "above again"])
def test_equity_that_was_lost(last) -> None:
    """A short that cannot be left: only closes go on, so that no exit fills."""
    close = np.array([100.0, 150.0, 250.0, 100.0 + (CASH - last) / 10.0])[:, None]
    open_ = np.array([np.nan, 100.0, np.nan, np.nan])[:, None]
    window = market([{"open": open_, "close": close}], NO_END, NO_PAYOUT, 252.0)
    fires = np.zeros((1, 4), np.uint8)
    fires[0, 0] = 1
    targets = listed_targets(np.full((4, 1), -10.0), fires, kind=state.QUANTITIES)
    tile = run_tile(window, terms(1, cash=CASH), targets, record_bars=True)
    equity = tile.record.bars[:, 0, 0]
    np.testing.assert_allclose(equity, [CASH, 500.0, -500.0, last], atol=1e-9)
    have = dict(zip(METRICS, tile.metrics[0].tolist(), strict=True))
    r = np.array([0.0, -0.5, -2.0, 0.0])  # 0 from the bar after the loss on
    assert have["total_return"] == pytest.approx(last / CASH - 1.0)
    assert have["cagr"] == (-1.0 if last <= 0.0 else pytest.approx((last / CASH) ** 63 - 1.0))
    assert have["volatility"] == pytest.approx(np.std(r, ddof=1) * math.sqrt(252.0))
    assert have["sortino"] == pytest.approx(np.mean(r) * math.sqrt(252.0) / math.sqrt(np.mean(r**2)))
    assert have["max_drawdown"] == pytest.approx(-1.5)
    # empyrical sees returns alone, for which the curve ends there.
    assert empyrical.cum_returns_final(r) == pytest.approx(-1.5)
    assert math.isnan(have["exposure"]), "gross has no meaning while equity is not positive"
    assert not tile.broken[0] and not np.isinf(tile.metrics).any()


@pytest.mark.parametrize(("sizes", "seen"), [((1.0, 1.0), np.inf), ((1.0, -1.0), np.nan)], ids=["inf", "nan"])
def test_equity_that_is_no_number_is_an_error(sizes, seen) -> None:
    """For one bar only, and whatever comes after it."""
    price = np.full((5, 2), 100.0)
    price[2] = 1e300
    window = market([{"open": price, "close": price}], np.repeat(NO_END, 2), np.repeat(NO_PAYOUT, 2), 252.0)
    fires = np.zeros((1, 5), np.uint8)
    fires[0, 0] = 1
    for size, broken in ((1e10, True), (1.0, False)):
        rows = np.tile(size * np.array(sizes), (5, 1))
        targets = listed_targets(rows, fires, kind=state.QUANTITIES)
        tile = run_tile(window, terms(1, cash=1e12, afford=state.ALLOW), targets, record_bars=True)
        assert tile.broken[0] == broken
        if broken:
            np.testing.assert_array_equal(tile.record.bars[2, 0, 0], seen)
            assert np.isfinite(tile.record.bars[[1, 3, 4], 0, 0]).all()


@pytest.mark.parametrize("n", [1, 5, 16, 17, 100])
def test_segments_are_sums_over_equal_parts(n) -> None:
    rng = np.random.default_rng(n)
    price = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, n)))
    tile = ran(Curves(price, np.full(n, 1.0), np.array([3.0, -2.0]), 252.0, 0.0, 10.0))
    part = np.arange(n) * SEGMENTS // n
    for k in range(2):
        r = returns_of(tile.record.bars[:, 0, k])
        for at, power in enumerate((1, 2)):
            want = [np.sum(r[part == segment] ** power) for segment in range(SEGMENTS)]
            np.testing.assert_allclose(tile.segments[at, :, k], want, rtol=1e-12, atol=1e-18)


def test_counts_among_the_metrics_are_the_counters() -> None:
    turns = [1.0, -1.0, 0.0, 1.0]
    curves = Curves(np.array([100.0, 90.0, 95.0, 99.0]), np.array(turns), np.ones(1), 252.0, 0.0, 5.0)
    tile = ran(curves)
    for name, want in {"orders": 4, "fills": 5, "trades": 2}.items():
        assert tile.metrics[0, METRICS.index(name)] == tile.counters[COUNTERS.index(name), 0] == want
