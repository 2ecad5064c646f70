"""Sweep files: good ones, and the message that each bad one gives."""

import time

import pytest

from backtest_farm.errors import InputError
from backtest_farm.factors.spec import momentum, sma_ratio
from backtest_farm.spec import Axis, Costs, Keep, UniverseSpec, Window, axis, has_axes
from backtest_farm.strategy import ContextFilter, TopN
from backtest_farm.sweep import SweepSpec, load_sweep
from tests.sweep.cases import plan_of

HEAD = "panel: panels/us\n"
STRATEGY = "strategy: {kind: TopN, signal: {factor: momentum, lookback: 63}, n: 10}\n"

FULL = """\
panel: panels/us                       # relative to this file
strategy:
  kind: TopN
  signal: {factor: momentum, lookback: [63, 126], skip: 21}
  n: [10, 25]
  weight: equal
  rebalance: [1, 5]
costs: {commission_bps: [0, 10], half_spread_bps: 1.5}
window: {start: 2015-01-02, end: 2017-10-31}
fill: next_open
sizing: [decision, fill]
cash: 1e6
limits: {max_wait: 5}
keep: {equity: {top: 100, by: sharpe}}
"""


def written(folder, text):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def in_python(panel, **changes):
    parts = {
        "strategy": TopN(
            signal=momentum(lookback=axis([63, 126]), skip=21), n=axis([10, 25]), rebalance=axis([1, 5])
        ),
        "costs": Costs(commission_bps=axis([0, 10]), half_spread_bps=1.5),
        "window": Window(start="2015-01-02", end="2017-10-31"),
        "sizing": axis(["decision", "fill"]),
        "keep": Keep(equity={"top": 100, "by": "sharpe"}),
    }
    return SweepSpec.from_python(panel=panel, **{**parts, **changes})


def test_file_and_python_give_the_same_sweep(tmp_path):
    spec = load_sweep(written(tmp_path, FULL))
    assert spec == in_python(tmp_path / "panels" / "us")
    assert has_axes(spec) == [
        "sizing",
        "costs.commission_bps",
        "strategy.signal.lookback",
        "strategy.n",
        "strategy.rebalance",
    ]
    elsewhere = in_python("s3://bucket/us", keep=Keep())
    assert elsewhere.panel == "s3://bucket/us"
    assert plan_of(elsewhere).sweep_id == plan_of(spec).sweep_id


def test_a_file_without_axes_is_one_backtest(tmp_path):
    spec = load_sweep(written(tmp_path, HEAD + STRATEGY))
    assert has_axes(spec) == []
    assert (spec.cash, spec.limits.max_wait, spec.sizing, spec.costs) == (
        1_000_000.0,
        5,
        "decision",
        Costs(commission_bps=10),
    )


def test_relative_panels_are_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "deep"
    folder.mkdir()
    written(folder, HEAD + STRATEGY)
    monkeypatch.chdir(tmp_path)
    assert load_sweep("deep/sweep.yaml").panel == str(folder / "panels" / "us")
    up = load_sweep(written(folder, "panel: ../other\n" + STRATEGY))
    assert up.panel == str(tmp_path / "other")
    absolute = load_sweep(written(folder, "panel: /data/us\n" + STRATEGY))
    assert absolute.panel == "/data/us"


