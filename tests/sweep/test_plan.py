"""Plans: numbering, atoms, what is shared, and the round trip to a worker."""

import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import momentum, reversal, sma_ratio
from backtest_farm.spec import Costs, Limits, Universe, Window, axis, has_axes, leaves_of
from backtest_farm.strategy import ContextFilter, CrossOver, Quantiles, TopN, Weights
from backtest_farm.sweep import Plan, SweepSpec, inputs_key
from backtest_farm.sweep.digits import ATOM_TRIALS, STAGES
from tests.sweep.cases import key_of, parts_of, plan_of, planned, plans


@settings(max_examples=30, deadline=None)
@given(plan=plans, data=st.data())
def test_numbers_and_points_are_one_to_one(plan, data):
    number = data.draw(st.integers(0, plan.n_trials - 1))
    point = plan.parameters(number)
    assert tuple(point) == plan.columns
    assert plan.number(point) == number
    trial = plan.trial(number)
    assert has_axes(trial) == []
    found = {leaf.path.removeprefix("strategy."): leaf.value for leaf in leaves_of(trial)}
    found["universe"] = plan.universe(number).label
    assert point == {column: found.get(column) for column in plan.columns}


@settings(max_examples=30, deadline=None)
@given(plan=plans)
def test_what_trials_share_follows_each_other(plan):
    """Each combination of the slower stages' parameters is one run of numbers, within a strategy."""
    rows = [plan.parameters(number) for number in range(min(plan.n_points, 500))]
    stages = [plan.space.ranks[column] for column in plan.columns]
    for last in range(len(STAGES)):
        slow = [
            column
            for column, rank in zip(plan.columns, stages, strict=True)
            if rank <= last or column == "kind"
        ]
        runs = [shared for shared, _ in groupby(tuple(row[column] for column in slow) for row in rows)]
        assert len({*runs}) == len(runs)


@settings(max_examples=30, deadline=None)
@given(plan=plans)
def test_atoms_cover_all_trials_once_and_never_mix_what_is_shared(plan):
    following = 0
    for index in plan.atoms():
        atom = plan.atom(index)
        assert atom.index == index
        assert atom.numbers == tuple(range(following, following + len(atom.numbers)))
        assert 0 < len(atom.numbers) <= ATOM_TRIALS
        following += len(atom.numbers)
        first, middle, last = atom.numbers[0], atom.numbers[len(atom.numbers) // 2], atom.numbers[-1]
        assert set(plan.space.atoms_of(atom.numbers)) == {index}
        for number in {first, middle, last}:
            trial = plan.trial(number)
            assert trial.strategy.signal == atom.signal
            assert trial.strategy.filter == atom.base.strategy.filter
            assert plan.universe(number) == atom.universe
            assert {name: values[number - first] for name, values in atom.columns.items()} == plan.parameters(
                number
            )
    assert following == plan.n_trials


@settings(max_examples=30, deadline=None)
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
        universes=("us", "eu"),
    )
    assert plan.columns == (
        "signal.lookback",
        "signal.skip",
        "universe",
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
    assert plan.n_trials == 2048
    assert plan.parameters(0)["limits.max_wait"] == 1
    assert plan.parameters(1)["limits.max_wait"] == 5
    assert plan.parameters(2047) == {axis.column: axis.values[-1] for axis in plan.axes}


def test_atoms_are_cut_at_256_within_a_signal():
    plan = planned(lookback=axis([63, 126, 252]), n=axis(range(1, 301)))
    assert plan.n_atoms == 6
    assert [(a.numbers[0], a.numbers[-1], a.signal.lookback) for a in map(plan.atom, plan.atoms())] == [
        (0, 255, 63),
        (256, 299, 63),
        (300, 555, 126),
        (556, 599, 126),
        (600, 855, 252),
        (856, 899, 252),
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
    assert plan.keys([0]) == [plan.key(0)] == [key_of(plan, 0)]
    assert plan.atom(0).numbers == (0,)
    assert plan.atom(0).universe == plan.universe(0) == Universe()


def test_estimate_counts_what_is_shared():
    """20 look-backs x 2 universes x 10 sizes x 5 schedules x 10 cost levels: 20 factors, 40 rankings."""
    plan = planned(
        lookback=axis(range(20, 220, 10)),
        n=axis(range(1, 11)),
        rebalance=axis([1, 5, 10, 21, 63]),
        costs=Costs(commission_bps=axis(range(10))),
        universes=("us", "eu"),
    )
    counts = plan.estimate(n_bars=2520)
    assert counts["points"] == counts["trials"] == counts["rows"] == counts["portfolio_passes"] == 20_000
    assert (counts["unique_factors"], counts["unique_rankings"], counts["duplicates"]) == (20, 40, 0)
    assert counts["atoms"] == plan.n_atoms == 80
    assert counts["bytes"] > 20_000 * 800


def test_huge_plans_cost_nothing_to_make():
    spec = planned(n=axis(range(1, 100_001)), lookback=axis(range(1, 101))).spec
    plan = plan_of(spec)
    assert plan.n_trials == 10_000_000
    assert plan.atom(plan.n_atoms - 1).numbers[-1] == 9_999_999


@pytest.mark.parametrize("call", ["trial", "parameters", "universe", "key", "atom"])
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
    located = plan_of(plan.spec, panel_ref={"snapshot": "s1", "bars": [0, 100]})
    assert located.sweep_id == plan.sweep_id
    frozen = json.loads(located.frozen_json())
    assert frozen["sweep"]["panel"] == "/panels/us"
    assert frozen["panel_ref"] == {"snapshot": "s1", "bars": [0, 100]}
    assert Plan.from_json(located.frozen_json()) == located


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frozen: frozen.update(format=1), "format 1, but this version reads 2"),
        (lambda frozen: frozen.pop("data_digests"), "no frozen sweep: KeyError"),
        (lambda frozen: frozen["sweep"].update(cash=5), "it was changed, or written by another version"),
        (
            lambda frozen: frozen["universes"][0].__setitem__(1, "others"),
            "it was changed, or written by another",
        ),
        (lambda frozen: frozen["universes"][0][0].update(of="us"), "it was changed, or written by another"),
        (lambda frozen: frozen["universes"][0][0].update(off="us"), "frozen universe is not valid"),
        (lambda frozen: frozen["data_digests"].update(close="x"), "it was changed, or written by another"),
        (lambda frozen: frozen.update(result_epoch=7), "it was changed, or written by another version"),
        (lambda frozen: frozen["sweep"].update(cash="5"), "frozen sweep is not valid"),
    ],
)
def test_changed_json_is_refused(change, says):
    frozen = json.loads(planned().frozen_json())
    change(frozen)
    with pytest.raises(InputError, match=says):
        Plan.from_json(json.dumps(frozen))


