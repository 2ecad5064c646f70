"""What a plan promises against what the run then counted: orders, names held, files, bytes."""

from __future__ import annotations

import math

import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.analysis import cost
from backtest_farm.farm.executor import quickest
from backtest_farm.strategy import CrossOver, Quantiles
from tests.study.conftest import sweep_over

N_BARS = 400


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    return bf.synthetic_panel(tmp_path_factory.mktemp("market") / "p", n_bars=N_BARS, n_assets=150, seed=7)


def top(n, rebalance, **parts) -> dict:
    signal = bf.factor.momentum(bf.axis([20, 60]), skip=2)
    return {"strategy": bf.TopN(signal=signal, n=n, rebalance=rebalance), **parts}


FEW, MANY = bf.Costs(commission_bps=10.0), bf.Costs(commission_bps=bf.axis(range(60)))
CASES = {
    "10 names, daily, small tile": top(10, 1, costs=FEW),
    "10 names, daily, large tile": top(10, 1, costs=MANY),
    "10 names, monthly": top(10, "month_end", costs=MANY),
    "100 names, daily": top(100, 1, costs=FEW),
    "100 names, monthly": top(100, "month_end", costs=FEW),
    "a mixed grid": top(bf.axis([5, 20, 80]), bf.axis([1, 5, 21]), costs=FEW),
    "deciles": {"strategy": Quantiles(signal=bf.factor.volatility(20), quantile=0.1, rebalance=5)},
    "crossings": {"strategy": CrossOver(fast=bf.axis([5, 10]), slow=bf.axis([20, 50]), slots=20)},
}


@pytest.mark.parametrize("case", CASES)
def test_the_work_is_estimated_within_a_factor_of_two(case: str, panel, tmp_path) -> None:
    sweep = bf.Sweep(panel=panel, keep={"equity": {"top": 2, "by": "sharpe"}}, **CASES[case])
    plan = sweep.plan()
    study = sweep.run(tmp_path / "s", executor="inline", progress=False)
    rows = study.trials().collect()
    assert plan["trials"] == rows.height and plan["n_bars"] == N_BARS
    assert 0.5 < plan["orders"] / rows["orders"].sum() < 2
    first = rows["trial"][:: max(1, rows.height // 9)].to_list()
    held = sum(study.replay(number).equity["positions"].sum() for number in first)
    assert 0.5 < plan["held_bars"] / (held * rows.height / len(first)) < 2
    folders = [tmp_path / "s" / name for name in ("fragments", "curves")]
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    assert 0.5 < plan["result_bytes"] / size < 2


def cpu_seconds(panel: bf.Panel, parts: dict) -> float:
    return bf.Sweep(panel=panel, **parts).plan()["cpu_seconds"]


def test_seconds_follow_the_work(panel, monkeypatch) -> None:
    monkeypatch.setattr(cost, "node_speed", lambda: 1.0)
    seconds = {case: cpu_seconds(panel, parts) for case, parts in CASES.items()}
    assert seconds["10 names, monthly"] < seconds["10 names, daily, large tile"]
    assert seconds["100 names, monthly"] < seconds["100 names, daily"]
    one, sixty = seconds["10 names, daily, small tile"], seconds["10 names, daily, large tile"]
    alone = cost.START + 2 * cost.ATOM
    assert 4 < (sixty - alone) / (one - alone) < 60, "trials share their signal and their tile's bars"
    monkeypatch.setattr(cost, "node_speed", lambda: 2.0)
    assert cpu_seconds(panel, CASES["deciles"]) == pytest.approx(2 * seconds["deciles"])


def test_signals_that_this_node_has_cost_nothing(panel, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cost, "node_speed", lambda: 1.0)
    for case in ("10 names, monthly", "deciles", "crossings"):
        before = cpu_seconds(panel, CASES[case])
        study = bf.Sweep(panel=panel, **CASES[case]).run(tmp_path / case, executor="inline", progress=False)
        after = cpu_seconds(panel, CASES[case])
        builds = study.summary()["factor_builds"]
        if CASES[case]["strategy"].kind == "TopN":
            assert before == after, "momentum is computed faster than it is read, and not kept"
            continue
        assert before - after >= 0.99 * builds * N_BARS * 150 * cost.OTHER_FACTOR_CELL > 0
        assert before - after < 2 * builds * N_BARS * 150 * cost.OTHER_FACTOR_CELL


def test_a_plan_says_who_would_run_it_and_how_long(small_panel, monkeypatch) -> None:
    small = sweep_over(small_panel).plan(workers=4)
    assert (small["executor"], small["workers"]) == ("inline", 1)
    assert small["seconds"] == small["cpu_seconds"] < 5
    assert small["memory_per_worker_bytes"] > cost.BASE_BYTES
    monkeypatch.setattr(cost, "node_speed", lambda: 1000.0)
    large = sweep_over(small_panel).plan(workers=4)
    assert (large["executor"], large["workers"]) == ("ray", 4)
    assert large["seconds"] == pytest.approx(5.0 + large["cpu_seconds"] / 4)
    assert quickest(1.0)[0] == "inline"


def test_conditions_and_universes_are_sampled(small_panel) -> None:
    spells = pl.DataFrame(
        {"symbol": list(small_panel.symbols[:6]), "start_date": "1900-01-01", "end_date": "2200-01-01"}
    )
    panel = small_panel.with_universe("few", spells)
    strategy = Quantiles(signal=bf.factor.volatility(20), quantile=0.5, short=0, rebalance=5)
    every, few = (
        bf.Sweep(panel=panel, strategy=strategy, universes=[name]).plan() for name in ("all", "few")
    )
    assert 0.1 < few["held_bars"] / every["held_bars"] < 0.25
    big = sweep_over(small_panel, where="n >= 8").plan()
    assert big["held_bars"] == pytest.approx(big["trials"] * 8 * 150)


def test_the_nodes_speed_is_measured_once_and_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cost.numba.config, "CACHE_DIR", str(tmp_path))
    assert cost.node_speed() == 1.0, "nothing is compiled for an estimate"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(cost, "is_compiled", lambda: True)
    runs = []
    monkeypatch.setattr(cost, "_probe", lambda: runs.append(1) or 2.0 + len(runs))
    assert cost.node_speed() == cost.node_speed() == 3.0
    assert len(runs) == 3, "the best of three, once"
    monkeypatch.undo()
    assert 0.05 < cost._probe() < 50 and math.isfinite(cost.node_speed())
