"""What the factors are: TA-Lib's numbers and plain loops, which share nothing with the package."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest

from backtest_farm import factor
from backtest_farm.factors.fields import factor_field
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


def test_talib_has_the_same_numbers() -> None:
    talib = pytest.importorskip("talib", reason="install ta-lib, or the extra `test`, to compare with TA-Lib")
    rng = np.random.default_rng(3)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (400, 3)), axis=0)) * 30
    close[:, 2] = 30.0
    panel = HeldPanel(close=close)
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