@pytest.mark.parametrize("text", ["", "[]", "{", "5", '{"format": 2}', '{"form": 2}'])
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match="no frozen sweep"):
        Plan.from_json(text)


@pytest.mark.parametrize("strategy", [TopN, Quantiles, CrossOver, Weights])
def test_no_parameter_of_a_strategy_shares_a_column_with_the_sweep(strategy):
    assert not set(strategy.model_fields) & {*SweepSpec.model_fields, "universe"}


# -- universes ------------------------------------------------------------------------------------------


def test_universes_are_an_axis_between_factor_and_filter():
    vix = ContextFilter(context="vix", above=axis([20, 30]))
    spec = parts_of(TopN(signal=momentum(axis([63, 126])), n=axis([5, 10]), filter=vix))
    plan = plan_of(spec, ("all", "sp500", "dow"))
    assert plan.columns == ("signal.lookback", "universe", "filter.above", "n")
    labels = [plan.parameters(number)["universe"] for number in range(0, 12, 4)]
    assert labels == ["all", "sp500", "dow"]
    assert plan.universe(10) == plan.atom(5).universe == Universe(of="dow")
    assert [len(plan.atom(index).numbers) for index in plan.atoms()] == [2] * 12
    assert plan.n_factors == 2


def test_one_universe_is_no_axis():
    plan = planned(universes=("sp500",))
    assert (plan.columns, plan.universe(0).label) == ((), "sp500")


def test_a_label_names_one_universe():
    with pytest.raises(InputError, match="the universe us stands twice in universes"):
        plan_of(planned().spec, ("us", "eu", "us")).trial(0)


def test_universes_of_equal_members_are_run_once():
    plan = planned(n=axis(range(1, 301)), lookback=axis([63, 126]), universes=("us1", "eu", "us2", "us3"))
    # Two atoms to each of 2 x 4 groups: those of us2 and us3 repeat those of us1.
    assert {i: plan.twin_of(i) for i in range(16) if plan.twin_of(i) is not None} == {
        **{4: 0, 5: 1, 6: 0, 7: 1},
        **{12: 8, 13: 9, 14: 8, 15: 9},
    }
    counts = plan.estimate(100)
    assert (counts["trials"], counts["duplicates"], counts["portfolio_passes"]) == (2400, 1200, 1200)
    assert counts["unique_rankings"] == 4


