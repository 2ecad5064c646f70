"""The benchmarks themselves: every case can be built, nothing unequal is timed, files are what they say."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

import backtest_farm as bf
from benchmarks import bare, gate
from benchmarks.cases import ALL, LADDER, crossover_targets, w3_hundredfold
from benchmarks.measure import Figure, figure, machine, ratio, side_by_side
from benchmarks.report import SCHEMA, document, line, read_history, replace_block, slower, table

LONG_ONLY = [
    name
    for name, case in ALL.items()
    if case.signal in ("score", "momentum") and not case.trading.get("limits")
]


def of_package(case, folder):
    panel = case.panel(folder / "panel")
    if case.trials == 1:
        return gate.of_result(bf.run(panel, case.strategy(), **case.terms()))
    return gate.of_study(case.sweep(panel).run(folder / "study", executor="inline", progress=False))


@pytest.mark.parametrize("name", ALL)
def test_case_runs_at_a_toy_size_with_as_many_trials_as_it_says(name, tmp_path):
    case = ALL[name].small()
    outcome = of_package(case, tmp_path)
    assert outcome.equity.shape == (case.trials,)
    assert (outcome.counts["fills"] > 0).any()


@pytest.mark.parametrize("name", [name for name in LONG_ONLY if name not in ("W3 costs", "W3x100")])
def test_bare_loop_is_the_package_at_a_toy_size(name, tmp_path):
    case = ALL[name].small()
    gate.check(name, of_package(case, tmp_path), gate.of_bare(gate.run_bare(case)))


@pytest.mark.parametrize("fill", ["next_open", "same_close"])
@pytest.mark.parametrize("invested", [0.9975, 1.0])
def test_bare_loop_is_the_package_where_prices_are_missing_and_cash_binds(fill, invested):
    from backtest_farm.engine.tile import market, ranked_targets, run_tile, terms
    from backtest_farm.kernel import state
    from backtest_farm.kernel.state import COUNTERS
    from backtest_farm.kernel.summary import METRICS

    case = replace(ALL["W3"].small(), n_bars=300, n_assets=30)
    draw = np.random.default_rng(4)
    opens, closes = (case.fields[name].copy() for name in ("open", "close"))
    for prices in (opens, closes):
        prices[draw.random(prices.shape) < 0.03] = np.nan
    for a, t in enumerate(draw.integers(0, 300, 8)):
        closes[t : t + 20, a] = opens[t : t + 20, a] = np.nan
    closes[200, 3], opens[201, 4], closes[202, 5] = 0.0, np.inf, -1.0
    numbers, every = np.array([3, 3, 8, 8]), np.array([1, 5, 1, 21])
    weights = invested / numbers
    ranks = bare.ranked(np.where(closes > 0.0, closes, np.nan), 5, 8)
    found = bare.advance(
        opens, closes, ranks, numbers, weights, every,
        slippage_bps=5.0, fill=bare.SAME_CLOSE if fill == "same_close" else bare.NEXT_OPEN,
    )  # fmt: skip
    ids = np.zeros((300, 8), np.int32)
    for t, count in enumerate(ranks.counts):
        ids[t, ranks.places[t, :count]] = ranks.ids[t, :count]
    fires = np.array([np.arange(300) % bars == 0 for bars in every], np.uint8)
    never = np.full(30, 2**62)
    codes = {"next_open": state.NEXT_OPEN, "same_close": state.SAME_CLOSE}
    tile = run_tile(
        market([{"open": opens, "close": closes}], never, np.full(30, np.nan), 252.0),
        terms(
            4, n=numbers, weight=weights, schedule=np.arange(4), fill=codes[fill],
            commission_bps=10.0, slippage_bps=5.0,
        ),
        ranked_targets(ids, ranks.counts, fires),
    )  # fmt: skip
    for name, row in zip(COUNTERS, tile.counters, strict=True):
        theirs = found.counters[:, bare.COUNTERS.index(name)] if name in bare.COUNTERS else np.zeros(4)
        np.testing.assert_array_equal(theirs, row, err_msg=name)
    for name in ("no_price", "expired", "no_cash", "stale_bars"):
        assert found.counters[:, bare.COUNTERS.index(name)].any(), name
    for name, column in zip(METRICS, tile.metrics.T, strict=True):
        theirs = found.metrics[:, bare.METRICS.index(name)]
        np.testing.assert_allclose(theirs, column, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(found.segments, tile.segments.transpose(2, 0, 1), rtol=1e-9, atol=1e-13)


def test_bare_loop_trial_by_trial_is_bytes_of_bars_outside():
    case = ALL["W3"].small()
    together, alone = (gate.run_bare(case, width) for width in (bare.LANES, 1))
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("lookback", [0, 7])
@pytest.mark.parametrize("depth", [1, 5, 60])
def test_bare_ranking_is_a_stable_sort(lookback, depth):
    draw = np.random.default_rng(depth)
    values = draw.integers(1, 9, (120, 90)).astype(float)  # many ties
    values[draw.random(values.shape) < 0.05] = np.nan
    ranks = bare.ranked(values, lookback, depth)
    changes = np.full(values.shape, np.nan)
    changes[lookback:] = values[lookback:] / values[: len(values) - lookback] - 1.0 if lookback else values
    for t in range(len(values)):
        known = np.flatnonzero(np.isfinite(changes[t]))
        best = known[np.argsort(-changes[t, known], kind="stable")][:depth]
        count = ranks.counts[t]
        assert count == len(best)
        assert (np.diff(ranks.ids[t, :count].astype(int)) > 0).all()
        np.testing.assert_array_equal(best[ranks.places[t, :count]], ranks.ids[t, :count])


def outcome(equity=(100.0, 200.0), fills=(3, 4)):
    return gate.Outcome(np.array(equity), {"fills": np.array(fills)})


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (outcome(equity=(100.0, 200.0 * (1 + 2e-9))), "final equity of trial 1"),
        (outcome(equity=(np.nan, 200.0)), "final equity of trial 0"),
        (outcome(fills=(3, 5)), "fills of trial 1 are 4 against 5"),
        (outcome(equity=(100.0,), fills=(3,)), "2 trials against 1"),
    ],
)
def test_gate_refuses_what_is_unequal(theirs, says):
    with pytest.raises(gate.UnequalError, match=says):
        gate.check("W", outcome(), theirs)


def test_gate_lets_pass_what_is_equal():
    gate.check("W", outcome(), outcome(equity=(100.0 * (1 + 1e-12), 200.0)))


def test_a_section_that_is_unequal_gives_no_figure(tmp_path, monkeypatch):
    from benchmarks.suite import Bench, single

    def wrong(*_, **__):
        raise gate.UnequalError("made so")

    monkeypatch.setattr("benchmarks.suite.gate.check", wrong)
    monkeypatch.setattr("benchmarks.suite.ALL", {name: case.small() for name, case in ALL.items()})
    with pytest.raises(gate.UnequalError, match="made so"):
        next(single(Bench(tmp_path, tmp_path)))


def test_crossings_are_as_many_distinct_pairs_as_asked():
    pairs = ALL["W4"].crossings
    assert len(set(pairs)) == ALL["W4"].trials == 10_000
    assert all(0 < fast < slow for fast, slow in pairs)


def test_a_hundredfold_is_a_hundred_thousand_trials_and_scales():
    assert w3_hundredfold().trials == 100_000
    assert w3_hundredfold(0.1).trials == 10_000


def test_each_step_of_the_ladder_keeps_what_the_one_before_it_has():
    for one, more in itertools.pairwise(LADDER):
        before, after = ALL[one], ALL[more]
        assert set(before.trading) <= set(after.trading)
        assert before.trials == after.trials


def test_data_are_the_same_bytes_from_a_seed():
    one = replace(ALL["W1"], seed=3).small().fields["close"].copy()
    ALL["W1"].forget()
    assert one.tobytes() == replace(ALL["W1"], seed=3).small().fields["close"].tobytes()
    assert (one > 0.0).all()


def test_targets_for_other_engines_hold_the_best_and_are_silent_between_decisions():
    case = replace(ALL["W2"].small(), numbers=(3,))
    targets = case.weights()
    assert np.isnan(targets[1]).all()
    assert sorted(np.flatnonzero(targets[5])) == sorted(np.argsort(-case.fields["score"][5])[:3])
    assert targets[5].sum() == pytest.approx(0.9975)


def test_crossover_targets_change_only_where_the_averages_cross():
    close = np.array([[3.0], [2.0], [1.0], [2.0], [4.0], [4.0], [1.0], [0.5]])
    targets = crossover_targets(close, 1, 3)[:, 0]
    np.testing.assert_array_equal(targets, [np.nan, np.nan, np.nan, 1.0, np.nan, np.nan, 0.0, np.nan])


def a_run(median=1.0, better="less", spread=0.01, **changes):
    one = Figure("W", "time", "s", median, median * (1 - spread), median * (1 + spread), 3, better)
    return document([one], machine(), {"quick": False}) | changes


def test_a_run_is_what_its_schema_says(tmp_path):
    found = [figure("W", "time", "s", [1.0, 3.0, 2.0], target=2.5), figure("W", "rate", "1/s", [1.0], "more")]
    run = json.loads(json.dumps(document(found, machine(), {"quick": True})))
    jsonschema.validate(run, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**run, "more": 1}, SCHEMA)
    (tmp_path / "history.jsonl").write_text(json.dumps(run) + "\n")
    assert read_history(tmp_path / "history.jsonl") == [run]
    assert read_history(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("before", "now", "noticed"),
    [
        (a_run(1.0), a_run(1.3), True),
        (a_run(1.0), a_run(1.05), False),
        (a_run(1.0), a_run(0.5), False),
        (a_run(1.0, spread=0.5), a_run(1.3), False),
        (a_run(1000.0, "more"), a_run(700.0, "more"), True),
        (a_run(700.0, "more"), a_run(1000.0, "more"), False),
        (a_run(1.0, options={"quick": True}), a_run(1.3), False),
        (a_run(1.0, machine={"processor": "another"}), a_run(1.3), False),
    ],
)
def test_what_became_slower_on_this_machine_is_said(before, now, noticed):
    assert bool(slower(now, [before])) is noticed


def test_the_last_entry_of_a_history_counts():
    assert not slower(a_run(1.3), [a_run(1.0), a_run(1.3)])
    assert slower(a_run(1.3), [a_run(1.3), a_run(1.0)])


def test_calls_are_timed_in_turns_and_the_first_turn_is_not_counted():
    order, now = [], iter(range(100))
    found = side_by_side(
        [lambda turn: order.append(("a", turn)), lambda turn: order.append(("b", turn))], 2, lambda: next(now)
    )
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert found == [[1, 1], [1, 1]]


def test_a_call_that_takes_too_long_is_not_repeated():
    assert [len(each) for each in side_by_side([lambda _: None], 5, patience=-1.0)] == [1]


def test_spread_of_a_ratio_covers_the_farthest_runs():
    found = ratio(
        "W", "ratio", figure("", "", "s", [2.0, 4.0, 3.0]), figure("", "", "s", [1.0, 2.0, 1.5]), "less", 2.5
    )
    assert (found.median, found.low, found.high, found.met) == (2.0, 1.0, 4.0, True)
    assert "target <= 2.5  met" in line(found)


def test_a_block_of_the_page_is_replaced_and_the_rest_left():
    page = "before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n"
    found = replace_block(page, "figures", table(a_run()))
    assert found.startswith("before\n") and found.endswith("after\n") and "old" not in found
    assert "| W | time | 1 s | 0.99 – 1.01 |" in found
    with pytest.raises(ValueError, match="no block"):
        replace_block(page, "peers", "")
