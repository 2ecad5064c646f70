"""Keys and digests: equal for what means the same, different for anything that matters."""

import time

import numpy as np
import pytest
from hypothesis import given, settings

from backtest_farm.factors.spec import momentum
from backtest_farm.spec import Costs, Keep, Window, axis
from backtest_farm.strategy import TopN
from backtest_farm.sweep import Plan, SweepSpec, load_sweep
from tests.sweep.test_plan import planned, plans

TEXT = """\
panel: us
strategy: {kind: TopN, signal: {factor: momentum, lookback: [63, 126], skip: 21}, n: [10, 25]}
costs: {commission_bps: [0, 10]}
cash: 5000
"""

SAME = {
    "order of keys": """\
cash: 5000
costs: {commission_bps: [0, 10]}
strategy: {n: [10, 25], signal: {skip: 21, lookback: [63, 126], factor: momentum}, kind: TopN}
panel: us
""",
    "comments and layout": "# hello\n" + TEXT.replace("cash: 5000", "cash:    5000   # a little"),
    "whole floats": TEXT.replace("[10, 25]", "[10.0, 2.5e1]").replace("5000", "5e3"),
    "defaults written out": TEXT + "limits: {max_wait: 5}\nsizing: decision\nprofile: default\nwindow: {}\n",
    "another panel path": TEXT.replace("panel: us", "panel: /other/us"),
    "other curves kept": TEXT + "keep: {equity: {top: 3, by: cagr}}\n",
}

DIFFERENT = {
    "a value": TEXT.replace("126", "127"),
    "the order of values": TEXT.replace("[10, 25]", "[25, 10]"),
    "one value more": TEXT.replace("[10, 25]", "[10, 25, 50]"),
    "an axis of one value": TEXT.replace("cash: 5000", "cash: [5000]"),
    "cash": TEXT.replace("5000", "5000.5"),
    "weight": TEXT.replace("n: [10, 25]", "n: [10, 25], weight: 0.1"),
    "rebalance": TEXT.replace("n: [10, 25]", "n: [10, 25], rebalance: 2"),
    "skip": TEXT.replace("21", "20"),
    "half spread": TEXT.replace("costs: {", "costs: {half_spread_bps: 1, "),
    "window": TEXT + "window: {start: 2015-01-02}\n",
    "sizing": TEXT + "sizing: fill\n",
    "max_wait": TEXT + "limits: {max_wait: 6}\n",
}


def plan_of(folder, text, data="d", code="c", epoch=1):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return Plan(load_sweep(path), data, code, epoch)


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_has_one_digest(tmp_path, name):
    one, other = plan_of(tmp_path, TEXT), plan_of(tmp_path, SAME[name])
    assert one.sweep_id == other.sweep_id
    assert one.keys(0, 8) == other.keys(0, 8)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_matters_changes_the_digest(tmp_path, name):
    assert plan_of(tmp_path, TEXT).sweep_id != plan_of(tmp_path, DIFFERENT[name]).sweep_id


@pytest.mark.parametrize(
    "name", ["cash", "weight", "rebalance", "skip", "half spread", "window", "sizing", "max_wait"]
)
def test_what_matters_to_a_trial_changes_all_keys(tmp_path, name):
    one, other = plan_of(tmp_path, TEXT), plan_of(tmp_path, DIFFERENT[name])
    assert not {*one.keys(0, 8)} & {*other.keys(0, 8)}


@pytest.mark.parametrize("other", [("D", "c", 1), ("d", "C", 1), ("d", "c", 2)])
def test_data_code_and_epoch_change_digest_and_keys(tmp_path, other):
    one, two = plan_of(tmp_path, TEXT), plan_of(tmp_path, TEXT, *other)
    assert one.sweep_id != two.sweep_id
    assert not {*one.keys(0, 8)} & {*two.keys(0, 8)}


def test_a_trial_has_one_key_in_whatever_sweep_it_stands(tmp_path):
    one = plan_of(tmp_path, TEXT)
    wider = plan_of(
        tmp_path, TEXT.replace("[63, 126]", "[42, 126, 63]").replace("cash: 5000", "cash: [1, 5000]")
    )
    assert {*one.keys(0, one.n_trials)} < {*wider.keys(0, wider.n_trials)}
    number = wider.number({**one.parameters(3), "cash": 5000})
    assert wider.key(number) == one.key(3)


def test_numpy_and_python_numbers_have_one_key():
    spec = {"weight": np.float64(0.5), "n": np.int64(5), "lookback": np.int16(63)}
    assert planned(**spec).key(0) == planned(weight=0.5, n=5.0, lookback=63).key(0)


@settings(max_examples=40, deadline=None)
@given(plan=plans)
def test_bulk_keys_equal_single_keys_and_are_unique(plan):
    keys = plan.keys(0, plan.n_trials)
    assert len({*keys}) == plan.n_trials
    step = max(1, plan.n_trials // 23)
    for number in {*range(0, plan.n_trials, step), plan.n_trials - 1}:
        assert keys[number] == plan.key(number)
    middle = plan.n_trials // 2
    assert plan.keys(middle, plan.n_trials) == keys[middle:]


def test_bulk_keys_are_fast():
    plan = planned(
        lookback=axis(range(100, 300)),
        n=axis(range(1, 51)),
        costs=Costs(commission_bps=axis([0.1 * i for i in range(20)])),
    )
    best = min(_seconds(plan, 20_000) for _ in range(3))
    assert best < 20_000 / 50_000


def _seconds(plan, count):
    began = time.perf_counter()
    plan.keys(0, count)
    return time.perf_counter() - began


def test_golden_digests():
    """Fixed for good: a change orphans all stored rows."""
    spec = SweepSpec.from_python(
        panel="anywhere",
        strategy=TopN(
            signal=momentum(axis([63, 252]), 21), n=axis([10, 25]), weight=axis(["equal", 0.125]), rebalance=5
        ),
        costs=Costs(commission_bps=axis([0, 2.5])),
        window=Window(start="2015-01-02", end="2017-10-31"),
        keep=Keep(),
    )
    plan = Plan(spec, "data", "code", 1)
    assert plan.sweep_id == "bf0d599a317a4aa5b6a1a63e1507b349"
    assert plan.key(0) == "e0373c1b9dcf25d6bcd5fd820e175fba"
    assert plan.keys(13, 14) == ["b8b5f8982a57921b7b0ccfab46e23824"]
