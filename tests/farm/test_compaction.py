"""A compacted study goes on: rows are copied out of large files, run again and added to, as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest_farm.errors import StoreError
from backtest_farm.farm import run_sweep, worker
from backtest_farm.farm.progress import Progress, Status
from backtest_farm.storage import open_storage
from backtest_farm.store import StudyStore, compact, compaction
from tests.farm.cases import run, sweep

ATOMS = 12


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGED_ROWS", 20)


def rows(place: Path) -> list[dict]:
    """The newest sweep's rows."""
    return [row for table in StudyStore.open(place).tables() for row in table.to_pylist()]


def test_rows_that_were_run_again_win_over_those_that_a_large_file_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "s"
    first = sweep(place, ATOMS, error_rows=[9, 22])
    run(first)
    compact(StudyStore.open(place))
    monkeypatch.setenv("FARM_TEST_MENDED", "2")
    assert run(first, retry_failed=True).n_failed == 1
    # Its third atom has the mended row and one of the next old atom, whose file still holds the failed one.
    second = sweep(place, ATOMS + 1, first_key=1)
    summary = run(second, extend=True)
    assert (summary.n_reused, summary.n_executed) == (47, 5)
    shared = {row["key"]: row for row in rows(place)}
    assert shared["1-9"]["status"] == "ok", "the failed row stands before it in the same file"
    assert shared["1-22"]["status"] == "error"
    fresh = run(sweep(tmp_path / "alone", ATOMS + 1, first_key=1, error_rows=[21]))
    assert fresh.n_failed == 1
    assert rows(place) == rows(tmp_path / "alone")


def test_workers_keep_the_rows_that_they_copy_and_not_the_large_files(tmp_path: Path) -> None:
    run(sweep(tmp_path / "s", ATOMS))
    store = StudyStore.open(tmp_path / "s")
    compact(store)
    one = store.committed()[7]
    kept = worker._source(store.uri, one, ("ok",))
    assert kept.to_pylist() == store.rows(7).to_pylist()
    whole = store.rows(7).get_total_buffer_size()
    assert kept.get_total_buffer_size() < whole


def test_a_sweep_does_not_start_on_a_study_that_is_being_compacted(tmp_path: Path) -> None:
    request = sweep(tmp_path / "s", ATOMS)
    run(request)
    with (
        open_storage(tmp_path / "s").hold(alone=True),
        pytest.raises(StoreError, match="compaction is at work"),
    ):
        run(sweep(tmp_path / "s", ATOMS, seed=2), extend=True)
    assert run(sweep(tmp_path / "s", ATOMS, seed=2), extend=True).n_executed == ATOMS * 4


def test_a_study_is_not_compacted_while_a_sweep_runs_on_it(tmp_path: Path) -> None:
    request = sweep(tmp_path / "s", ATOMS)
    refused = []

    class Watching(Progress):
        def show(self, status: Status) -> None:
            if not refused:
                with pytest.raises(StoreError, match="a sweep or a compaction is at work") as caught:
                    compact(StudyStore.open(tmp_path / "s"))
                refused.append(caught.value.hint)

    run_sweep(request.plan, request.store, job=request.job, display=Watching(), executor="inline")
    assert refused == ["wait until it has ended, or stop it"]
    assert compact(StudyStore.open(tmp_path / "s"))["fragments_after"] == 3
