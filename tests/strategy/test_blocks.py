"""Declarative strategies."""

import pytest

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import beta, momentum, rsi
from backtest_farm.spec import axis, has_axes, leaves_of
from backtest_farm.strategy import ContextFilter, CrossOver, Quantiles, TopN, Weights


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
            "signal: 'momentum' is not allowed: give a mapping with factor: atr or beta or",
        ),
        (
            {"signal": {"factor": "momentun", "lookback": 5}},
            "signal.factor: 'momentun' is not allowed: did you mean 'momentum'?",
        ),
        ({"signal": {"lookback": 5}}, "signal.factor: is missing: give 'atr' or"),
        (
            {"signal": {"factor": ["momentum"], "lookback": 5}},
            "signal.factor: \"['momentum']\" is not allowed: did you mean 'momentum'?",
        ),
        ({"signal": [momentum(5)]}, "several values are written axis([...])"),
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
    assert caught.value.faults == ("n: is missing: give a whole number from 1 to 1,000,000,000",)


def test_every_strategy_says_what_it_reads_and_from_when_on():
    vix = ContextFilter(context="vix", above=30)
    quantiles = Quantiles(signal=beta(20, "market"), quantile=0.2, filter=vix)
    assert (quantiles.fields, quantiles.contexts, quantiles.warmup) == (("close",), ("market", "vix"), 20)
    crossing = CrossOver(fast=axis([3, 5]), slow=axis([10, 20]), field="high")
    assert (crossing.fields, crossing.contexts, crossing.warmup) == (("high",), (), 19)
    assert {each.stage for each in leaves_of(crossing) if each.place[-1] in {"fast", "slow"}} == {"portfolio"}
    weights = Weights(field="mine", unit="value")
    assert (weights.fields, weights.contexts, weights.warmup) == (("mine",), (), 0)
    alternatives = TopN(signal=axis([momentum(5), rsi(14)]), n=3, filter=axis([None, vix]))
    assert alternatives.contexts == ("vix",)
    assert (alternatives.fields, alternatives.warmup) == (("close",), 14)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CrossOver(fast=20, slow=20), "fast 20 >= slow 20: the fast average needs fewer bars"),
        (lambda: ContextFilter(context="vix"), "a filter needs a level: give above or below"),
        (lambda: ContextFilter(context="vix", above=20, below=30), "above 20 < below 30: every value is on"),
        (lambda: Quantiles(signal=momentum(5), quantile=1.5), "quantile: 1.5 is not allowed"),
        (lambda: Quantiles(signal=momentum(5), quantile=0.6), "the two sides would share assets"),
        (lambda: Quantiles(signal=momentum(5), quantile=0.1, short=-1), "short: -1 is not allowed"),
        (lambda: Weights(field="w", unit="shares"), "unit: 'shares' is not allowed"),
        (lambda: TopN(signal=momentum(5), n=1, rebalance="month_ned"), "did you mean 'month_end'?"),
    ],
)
def test_wrong_strategies_are_named(make, says):
    with pytest.raises(InputError) as caught:
        make()
    assert says in str(caught.value)


def test_a_filter_may_be_on_outside_of_a_range_or_at_any_other_value():
    assert ContextFilter(context="vix", above=30, below=20).above == 30
    assert ContextFilter(context="vix", above=20, below=20).below == 20
    assert ContextFilter(context="vix", above=axis([10, 30]), below=20).below == 20
