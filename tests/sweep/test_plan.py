"""Plans: numbering, atoms, what is shared, and the round trip to a worker."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import momentum
from backtest_farm.spec import Costs, Limits, Window, axis, has_axes
from backtest_farm.strategy import TopN
from backtest_farm.sweep import Plan, SweepSpec
from backtest_farm.sweep.atoms import ATOM_TRIALS

EPOCH = 1


def planned(lookback=63, skip=0, n=10, weight="equal", rebalance=1, costs=None, **rest):
    strategy = TopN(signal=momentum(lookback, skip), n=n, weight=weight, rebalance=rebalance)
    spec = SweepSpec.from_python(panel="/panels/us", strategy=strategy, costs=costs or Costs(), **rest)
    return Plan(spec, "data", "code", EPOCH)


def lists(values, max_size):
    return st.lists(values, min_size=1, max_size=max_size, unique=True).map(axis)


plans = st.builds(
    planned,
    lookback=lists(st.integers(100, 400), 4),
    skip=st.one_of(st.just(0), lists(st.integers(0, 99), 3)),
    n=lists(st.integers(1, 900), 30),
    weight=st.one_of(st.just("equal"), st.just(axis(["equal", 0.1, 2]))),
    rebalance=st.one_of(st.just(5), lists(st.integers(1, 63), 12)),
    costs=st.builds(Costs, commission_bps=st.one_of(st.just(0), lists(st.floats(0, 50), 3))),
    sizing=st.sampled_from(["decision", axis(["decision", "fill"])]),
)


@settings(max_examples=60, deadline=None)
@given(plan=plans, data=st.data())
def test_numbers_and_points_are_one_to_one(plan, data):
    number = data.draw(st.integers(0, plan.n_trials - 1))
    point = plan.parameters(number)
    assert tuple(point) == plan.columns
    assert plan.number(point) == number
    trial = plan.trial(number)
    assert has_axes(trial) == []
    for column, value in point.items():
        found = trial if column in ("sizing",) or column.startswith("costs.") else trial.strategy
        for name in column.split("."):
            found = getattr(found, name)
        assert found == value


@settings(max_examples=60, deadline=None)
@given(plan=plans)
def test_atoms_cover_all_trials_once_and_never_mix_signals(plan):
    following = 0
    for index in range(plan.n_atoms):
        atom = plan.atom(index)
        assert atom.index == index
        assert atom.first == following
        assert 0 < atom.stop - atom.first <= ATOM_TRIALS
        following = atom.stop
        assert {plan.atom_of(number) for number in (atom.first, atom.stop - 1)} == {index}
        for number in {atom.first, (atom.first + atom.stop) // 2, atom.stop - 1}:
            assert plan.trial(number).strategy.signal == atom.signal
            assert {
                name: values[number - atom.first] for name, values in atom.columns.items()
            } == plan.parameters(number)
    assert following == plan.n_trials


@settings(max_examples=60, deadline=None)
@given(plan=plans)
def test_round_trip_through_json(plan):
    again = Plan.from_json(plan.frozen_json())
    assert again == plan
    assert again.frozen_json() == plan.frozen_json()
    assert again.sweep_id == plan.sweep_id
    last = plan.n_trials - 1
    assert again.key(last) == plan.key(last)


def test_stages_order_the_axes_with_factors_slowest():
    plan = planned(
        axis([63, 126]),
        axis([0, 21]),
        axis([5, 10]),
        axis(["equal", 0.2]),
        axis([1, 5]),
        Costs(slippage_bps=axis([0, 1]), commission_bps=axis([0, 10])),
        limits=Limits(max_wait=axis([1, 5])),
        cash=axis([1e5, 1e6]),
        sizing=axis(["decision", "fill"]),
        fill=axis(["next_open"]),
    )
    assert plan.columns == (
        "signal.lookback",
        "signal.skip",
        "n",
        "weight",
        "rebalance",
        "costs.commission_bps",
        "costs.slippage_bps",
        "fill",
        "sizing",
        "cash",
        "limits.max_wait",
    )
    assert plan.n_trials == 1024
    assert plan.parameters(0)["limits.max_wait"] == 1
    assert plan.parameters(1)["limits.max_wait"] == 5
    assert plan.parameters(1023) == {axis.column: axis.values[-1] for axis in plan.axes}
    assert plan.reads["factor"] == plan.reads["rank"] == ("signal.lookback", "signal.skip")
    assert plan.reads["portfolio"] == plan.columns


def test_atoms_are_cut_at_256_within_a_signal():
    plan = planned(lookback=axis([63, 126, 252]), n=axis(range(1, 301)))
    assert plan.n_atoms == 6
    assert [(a.first, a.stop, a.signal.lookback) for a in map(plan.atom, range(6))] == [
        (0, 256, 63),
        (256, 300, 63),
        (300, 556, 126),
        (556, 600, 126),
        (600, 856, 252),
        (856, 900, 252),
    ]


def test_an_atom_gives_every_parameter_for_each_trial():
    atom = planned(n=axis([5, 10]), sizing=axis(["decision", "fill"]), cash=7).atom(0)
    assert atom.values("n") == [5, 5, 10, 10]
    assert atom.values("sizing") == ["decision", "fill", "decision", "fill"]
    assert atom.values("cash") == [7.0] * 4
    assert atom.values("costs.half_spread_bps") == [0.0] * 4
    assert atom.values("rebalance") == [1] * 4
    assert atom.values("signal.lookback") == [63] * 4
    assert has_axes(atom.base) == []
    assert atom.base.strategy.n == 5


def test_a_sweep_without_axes_is_one_trial():
    plan = planned()
    assert (plan.n_trials, plan.n_atoms, plan.columns, plan.parameters(0)) == (1, 1, (), {})
    assert plan.keys(0, 1) == [plan.key(0)]
    assert (plan.atom(0).first, plan.atom(0).stop) == (0, 1)


def test_estimate_counts_what_is_shared():
    """20 look-backs x 10 sizes x 5 schedules x 10 cost levels: 20 factors, 20 rankings, 10,000 passes."""
    plan = planned(
        lookback=axis(range(20, 220, 10)),
        n=axis(range(1, 11)),
        rebalance=axis([1, 5, 10, 21, 63]),
        costs=Costs(commission_bps=axis(range(10))),
    )
    counts = plan.estimate(n_bars=2520)
    assert counts["trials"] == counts["rows"] == counts["portfolio_passes"] == 10_000
    assert counts["unique_factors"] == counts["unique_rankings"] == counts["factor_builds"] == 20
    assert counts["atoms"] == 40
    assert counts["bar_steps"] == 25_200_000
    assert counts["bytes"] > 10_000 * 800


def test_huge_plans_cost_nothing_to_make():
    spec = planned(n=axis(range(1, 100_001)), lookback=axis(range(1, 101))).spec
    plan = Plan(spec, "data", "code", EPOCH)
    assert plan.n_trials == 10_000_000
    assert plan.atom(plan.n_atoms - 1).stop == 10_000_000


@pytest.mark.parametrize("call", ["trial", "parameters", "key", "atom", "atom_of"])
@pytest.mark.parametrize("number", [-1, 4])
def test_numbers_outside_the_sweep_are_refused(call, number):
    plan = planned(lookback=axis([1, 2, 3, 4]))
    with pytest.raises(InputError, match=f"{number} is not in this sweep: its .*s are 0 to 3"):
        getattr(plan, call)(number)


def test_points_outside_the_sweep_are_refused():
    plan = planned(n=axis([1, 5]), limits=Limits(max_wait=axis([2, 3])))
    assert plan.number({"n": 5.0, "limits.max_wait": 2}) == 2
    with pytest.raises(InputError) as caught:
        plan.number({"n": True, "maxwait": 3})
    assert caught.value.faults == (
        "maxwait is not an axis of this sweep did you mean 'limits.max_wait'? (valid: limits.max_wait, n)",
        "n: True does not stand on its axis",
        "limits.max_wait: None does not stand on its axis",
    )


def test_frozen_json_carries_the_panel_but_the_digest_does_not():
    plan = planned(n=axis([1, 5]), window=Window(start="2015-01-02", end="2016-01-04T10:00"))
    located = Plan(plan.spec, "data", "code", EPOCH, panel_ref={"snapshot": "s1", "bars": [0, 100]})
    assert located.sweep_id == plan.sweep_id
    frozen = json.loads(located.frozen_json())
    assert frozen["sweep"]["panel"] == "/panels/us"
    assert frozen["panel_ref"] == {"snapshot": "s1", "bars": [0, 100]}
    assert Plan.from_json(located.frozen_json()) == located


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frozen: frozen.update(format=2), "format 2, but this version reads 1"),
        (lambda frozen: frozen.pop("data_digest"), "no frozen sweep: KeyError"),
        (lambda frozen: frozen["sweep"].update(cash=5), "it was changed, or written by another version"),
        (lambda frozen: frozen.update(result_epoch=7), "it was changed, or written by another version"),
        (lambda frozen: frozen["sweep"].update(cash="5"), "frozen sweep is not valid"),
    ],
)
def test_changed_json_is_refused(change, says):
    frozen = json.loads(planned().frozen_json())
    change(frozen)
    with pytest.raises(InputError, match=says):
        Plan.from_json(json.dumps(frozen))


@pytest.mark.parametrize("text", ["", "[]", "{", "5", '{"format": 1}'])
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match="no frozen sweep"):
        Plan.from_json(text)


def test_no_parameter_of_a_strategy_shares_a_column_with_the_sweep():
    assert not set(TopN.model_fields) & set(SweepSpec.model_fields)
