"""Declarative strategies."""

import pytest

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import momentum
from backtest_farm.spec import axis, has_axes
from backtest_farm.strategy import TopN


def test_defaults_and_what_it_says_of_itself():
    block = TopN(signal=momentum(252, 21), n=25)
    assert (block.weight, block.rebalance) == ("equal", 1)
    assert block.fields == ("close",)
    assert block.warmup == 252


def test_weight_is_equal_or_a_number_even_on_one_axis():
    block = TopN(signal=momentum(5), n=2, weight=axis(["equal", 0.1, 1]))
    assert block.weight.values == ("equal", 0.1, 1.0)
    assert has_axes(block) == ["weight"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n": 0}, "n: 0 is not allowed: give a whole number from 1 to"),
        ({"n": 2.5}, "n: 2.5 is not allowed"),
        ({"rebalance": "month"}, "rebalance: 'month' is not allowed: give a whole number from 1 to"),
        ({"weight": 0}, "weight: 0 is not allowed: give 'equal' or a finite number > 0"),
        (
            {"weight": "equl"},
            "weight: 'equl' is not allowed: give 'equal' or a finite number > 0; did you mean 'equal'?",
        ),
        ({"weight": True}, "weight: True is not allowed"),
        ({"weight": float("inf")}, "weight: inf is not allowed"),
        (
            {"signal": "momentum"},
            "signal: 'momentum' is not allowed: give a mapping with factor: momentum",
        ),
        (
            {"signal": {"factor": "momentun", "lookback": 5}},
            "signal.factor: 'momentun' is not allowed: did you mean 'momentum'?",
        ),
        ({"signal": {"lookback": 5}}, "signal.factor: is missing: give 'momentum'"),
        (
            {"signal": {"factor": ["momentum"], "lookback": 5}},
            "signal.factor: \"['momentum']\" is not allowed: did you mean 'momentum'?",
        ),
        ({"signal": axis([momentum(5)])}, "signal: alternatives cannot stand here"),
        ({"signal": [momentum(5)]}, "is not allowed: give a mapping with factor: momentum"),
        ({"kind": axis(["TopN"])}, "kind: an axis cannot stand here"),
        ({"rebalence": 5}, "rebalence: unknown key: did you mean 'rebalance'?"),
    ],
)
def test_refuses(changes, says):
    with pytest.raises(InputError) as caught:
        TopN(**{"signal": momentum(5), "n": 2, **changes})
    assert says in str(caught.value)


def test_missing_parts_are_named_with_what_they_take():
    with pytest.raises(InputError) as caught:
        TopN()
    assert caught.value.faults == (
        "signal: is missing: give a mapping with factor: momentum",
        "n: is missing: give a whole number from 1 to 1,000,000,000",
    )
