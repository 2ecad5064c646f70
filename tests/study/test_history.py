"""A study over time: sweeps added, rows reused, failures mended, everything checked, everything exported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import backtest_farm as bf
from backtest_farm.errors import InputError, PanelError, StoreError
from backtest_farm.farm import job as job_room
from tests.study.conftest import COMMISSIONS, LOOKBACKS, N_TRIALS, SCHEDULES, SIZES, sweep_over

WIDER = {
    "strategy": bf.TopN(
        signal=bf.factor.momentum(bf.axis([5, *LOOKBACKS]), skip=2),
        n=bf.axis([2, 4, *SIZES[1:]]),
        rebalance=bf.axis(SCHEDULES),
    )
}
N_WIDER = 4 * 5 * len(SCHEDULES) * len(COMMISSIONS)


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A finished study to go on with."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


def run(sweep: bf.Sweep, place: Path, **how) -> bf.Study:
    return sweep.run(place, **{"executor": "inline", "progress": False, **how})


# ------------------------------------------------------------------------------------------ history
def test_a_wider_sweep_runs_only_what_the_study_lacks(small_panel, place, tmp_path) -> None:
    first = bf.Study.open(place)
    with pytest.raises(StoreError, match=r"holds another sweep[\s\S]*strategy.n[\s\S]*--extend"):
        run(sweep_over(small_panel, **WIDER), place)
    study = run(sweep_over(small_panel, **WIDER), place, extend=True)
    counts = study.summary()
    assert (counts["executed"], counts["reused"], counts["duplicates"]) == (N_WIDER - N_TRIALS, N_TRIALS, 0)
    assert (counts["trials"], counts["committed"]) == (N_WIDER, N_WIDER)
    alone = run(sweep_over(small_panel, **WIDER), tmp_path / "alone")
    assert study.digest == alone.digest
    assert_frame_equal(study.trials().collect(), alone.trials().collect())
    everything = run(sweep_over(small_panel, **WIDER, cash=5.0), place, extend=True, dedup=False)
    assert everything.summary()["executed"] == N_WIDER
    history = study.sweeps()
    assert history["number"].to_list() == [1, 2, 3]
    assert history["trials"].to_list() == history["committed"].to_list() == [N_TRIALS, N_WIDER, N_WIDER]
    assert history["reused"].to_list() == [0, N_TRIALS, 0]
    assert bf.Study.open(place).digest == everything.digest, "the newest one is shown"
    for name in (1, first.plan.sweep_id[:8]):
        assert bf.Study.open(place, sweep=name).digest == first.digest
    assert bf.Study.open(place, sweep=2).digest == study.digest
    with pytest.raises(InputError, match="no sweeps 4"):
        bf.Study.open(place, sweep=4)


def test_an_older_sweep_of_the_history_can_be_run_on(small_panel, place) -> None:
    run(sweep_over(small_panel, **WIDER), place, extend=True)
    study = run(sweep_over(small_panel), place)
    assert study.summary()["executed"] == 0
    assert study.plan.n_trials == N_TRIALS, "what was run is what comes back, not the newest"
    with pytest.raises(StoreError, match="of this sweep already"):
        run(sweep_over(small_panel), place, resume=False)


def test_ray_copies_the_same_bytes(small_panel, finished, tmp_path, ray_executor) -> None:
    places = {how: Path(shutil.copytree(finished, tmp_path / how)) for how in ("inline", "ray")}
    for how, folder in places.items():
        study = sweep_over(small_panel, **WIDER).run(
            folder, extend=True, executor=how, workers=2 if how == "ray" else None, progress=False
        )
        assert study.summary()["reused"] == N_TRIALS
    names = [sorted(path.name for path in (one / "fragments").iterdir()) for one in places.values()]
    assert names[0] == names[1]


def test_universes_of_equal_content_run_once(small_panel, tmp_path) -> None:
    spells = pl.DataFrame(
        {"symbol": list(small_panel.symbols), "start_date": "1900-01-01", "end_date": "2200-01-01"}
    )
    panel = small_panel.with_universe("mine", spells).with_universe("same", spells)
    sweep = sweep_over(panel, universes=["all", "mine", "same"])
    study = run(sweep, tmp_path / "study")
    counts = study.summary()
    assert counts["trials"] == 3 * N_TRIALS
    assert (counts["executed"], counts["duplicates"], counts["reused"]) == (2 * N_TRIALS, N_TRIALS, 0)
    assert counts["factor_builds"] <= len(LOOKBACKS)
    everything = run(sweep, tmp_path / "all", dedup=False)
    assert everything.summary()["executed"] == 3 * N_TRIALS
    assert everything.digest == study.digest
    assert_frame_equal(everything.trials().collect(), study.trials().collect())
    rows = study.trials().collect()
    assert rows["universe"].value_counts().sort("universe").rows() == [
        ("all", N_TRIALS),
        ("mine", N_TRIALS),
        ("same", N_TRIALS),
    ]
    for label in ("mine", "same"):
        row = rows.filter(universe=label).row(5, named=True)
        assert study.replay(row["trial"]).digest == study.replay(row["key"]).digest == row["digest"]
    alone = run(sweep_over(small_panel), tmp_path / "alone").trials().collect()
    assert rows.filter(universe="all")["digest"].to_list() == alone["digest"].to_list()


def test_alternatives_share_one_schema(small_panel, tmp_path) -> None:
    strategy = bf.TopN(
        signal=bf.axis(
            [bf.factor.momentum(bf.axis([10, 20]), skip=2), bf.factor.volatility(15), bf.factor.rsi(14)]
        ),
        n=bf.axis([3, 5]),
        rebalance=5,
    )
    study = run(sweep_over(small_panel, strategy=strategy, costs=bf.Costs()), tmp_path / "study")
    rows = study.trials().collect()
    assert rows.height == 8 and study.plan.n_atoms == 4
    by_factor = rows.group_by("signal.factor").agg(pl.col("signal.skip").null_count()).sort("signal.factor")
    assert dict(by_factor.rows()) == {"momentum": 0, "rsi": 2, "volatility": 2}
    assert rows["signal.lookback"].to_list() == [10, 10, 20, 20, 15, 15, 14, 14]
    number = rows.filter(pl.col("signal.factor") == "rsi")["trial"][0]
    assert study.replay(number).digest == rows.filter(trial=number)["digest"][0]
    assert len(list((tmp_path / "study" / "curves").iterdir())) == 8


def test_a_condition_leaves_holes_in_the_numbers(small_panel, tmp_path) -> None:
    study = run(sweep_over(small_panel, where="n <= rebalance and n != 3"), tmp_path / "study")
    rows = study.trials().collect()
    assert rows.height == study.plan.n_trials < N_TRIALS
    assert (rows["n"] <= rows["rebalance"]).all() and rows["trial"].max() >= rows.height
    last = rows["trial"].max()
    assert study.replay(last).digest == rows.filter(trial=last)["digest"][0]
    assert study.verify(sample=2)["rows"] == rows.height
    with pytest.raises(InputError, match="has no trial 0"):
        study.replay(0)
    assert (
        run(sweep_over(small_panel, where="n <= rebalance and n != 3"), tmp_path / "study").summary()[
            "executed"
        ]
        == 0
    )


# ----------------------------------------------------------------------------------------- failures
class Raising:
    """Stands in for `run_trials`: raises when one of the asked trials has these parameters."""

    def __init__(self, when, error: Exception) -> None:
        self.real, self.when, self.error = job_room.run_trials, when, error
        self.calls = 0

    def __call__(self, panel, window, spec, universe, n_trials, values, depth):
        self.calls += 1
        for n, bps in zip(values("n"), values("costs.commission_bps"), strict=True):
            if self.when(n, bps):
                raise self.error
        return self.real(panel, window, spec, universe, n_trials, values, depth)


def test_one_bad_trial_costs_one_trial(small_panel, finished, tmp_path, monkeypatch) -> None:
    bad = Raising(lambda n, bps: n == 5 and bps == 25, ValueError("a bad day\nwith a long story"))
    monkeypatch.setattr(job_room, "run_trials", bad)
    study = run(sweep_over(small_panel), tmp_path / "study")
    whole = bf.Study.open(finished).trials().collect()
    n_bad = len(LOOKBACKS) * len(SCHEDULES)
    assert (study.summary()["ok"], study.summary()["error"]) == (N_TRIALS - n_bad, n_bad)
    rows = study.trials().collect()
    failed = rows.filter(pl.col("status") != "ok")
    assert failed.select("n", "costs.commission_bps").unique().rows() == [(5, 25)]
    assert failed["error"].unique().to_list() == ["ValueError: a bad day"]
    assert failed["sharpe"].null_count() == failed["orders"].null_count() == n_bad
    assert failed["digest"].n_unique() == 1 and failed["key"].n_unique() == n_bad
    fine = rows.filter(status="ok")
    assert_frame_equal(fine, whole.filter(pl.col("trial").is_in(fine["trial"].to_list())))
    # 36 trials an atom, 3 of them bad: some dozen halves each, not one run for each trial.
    assert bad.calls < len(LOOKBACKS) * 30
    frame = study.failures()
    assert frame.columns[:5] == ["trial", "key", "universe", "status", "error"]
    assert frame["trial"].to_list() == failed["trial"].to_list() and "n" in frame.columns
    assert study.best(N_TRIALS).height == N_TRIALS - n_bad
    again = run(sweep_over(small_panel), tmp_path / "again", dedup=False)
    assert again.digest == study.digest, "a failure is part of the digest, by its class"

    monkeypatch.undo()
    untouched = run(sweep_over(small_panel), tmp_path / "study")
    assert untouched.digest == study.digest and untouched.summary()["executed"] == 0
    mended = run(sweep_over(small_panel), tmp_path / "study", retry_failed=True)
    assert (mended.summary()["executed"], mended.summary()["error"]) == (n_bad, 0)
    assert mended.digest == bf.Study.open(finished).digest
    assert_frame_equal(mended.trials().collect(), whole)
    assert mended.verify(sample=1)["unused"] == len(LOOKBACKS)


def test_a_failed_trial_says_so_when_it_is_replayed(small_panel, tmp_path, monkeypatch) -> None:
    bad = Raising(lambda n, bps: n == 5, ValueError("a bad day"))
    monkeypatch.setattr(job_room, "run_trials", bad)
    study = run(sweep_over(small_panel), tmp_path / "study")
    monkeypatch.undo()
    number = study.failures()["trial"][0]
    with pytest.raises(StoreError, match=f"trial {number} gives digest"):
        study.replay(number)

    def raises(*_) -> None:
        raise ValueError("a bad day")

    monkeypatch.setattr("backtest_farm.study.study.run_one", raises)
    with pytest.raises(InputError, match=r"raises ValueError: a bad day \(stored: ValueError: a bad day\)"):
        study.replay(number)


def test_a_signal_that_raises_is_not_asked_again_for_each_trial(small_panel, tmp_path, monkeypatch) -> None:
    asked = []

    def factor_field(panel, factor, stop):
        asked.append(factor)
        raise ZeroDivisionError("no signal")

    bad = Raising(lambda n, bps: True, ZeroDivisionError("no signal"))
    monkeypatch.setattr(job_room, "run_trials", bad)
    monkeypatch.setattr(job_room, "factor_field", factor_field)
    study = run(sweep_over(small_panel), tmp_path / "study")
    assert study.summary()["error"] == N_TRIALS
    assert bad.calls == len(asked) == len(LOOKBACKS)


@pytest.mark.parametrize(("error", "atoms"), [(PanelError("gone"), 1), (OSError("full"), 3)])
def test_what_ails_the_machine_is_no_result(small_panel, tmp_path, monkeypatch, error, atoms: int) -> None:
    """With other data than at the beginning, going on makes no sense."""
    monkeypatch.setattr(job_room, "run_trials", Raising(lambda n, bps: True, error))
    with pytest.raises(Exception, match=f"{atoms} of {atoms} atoms failed, 0 trials"):
        run(sweep_over(small_panel), tmp_path / "study")


# --------------------------------------------------------------------------------- checks and files
def test_verify_reads_everything_and_replays_a_sample(small_panel, place) -> None:
    run(sweep_over(small_panel, **WIDER), place, extend=True)
    study = bf.Study.open(place)
    found = study.verify(sample=3)
    assert found["rows"] == N_WIDER + N_TRIALS and found["sweeps"] == 2 and found["unused"] == 0
    assert found["fragments"] == len(list((place / "fragments").iterdir())) == 3 + 4
    assert found["bytes"] == sum(file.stat().st_size for file in (place / "fragments").iterdir())
    assert found["commits"] == len(list((place / "log").iterdir()))
    assert len(found["replayed"]) == 3 and found["replayed"][1] >= N_WIDER // 3
    assert study.verify()["replayed"] == []


def test_compact_changes_files_and_nothing_else(small_panel, place) -> None:
    run(sweep_over(small_panel, **WIDER), place, extend=True)
    studies = [bf.Study.open(place, sweep=number) for number in (1, 2)]
    before = [(study.digest, study.trials().collect(), study.best(3), study.summary()) for study in studies]
    history, curves = studies[0].sweeps(), sorted((place / "curves").iterdir())
    fresh = bf.Study.open(place)  # has read no rows when the files go
    done = bf.Study.open(place).compact()
    assert (done["fragments_before"], done["fragments_after"], done["removed"]) == (3 + 4, 2, 3 + 4)
    assert done["bytes_after"] < done["bytes_before"]
    assert fresh.trials().collect().height == N_WIDER and fresh.equity(0).height > 0
    for number, study in (
        (1, studies[0]),
        (2, studies[1]),
        (1, bf.Study.open(place, 1)),
        (2, bf.Study.open(place)),
    ):
        digest, rows, best, counts = before[number - 1]
        assert study.digest == digest and study.summary() == counts
        assert_frame_equal(study.trials().collect(), rows)
        assert_frame_equal(study.best(3), best)
    found = bf.Study.open(place).verify(sample=2)
    assert (found["fragments"], found["unused"], found["rows"]) == (2, 0, N_WIDER + N_TRIALS)
    assert found["bytes"] == done["bytes_after"]
    assert_frame_equal(studies[0].sweeps(), history)
    assert sorted((place / "curves").iterdir()) == curves
    assert bf.Study.open(place).compact()["removed"] == 0
    assert run(sweep_over(small_panel, **WIDER), place).summary()["executed"] == 0
    large = next((place / "fragments").iterdir())
    large.write_bytes(large.read_bytes()[:-1])
    with pytest.raises(StoreError) as caught:
        bf.Study.open(place).verify()
    assert len(caught.value.faults) <= 2 and large.name in caught.value.faults[0], (
        "told once, not for each atom"
    )


def test_verify_names_every_fault_at_once(place) -> None:
    study = bf.Study.open(place)
    first, second, _ = sorted((place / "fragments").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    with pytest.raises(StoreError) as caught:
        study.verify()
    assert "is damaged" in caught.value.faults[0] and "is not there" in caught.value.faults[1]


def test_verify_checks_the_chain_and_the_results(place, monkeypatch) -> None:
    study = bf.Study.open(place)
    monkeypatch.setattr(
        study, "trial", lambda trial: {**study.trials().collect().row(0, named=True), "digest": "0"}
    )
    with pytest.raises(StoreError, match=r"trial 0 gives digest"):
        study.verify(sample=1)
    monkeypatch.undo()
    assert study.verify()["rows"] == N_TRIALS
    record = sorted((place / "log").iterdir())[0]
    record.write_text(record.read_text().replace("created", "crested"))
    with pytest.raises(StoreError, match=r"checksum does not fit"):
        study.verify()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_export(finished, tmp_path, suffix) -> None:
    study = bf.Study.open(finished)
    target = tmp_path / f"trials{suffix}"
    assert study.export(target) == study.export(str(target)) == N_TRIALS
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    rows = study.trials().collect()
    if suffix == ".csv":
        back = pl.read_csv(target, try_parse_dates=True)
        assert {*rows.columns} - {*back.columns} == {"segment_bars", "segment_sum", "segment_sum_sq"}
        assert back["sharpe"].to_list() == rows["sharpe"].to_list()
    else:
        back = pl.read_parquet(target) if suffix == ".parquet" else pl.read_ipc(target)
        assert_frame_equal(back, rows)


def test_texts_that_a_spreadsheet_would_run_are_disarmed(tmp_path) -> None:
    from backtest_farm.analysis.export import export

    texts = ["=1+1", "+A1", "-2", "@sum", "\tx", "a=b", "ok", None]
    frame = pl.LazyFrame({"name": texts, "value": [-1.5] * len(texts)})
    export(frame, tmp_path / "a.csv")
    back = pl.read_csv(tmp_path / "a.csv")
    assert back["name"].to_list() == ["'=1+1", "'+A1", "'-2", "'@sum", "'\tx", "a=b", "ok", None]
    assert back["value"].to_list() == [-1.5] * len(texts)
    export(frame, tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet")["name"].to_list() == texts


def test_a_file_that_cannot_be_written_is_told(finished, tmp_path) -> None:
    study = bf.Study.open(finished)
    with pytest.raises(InputError, match=r"from '.xlsx'[\s\S]*\.parquet, \.arrow, \.csv"):
        study.export(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="cannot be written"):
        study.export(tmp_path / "nowhere" / "a.csv")


def test_provenance(small_panel, place) -> None:
    run(sweep_over(small_panel, **WIDER), place, extend=True)
    study = bf.Study.open(place, sweep=1)
    found = study.provenance()
    assert found["panel"] == {"path": str(small_panel.path), "snapshot": small_panel.snapshot}
    assert found["sweep"] == found["sweeps"][0] and len(found["sweeps"]) == len(found["created"]) == 2
    assert found["digest"] == study.digest and found["commits"] == len(list((place / "log").iterdir()))
    [numerics] = found["numerics"]
    assert numerics.startswith("float64/contract-")
    assert {"python", "numpy", "polars"} <= {*found["versions"]} and len(found["hosts"]) == 1
    shutil.rmtree(place / "notes")
    assert bf.Study.open(place).provenance()["hosts"] == [], "side files may go"


def test_one_row_as_a_dict(finished) -> None:
    study = bf.Study.open(finished)
    row = study.trial(7)
    assert row["trial"] == 7 and study.trial(row["key"]) == row


# ----------------------------------------------------------------------------------------- kill -9
_DRIVER = """
import sys
import backtest_farm as bf
from backtest_farm.farm import job
real = job.run_trials
def slow(*given, **named):
    import time
    time.sleep(0.05)
    return real(*given, **named)
