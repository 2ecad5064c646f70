"""Profiles as an axis: one column, whose switches are walked with it and decide the keys."""

import pytest

from backtest_farm.errors import InputError
from backtest_farm.spec import Limits, axis, profile_of
from backtest_farm.sweep import Plan, load_sweep
from tests.sweep.cases import parts_of, plan_of, planned

HEAD = "panel: us\nstrategy: {kind: TopN, signal: {factor: momentum, lookback: 63}, n: [10, 25]}\n"


def of_text(folder, text) -> Plan:
    path = folder / "sweep.yaml"
    path.write_text(HEAD + text)
    return plan_of(load_sweep(path))


def called(plan: Plan) -> list[str]:
    return [profile_of(plan.trial(number)) for number in range(plan.n_points)]


def test_profiles_are_one_column(tmp_path) -> None:
    plan = of_text(tmp_path, "profile: [default, zipline, vectorbt]\n")
    assert plan.columns == ("n", "profile")
    assert plan.n_trials == 6
    assert called(plan) == ["default", "zipline", "vectorbt"] * 2
    assert [plan.trial(number).fill for number in range(3)] == ["next_open", "next_close", "same_close"]
    assert [plan.trial(number).limits.lot for number in range(3)] == [0, 1, 0]
    assert plan.number({"n": 25, "profile": "zipline"}) == 4


def test_an_atom_knows_the_switches_of_each_trial(tmp_path) -> None:
    atom = of_text(tmp_path, "profile: [default, zipline, vectorbt]\n").atom(0)
    assert atom.values("fill") == ["next_open", "next_close", "same_close"] * 2
    assert atom.values("limits.afford") == ["scale", "allow", "scale"] * 2
    assert atom.profiles == ["default", "zipline", "vectorbt"] * 2


def test_keys_follow_from_the_switches_alone() -> None:
    walked = planned(profile=axis(["default", "zipline", "bt"]))
    limits = Limits(lot=1, lot_rounding="down", afford="allow")
    said = [
        planned(),
        planned(fill="next_close", limits=limits),
        planned(profile="vectorbt", sizing="decision", limits=Limits(afford="allow")),
    ]
    assert walked.keys([0, 1, 2]) == [plan.key(0) for plan in said]
    assert len({*walked.keys([0, 1, 2])}) == 3


def test_what_is_given_beats_every_profile(tmp_path) -> None:
    plan = of_text(tmp_path, "profile: [default, zipline]\nfill: next_open\nlimits: {lot: 5}\n")
    names = ["default+limits.lot=5", "zipline+fill=next_open+limits.lot=5"]
    assert plan.space.values["profile"] == names
    assert called(plan) == names * 2
    assert {plan.trial(number).limits.lot for number in range(4)} == {5}


def test_a_switch_may_be_an_axis_of_its_own(tmp_path) -> None:
    plan = of_text(tmp_path, "profile: [default, zipline]\nfill: [next_open, next_close]\n")
    assert plan.columns == ("n", "fill", "profile")
    assert called(plan)[:4] == ["default", "zipline+fill=next_open", "default+fill=next_close", "zipline"]
    assert plan.atom(0).profiles == called(plan)


def test_one_profile_goes_with_alternatives_of_limits(tmp_path) -> None:
    plan = of_text(tmp_path, "profile: zipline\nlimits: [{lot: 1}, {lot: 10}]\n")
    assert {*plan.columns} == {"n", "limits.lot"}
    assert sorted(called(plan)) == ["zipline"] * 2 + ["zipline+limits.lot=10"] * 2


def test_profiles_may_be_zipped_and_named_in_a_condition(tmp_path) -> None:
    plan = of_text(tmp_path, "profile: [bt, zipline]\ncash: [5, 6]\nzip: [profile, cash]\n")
    assert plan.columns == ("n", "cash", "profile")
    assert [(plan.trial(number).cash, plan.trial(number).fill) for number in range(2)] == [
        (5, "same_close"),
        (6, "next_close"),
    ]
    some = of_text(tmp_path, "profile: [bt, zipline]\nwhere: n == 10 or profile != 'bt'\n")
    assert some.n_trials == 3


def test_a_frozen_plan_means_the_same() -> None:
    for changes in ({}, {"fill": "next_open"}, {"fill": axis(["next_open", "next_close"])}):
        plan = plan_of(parts_of(planned().spec.strategy, profile=axis(["default", "zipline"]), **changes))
        again = Plan.from_json(plan.frozen_json())
        assert again == plan
        assert again.columns == plan.columns
        assert again.keys(range(plan.n_points)) == plan.keys(range(plan.n_points))
        assert [profile_of(again.trial(number)) for number in range(plan.n_points)] == called(plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "profile: [backtrader, ml4t]\n",
            r"yaml:3: profile\[1\]: 'ml4t' means the same as 'backtrader'",
        ),
        ("profile: [zipline, zipline]\n", r"profile\[1\]: 'zipline' means the same as 'zipline' here"),
        (
            "profile: [default, backtrader]\nlimits: {afford: allow}\n",
            r"'backtrader\+limits.afford=allow' means the same as 'default\+limits.afford=allow' here",
        ),
        (
            "profile: [default, ziplin]\n",
            r"yaml:3: profile\[1\]: 'ziplin' is not allowed: did you mean",
        ),
        ("profile: []\n", "profile: an empty list makes an empty grid"),
        (
            "profile: [default, zipline]\nlimits: [{lot: 1}, {lot: 2}]\n",
            "profile and limits cannot both be alternatives",
        ),
        ("profile: [default, zipline]\nlimits: 5\n", "yaml:4: limits: 5 is not allowed"),
        ("profile: [default, zipline]\nzip: 5\n", "yaml:4: zip: 5 is not allowed"),
        ("profile: [default, zipline]\nzip: [[5, profile]]\n", r"zip\[0\]\[0\]: 5 is not allowed"),
        ("profile: zipline\nzip: [profile, fill]\n", r"zip\[0\]: 'profile' is no axis"),
    ],
)
def test_wrong_profiles_are_named(tmp_path, text, words) -> None:
    with pytest.raises(InputError, match=words):
        of_text(tmp_path, text)
