"""Factors as specifications: what they take, what they refuse, what they say of themselves."""

from typing import Annotated, get_args

import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError
from backtest_farm.factors.spec import FACTORS, AnyFactor, Expr, Factor, Momentum, Zscore
from backtest_farm.spec import ByTag, Spec, axis, has_axes

momentum = bf.factor.momentum


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
        (0, 0, "lookback: 0 is not allowed: give a whole number from 1 to"),
        (5, -1, "skip: -1 is not allowed"),
    ],
)
def test_refuses(lookback, skip, says):
    with pytest.raises(InputError) as caught:
        momentum(lookback, skip)
    assert says in str(caught.value)


def test_which_pairs_of_axes_are_trials_is_for_the_sweep_to_say():
    assert momentum(axis([10, 63]), axis([0, 21])).warmup == 63


def test_every_factor_is_offered_by_its_name():
    assert list(FACTORS.values()) == list(get_args(AnyFactor))
    assert sorted(FACTORS) == bf.factor.__all__
    for name, model in FACTORS.items():
        assert getattr(bf.factor, name) is model
        assert name in dir(bf.factor)
        assert "Attributes" in model.__doc__


def test_a_misspelt_factor_gets_the_nearest_name():
    with pytest.raises(
        AttributeError, match=r"there is no factor 'momentm': did you mean 'momentum'\? \(valid: atr, beta, "
    ):
        _ = bf.factor.momentm
    assert not hasattr(bf.factor, "momentm")


def test_parameters_go_in_order_or_by_name():
    assert momentum(252, 21) == momentum(lookback=252, skip=21) == momentum(252, skip=21)
    assert bf.factor.zscore("close", 60) == Zscore(field="close", lookback=60)
    assert bf.factor.beta(60, "index").context == "index"
    with pytest.raises(InputError, match="Momentum takes lookback, skip: 3 values are too many"):
        momentum(252, 21, 5)
    with pytest.raises(InputError, match="lookback: is missing"):
        momentum()


@pytest.mark.parametrize(
    ("chosen", "fields", "contexts", "warmup"),
    [
        (bf.factor.reversal(axis([3, 9])), ("close",), (), 9),
        (bf.factor.volatility(20), ("close",), (), 20),
        (bf.factor.sma_ratio(5, axis([20, 50]), field=axis(["close", "score"])), ("close", "score"), (), 49),
        (bf.factor.ema_ratio(5, 20), ("close",), (), 19),
        (bf.factor.rsi(), ("close",), (), 14),
        (bf.factor.beta(60, axis(["spx", "vix"])), ("close",), ("spx", "vix"), 60),
        (bf.factor.mean(axis(["volume", "score"]), axis([1, 21])), ("volume", "score"), (), 20),
        (bf.factor.atr(axis([7, 14])), ("high", "low", "close"), (), 14),
        (bf.factor.zscore("volume"), ("volume",), (), 0),
        (bf.factor.zscore("volume", axis([None, 60])), ("volume",), (), 59),
        (bf.factor.rank(axis(["volume", "score"])), ("volume", "score"), (), 0),
        (bf.factor.field("score"), ("score",), (), 0),
    ],
)
def test_what_a_factor_reads_and_how_far_back(chosen, fields, contexts, warmup):
    assert (chosen.fields, chosen.contexts, chosen.warmup) == (fields, contexts, warmup)
    assert chosen.versions == {}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: bf.factor.sma_ratio(20, 20), "slow 20 <= fast 20: sma_ratio = SMA(fast) / SMA(slow) - 1"),
        (lambda: bf.factor.ema_ratio(30, 20), "slow 20 <= fast 30: ema"),
        (lambda: bf.factor.volatility(1), "lookback: 1 is not allowed: give a whole number from 2 to"),
        (lambda: bf.factor.rsi("14"), "lookback: '14' is not allowed: give a whole number from 2"),
        (lambda: bf.factor.rank(""), "field: '' is not allowed"),
        (lambda: bf.factor.mean(lookback=5), "field: is missing"),
        (lambda: bf.factor.mean("volume", 0), "lookback: 0 is not allowed: give a whole number from 1 to"),
        (lambda: bf.factor.atr(0), "lookback: 0 is not allowed: give a whole number from 1 to"),
        (lambda: bf.factor.atr(14, "high"), "Atr takes lookback: 2 values are too many"),
        (lambda: bf.factor.zscore("x", 1), "lookback: 1 is not allowed"),
        (lambda: bf.factor.momentum(5, look=3), "look: unknown key: did you mean 'lookback'?"),
        (lambda: bf.factor.expr("close", lookback=axis([1, 2])), "lookback: an axis cannot stand here"),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be_computed(make, says):
    with pytest.raises(InputError) as caught:
        make()
    assert says in str(caught.value)


class Holder(Spec):
    signal: Annotated[AnyFactor, ByTag("factor")]


def read(data) -> Factor:
    return Holder.from_file({"signal": data}, "sweep.yaml").signal


def test_factors_are_told_apart_by_name_in_a_file():
    assert read({"factor": "rsi", "lookback": 7}) == bf.factor.rsi(7)
    assert read({"factor": "expr", "sql": "close / open - 1"}) == Expr(sql="close / open - 1")
    grid = read({"factor": "sma_ratio", "fast": [5, 10], "slow": 50})
    assert has_axes(grid) == ["fast"]
    assert grid.spec_stage == "factor"
    texts = read({"factor": "expr", "sql": ["close", "close / open"]})
    assert texts.fields == ("close", "open")
    for chosen in (bf.factor.momentum(axis([5, 10]), 2), bf.factor.zscore("volume"), texts):
        assert read(chosen.model_dump(mode="json")) == chosen


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"factor": "momentm", "lookback": 5}, "factor: 'momentm' is not allowed: did you mean 'momentum'?"),
        ({"lookback": 5}, "signal.factor: is missing: give"),
        ({"factor": "rsi", "loockback": 5}, "signal.loockback: unknown key: did you mean 'lookback'?"),
        ({"factor": "expr", "sql": "close +"}, "signal.sql: 'close +' cannot be read as an expression: "),
        ({"factor": "expr", "sql": ["close", "1"]}, "signal.sql[1]: '1' must read fields by their names"),
        ({"factor": "sma_ratio", "fast": 9, "slow": 3}, "signal: slow 3 <= fast 9: sma_ratio"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_with_its_place(data, says):
    with pytest.raises(InputError) as caught:
        read(data)
    assert says in str(caught.value)