job.run_trials = slow
bf.Sweep.load("sweep.yaml").run("study", executor="inline", extend=True, shard_seconds=1e-6, progress=False)
"""


def test_kill_9_of_a_real_sweep(small_panel, tmp_path) -> None:
    """With a history, twins, holes and alternatives: what is resumed equals what was never disturbed."""
    spells = pl.DataFrame(
        {"symbol": list(small_panel.symbols), "start_date": "1900-01-01", "end_date": "2200-01-01"}
    )
    panel = small_panel.with_universe("mine", spells).with_universe("same", spells)
    lookbacks = list(range(5, 35))
    (tmp_path / "sweep.yaml").write_text(
        f"panel: {panel.path}\nuniverses: [mine, all, same]\nwhere: signal.lookback > n\n"
        "strategy:\n  kind: TopN\n  n: [2, 3, 6]\n  rebalance: [5, month_end]\n"
        f"  signal:\n    - {{factor: momentum, skip: 2, lookback: {lookbacks}}}\n"
        "    - {factor: rsi, lookback: [7, 14]}\n"
    )
    sweep = bf.Sweep.load(tmp_path / "sweep.yaml")
    whole = run(sweep, tmp_path / "whole", dedup=False)
    run(sweep_over(panel, costs=bf.Costs(commission_bps=10)), tmp_path / "study")
    with subprocess.Popen([sys.executable, "-c", _DRIVER], cwd=tmp_path, env=os.environ) as driver:
        try:
            end = time.monotonic() + 200
            while bf.Study.open(tmp_path / "study").sweeps()["committed"].to_list()[1:] in ([], [0]):
                assert driver.poll() is None and time.monotonic() < end
                time.sleep(0.02)
        finally:
            driver.kill()
    committed = bf.Study.open(tmp_path / "study").summary()["committed"]
    assert 0 < committed < whole.plan.n_trials, "the kill did not land mid-work"
    resumed = run(sweep, tmp_path / "study")
    assert resumed.digest == whole.digest
    assert_frame_equal(resumed.trials().collect(), whole.trials().collect())
    counts = resumed.summary()
    assert 0 < counts["executed"] < whole.plan.n_trials - committed and counts["duplicates"] > 0
    resumed.verify(sample=2)