@settings(max_examples=30, deadline=None)
@given(plan=plans)
def test_twins_have_the_same_keys_and_nothing_else_has(plan):
    seen = {}
    for index in plan.atoms():
        keys = tuple(plan.keys(plan.atom(index).numbers))
        assert plan.twin_of(index) == seen.get(keys)
        seen.setdefault(keys, index)
    every = [key for keys in seen for key in keys]
    assert len({*every}) == len(every) == plan.n_trials - plan.estimate(10)["duplicates"]


# -- inputs ---------------------------------------------------------------------------------------------


def test_each_trial_reads_the_data_of_its_own_inputs():
    vix = axis([None, ContextFilter(context=axis(["vix", "rate"]), above=20)])
    plan = plan_of(parts_of(TopN(signal=axis([momentum(63), reversal(axis([5, 6]))]), n=1, filter=vix)))
    assert set(plan.data_digests) == {
        '[["close"],[]]',
        '[["close"],["vix"]]',
        '[["close"],["rate"]]',
    }
    for number in range(plan.n_trials):
        assert inputs_key(plan.trial(number)) in plan.data_digests
    assert plan.keys(range(plan.n_trials)) == [key_of(plan, number) for number in range(plan.n_trials)]
    vix_only = {**plan.data_digests, '[["close"],["vix"]]': "other"}
    other = plan_of(plan.spec, data_digests=vix_only)
    same = [one == two for one, two in zip(plan.keys(range(9)), other.keys(range(9)), strict=True)]
    assert same == [plan.parameters(number)["filter.context"] != "vix" for number in range(9)]
    assert 0 < same.count(False) < 9


# -- alternatives and zips --------------------------------------------------------------------------------


def test_alternatives_have_axes_of_their_own_and_columns_where_they_differ():
    signal = axis([momentum(axis([63, 126]), skip=21), sma_ratio(axis([5, 10]), 20), reversal(5)])
    plan = plan_of(parts_of(TopN(signal=signal, n=axis([1, 2])), universes=["us", "eu"]), ("us", "eu"))
    assert plan.columns == (
        "signal.factor",
        "signal.lookback",
        "signal.skip",
        "signal.fast",
        "signal.slow",
        "signal.field",
        "universe",
        "n",
    )
    assert (plan.n_points, plan.n_factors, plan.n_atoms) == (20, 5, 10)
    assert [tuple(plan.parameters(number).values()) for number in (0, 4, 8, 13, 19)] == [
        ("momentum", 63, 21, None, None, None, "us", 1),
        ("momentum", 126, 21, None, None, None, "us", 1),
        ("sma_ratio", None, None, 5, 20, "close", "us", 1),
        ("sma_ratio", None, None, 10, 20, "close", "us", 2),
        ("reversal", 5, None, None, None, None, "eu", 2),
    ]
    assert plan.number({"signal.factor": "reversal", "signal.lookback": 5, "universe": "eu", "n": 2}) == 19
    atom = plan.atom(9)
    assert (atom.signal, atom.columns["signal.skip"], atom.columns["n"]) == (
        reversal(5),
        [None, None],
        [1, 2],
    )
    with pytest.raises(InputError, match="each value stands on its axis, but no trial has them all"):
        plan.number({"signal.factor": "reversal", "signal.lookback": 63, "universe": "eu", "n": 2})


def test_what_alternatives_have_in_common_is_no_column():
    strategies = axis(
        [TopN(signal=reversal(axis([5, 6])), n=axis([1, 2, 3])), Quantiles(signal=reversal(5), quantile=0.1)]
    )
    plan = plan_of(parts_of(strategies, costs=Costs(commission_bps=axis([0, 1]))))
    assert plan.columns == (
        *("signal.lookback", "kind", "n", "weight", "quantile", "long", "short", "costs.commission_bps"),
    )
    assert [plan.trial(number).strategy.kind for number in (0, 11, 12, 13)] == [
        "TopN",
        "TopN",
        "Quantiles",
        "Quantiles",
    ]
    assert plan.parameters(13)["signal.lookback"] == 5 and plan.parameters(13)["n"] is None
    # Both strategies rank by the reversal over 5 bars.
    assert (plan.n_trials, plan.n_factors) == (14, 2)
    assert [len(plan.atom(index).numbers) for index in plan.atoms()] == [6, 6, 2]
    assert plan.spec.strategies == strategies.values


