"""Reading a study: rows, leaders, curves, replays, digest."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import backtest_farm as bf
from backtest_farm.errors import InputError, PanelError, StoreError
from backtest_farm.kernel.summary import METRICS
from tests.study.conftest import COMMISSIONS, LOOKBACKS, N_TRIALS, SCHEDULES, SIZES, sweep_over

AXES = ["signal.lookback", "n", "rebalance", "costs.commission_bps"]


@pytest.fixture(scope="module")
def study(finished) -> bf.Study:
    return bf.Study.open(finished)


def test_rows_say_what_they_are(study) -> None:
    rows = study.trials().collect()
    assert rows["trial"].to_list() == list(range(N_TRIALS))
    assert rows["key"].n_unique() == rows["digest"].n_unique() == N_TRIALS
    assert rows["sweep"].unique().to_list() == [study.plan.sweep_id]
    assert rows["status"].unique().to_list() == ["ok"]
    for column, want in zip(AXES, (LOOKBACKS, SIZES, SCHEDULES, COMMISSIONS), strict=True):
        assert sorted(rows[column].unique().to_list()) == sorted(want)
    assert {"universe", "fold", "window_start", "window_end", "numerics", "bars_per_year", *METRICS} <= set(
        rows.columns
    )
    assert rows["segment_bars"].arr.sum().unique().to_list() == [150]


def test_segment_sums_are_those_of_the_curve(study) -> None:
    row = study.trials().filter(pl.col("trial") == 7).collect().row(0, named=True)
    equity = np.concatenate([[1e6], study.equity(7)["equity"].to_numpy()])
    r = equity[1:] / equity[:-1] - 1
    parts = np.arange(len(r)) * 16 // len(r)
    np.testing.assert_allclose(row["segment_sum"], np.bincount(parts, r), atol=1e-15)
    np.testing.assert_allclose(row["segment_sum_sq"], np.bincount(parts, r * r), atol=1e-15)


def test_rows_equal_single_runs(study, small_panel) -> None:
    for number in (0, 17, 40, N_TRIALS - 1):
        row = study.trials().filter(pl.col("trial") == number).collect().row(0, named=True)
        strategy = bf.TopN(
            signal=bf.factor.momentum(row["signal.lookback"], 2), n=row["n"], rebalance=row["rebalance"]
        )
        alone = bf.run(small_panel, strategy, costs=bf.Costs(commission_bps=row["costs.commission_bps"]))
        assert alone.digest == row["digest"]
        for name in METRICS:
            np.testing.assert_equal(row[name], alone.metrics[name])


def test_best_ranks_by_any_metric(study) -> None:
    rows = study.trials().collect()
    assert study.best(5)["sharpe"].to_list() == sorted(rows["sharpe"].to_list(), reverse=True)[:5]
    assert study.best(3, by="volatility")["volatility"].to_list() == sorted(rows["volatility"].to_list())[:3]
    assert (
        study.best(3, by="max_drawdown")["max_drawdown"].to_list()
        == sorted(rows["max_drawdown"].to_list())[:-4:-1]
    )
    assert study.best(10**6).height == N_TRIALS
    with pytest.raises(InputError, match="did you mean 'sharpe'"):
        study.best(by="sharp")
    for wrong in (0, 1.5):
        with pytest.raises(InputError, match="at least 1"):
            study.best(wrong)


def test_replay_gives_curve_and_ledger_again(study) -> None:
    for trial in (0, 50, study.best(1)["key"][0]):
        result = study.replay(trial)
        result.check_ledger()
        assert result.fills.height == result.counters["fills"] > 0
    for unknown in (N_TRIALS, -1, "beef", 10**25, True, 1.0):
        with pytest.raises(InputError, match=f"trials are 0 to {N_TRIALS - 1}"):
            study.replay(unknown)


def test_replay_checks_the_digest(finished, monkeypatch) -> None:
    study = bf.Study.open(finished)
    row = study.trial(3)
    monkeypatch.setattr(study, "trial", lambda trial: {**row, "digest": "0" * 32})
    with pytest.raises(StoreError, match="trial 3 gives digest"):
        study.replay(3)


def test_kept_curves_are_a_convenience(finished, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    study = bf.Study.open(copy)
    leaders = study.best(10)["trial"].to_list()
    kept = list((copy / "curves").iterdir())
    assert len(kept) == len(leaders) == 10
    before = {trial: study.equity(trial) for trial in leaders}
    digest = study.digest
    shutil.rmtree(copy / "curves")
    again = bf.Study.open(copy)
    for trial, frame in before.items():
        assert_frame_equal(again.equity(trial), frame, check_exact=True)
        assert_frame_equal(again.replay(trial).equity, frame, check_exact=True)
    assert again.digest == digest
    assert again.keep_curves(again.plan.spec.keep) == 10
    damaged = next((copy / "curves").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert again.keep_curves(again.plan.spec.keep) == 0


def test_a_study_can_be_copied_and_its_panel_moved(small_panel, finished, tmp_path) -> None:
    where = tmp_path / "elsewhere"
    shutil.copytree(small_panel.path, where)
    own = tmp_path / "panel"
    shutil.copytree(small_panel.path, own)
    study = sweep_over(own).run(tmp_path / "study", executor="inline", progress=False)
    assert study.digest == bf.Study.open(finished).digest
    shutil.rmtree(own)
    again = bf.Study.open(tmp_path / "study")
    with pytest.raises(PanelError, match="panel cannot be read") as caught:
        again.replay(5)
    assert "panel=path" in str(caught.value)
    assert again.replay(5, panel=str(where)).digest == study.replay(5, panel=where).digest
    assert again.verify(sample=2, panel=where)["replayed"] == [0, N_TRIALS // 2]
    with pytest.raises(InputError, match=r"5 is no panel\n  -> give a Panel, or the path of one"):
        again.replay(5, panel=5)
    with pytest.raises(PanelError, match="is no panel: it does not exist"):
        again.replay(5, panel=tmp_path / "nowhere")
    assert (
        again.replay(5, panel=bf.Panel.open(where)).digest
        == study.replay(5, panel=bf.Panel.open(where)).digest
    )
    other = bf.synthetic_panel(tmp_path / "other", n_bars=150, n_assets=30, seed=5)
    with pytest.raises(PanelError, match="is not what this sweep was planned on"):
        bf.Study.open(tmp_path / "study").replay(5, panel=other)
    # The moved panel goes on with the same study: what a sweep is does not depend on where its data lies.
    resumed = sweep_over(where).run(tmp_path / "study", executor="inline", progress=False)
    assert (resumed.summary()["executed"], resumed.digest) == (0, study.digest)


def test_duckdb_and_pandas_read_the_rows(study) -> None:
    duckdb = pytest.importorskip("duckdb", reason="pip install duckdb to run this")
    rows = study.trials().collect()
    found = duckdb.sql("select count(*), max(sharpe) from rows").fetchall()
    assert found == [(N_TRIALS, rows["sharpe"].max())]
    assert len(rows.to_pandas()) == N_TRIALS


def test_a_damaged_fragment_is_noticed(finished, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    fragment = next((copy / "fragments").iterdir())
    content = bytearray(fragment.read_bytes())
    content[len(content) // 2] ^= 4
    fragment.chmod(0o644)
    fragment.write_bytes(content)
    with pytest.raises(StoreError, match=fragment.name[:12]):
        bf.Study.open(copy).trials()


def test_values_of_a_wrong_kind_are_named(study) -> None:
    for sample in ("a", -1, 1.5, None):
        with pytest.raises(InputError, match=f"sample is {sample!r}: give a whole number of trials"):
            study.verify(sample)
    with pytest.raises(InputError, match="4 is no file to write"):
        study.export(4)


def test_no_study_there(tmp_path) -> None:
    with pytest.raises(StoreError, match="no study"):
        bf.Study.open(tmp_path / "nothing")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(StoreError, match="no study"):
        bf.Study.open(tmp_path / "letters")


def test_summary_counts(study) -> None:
    summary = study.summary()
    assert (summary["trials"], summary["ok"], summary["error"], summary["executed"]) == (
        N_TRIALS,
        N_TRIALS,
        0,
        0,
    )
    assert summary["digest"] == study.digest
    assert f"{N_TRIALS} of {N_TRIALS}" in repr(study)
