"""Formulas about choosing the best of many, held against their source and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backtest_farm.analysis import deflated_sharpe, expected_max_sharpe


def test_the_worked_example_of_the_paper() -> None:
    """Annual Sharpe ratio 2.5 over 5 years, the best of 100 with variance 1/2: 0.1132 a bar, and 0.9004."""
    luck = expected_max_sharpe(100, math.sqrt(0.5))
    assert luck / math.sqrt(250) == pytest.approx(0.1132, abs=5e-5)
    chance = deflated_sharpe(2.5, luck, n_bars=1250, bars_per_year=250, skew=-3.0, kurtosis=7.0)
    assert chance == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize("n_trials", [10, 1000])
def test_the_luckiest_of_many_draws_shows_about_this(n_trials: int) -> None:
    draws = np.random.default_rng(1).normal(0.0, 0.3, (2000, n_trials)).max(axis=1)
    # The formula is asymptotic: 2 % off at 10 trials, less beyond.
    assert expected_max_sharpe(n_trials, 0.3) == pytest.approx(draws.mean(), rel=0.03)


@pytest.mark.parametrize(("n_trials", "spread"), [(1, 0.3), (0, 0.3), (10, math.nan)])
def test_what_cannot_be_said_is_nan(n_trials: int, spread: float) -> None:
    assert math.isnan(expected_max_sharpe(n_trials, spread))


def test_a_ratio_equal_to_the_benchmark_is_a_coin_toss() -> None:
    assert deflated_sharpe(1.0, 1.0, n_bars=500, bars_per_year=252, skew=0.1, kurtosis=2.0) == 0.5
    assert math.isnan(deflated_sharpe(1.0, 1.0, n_bars=500, bars_per_year=252, skew=math.nan, kurtosis=2.0))
