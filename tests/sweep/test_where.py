"""``where``: what it takes, what it refuses, and that it leaves what a plain loop would leave."""

import time
from collections import defaultdict

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from backtest_farm.errors import InputError
from backtest_farm.spec import Costs, axis, leaves_of
from backtest_farm.strategy import CrossOver
from backtest_farm.sweep import Plan
from backtest_farm.sweep.where import Where
from tests.sweep.cases import key_of, parts_of, plan_of, planned, specs_of

KNOWN = {
    "n": [5, 10, 20],
    "signal.lookback": [63, 126, None],
    "weight": ["equal", 0.5],
    "kind": ["TopN", "Quantiles"],
    "short": [True, False],
    "fill": ["next_open"],
}
ROWS = [
    dict(zip(KNOWN, row, strict=True))
    for row in [
        (5, 63, "equal", "TopN", True, "next_open"),
        (10, 126, 0.5, "Quantiles", False, "next_open"),
        (20, None, "equal", "TopN", False, "next_open"),
    ]
]


def left(text):
    """The rows that a condition leaves."""
    where = Where(text, KNOWN)
    return where.holds(
        {name: where.column(row[name] for row in ROWS) for name in where.names}, len(ROWS)
    ).tolist()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n < 10", "x.."),
        ("n <= 10 and n > 5", ".x."),
        ("5 < n <= 20", ".xx"),
        ("n == 5 or n == 20.0", "x.x"),
        ("n in (5, 20)", "x.x"),
        ("n not in [5, 20]", ".x."),
        ("not n < 10", ".xx"),
        ("n * 2 >= 20", ".xx"),
        ("n % 10 == 0 and n // 3 != 3", "..x"),
        ("-n < -5 + 0 * n", ".xx"),
        ("1e1 >= n", "xx."),
        ("n / 0 > 1", "..."),
        ("n < signal.lookback", "xx."),
        ("strategy.n < strategy.signal.lookback", "xx."),
        ("signal.lookback != 63", ".x."),
        ("not signal.lookback == 63", ".xx"),
        ("signal.lookback not in (63, 5)", ".x."),
        ("signal.lookback + 1 > 0", "xx."),
        ("kind == 'TopN'", "x.x"),
        ("kind != \"TopN\"", ".x."),
        ("kind in ('TopN',)", "x.x"),
        ("'TopN' == kind", "x.x"),
        ("kind == weight", "..."),
        ("kind != weight", "xxx"),
        ("weight == 'equal'", "x.x"),
        ("weight != 'equal'", ".x."),
        ("weight > 0.1", ".x."),
        ("weight == 0.5", ".x."),
        ("short", "x.."),
        ("not short and n < 20", ".x."),
        ("short == 1 or short == False", "xxx"),
        ("fill == 'next_open'", "xxx"),
        ("1 < 2", "xxx"),
        ("(n < 10) == 1 if False else n" if False else "n <\n 10", "x.."),
    ],
)  # fmt: skip
def test_leaves(text, holds):
    assert "".join("x" if each else "." for each in left(text)) == holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("n <", "'n <' cannot be read: invalid syntax; compare parameters by"),
        ("n = 5", "invalid syntax.*compare parameters by .* == "),
        ("m < 5", r"'m' is no parameter of this sweep \(text needs quotes\)"),
        ("signal.lokback < 5", "did you mean 'signal.lookback'"),
        ("kind == TopN", r"'TopN' is no parameter of this sweep \(text needs quotes\)"),
        ("kind == 'TopM'", "kind is never 'TopM': did you mean 'TopN'"),
        ("kind in ('TopN', 'Topn')", "kind is never 'Topn'"),
        ("'5' == n", "n is never '5': numbers stand without quotes"),
        ("n", "'n' is neither true nor false"),
        ("n < 5 or kind", "'kind' is neither true nor false"),
        ("5", "'5' is neither true nor false"),
        ("n + 1", "'n \\+ 1' is neither true nor false"),
        ("n in 5", "'in' needs a list such as"),
        ("n in (m, 5)", "'m' is no parameter"),
        ("n is 5", "'in' needs a list such as"),
        ("n ** 2 > 5", r"'n \*\* 2' cannot stand there"),
        ("n & 1 == 0", "cannot stand there"),
        ("(n < 5) + 1 > 0", "'n < 5' cannot stand there"),
        ("abs(n) < 5", r"'abs\(n\)' cannot stand there"),
        ("n.real < 5", "'n.real' is no parameter"),
        ("n.__class__.__mro__ == 5", "is no parameter"),
        ("[x for x in (1, 2)] == 5", "cannot stand there"),
        ("(lambda: n)() < 5", "cannot stand there"),
        ("n < 5 if short else n < 6", "is neither true nor false"),
        ("(m := n) < 5", "cannot stand there"),
        ("n < None", "'None' cannot stand there"),
        ("n < 1j", "'1j' cannot stand there"),
        ("n < b'5'", "cannot stand there"),
        ("n[0] < 5", "cannot stand there"),
        ("f'{n}' == kind", "cannot stand there"),
        ("n < 1" + "0" * 400, "cannot be read: int too large"),
        ("n < " + "-" * 900 + "1", "nested too deeply"),
        ("(" * 400 + "n < 5" + ")" * 400, "cannot be read"),
        ("n < 5 and " * 200 + "n < 5", "it has more than 1,000 characters"),
        ("n < 5\0", "cannot be read"),
        ("n < 5; n < 6", "invalid syntax"),
        ("", "invalid syntax"),
    ],
)
def test_refuses(text, says):
    with pytest.raises(InputError, match=f"(?s){says}"):
        Where(text, KNOWN)


