"""What a run copies instead of running it: rows of other sweeps, of twins, of atoms that are done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest_farm.errors import StoreError
from backtest_farm.farm.backlog import Backlog
from backtest_farm.farm.worker import Task
from backtest_farm.store import StudyStore
from tests.farm.cases import PER_ATOM, executions, fragments, run, sweep
from tests.farm.fake_job import FakePlan

# Keys 0..79 in the first sweep; the second starts at key 50, in the middle of an atom.
FIRST, SHIFT = 20, 50
SHARED = 30


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "executions"
    folder.mkdir()
    monkeypatch.setenv("FARM_TEST_EXECUTIONS", str(folder))
    return folder


def second(store: Path, **spec):
    """A sweep of another digest over some of the same keys."""
    return sweep(store, FIRST + 1, first_key=SHIFT, **spec)


def backlog_of(request, **how) -> Backlog:
    store = StudyStore.open(request.store, request.sweep_id)
    return Backlog(
        store, FakePlan(request.spec_json, request.n_atoms), **{"dedup": True, "retry_failed": False, **how}
    )


def test_rows_of_another_sweep_are_copied_and_only_the_others_run(
    tmp_path: Path, counted: Path, capsys: pytest.CaptureFixture
) -> None:
    run(sweep(tmp_path / "s", FIRST))
    with pytest.raises(StoreError, match="first_key: \\(absent\\) -> 50"):
        run(second(tmp_path / "s"))
    [file.unlink() for file in counted.iterdir()]
    summary = run(second(tmp_path / "s"), extend=True, progress=True)
    assert "84 trials, 84 new, 30 of them copied, in " in capsys.readouterr().err
    total = (FIRST + 1) * PER_ATOM
    # Atom 7 holds two shared keys and two new ones, so it runs too.
    assert set(executions(counted)) == set(range(SHARED // PER_ATOM, FIRST + 1))
    assert (summary.n_executed, summary.n_reused, summary.n_duplicates) == (total - SHARED, SHARED, 0)
    assert (summary.n_new, summary.n_committed) == (total, total)
    run(second(tmp_path / "alone"))
    assert fragments(tmp_path / "s") == fragments(tmp_path / "alone"), "the same bytes, copied or run"
    store = StudyStore.open(tmp_path / "s")
    assert sum(one.copied for one in store.committed().values()) == SHARED
    assert len(store.committed(store.sweeps[0].sweep_id)) == FIRST, "the first sweep stands as it did"


def test_without_dedup_everything_runs_and_nothing_else_differs(tmp_path: Path, counted: Path) -> None:
    run(sweep(tmp_path / "s", FIRST))
    run(sweep(tmp_path / "s", FIRST, seed=2), extend=True)
    [file.unlink() for file in counted.iterdir()]
    spec = {"twins": {"9": 2}}
    summary = run(second(tmp_path / "s", **spec), extend=True, dedup=False)
    assert (summary.n_executed, summary.n_reused, summary.n_duplicates) == ((FIRST + 1) * PER_ATOM, 0, 0)
    assert set(executions(counted).values()) == {1} and len(executions(counted)) == FIRST + 1
    run(second(tmp_path / "alone", **spec))
    assert fragments(tmp_path / "s") == fragments(tmp_path / "alone")


def test_twins_are_copied_after_their_originals(tmp_path: Path, counted: Path, ray_executor) -> None:
    spec = {"twins": {"3": 0, "4": 1, "11": 10}, "executions": str(counted)}
    for place, executor in (("inline", "inline"), ("ray", ray_executor)):
        summary = run(sweep(tmp_path / place, 12, **spec), executor=executor)
        assert (summary.n_executed, summary.n_reused, summary.n_duplicates) == (36, 0, 12)
    assert dict(executions(counted)) == {atom: 2 for atom in range(12) if atom not in (3, 4, 11)}
    run(sweep(tmp_path / "all", 12, **spec), dedup=False)
    assert fragments(tmp_path / "inline") == fragments(tmp_path / "ray") == fragments(tmp_path / "all")


def test_a_twin_of_what_failed_runs_by_itself(tmp_path: Path, counted: Path) -> None:
    with pytest.raises(Exception, match="1 of 6 atoms failed"):
        run(sweep(tmp_path / "s", 6, raises=[1], twins={"5": 1}))
    assert sorted(fragments(tmp_path / "s")) == [0, 2, 3, 4, 5]


def test_failed_rows_run_again_when_asked_to(
    tmp_path: Path, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = sweep(tmp_path / "s", 6, error_rows=[5, 9, 10])
    assert run(request).n_failed == 3
    assert run(request).n_new == 0, "a failure is a result: a plain run leaves it alone"
    [file.unlink() for file in counted.iterdir()]
    monkeypatch.setenv("FARM_TEST_MENDED", "2")
    summary = run(request, retry_failed=True)
    assert set(executions(counted)) == {1, 2}, "atoms without failures are left alone"
    assert (summary.n_executed, summary.n_reused, summary.n_failed, summary.n_committed) == (3, 0, 1, 24)
    monkeypatch.delenv("FARM_TEST_MENDED")
    run(sweep(tmp_path / "well", 6, error_rows=[5]))
    assert fragments(tmp_path / "s") == fragments(tmp_path / "well")
    store = StudyStore.open(tmp_path / "s")
    assert store.committed()[2].replaces and not store.committed()[1].replaces
    assert run(request, retry_failed=True).n_failed == 1, "it fails again, and stays"


def test_a_twin_that_failed_is_mended_from_its_original(
    tmp_path: Path, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = sweep(tmp_path / "s", 4, error_rows=[5], twins={"3": 1})
    assert run(request).n_failed == 2, "the failure is copied like any outcome"
    monkeypatch.setenv("FARM_TEST_MENDED", "1")
    summary = run(request, retry_failed=True)
    assert (summary.n_executed, summary.n_reused, summary.n_duplicates, summary.n_failed) == (1, 0, 0, 0)
    assert summary.n_committed == 16


def test_failures_are_reused_like_results_but_not_by_a_retry(tmp_path: Path, counted: Path) -> None:
    run(sweep(tmp_path / "s", 4, error_rows=[1]))
    again = sweep(tmp_path / "s", 5)
    assert backlog_of(sweep(tmp_path / "s", 4, error_rows=[1])).atoms == []
    [file.unlink() for file in counted.iterdir()]
    summary = run(again, extend=True)
    assert (summary.n_executed, summary.n_reused, summary.n_failed) == (4, 16, 1)
    assert set(executions(counted)) == {4}
    summary = run(again, retry_failed=True)
    assert (summary.n_executed, summary.n_failed) == (1, 0)


def test_what_is_left_to_run_is_known_beforehand(tmp_path: Path) -> None:
    run(sweep(tmp_path / "s", FIRST))
    StudyStore.create(tmp_path / "s", second(tmp_path).sweep_id, second(tmp_path).spec_json, extend=True)
    whole = backlog_of(second(tmp_path / "s"))
    assert whole.share_to_run() == pytest.approx(1 - SHARED / ((FIRST + 1) * PER_ATOM))
    tasks = list(whole.originals())
    there = whole._store.committed(whole._store.sweeps[0].sweep_id)
    assert tasks[0] == Task(0, (there[12], there[13])) and tasks[-1] == Task(FIRST, ())
    assert backlog_of(second(tmp_path / "s"), dedup=False).share_to_run() == 1.0
    run(second(tmp_path / "s"))
    assert backlog_of(second(tmp_path / "s")).share_to_run() == 0.0


def test_a_damaged_source_is_never_copied_from(tmp_path: Path) -> None:
    run(sweep(tmp_path / "s", FIRST))
    [file] = (tmp_path / "s" / "fragments").glob("*-000015-*")
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"000015.* is damaged"):
        run(second(tmp_path / "s"), extend=True)
