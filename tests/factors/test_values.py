"""What the factors are: TA-Lib's numbers and plain loops, which share nothing with the package."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from backtest_farm import Panel, factor
from backtest_farm.errors import InputError
from backtest_farm.factors.fields import factor_field
from backtest_farm.spec import axis
from tests.factors.held import HeldPanel, market

nan = math.nan


def values(panel: HeldPanel, chosen) -> np.ndarray:
    return factor_field(panel, chosen, panel.shape[0]).values


def windows(series: np.ndarray, n: int) -> list[list[float]]:
    """The last n values at each bar that has so many."""
    return [series[t - n + 1 : t + 1].tolist() for t in range(n - 1, len(series))]


def along(panel: HeldPanel, name: str, n: int, formula) -> np.ndarray:
    """Apply a formula of n values to every window without a gap, NaN elsewhere."""
    x = panel.fields[name]
    out = np.full(x.shape, nan)
    for a in range(x.shape[1]):
        for t, window in enumerate(windows(x[:, a], n), start=n - 1):
            if not any(map(math.isnan, window)):
                out[t, a] = formula(window)
    return out


def returns(closes: list[float]) -> list[float]:
    return [after / before - 1 for before, after in pairwise(closes)]


def same(got: np.ndarray, want: np.ndarray, rtol: float = 1e-10, atol: float = 1e-13) -> None:
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    assert np.isfinite(want).sum() > 50


@pytest.mark.parametrize("lookback", [1, 5, 40])
def test_reversal_is_the_return_with_the_other_sign(lookback: int) -> None:
    panel = market()
    close = panel.fields["close"]
    want = np.full(close.shape, nan)
    want[lookback:] = -(close[lookback:] / close[:-lookback] - 1)
    np.testing.assert_array_equal(values(panel, factor.reversal(lookback)), want)


@pytest.mark.parametrize("lookback", [2, 3, 7, 30, 60])
def test_volatility_is_the_sample_deviation_of_returns(lookback: int) -> None:
    panel = market()
    want = along(panel, "close", lookback + 1, lambda w: statistics.stdev(returns(w)))
    got = values(panel, factor.volatility(lookback))
    same(got, want)
    assert set(got[lookback:, 3][~np.isnan(got[lookback:, 3])]) <= {0.0}


@pytest.mark.parametrize(("fast", "slow"), [(1, 2), (3, 10), (20, 45)])
def test_sma_ratio_is_a_ratio_of_means(fast: int, slow: int) -> None:
    panel = market()
    want = along(panel, "close", slow, lambda w: statistics.fmean(w[-fast:]) / statistics.fmean(w) - 1)
    same(values(panel, factor.sma_ratio(fast, slow)), want)


@pytest.mark.parametrize("lookback", [1, 2, 21])
def test_mean_is_the_mean_of_a_field(lookback: int) -> None:
    panel = market()
    same(values(panel, factor.mean("high", lookback)), along(panel, "high", lookback, statistics.fmean))


@pytest.mark.parametrize("lookback", [2, 9, 30])
def test_zscore_over_the_past(lookback: int) -> None:
    panel = market()

    def formula(window: list[float]) -> float:
        deviation = statistics.pstdev(window)
        return (window[-1] - statistics.fmean(window)) / deviation if len(set(window)) > 1 else nan

    got = values(panel, factor.zscore("close", lookback))
    same(got, along(panel, "close", lookback, formula), rtol=1e-9)
    assert np.isnan(got[:, 3]).all()


@pytest.mark.parametrize("lookback", [2, 10, 50])
def test_beta_is_a_regression_on_the_series(lookback: int) -> None:
    panel = market()
    close, index = panel.fields["close"], panel.contexts["index"]
    want = np.full(close.shape, nan)
    for t in range(lookback, len(close)):
        for a in range(close.shape[1]):
            mine, its = close[t - lookback : t + 1, a], index[t - lookback : t + 1]
            if not np.isnan(mine + its).any():
                covariance = np.cov(returns(mine.tolist()), returns(its.tolist()))
                want[t, a] = covariance[0, 1] / covariance[1, 1]
    same(values(panel, factor.beta(lookback, "index")), want, rtol=1e-8)


def test_beta_on_a_series_that_does_not_move_is_nan() -> None:
    panel = market()
    panel.contexts["index"][:] = 7.1
    assert np.isnan(values(panel, factor.beta(10, "index"))).all()


def test_zscore_across_the_bar() -> None:
    panel = market()
    got = values(panel, factor.zscore("score"))
    for row, scores in zip(got, panel.fields["score"].tolist(), strict=True):
        known = [score for score in scores if not math.isnan(score)]
        mean, deviation = statistics.fmean(known), statistics.pstdev(known)
        np.testing.assert_allclose(
            row, [(score - mean) / deviation for score in scores], rtol=1e-9, atol=1e-12
        )


def test_rank_is_the_place_among_the_bar() -> None:
    panel = market(n_assets=30)
    got = values(panel, factor.rank("score"))
    ties = 0
    for row, scores in zip(got.tolist(), panel.fields["score"].tolist(), strict=True):
        known = [score for score in scores if not math.isnan(score)]
        for place, score in zip(row, scores, strict=True):
            below, equal = sum(x < score for x in known), sum(x == score for x in known)
            ties += equal > 1
            if math.isnan(score):
                assert math.isnan(place)
            else:
                assert place == pytest.approx((below + (equal - 1) / 2) / (len(known) - 1), abs=1e-15)
    assert ties > 100
    assert (np.nanmin(got), np.nanmax(got)) == (0.0, 1.0)


@pytest.mark.parametrize("chosen", [factor.zscore("x"), factor.rank("x")])
def test_one_value_or_equal_ones_have_no_place_of_their_own(chosen) -> None:
    alone = [nan, 5.0, nan, nan]
    equal = [0.1, 0.1, nan, 0.1]
    none = [nan] * 4
    got = values(HeldPanel(x=np.array([alone, equal, none])), chosen)
    assert np.isnan(got[[0, 2]]).all()
    if chosen.factor == "rank":
        np.testing.assert_array_equal(got[1], [0.5, 0.5, nan, 0.5])
    else:
        assert np.isnan(got[1]).all()


def test_field_is_the_field() -> None:
    panel = market()
    np.testing.assert_array_equal(values(panel, factor.field("score")), panel.fields["score"])


def test_on_gives_a_factor_as_an_array_that_nobody_can_change() -> None:
    panel = market()
    chosen = factor.mean("score", 3)
    got = chosen.on(panel)
    np.testing.assert_array_equal(got, values(panel, chosen))
    assert (got.shape, got.dtype, got.flags.writeable) == (panel.shape, np.float64, False)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (factor.atr(axis([7, 14])), "lookback is an axis"),
        (factor.mean(axis(["close", "open"]), axis([2, 3])), "field, lookback is an axis"),
    ],
)
def test_on_refuses_an_axis(chosen, names: str) -> None:
    with pytest.raises(
        InputError, match=f"on\\(\\) takes one value for each parameter, but {names}"
    ) as caught:
        chosen.on(market())
    assert caught.value.hint == "give one value"


def test_on_says_which_field_is_missing(tmp_path) -> None:
    rows = {"timestamp": ["2020-01-01", "2020-01-02"], "symbol": "A", "open": 1.0, "close": 1.0}
    panel = Panel.build(pl.DataFrame(rows), tmp_path / "panel")
    with pytest.raises(InputError, match="high"):
        factor.atr(1).on(panel)


def plain_ema(series: list[float], n: int) -> list[float]:
    seen, average, out = [], nan, []
    for value in series:
        if math.isnan(value):
            out.append(nan)
            continue
        seen.append(value)
        if len(seen) == n:
            average = sum(seen) / n
        elif len(seen) > n:
            average = average + 2 / (n + 1) * (value - average)
        out.append(average)
    return out


def test_ema_passes_over_missing_bars() -> None:
    panel = market()
    columns = panel.fields["close"].T.tolist()
    pairs = [(np.array(plain_ema(column, 5)), np.array(plain_ema(column, 12))) for column in columns]
    same(values(panel, factor.ema_ratio(5, 12)), np.array([fast / slow - 1 for fast, slow in pairs]).T)


def test_rsi_passes_over_changes_without_both_closes() -> None:
    close = np.array([10.0, 11, 10, nan, 20, 21, 20.5, 20.5])[:, None]
    up, down = 1 / 2, 1 / 2
    want = [nan, nan, 50.0, nan, nan]
    for rise, fall in [(1, 0), (0, 0.5), (0, 0)]:
        up, down = up + (rise - up) / 2, down + (fall - down) / 2
        want.append(100 * up / (up + down))
    np.testing.assert_allclose(values(HeldPanel(close=close), factor.rsi(2))[:, 0], want, rtol=1e-13)


def plain_atr(high: list[float], low: list[float], close: list[float], n: int) -> list[float]:
    seen, average, out = [], nan, [nan]
    for (top, bottom), before in zip(list(zip(high, low, strict=True))[1:], close, strict=False):
        spans = [top - bottom, abs(top - before), abs(bottom - before)]
        if any(map(math.isnan, spans)):
            out.append(nan)
            continue
        seen.append(max(spans))
        if len(seen) == n:
            average = sum(seen) / n
        elif len(seen) > n:
            average = average + (seen[-1] - average) / n
        out.append(average)
    return out


@pytest.mark.parametrize("lookback", [1, 3, 14])
def test_atr_passes_over_true_ranges_that_lack_a_price(lookback: int) -> None:
    panel = market()
    columns = zip(*(panel.fields[name].T.tolist() for name in ("high", "low", "close")), strict=True)
    want = np.array([plain_atr(*column, lookback) for column in columns]).T
    gaps = np.isnan(panel.fields["close"][lookback + 1 : 40, 0])
    assert gaps.any()
    same(values(panel, factor.atr(lookback)), want)


def test_atr_by_hand() -> None:
    """A gap between bars counts; the bar of a missing close and the next one have no value."""
    panel = HeldPanel(
        high=np.array([11.0, 12, 20, 21, 22, 24])[:, None],
        low=np.array([10.0, 11, 19, 20, 21, 20])[:, None],
        close=np.array([10.5, 11, 19.5, nan, 21.5, 22])[:, None],
    )
    # True ranges: none, 12 - 10.5, 20 - 11, 21 - 19.5, none, 24 - 20.
    first = (1.5 + 9.0) / 2
    second = first + (1.5 - first) / 2
    want = [nan, nan, first, second, nan, second + (4.0 - second) / 2]
    np.testing.assert_allclose(values(panel, factor.atr(2))[:, 0], want, rtol=1e-14)


def test_talib_has_the_same_numbers() -> None:
    talib = pytest.importorskip("talib", reason="install ta-lib, or the extra `test`, to compare with TA-Lib")
    rng = np.random.default_rng(3)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (400, 3)), axis=0)) * 30
    close[:, 2] = 30.0
    high, low = (close * (1 + side * rng.uniform(0, 0.03, close.shape)) for side in (1, -1))
    panel = HeldPanel(close=close, high=high, low=low)
    assert set(values(panel, factor.rsi(14))[14:, 2]) == {0.0}
    for a in range(3):
        x = np.ascontiguousarray(close[:, a])
        for n in (2, 14, 100):
            same(values(panel, factor.rsi(n))[:, a], talib.RSI(x, n), rtol=1e-9)
        for fast, slow in ((2, 3), (12, 26), (50, 200)):
            want = talib.EMA(x, fast) / talib.EMA(x, slow) - 1
            same(values(panel, factor.ema_ratio(fast, slow))[:, a], want, atol=1e-14)
            want = talib.SMA(x, fast) / talib.SMA(x, slow) - 1
            same(values(panel, factor.sma_ratio(fast, slow))[:, a], want, rtol=1e-8, atol=1e-13)
        prices = [np.ascontiguousarray(field[:, a]) for field in (high, low, close)]
        for n in (1, 2, 14, 50):
            same(values(panel, factor.atr(n))[:, a], talib.ATR(*prices, n), rtol=1e-9)
        for n in (2, 21):
            want = talib.SMA(prices[0], n)
            same(values(panel, factor.mean("high", n))[:, a], want, rtol=1e-9)
        want = talib.ROCP(x, 10)
        same(values(panel, factor.momentum(10))[:, a], want, atol=1e-15)


def test_a_jump_that_has_left_the_window_leaves_no_trace() -> None:
    """Sums that subtract what leaves would keep its rounding for ever."""
    x = np.ones((60, 1))
    x[20:40, 0] = np.linspace(1, 2, 20)
    calm = values(HeldPanel(close=x), factor.zscore("close", 8))
    x = x.copy()
    x[5] = 1e12
    wild = values(HeldPanel(close=x), factor.zscore("close", 8))
    np.testing.assert_array_equal(wild[13:], calm[13:])
    assert np.isfinite(calm).sum() > 20