def test_nothing_is_one_of_the_alternatives_of_a_filter():
    vix = axis([None, ContextFilter(context="vix", above=axis([20, 30]), action="flat")])
    plan = plan_of(parts_of(TopN(signal=reversal(5), n=axis([1, 2]), filter=vix)))
    assert plan.columns == ("filter.context", "filter.above", "filter.action", "n")
    assert plan.parameters(1) == {"filter.context": None, "filter.above": None, "filter.action": None, "n": 2}
    assert plan.trial(1).strategy.filter is None
    assert plan.trial(5).strategy.filter == ContextFilter(context="vix", above=30, action="flat")
    assert [len(plan.atom(index).numbers) for index in plan.atoms()] == [2, 2, 2]


def test_a_pair_of_levels_that_is_always_on_is_refused_unless_where_leaves_it_out():
    vix = ContextFilter(context="vix", above=axis([10, 30]), below=20)
    parts = {"panel": "p", "strategy": TopN(signal=reversal(5), n=1, filter=vix)}
    with pytest.raises(InputError, match="1 of 2 combinations are refused: above 10 < below 20"):
        SweepSpec.from_python(**parts)
    assert SweepSpec.from_python(**parts, where="filter.above > 10").where


def test_zipped_axes_are_one_digit_at_their_slowest_stage():
    spec = parts_of(
        TopN(signal=momentum(axis([63, 126])), n=axis([5, 10]), rebalance=axis([1, 2, 3])),
        costs=Costs(commission_bps=axis([0, 0, 5]), half_spread_bps=axis([0, 1, 1])),
        zip=[["n", "signal.lookback"], ["costs.commission_bps", "costs.half_spread_bps"]],
    )
    plan = plan_of(spec)
    rows = [tuple(plan.parameters(number).values()) for number in range(plan.n_points)]
    assert rows == [
        (lookback, n, rebalance, commission, spread)
        for lookback, n in ((63, 5), (126, 10))
        for rebalance in (1, 2, 3)
        for commission, spread in ((0, 0), (0, 1), (5, 1))
    ]
    assert plan.columns[:3] == ("signal.lookback", "n", "rebalance")
    assert all(plan.number(plan.parameters(number)) == number for number in range(plan.n_points))
    assert plan.keys(range(18)) == [key_of(plan, number) for number in range(18)]
    assert (plan.n_factors, plan.n_atoms) == (2, 2)
    assert Plan.from_json(plan.frozen_json()) == plan
    with pytest.raises(InputError, match="no trial has them all"):
        plan.number({**plan.parameters(0), "n": 10})


def test_a_zip_walks_within_each_alternative_that_has_its_axes():
    pairs = axis([sma_ratio(axis([5, 10]), axis([20, 50])), momentum(axis([63, 126]))])
    plan = plan_of(parts_of(TopN(signal=pairs, n=1), zip=["signal.fast", "signal.slow"]))
    rows = [(row["signal.fast"], row["signal.slow"]) for row in map(plan.parameters, range(plan.n_points))]
    assert rows == [(5, 20), (10, 50), (None, None), (None, None)]
    strategies = axis(
        [
            TopN(signal=momentum(axis([63, 126])), n=axis([5, 10])),
            Quantiles(signal=momentum(axis([63, 126, 252])), quantile=0.1),
        ]
    )
    plan = plan_of(parts_of(strategies, zip=["signal.lookback", "n"]))
    assert [(row["signal.lookback"], row["n"]) for row in map(plan.parameters, range(plan.n_points))] == [
        *((63, 5), (126, 10), (63, None), (126, None), (252, None)),
    ]


def test_a_refused_combination_is_found_in_a_zip_too():
    with pytest.raises(InputError, match="strategy: 1 of 2 combinations are refused: fast 20 >= slow 10"):
        parts_of(CrossOver(fast=axis([5, 20]), slow=axis([50, 10])), zip=["fast", "slow"])
    plan = plan_of(parts_of(CrossOver(fast=axis([5, 20]), slow=axis([10, 50])), zip=["fast", "slow"]))
    assert [plan.trial(number).strategy.signal for number in range(2)] == [
        sma_ratio(5, 10),
        sma_ratio(20, 50),
    ]
    assert (plan.n_factors, plan.n_atoms) == (2, 1), "pairs of averages share an atom"
