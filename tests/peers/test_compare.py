"""What judges the other engines must notice the smallest of faults; needs none of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest_farm.spec import PROFILES
from tests.peers.compare import Account, difference
from tests.peers.environments import PACKAGES

ACCOUNT = Account(
    bars=np.array([1, 1, 4]),
    assets=np.array([0, 2, 0]),
    quantities=np.array([10.0, -3.5, -4.0]),
    prices=np.array([20.0, 7.25, 21.0]),
    equity=np.array([1000.0, 1001.0, 999.0, 1002.0, 1003.0]),
)


def moved(name: str, at: int, factor: float) -> Account:
    values = getattr(ACCOUNT, name).copy()
    values[at] *= factor
    return replace(ACCOUNT, **{name: values})


def test_an_account_equals_itself_in_any_order_and_in_parts() -> None:
    assert difference(ACCOUNT, ACCOUNT).faults() == []
    other = replace(
        ACCOUNT,
        bars=np.array([4, 1, 1, 1]),
        assets=np.array([0, 0, 2, 0]),
        quantities=np.array([-4.0, 6.0, -3.5, 4.0]),
        prices=np.array([21.0, 20.0, 7.25, 20.0]),
    )
    assert difference(ACCOUNT, other).faults() == []


def test_a_small_fault_in_one_of_several_fills_is_noticed() -> None:
    parts = {"bars": np.array([1, 1]), "assets": np.array([0, 0]), "quantities": np.array([-900.0, -1.0])}
    whole = replace(ACCOUNT, **parts, prices=np.array([20.0, 20.0]))
    for prices in ([20.0, 20.0 * (1.0 + 1e-8)], [20.0 * (1.0 - 1e-8), 20.0]):
        (fault,) = difference(whole, replace(whole, prices=np.array(prices))).faults()
        assert fault.startswith("prices")


@pytest.mark.parametrize(
    ("name", "at", "factor", "words"),
    [
        ("prices", 1, 1.0 + 1e-8, "prices"),
        ("prices", 2, 1.0 - 1e-8, "prices"),
        ("quantities", 0, 1.0 + 2e-6, "quantities"),
        ("equity", 3, 1.0 + 2e-9, "equity"),
        ("equity", 3, np.nan, "equity"),
        ("prices", 0, np.nan, "prices"),
    ],
)
def test_a_small_fault_is_noticed(name, at, factor, words) -> None:
    (fault,) = difference(ACCOUNT, moved(name, at, factor)).faults()
    assert fault.startswith(words)


def test_a_fill_on_another_bar_is_noticed() -> None:
    late = replace(ACCOUNT, bars=np.array([1, 2, 4]))
    assert difference(ACCOUNT, late).faults() == ["2 fills on other bars"]


def test_each_profile_names_an_engine_that_it_is_compared_with() -> None:
    assert {*PROFILES} - {"default"} == {*PACKAGES}
