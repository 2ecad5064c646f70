"""Running a sweep: what it is called, what it reuses, and that results do not depend on how it ran."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError, PanelError, StoreError
from tests.study.conftest import COMMISSIONS, LOOKBACKS, N_TRIALS, SCHEDULES, SIZES, sweep_over

FILE = f"""
panel: {{panel}}
strategy:
  kind: TopN
  signal: {{{{factor: momentum, lookback: {LOOKBACKS}, skip: 2}}}}
  n: {SIZES}
  rebalance: {SCHEDULES}
costs: {{{{commission_bps: {COMMISSIONS}}}}}
"""


def test_a_file_and_python_are_one_sweep(small_panel, tmp_path, finished) -> None:
    (tmp_path / "sweep.yaml").write_text(FILE.format(panel=small_panel.path))
    loaded = bf.Sweep.load(tmp_path / "sweep.yaml")
    assert loaded.plan() == sweep_over(small_panel).plan() == sweep_over(str(small_panel.path)).plan()
    study = loaded.run(tmp_path / "study", executor="inline", progress=False)
    assert study.digest == bf.Study.open(finished).digest


def test_plan_counts_and_runs_nothing(small_panel, tmp_path) -> None:
    plan = sweep_over(small_panel).plan()
    assert (plan["trials"], plan["atoms"], plan["unique_factors"]) == (
        N_TRIALS,
        len(LOOKBACKS),
        len(LOOKBACKS),
    )
    assert plan["cpu_seconds"] > 0


def test_every_factor_and_ranking_is_built_once(small_panel, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "cache"))
    # More than 256 trials share each signal, so that it is met by several atoms.
    sweep = sweep_over(
        small_panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(bf.axis([10, 20]), skip=2),
            n=bf.axis(range(1, 21)),
            rebalance=bf.axis(range(1, 21)),
        ),
        costs=bf.Costs(),
    )
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    summary = study.summary()
    assert (summary["trials"], summary["executed"]) == (800, 800)
    assert study.plan.n_atoms == 4
    assert (summary["factor_builds"], summary["rank_builds"], summary["rank_reuses"]) == (2, 2, 2)


def test_run_again_does_nothing(small_panel, finished) -> None:
    study = sweep_over(small_panel).run(finished, executor="inline", progress=False)
    summary = study.summary()
    assert (summary["executed"], summary["reused"], summary["executor"]) == (0, N_TRIALS, "none")


_RERUN = """
import sys
import backtest_farm as bf
study = bf.Sweep.load(sys.argv[1]).run(sys.argv[2], executor="ray")
assert study.summary()["executed"] == 0
assert "ray" not in sys.modules, "a rerun with nothing to do must not load Ray"
"""


def test_run_again_does_not_even_load_ray(small_panel, finished, tmp_path) -> None:
    (tmp_path / "sweep.yaml").write_text(FILE.format(panel=small_panel.path))
    command = [sys.executable, "-c", _RERUN, str(tmp_path / "sweep.yaml"), str(finished)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stderr


def test_ray_and_inline_give_one_digest(small_panel, finished, tmp_path, ray_executor) -> None:
    want = bf.Study.open(finished).digest
    for workers, shard_seconds in ((1, None), (2, 0.001)):
        place = tmp_path / f"{workers}"
        study = sweep_over(small_panel).run(
            place, executor="ray", workers=workers, shard_seconds=shard_seconds, progress=False
        )
        assert study.summary()["executor"] == "ray"
        assert study.digest == want


def test_another_spec_is_refused(small_panel, finished) -> None:
    with pytest.raises(StoreError, match="holds another sweep") as caught:
        sweep_over(small_panel, cash=5.0).run(finished, executor="inline", progress=False)
    assert caught.value.faults == ("cash: 1000000 -> 5",), "its digests follow from that"


def test_other_data_is_another_sweep(small_panel, finished, tmp_path) -> None:
    other = bf.synthetic_panel(tmp_path / "other", n_bars=150, n_assets=30, seed=5)
    with pytest.raises(StoreError, match="holds another sweep") as caught:
        sweep_over(other).run(finished, executor="inline", progress=False)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["panel_ref.snapshot", "panel"]


def test_an_unrelated_field_is_the_same_sweep(small_panel, finished) -> None:
    wider = small_panel.with_field("noise", np.zeros(small_panel.shape))
    study = sweep_over(wider).run(finished, executor="inline", progress=False)
    assert study.summary()["executed"] == 0


def test_windows_and_other_axes(small_panel, tmp_path) -> None:
    stamps = small_panel.timestamps
    study = sweep_over(
        small_panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(10), n=bf.axis([1, 3]), weight=bf.axis(["equal", 0.5]), rebalance=5
        ),
        costs=bf.Costs(slippage_bps=bf.axis([0, 5])),
        sizing=bf.axis(["decision", "fill"]),
        cash=bf.axis([1e4, 1e6]),
        limits=bf.Limits(max_wait=bf.axis([1, 5])),
        window={"start": str(stamps[30]), "end": str(stamps[119])},
        keep={"equity": {"top": 0, "by": "sharpe"}},
    ).run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().collect()
    assert rows.height == 2**6
    assert rows["bars"].unique().to_list() == [90]
    assert set(rows["weight"].to_list()) == {"equal", "0.5"}
    row = rows.row(37, named=True)
    strategy = bf.TopN(
        signal=bf.factor.momentum(10),
        n=row["n"],
        weight="equal" if row["weight"] == "equal" else 0.5,
        rebalance=5,
    )
    alone = bf.run(
        small_panel,
        strategy,
        start=stamps[30],
        end=stamps[119],
        costs=bf.Costs(slippage_bps=row["costs.slippage_bps"]),
        sizing=row["sizing"],
        cash=row["cash"],
        limits=bf.Limits(max_wait=row["limits.max_wait"]),
    )
    assert alone.digest == row["digest"]
    assert not (tmp_path / "study" / "curves").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": {"start": "2100-01-01"}}, "no bar of the panel lies in the window"),
        ({"strategy": "momentum"}, "strategy"),
        ({"profile": "ziplin"}, "profile"),
        ({"wndow": {}}, "did you mean 'window'"),
    ],
)
def test_wrong_sweeps_are_named(small_panel, tmp_path, changes, words) -> None:
    with pytest.raises(InputError, match=words):
        sweep_over(small_panel, **changes).run(tmp_path / "study", executor="inline", progress=False)
    assert not (tmp_path / "study").exists()


def test_equity_that_is_not_finite_is_an_error_row(tmp_path) -> None:
    """A name that goes from 1e-300 to 1e300 while it is held; its neighbour does nothing."""
    days = np.arange("2024-01-01", "2024-01-09", dtype="M8[D]")
    prices = {"A": [1e-300] * 4 + [1e300] * 4, "B": [1.0] * 8}
    columns = dict.fromkeys(("open", "high", "low", "close"), np.concatenate(list(prices.values())))
    frame = pl.DataFrame({"timestamp": np.tile(days, 2), "symbol": ["A"] * 8 + ["B"] * 8, **columns})
    bf.Panel.build(frame, tmp_path / "panel")
    (tmp_path / "sweep.yaml").write_text(
        "panel: panel\n"
        "strategy: {kind: TopN, signal: {factor: momentum, lookback: 1}, n: [1, 2], rebalance: 8}\n"
        "window: {start: 2024-01-02}\ncosts: {commission_bps: [0, 10]}\n"
    )
    call = "from backtest_farm.cli import main; main()"
    command = [sys.executable, "-c", call, "sweep", "sweep.yaml", "--store", "study", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    study = bf.Study.open(tmp_path / "study")
    rows = study.trials().collect()
    assert rows["status"].to_list() == ["error"] * 4
    assert rows["error"].unique().to_list() == ["equity was not a finite number"]
    assert rows["sharpe"].null_count() == rows["total_return"].null_count() == 4
    assert rows["digest"].n_unique() == rows["key"].n_unique() == 4
    assert study.best(5).height == 0
    assert (study.summary()["ok"], study.summary()["error"]) == (0, 4)
    assert study.replay(0).status == "error"


def test_an_axis_of_text_and_numbers_over_several_atoms(small_panel, tmp_path) -> None:
    """Each atom holds one of the two weights: their columns must still have one type."""
    study = sweep_over(
        small_panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(10),
            n=bf.axis([3]),
            weight=bf.axis(["equal", 0.04]),
            rebalance=bf.axis(range(1, 21)),
        ),
        costs=bf.Costs(commission_bps=bf.axis(range(0, 20)), slippage_bps=bf.axis([0, 0.5])),
    ).run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().collect()
    assert study.plan.n_atoms > 4
    assert rows.height == 1600
    assert rows["weight"].value_counts().sort("weight").rows() == [("0.04", 800), ("equal", 800)]
    assert rows["costs.slippage_bps"].dtype == rows["costs.commission_bps"].dtype == pl.Float64


def test_a_window_that_starts_before_the_panel_is_told_and_taken(small_panel, tmp_path, capsys) -> None:
    sweep = sweep_over(small_panel, window={"start": "1999-01-04"})
    plan, whole = sweep.plan(), sweep_over(small_panel).plan()
    first, last = (small_panel.timestamps[bar].item() for bar in (0, -1))
    said = f"the window starts on 1999-01-04, but the panel's first bar is {first}: trials start there"
    assert plan["notices"] == [said] and whole["notices"] == []
    assert (plan["first_bar"], plan["last_bar"]) == (first, last)
    sweep.run(tmp_path / "study", executor="inline", progress=True)
    assert said in capsys.readouterr().err
    for start in (None, "auto", str(first), str(last)):
        assert sweep_over(small_panel, window={"start": start}).plan()["notices"] == []


def test_values_of_a_wrong_kind_are_named(small_panel, tmp_path) -> None:
    sweep = sweep_over(small_panel)
    for how, said in (
        ({"workers": "2"}, "workers is '2': give a whole number"),
        ({"workers": 1.5}, "workers is 1.5: give a whole number"),
        ({"shard_seconds": "1"}, "shard_seconds is '1': give a number of seconds"),
        ({"executor": 3}, "executor 3 is not known"),
    ):
        with pytest.raises(InputError, match=said):
            sweep.run(tmp_path / "study", **how)
    with pytest.raises(InputError, match="workers is '2'"):
        sweep.plan(workers="2")
    with pytest.raises(InputError, match=r"None is no place for a study\n  -> give the path"):
        sweep.run(None)
    with pytest.raises(InputError, match="5 is no place for a study"):
        bf.Study.open(5)
    with pytest.raises(PanelError, match=r"None is no place of a panel\n  -> give the path"):
        bf.Panel.open(None)
    assert not (tmp_path / "study").exists()


def test_a_look_back_beyond_the_data_is_refused(small_panel, tmp_path) -> None:
    strategy = bf.TopN(signal=bf.factor.momentum(bf.axis([10, 150])), n=2)
    with pytest.raises(InputError, match="signals need 150 bars before they have values, but only 150"):
        sweep_over(small_panel, strategy=strategy).run(tmp_path / "study", progress=False)
    with pytest.raises(InputError, match="signals need 500 bars"):
        bf.run(small_panel, bf.TopN(signal=bf.factor.momentum(500), n=2))


def test_a_second_sweep_at_the_same_time_counts_only_its_own(small_panel, tmp_path) -> None:
    call = (
        "import sys, backtest_farm as bf\n"
        "study = bf.Sweep.load('sweep.yaml').run('study', executor='inline', progress=False)\n"
        "print(study.summary()['executed'], study.digest)"
    )
    (tmp_path / "sweep.yaml").write_text(
        FILE.format(panel=small_panel.path).replace("[1, 5, 21]", str(list(range(1, 41))))
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", call], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    done = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert done[0][1] == done[1][1]
    assert sum(int(executed) for executed, _ in done) == 3 * 4 * 40 * 3


def test_a_plan_notes_what_the_first_run_compiles_in_words_alone(small_panel, monkeypatch) -> None:
    monkeypatch.setattr("backtest_farm.analysis.cost.node_speed", lambda: 1.0)
    plans = []
    for compiled in (True, False):
        monkeypatch.setattr("backtest_farm.study.sweep.is_compiled", lambda compiled=compiled: compiled)
        plans.append(sweep_over(small_panel).plan())
    said = "the first run here compiles the kernel, about a minute"
    assert [plan.pop("note") for plan in plans] == ["", said]
    assert plans[0] == plans[1]