def number(value):
    return isinstance(value, (int, float))


# Each condition beside the same in plain Python; a row gives None for what it has not.
CONDITIONS = {
    "n < signal.lookback": lambda row: (
        number(row["n"]) and number(row["signal.lookback"]) and row["n"] < row["signal.lookback"]
    ),
    "not n < signal.lookback": lambda row: (
        not (number(row["n"]) and number(row["signal.lookback"]) and row["n"] < row["signal.lookback"])
    ),
    "signal.lookback % 2 == 0 or signal.fast > 4": lambda row: (
        (number(row["signal.lookback"]) and row["signal.lookback"] % 2 == 0)
        or (number(row["signal.fast"]) and row["signal.fast"] > 4)
    ),
    "kind == 'TopN' and n > 100": lambda row: row["kind"] == "TopN" and row["n"] > 100,
    "0.1 < quantile <= 0.2 or kind != 'Quantiles'": lambda row: (
        row["kind"] != "Quantiles" or 0.1 < row["quantile"] <= 0.2
    ),
    "weight != 'equal'": lambda row: row["weight"] is not None and row["weight"] != "equal",
    "filter.above != 20": lambda row: number(row["filter.above"]) and row["filter.above"] != 20,
    "costs.commission_bps * 2 >= 2 and sizing == 'decision'": lambda row: (
        row["costs.commission_bps"] * 2 >= 2 and row["sizing"] == "decision"
    ),
    "filter.context in ('vix', 'rate') or rebalance == 'month_end'": lambda row: (
        row["filter.context"] in ("vix", "rate") or row["rebalance"] == "month_end"
    ),
    "universe != 'us1' or signal.skip > 20": lambda row: (
        row["universe"] != "us1" or (number(row["signal.skip"]) and row["signal.skip"] > 20)
    ),
}


@settings(max_examples=50, deadline=None)
@given(spec=specs_of(3), text=st.sampled_from([*CONDITIONS]), data=st.data())
def test_it_leaves_what_a_plain_loop_leaves(spec, text, data):
    whole = plan_of(spec, ("us1", "eu", "us2"))
    assume(whole.n_points <= 150)
    try:
        plan = plan_of(spec.model_copy(update={"where": text}), ("us1", "eu", "us2"))
        plan.space.where  # noqa: B018
    except InputError:
        assume(False)  # the sweep has no such parameter
    kept = []
    for at in range(whole.n_points):
        leaves = {leaf.path.removeprefix("strategy."): leaf.value for leaf in leaves_of(whole.trial(at))}
        row = defaultdict(type(None), {**leaves, "universe": whole.universe(at).label})
        kept += [at] if CONDITIONS[text](row) else []
    event("some are left out" if 0 < len(kept) < whole.n_points else "all or none")
    assert (plan.n_points, plan.n_atoms, plan.columns) == (whole.n_points, whole.n_atoms, whole.columns)
    if not kept:
        assert plan.space.numbers.size == 0
        return
    # The atoms are those of the whole grid with numbers left out, and hold each trial once.
    atoms = {index: plan.atom(index) for index in plan.atoms()}
    assert [number for atom in atoms.values() for number in atom.numbers] == kept
    assert all(set(atom.numbers) <= set(whole.atom(index).numbers) for index, atom in atoms.items())
    assert plan.n_trials == len(kept) == plan.estimate(5)["trials"]
    assert plan.estimate(5)["atoms"] == len(atoms)
    assert plan.n_factors == len({whole.trial(at).strategy.signal for at in kept})
    # A trial is the same trial, with and without the condition.
    number = data.draw(st.sampled_from(kept))
    assert plan.key(number) == key_of(plan, number) == whole.key(number)
    assert plan.parameters(number) == whole.parameters(number)
    assert plan.number(plan.parameters(number)) == number
    index = plan.space.atoms_of([number])[0]
    values = {
        name: column[atoms[index].numbers.index(number)] for name, column in atoms[index].columns.items()
    }
    assert values == plan.parameters(number)
    for gone in [at for at in range(whole.n_points) if at not in kept][:3]:
        with pytest.raises(InputError, match=f"trial {gone} is not in this sweep: where .* leaves it out"):
            plan.trial(gone)
        with pytest.raises(InputError, match="leaves it out"):
            plan.number(whole.parameters(gone))


