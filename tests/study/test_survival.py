"""A study that was damaged, that gave two results, or that is read while it grows."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import backtest_farm as bf
from backtest_farm.errors import StoreError
from backtest_farm.store import StudyStore, write_fragment
from tests.study.conftest import N_TRIALS, sweep_over


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def bite(file: Path, at: int = 300) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("what", ["log", "fragments", "sweeps", "curves", "everything"])
def test_a_damaged_study_is_told_repaired_and_completed(small_panel, finished, place, what: str) -> None:
    whole = bf.Study.open(finished)
    for folder in ("log", "fragments", "sweeps", "curves") if what == "everything" else (what,):
        bite(sorted((place / folder).iterdir())[-1], 100)
    with pytest.raises(StoreError, match=r"damaged|changed|replaced"):
        bf.Study.open(place).verify()
    rehearsed = bf.Study.repair(place, dry_run=True)
    assert bf.Study.repair(place) == rehearsed
    assert bool(rehearsed["unread"]) == (what in ("sweeps", "everything"))
    study = sweep_over(small_panel).run(place, executor="inline", progress=False)
    assert study.digest == whole.digest
    assert_frame_equal(study.trials().collect(), whole.trials().collect())
    assert 0 < study.verify(sample=1)["quarantined"] <= 4
    assert (study.summary()["executed"] > 0) == (what in ("fragments", "everything"))


def test_verify_compares_the_rows_of_each_atom_of_a_large_file(place: Path) -> None:
    bf.Study.open(place).compact()
    assert bf.Study.open(place).verify()["rows"] == N_TRIALS
    store = StudyStore.open(place)
    first, second, *_ = store.committed().values()
    store.move(store.sweep_id, [first._replace(first=second.first), second._replace(first=first.first)])
    with pytest.raises(StoreError) as caught:
        bf.Study.open(place).verify()
    assert sum("are not those that were committed" in fault for fault in caught.value.faults) == 2


def test_verify_reads_every_record_and_looks_at_what_is_beside(place: Path) -> None:
    store = StudyStore.open(place)
    store.history.log.checkpoint(store.history.state())
    assert bf.Study.open(place).verify()["unused"] == 0
    bite(sorted((place / "log").iterdir())[0], 40)
    bite(next((place / "curves").iterdir()))
    study = bf.Study.open(place)
    with pytest.raises(StoreError) as caught:
        study.verify()
    said = "\n".join(caught.value.faults)
    assert "00000001.json is damaged" in said and "curves/" in said
    assert "study repair" in caught.value.hint
    bite(next((place / "checkpoints").iterdir()))
    with pytest.raises(StoreError, match=r"00000001\.json is damaged"):
        bf.Study.open(place)


def test_two_results_are_told_and_explained(small_panel, place: Path) -> None:
    study, store = bf.Study.open(place), StudyStore.open(place)
    assert study.explain() == []
    rows = store.rows(1)
    values = rows["sharpe"].to_pylist()
    values[3] += 1e-12
    changed = rows.set_column(rows.column_names.index("sharpe"), "sharpe", [values])
    store.commit([write_fragment(store.storage, store.sweep_id, 1, changed)])
    [found] = study.explain()
    assert (found["atom"], found["trial"], found["column"], found["trials"]) == (
        1,
        rows["trial"][3].as_py(),
        "sharpe",
        1,
    )
    assert found["other"] == values[3] != found["counts"] == rows["sharpe"][3].as_py()
    with pytest.raises(StoreError, match=r"is flagged[\s\S]*atom 1 gave"):
        study.verify()
    with pytest.raises(StoreError, match="is flagged"):
        sweep_over(small_panel).run(place, executor="inline", progress=False)
    assert study.provenance()["impure"] == [1]
    study.compact()
    assert bf.Study.open(place).explain()[0]["other"] == values[3], "a compaction leaves the proof"


def test_a_query_sees_the_rows_of_the_moment_it_was_asked_for(finished: Path, tmp_path: Path) -> None:
    whole = StudyStore.open(finished)
    growing = StudyStore.create(tmp_path, whole.sweep_id, whole.spec_json, N_TRIALS)
    shutil.copytree(finished / "fragments", tmp_path / "fragments")
    fragments = list(whole.committed().values())
    growing.commit(fragments[:1])
    study = bf.Study.open(tmp_path)
    early = study.trials()
    growing.commit(fragments[1:])
    late = study.trials()
    assert early.select(pl.len()).collect().item() == fragments[0].rows
    assert_frame_equal(late.collect(), bf.Study.open(finished).trials().collect())
    study.compact()
    assert early.collect().height == fragments[0].rows, "what it reads was there before"


def test_a_query_reads_what_it_names_in_parts(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = bf.Study.open(finished)
    everything = study.trials().collect()
    monkeypatch.setattr("backtest_farm.study.study._PART_ROWS", 10)
    rows = study.trials()
    assert_frame_equal(rows.collect(), everything)
    for n in (0, 1, 10, 25):
        assert_frame_equal(rows.head(n).collect(), everything.head(n))
    query = rows.filter(pl.col("sharpe") > 0, pl.col("n") < 5).select("trial", 2 * pl.col("cagr"))
    want = everything.lazy().filter(pl.col("sharpe") > 0, pl.col("n") < 5).select("trial", 2 * pl.col("cagr"))
    assert_frame_equal(query.collect(), want.collect())
    assert_frame_equal(rows.sort("sharpe").tail(7).collect(), everything.sort("sharpe").tail(7))