def test_every_form_of_an_axis_reads_as_in_python(tmp_path):
    text = """\
panel: /panels/us
universes: [all, sp500, {by: sector, of: sp500}, {draw: 20, size: 100, seed: 1}, {each: symbol}]
window: {start: auto, end: 2017-10-31}
strategy:
  kind: TopN
  signal:
    - {factor: momentum, lookback: {start: 63, stop: 252, step: 63}, skip: [0, 21]}
    - {factor: sma_ratio, fast: [5, 10], slow: [20, 50]}
  filter: [null, {context: vix, above: [20, 30]}]
  n: {axis: [10, 25]}
  rebalance: [1, month_end]
costs: [{commission_bps: [0, 10]}, {per_share: 0.005, min_commission: 1}]
zip:
  - [signal.fast, signal.slow]
  - [n, rebalance]
where: n < signal.lookback or signal.fast > 0
"""
    ratio = sma_ratio(axis([5, 10]), axis([20, 50]))
    strategy = TopN(
        signal=axis([momentum(axis(start=63, stop=252, step=63), axis([0, 21])), ratio]),
        filter=axis([None, ContextFilter(context="vix", above=axis([20, 30]))]),
        n=axis([10, 25]),
        rebalance=axis([1, "month_end"]),
    )
    in_python = SweepSpec.from_python(
        panel="/panels/us",
        universes=[
            "all",
            "sp500",
            {"by": "sector", "of": "sp500"},
            {"draw": 20, "size": 100, "seed": 1},
            {"each": "symbol"},
        ],
        window=Window(start="auto", end="2017-10-31"),
        strategy=strategy,
        costs=axis([Costs(commission_bps=axis([0, 10])), Costs(per_share=0.005, min_commission=1)]),
        zip=[["signal.fast", "signal.slow"], ["n", "rebalance"]],
        where="n < signal.lookback or signal.fast > 0",
    )
    spec = load_sweep(written(tmp_path, text))
    assert spec == in_python
    assert SweepSpec.from_file(spec.model_dump(mode="json"), "again") == spec
    # 8 + 2 signals, 5 entries of universes, 3 filters, 2 zipped pairs, 3 costs
    assert plan_of(spec, "abcde").n_points == 10 * 5 * 3 * 2 * 3


def test_one_name_stands_for_a_list_of_one(tmp_path):
    spec = load_sweep(written(tmp_path, HEAD + STRATEGY + "universes: sp500\n"))
    assert spec.universes == (UniverseSpec(of="sp500"),)
    assert load_sweep(written(tmp_path, HEAD + STRATEGY)).universes == (UniverseSpec(of="all"),)
    several = AXES + "limits: {max_wait: [1, 2, 3]}\nzip: [cash, limits.max_wait]\n"
    assert load_sweep(written(tmp_path, HEAD + several)).zip == (("cash", "limits.max_wait"),)


def test_an_alias_may_stand_for_an_alternative(tmp_path):
    first = "&a {kind: TopN, n: 1, signal: {factor: momentum, lookback: [5, 6]}}"
    path = written(tmp_path, f"{HEAD}strategy:\n  - {first}\n  - {{<<: *a, n: 2}}\n")
    assert [each.n for each in load_sweep(path).strategies] == [1, 2]


def test_a_list_of_one_value_is_an_axis(tmp_path):
    spec = load_sweep(written(tmp_path, HEAD + STRATEGY + "cash: [5]\nlimits: {max_wait: {axis: [1, 2]}}\n"))
    assert (spec.cash, spec.limits.max_wait) == (Axis((5.0,)), Axis((1, 2)))


ALTERNATIVES = """\
strategy:
  kind: TopN
  n: 1
  signal:
    - {factor: momentum, lookback: [63, 126]}
    - factor: sma_ratio
      fast: [5, 10]
      slow: 20
"""
AXES = """\
strategy: {kind: TopN, signal: {factor: momentum, lookback: [63, 126]}, n: [1, 2]}
cash: [1, 2, 3]
"""