def test_empty_atoms_are_passed_over():
    plan = planned(
        lookback=axis([5, 63, 126]), n=axis(range(1, 301)), where="n < signal.lookback and n % 50 < 6"
    )
    assert plan.n_atoms == 6
    assert {index: len(plan.atom(index).numbers) for index in plan.atoms()} == {0: 4, 2: 11, 4: 17}
    assert plan.n_trials == 32
    with pytest.raises(InputError, match="atom 1 holds no trial"):
        plan.atom(1)


def test_twins_of_a_condition_on_universes_are_those_of_which_the_same_is_left():
    where = "universe != 'us2' or n > 1"
    plan = planned(n=axis([1, 2]), lookback=axis([5, 6]), universes=("us1", "us2", "us3"), where=where)
    assert {index: plan.twin_of(index) for index in plan.atoms()} == {
        0: None,
        1: None,
        2: 0,
        3: None,
        4: None,
        5: 3,
    }
    assert plan.estimate(5)["duplicates"] == 4


def test_what_leaves_nothing_is_refused():
    with pytest.raises(InputError) as caught:
        planned(n=axis([1, 2]), where="n > 2")
    assert caught.value.faults == ("where: 'n > 2' leaves none of 2 points",)
    # Which universes there are is known when the panel is.
    plan = planned(n=axis([1, 2]), where="universe == 'us' and n > 2", universes=("us", "eu"))
    with pytest.raises(InputError, match="leaves none of 4 points"):
        plan.n_trials  # noqa: B018
    plan = planned(n=axis([1, 2]), where="universe == 'uss'", universes=("us", "eu"))
    with pytest.raises(InputError, match="universe is never 'uss': did you mean 'us'"):
        plan.n_trials  # noqa: B018


def test_refused_combinations_may_be_left_out():
    with pytest.raises(InputError, match="strategy: 1 of 4 combinations are refused: fast 20 >= slow 10"):
        parts_of(CrossOver(fast=axis([5, 20]), slow=axis([10, 50])))
    plan = plan_of(parts_of(CrossOver(fast=axis([5, 20]), slow=axis([10, 50])), where="fast < slow"))
    assert [tuple(plan.parameters(number).values()) for number in plan.space.numbers] == [
        (5, 10),
        (5, 50),
        (20, 50),
    ]


def test_a_condition_is_part_of_the_sweep_but_of_no_key():
    one, other = planned(n=axis([1, 2])), planned(n=axis([1, 2]), where="n > 0")
    assert one.sweep_id != other.sweep_id
    assert one.keys([0, 1]) == other.keys([0, 1])
    assert Plan.from_json(other.frozen_json()).spec.where == "n > 0"


def test_a_million_points_are_looked_at_in_about_a_second():
    began = time.perf_counter()
    plan = planned(
        lookback=axis(range(100, 200)),
        n=axis(range(1, 101)),
        rebalance=axis(range(1, 11)),
        weight=axis(["equal", 0.5]),
        costs=Costs(commission_bps=axis(range(5))),
        where="n < signal.lookback and (costs.commission_bps + 1) * 2 <= rebalance and weight != 'equal'",
    )
    assert (plan.n_points, plan.n_trials) == (1_000_000, 249_975)
    assert sum(1 for _ in plan.atoms()) == 3999
    assert time.perf_counter() - began < 5
