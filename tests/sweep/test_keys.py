"""Keys and digests: equal for what means the same, different for anything that matters."""

import time

import numpy as np
import pytest
from hypothesis import given, settings

from backtest_farm.factors.spec import momentum
from backtest_farm.spec import Costs, Keep, Universe, Window, axis
from backtest_farm.strategy import TopN
from backtest_farm.sweep import Plan, PlannedUniverse, SweepSpec, load_sweep
from tests.sweep.cases import key_of, plan_of, planned, plans

TEXT = """\
panel: us
strategy: {kind: TopN, signal: {factor: momentum, lookback: [63, 126], skip: 21}, n: [10, 25]}
costs: {commission_bps: [0, 10]}
cash: 5000
"""

SAME = {
    "a range": TEXT.replace("[10, 25]", "{start: 10, stop: 25, step: 15}"),
    "a universe by name": TEXT + "universes: all\n",
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
    "a condition": TEXT + "where: n > 0\n",
    "another universe": TEXT + "universes: [all, sp500]\n",
    "a zip": TEXT + "zip: [n, costs.commission_bps]\n",
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


def of_text(folder, text, **changes):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return plan_of(load_sweep(path), **changes)


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_has_one_digest(tmp_path, name):
    one, other = of_text(tmp_path, TEXT), of_text(tmp_path, SAME[name])
    assert one.sweep_id == other.sweep_id
    assert one.keys(range(8)) == other.keys(range(8))


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_matters_changes_the_digest(tmp_path, name):
    assert of_text(tmp_path, TEXT).sweep_id != of_text(tmp_path, DIFFERENT[name]).sweep_id


@pytest.mark.parametrize(
    "name", ["cash", "weight", "rebalance", "skip", "half spread", "window", "sizing", "max_wait"]
)
def test_what_matters_to_a_trial_changes_all_keys(tmp_path, name):
    one, other = of_text(tmp_path, TEXT), of_text(tmp_path, DIFFERENT[name])
    assert not {*one.keys(range(8))} & {*other.keys(range(8))}


@pytest.mark.parametrize(
    "other",
    [
        {"data_digests": {'[["close"],[]]': "D"}},
        {"code_digest": "C"},
        {"result_epoch": 2},
        {"universes": ("eu",)},
    ],
)
def test_data_code_epoch_and_members_change_digest_and_keys(tmp_path, other):
    one, two = of_text(tmp_path, TEXT), of_text(tmp_path, TEXT, **other)
    assert one.sweep_id != two.sweep_id
    assert not {*one.keys(range(8))} & {*two.keys(range(8))}


def test_a_trial_has_one_key_in_whatever_sweep_it_stands(tmp_path):
    one = of_text(tmp_path, TEXT)
    wider = of_text(
        tmp_path, TEXT.replace("[63, 126]", "[42, 126, 63]").replace("cash: 5000", "cash: [1, 5000]")
    )
    assert {*one.keys(range(one.n_trials))} < {*wider.keys(range(wider.n_trials))}
    number = wider.number({**one.parameters(3), "cash": 5000})
    assert wider.key(number) == one.key(3)


LISTS = {
    "alternatives": "signal: [{factor: rsi}, {factor: momentum, lookback: [63, 126], skip: 21}]",
    "a zip": "signal: {factor: momentum, lookback: [63, 126], skip: [21, 21]}",
    "strategies": "signal: {factor: momentum, lookback: [63, 126], skip: 21}",
}


@pytest.mark.parametrize("name", LISTS)
def test_equal_trials_have_one_key_however_the_sweep_says_them(tmp_path, name):
    one = of_text(tmp_path, TEXT)
    strategy = f"{{kind: TopN, {LISTS[name]}, n: [10, 25]}}"
    head = "panel: us\ncash: 5000\ncosts: {commission_bps: [0, 10]}\n"
    tail = "zip: [signal.lookback, signal.skip]\n" if name == "a zip" else ""
    if name == "strategies":
        strategy = f"[{{kind: Weights, field: w}}, {strategy}]"
    other = of_text(
        tmp_path,
        f"{head}strategy: {strategy}\n{tail}where: n > 10\nuniverses: [x, all]\n",
        universes=("x", "all"),
    )
    mine = {one.key(number): one.trial(number).strategy.n for number in range(8)}
    theirs = {other.key(number) for number in other.space.numbers.tolist()}
    assert {mine[key] for key in mine if key in theirs} == {25}
    assert len({*mine} & theirs) == 4


def test_numpy_and_python_numbers_have_one_key():
    spec = {"weight": np.float64(0.5), "n": np.int64(5), "lookback": np.int16(63)}
    assert planned(**spec).key(0) == planned(weight=0.5, n=5.0, lookback=63).key(0)


@settings(max_examples=25, deadline=None)
@given(plan=plans)
def test_bulk_keys_equal_single_keys_and_are_unique(plan):
    keys = plan.keys(range(plan.n_trials))
    assert len({*keys}) == plan.n_trials - plan.estimate(1)["duplicates"]
    step = max(1, plan.n_trials // 13)
    for number in {*range(0, plan.n_trials, step), plan.n_trials - 1}:
        assert keys[number] == plan.key(number) == key_of(plan, number)
    middle = plan.n_trials // 2
    assert plan.keys(range(middle, plan.n_trials)) == keys[middle:]


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
    plan.keys(range(count))
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
    universe = PlannedUniverse(Universe(of="sp500"), "members")
    plan = Plan(spec, (universe,), {'[["close"],[]]': "data"}, "code", 1)
    assert plan.sweep_id == "8b9dee24c93ac7dd52fa5fb3916fd234"
    assert plan.key(0) == "61dbbb5747b5b0473b360b74faaf96ab"
    assert plan.keys([13]) == ["1f17fd5f9e7c8a586251397f62b92fa9"]