BAD = {
    "unknown key": (STRATEGY + "cots: {}\n", "sweep.yaml:3: cots: unknown key: did you mean 'costs'?"),
    "misspelt strategy": (
        "strategy:\n  kind: TopM\n  n: 5\n",
        "sweep.yaml:3: strategy.kind: 'TopM' is not allowed: did you mean 'TopN'? (valid: ",
    ),
    "no kind": ("strategy: {n: 5}\n", "strategy.kind: is missing: give 'CrossOver' or 'Quantiles' or 'TopN'"),
    "misspelt factor": (
        "strategy:\n  kind: TopN\n  n: 5\n  signal:\n    factor: momentun\n",
        "sweep.yaml:6: strategy.signal.factor: 'momentun' is not allowed: did you mean 'momentum'?",
    ),
    "misspelt parameter": (
        "strategy:\n  kind: TopN\n  n: 5\n  signal:\n    factor: momentum\n    lookbak: 5\n",
        "sweep.yaml:7: strategy.signal.lookbak: unknown key: did you mean 'lookback'?",
    ),
    "missing parameter": (
        "strategy:\n  kind: TopN\n  n: 5\n  signal:\n    factor: momentum\n",
        "sweep.yaml:5: strategy.signal.lookback: is missing: give a whole number from 1 to",
    ),
    "missing strategy": ("cash: 5\n", "strategy: is missing: give a mapping with kind: CrossOver or"),
    "wrong type": (
        STRATEGY + "cash: much\n",
        "sweep.yaml:3: cash: 'much' is not allowed: give a finite number > 0",
    ),
    "mapping at a leaf": (STRATEGY + "cash: {a: 1}\n", "sweep.yaml:3: cash: {'a': 1} is not allowed"),
    "list in a list": (STRATEGY + "cash: [[1]]\n", "sweep.yaml:3: cash[0]: [1] is not allowed"),
    "nothing": (STRATEGY + "cash:\n", "sweep.yaml:3: cash: None is not allowed"),
    "nothing for a mapping": (
        STRATEGY + "costs:\n",
        "sweep.yaml:3: costs: None is not allowed: give a mapping",
    ),
    "text for a number": (
        STRATEGY + "cash: '5'\n",
        "cash: '5' is not allowed: give a finite number > 0, without quotes",
    ),
    "boolean for a number": (
        STRATEGY + "limits: {max_wait: true}\n",
        "limits.max_wait: True is not allowed: give a whole number",
    ),
    "not a number": (STRATEGY + "cash: .nan\n", "cash: nan is not allowed: give a finite number > 0"),
    "infinite": (STRATEGY + "cash: [1, .inf]\n", "cash[1]: inf is not allowed: give a finite number > 0"),
    "negative cost": (
        STRATEGY + "costs:\n  slippage_bps: [1,\n    -2]\n",
        "sweep.yaml:5: costs.slippage_bps[1]: -2 is not allowed: give a finite number >= 0",
    ),
    "lookback within skip": (
        "strategy: {kind: TopN, signal: {factor: momentum, lookback: [5, 63], skip: [0, 21]}, n: 1}\n",
        "sweep.yaml:2: strategy.signal: 1 of 4 combinations are refused: lookback 5 <= skip 21",
    ),
    "empty list": (STRATEGY + "cash: []\n", "sweep.yaml:3: cash: an empty list makes an empty grid"),
    "repeated value": (
        STRATEGY + "cash: [5, 6, 5.0]\n",
        "cash[2]: 5.0 stands here twice: [0] is the same value",
    ),
    "axis at a fixed place": (
        STRATEGY + "window: {start: [2015-01-02]}\n",
        "window.start: an axis cannot stand here",
    ),
    "wrong value in an alternative": (
        ALTERNATIVES.replace("[5, 10]", "[5, 0]"),
        "sweep.yaml:8: strategy.signal[1].fast[1]: 0 is not allowed: give a whole number",
    ),
    "misspelt parameter of an alternative": (
        ALTERNATIVES.replace("slow", "slwo"),
        "sweep.yaml:9: strategy.signal[1].slwo: unknown key: did you mean 'slow'?",
    ),
    "misspelt alternative": (
        ALTERNATIVES.replace("sma_ratio", "sma_rato"),
        "sweep.yaml:7: strategy.signal[1].factor: 'sma_rato' is not allowed: did you mean 'sma_ratio'?",
    ),
    "a number among alternatives": (
        ALTERNATIVES + "    - 5\n",
        "sweep.yaml:10: strategy.signal[2]: 5 is not allowed: give a mapping with factor: ",
    ),
    "no alternative": (
        "strategy: {kind: TopN, n: 1, signal: []}\n",
        "sweep.yaml:2: strategy.signal: an empty list makes an empty grid",
    ),
    "alternatives with a point in common": (
        ALTERNATIVES + "    - {factor: momentum, lookback: [9, 126]}\n",
        "strategy.signal: Momentum(factor='momentum', lookback=126, skip=0) stands here twice",
    ),
    "alternatives of costs with a point in common": (
        STRATEGY + "costs: [{commission_bps: 5}, {commission_bps: [1, 5]}]\n",
        "sweep.yaml:3: costs: Costs(commission_bps=5.0, ",
    ),
    "alternatives where one window is needed": (
        STRATEGY + "window: [{start: 2015-01-01}, {}]\n",
        "sweep.yaml:3: window: alternatives cannot stand here: give one mapping",
    ),
    "a range that leads away": (
        STRATEGY + "cash: {start: 5, stop: 1, step: 1}\n",
        "sweep.yaml:3: cash: a range from 5 by 1 never comes to 1",
    ),
    "a wrong value in a range": (
        STRATEGY + "limits:\n  max_wait: {start: 0, stop: 2, step: 1}\n",
        "sweep.yaml:4: limits.max_wait[0]: 0 is not allowed: give a whole number from 1 to 1,000",
    ),
    "a range in a list": (
        STRATEGY + "cash: [1, {start: 5, stop: 6, step: 1}]\n",
        "sweep.yaml:3: cash[1]: {'start': 5, 'step': 1, 'stop': 6} is not allowed: give a finite number > 0",
    ),
    "a zip of unequal lengths": (
        AXES + "zip: [n, cash]\n",
        "sweep.yaml:4: zip[0]: axes that are walked together need as many values each: cash has 3, n has 2",
    ),
    "a zip of a misspelt axis": (
        AXES + "zip: [n, signal.lookbak]\n",
        "zip[0]: 'signal.lookbak' is no axis of this sweep: did you mean 'signal.lookback'? (valid: ",
    ),
    "a zip of what is no axis": (
        AXES + "zip:\n  - [n, signal.lookback]\n  - [cash, fill]\n",
        "sweep.yaml:6: zip[1]: 'fill' is no axis of this sweep: (valid: cash, n, signal.lookback)",
    ),
    "a zip of universes": (
        AXES + "universes: [a, b]\nzip: [n, universe]\n",
        "zip[0]: 'universe' is no axis of this sweep",
    ),
    "a zip of one": (
        AXES + "zip: [[n]]\n",
        "zip[0]: give two axes or more that stand in the same alternative",
    ),
    "a zip of nothing": (AXES + "zip: [[]]\n", "zip[0]: give two axes or more"),
    "two zips of one axis": (
        AXES + "zip: [[n, signal.lookback], [signal.lookback, n]]\n",
        "zip[1]: signal.lookback is zipped twice",
    ),
    "a zip that repeats a combination": (
        AXES.replace("[1, 2]", "[1, 1]").replace("[63, 126]", "[5, 5]") + "zip: [n, signal.lookback]\n",
        "zip[0]: 5, 1 stands here twice: at [0] and [1] of the axes",
    ),
    "a zip from an alternative to the outside": (
        ALTERNATIVES + "cash: [1, 2]\nzip: [signal.lookback, cash]\n",
        "zip[0]: give two axes or more that stand in the same alternative, or in none",
    ),
    "a zip of more than one alternative": (
        ALTERNATIVES + "zip: [signal.lookback, signal.fast]\n",
        "zip[0]: give two axes or more that stand in the same alternative, or in none",
    ),
    "zip is a number": (AXES + "zip: 5\n", "zip: 5 is not allowed: give a list"),
    "a misspelt name in where": (
        AXES + "where: signal.lokback > n\n",
        "sweep.yaml:4: where: 'signal.lokback' is no parameter of this sweep",
    ),
    "where leaves nothing": (
        AXES + "where: n > 5\n",
        "sweep.yaml:4: where: 'n > 5' leaves none of 12 points",
    ),
    "where calls": (AXES + "where: open('x')\n", "where: \"open('x')\" is neither true nor false"),
    "where is a list": (AXES + "where: [n > 5]\n", "where: an axis cannot stand here"),
    "where is empty": (AXES + "where: ''\n", "where: '' is not allowed: give text"),
    "a refused combination": (
        "strategy:\n  - {kind: Weights, field: w}\n  - {kind: CrossOver, fast: [5, 20], slow: [10, 50]}\n",
        "sweep.yaml:4: strategy[1]: 1 of 4 combinations are refused: fast 20 >= slow 10: the fast",
    ),
    "a misspelt universe": (
        STRATEGY + "universes:\n  - all\n  - {drwa: 5}\n",
        "sweep.yaml:5: universes[1].drwa: unknown key: did you mean 'draw'?",
    ),
    "a universe of two kinds": (
        STRATEGY + "universes: [{by: sector, each: symbol}]\n",
        "sweep.yaml:3: universes[0]: by and each do not go together",
    ),
    "a repeated universe": (
        STRATEGY + "universes:\n  - all\n  - {of: all}\n",
        "sweep.yaml:5: universes[1]: [0] is the same entry",
    ),
    "no universe": (STRATEGY + "universes: []\n", "universes: [] is not allowed: give a list"),
    "number as a key": (STRATEGY + "7: 1\n", "sweep.yaml:3: 7: unknown key: (valid: cash, costs"),
    "wrong value on an axis by a merged mapping": (
        "cash: &a {axis: [1, x]}\nlimits: {max_wait: {<<: *a}}\n" + STRATEGY,
        "sweep.yaml:2: limits.max_wait[1]: 'x' is not allowed",
    ),
    "brace in a value": (STRATEGY + "fill: '{next}'\n", "fill: '{next}' is not allowed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_says_where_and_what(tmp_path, name):
    text, says = BAD[name]
    with pytest.raises(InputError) as caught:
        load_sweep(written(tmp_path, HEAD + text))
    assert any(says in fault for fault in caught.value.faults), str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_missing_panel(tmp_path):
    with pytest.raises(InputError, match="panel: is missing: give text"):
        load_sweep(written(tmp_path, STRATEGY))
    with pytest.raises(InputError, match="panel: 5 is not allowed: give text"):
        load_sweep(written(tmp_path, "panel: 5\n" + STRATEGY))
    with pytest.raises(InputError, match="panel: an axis cannot stand here"):
        load_sweep(written(tmp_path, "panel: [a, b]\n" + STRATEGY))


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path):
    text = HEAD + "cash: -1\nstrategy:\n  kind: TopN\n  n: x\n  signal: 5\ncosts: {commision_bps: 1}\n"
    with pytest.raises(InputError, match=r"sweep\.yaml is not valid") as caught:
        load_sweep(written(tmp_path, text))
    assert [fault.split("sweep.yaml:")[1].split(": ")[:2] for fault in caught.value.faults] == [
        ["2", "cash"],
        ["5", "strategy.n"],
        ["6", "strategy.signal"],
        ["7", "costs.commision_bps"],
    ]


def test_a_grid_over_the_limit_is_refused_by_arithmetic(tmp_path):
    values = list(range(1, 101))
    strategy = (
        f"{{kind: TopN, signal: {{factor: momentum, lookback: {values}}}, n: {values}, rebalance: {values}}}"
    )
    costs = f"{{commission_bps: {values}, half_spread_bps: {values}, slippage_bps: {values}}}"
    path = written(tmp_path, f"{HEAD}strategy: {strategy}\ncosts: {costs}\n")
    began = time.perf_counter()
    says = "the grid has 1,000,000,000,000 trials, over the limit of 10,000,000"
    with pytest.raises(InputError, match=says) as caught:
        load_sweep(path)
    assert time.perf_counter() - began < 1
    assert "strategy.signal.lookback: 100 values" in caught.value.faults
    assert len(caught.value.faults) == 6
    assert plan_of(load_sweep(path, limit=10**12)).n_trials == 10**12


def test_long_axes_from_python_are_refused_by_arithmetic():
    values = axis(range(1, 1_000_001))
    block = TopN(signal=momentum(5), n=values)
    began = time.perf_counter()
    with pytest.raises(InputError, match="the grid has 1,000,000,000,000 trials"):
        SweepSpec.from_python(panel="x", strategy=block, cash=values)
    # Most of it is reading two million numbers.
    assert time.perf_counter() - began < 5


def test_python_lists_are_no_axes_and_faults_name_the_place():
    with pytest.raises(InputError, match=r"cash: \[1, 2\] is not allowed.*written axis\(\[...\]\)"):
        in_python("x", cash=[1, 2])
    with pytest.raises(
        InputError, match="strategy: 5 is not allowed: give a mapping with kind: CrossOver or"
    ):
        in_python("x", strategy=5)
    with pytest.raises(InputError, match="panel: 5 is not allowed: give text"):
        in_python(5)


def test_a_list_as_a_key_and_an_unknown_home_are_answered(tmp_path) -> None:
    strategy = "strategy: {kind: TopN, signal: {factor: momentum, lookback: 5}, n: 1}\n"
    file = tmp_path / "sweep.yaml"
    file.write_text(f"panel: p\n{strategy}? [a, b]\n: 3\n")
    with pytest.raises(InputError, match="unknown key"):
        load_sweep(file)
    file.write_text(f"panel: ~nosuchuser/p\n{strategy}")
    assert load_sweep(file).panel.endswith("~nosuchuser/p")
