"""The momentum factor as a specification."""

import time

import pytest

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import Momentum, momentum
from backtest_farm.spec import axis


def test_constructor_and_what_it_says_of_itself():
    factor = momentum(252, skip=21)
    assert factor == Momentum(lookback=252, skip=21)
    assert factor.fields == ("close",)
    assert factor.warmup == 252
    assert momentum(axis([63, 252, 126])).warmup == 252
    assert momentum(5).skip == 0


@pytest.mark.parametrize(
    ("lookback", "skip", "says"),
    [
        (21, 21, "lookback 21 <= skip 21: momentum = "),
        (axis([10, 63]), 21, "1 of 2 combinations have lookback 10 <= skip 21: momentum"),
        (
            axis([63, 10, 5]),
            axis([5, 0, 21]),
            "3 of 9 combinations have lookback 10 <= skip 21, lookback 5 <= skip 5, lookback 5 <= skip 21: m",
        ),
        (
            axis([1, 2]),
            axis([3, 4, 5]),
            "6 of 6 combinations have lookback 1 <= skip 3, lookback 1 <= skip 4, lookback 1 <= skip 5, ...",
        ),
        (0, 0, "lookback: 0 is not allowed: give a whole number from 1 to"),
        (5, -1, "skip: -1 is not allowed"),
    ],
)
def test_refuses(lookback, skip, says):
    with pytest.raises(InputError) as caught:
        momentum(lookback, skip)
    assert says in str(caught.value)


def test_crossed_axes_are_counted_without_multiplying_them_out():
    began = time.perf_counter()
    with pytest.raises(InputError, match="5,000,050,000 of 10,000,000,000 combinations"):
        momentum(axis(range(1, 100_001)), axis(range(1, 100_001)))
    assert time.perf_counter() - began < 2
