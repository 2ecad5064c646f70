"""A sweep inline: what runs, what is skipped, what is said, what fails."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from backtest_farm.errors import FarmError, InputError, PanelError, StoreError
from backtest_farm.farm.executor import quickest
from backtest_farm.farm.run import _choose_executor
from backtest_farm.store import StudyStore, write_fragment
from tests.farm.cases import DRIVER, executions, fragments, run, sweep
from tests.farm.fake_job import FakeJob


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    folder = tmp_path / "executions"
    folder.mkdir()
    return folder


def test_a_sweep_ends_with_all_rows_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    summary = run(sweep(tmp_path / "s", 40, error_rows=[5, 9]), progress=True)
    assert (summary.n_trials, summary.n_committed, summary.n_new, summary.n_failed) == (160, 160, 160, 2)
    assert (summary.executor, summary.workers, summary.counters) == ("inline", 1, {"fills": 160})
    assert summary.stage_seconds["pass"] == pytest.approx(0.04) and summary.stage_seconds["write"] > 0
    store = StudyStore.open(tmp_path / "s")
    assert [trial for table in store.tables() for trial in table["trial"].to_pylist()] == list(range(160))
    noted = [atom["atom"] for note in store.notes().values() for atom in note["atoms"]]
    assert sorted(noted) == list(range(40))
    assert all(atom["pid"] for note in store.notes().values() for atom in note["atoms"])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("done: 160 of 160 trials, 160 new in ")
    assert "2 failed" in said.err


def test_shard_sizes_change_no_name(tmp_path: Path) -> None:
    for i, shard_seconds in enumerate((None, 1e-6, 60.0)):
        run(sweep(tmp_path / str(i)), shard_seconds=shard_seconds)
    assert fragments(tmp_path / "0") == fragments(tmp_path / "1") == fragments(tmp_path / "2")
    assert len(fragments(tmp_path / "0")) == 40


def test_resume_runs_only_what_is_missing(tmp_path: Path, counted: Path) -> None:
    request = sweep(tmp_path / "s", executions=str(counted))
    run(request)
    whole = fragments(tmp_path / "s")
    log = sorted((tmp_path / "s" / "log").iterdir())
    log[-1].unlink()
    lost = sorted(set(range(40)) - set(fragments(tmp_path / "s")))[::2]
    [(tmp_path / "s" / whole[atom]).unlink() for atom in lost]
    [file.unlink() for file in counted.iterdir()]
    summary = run(request)
    assert dict(executions(counted)) == dict.fromkeys(lost, 1) and lost, "the others were finished already"
    assert summary.n_new == 4 * len(lost)
    assert fragments(tmp_path / "s") == whole


def test_what_a_start_finds_is_said(tmp_path: Path, capsys) -> None:
    request = sweep(tmp_path / "s")
    run(request)
    whole = fragments(tmp_path / "s")
    (tmp_path / "s" / whole[3]).write_bytes(b"")
    sorted((tmp_path / "s" / "log").iterdir())[-1].unlink()
    (tmp_path / "s" / whole[7]).unlink(missing_ok=True)
    run(request, progress=True)
    said = capsys.readouterr().err
    assert "found finished but uncommitted, and taken in" in said
    assert "moved to quarantine/ (fragments/" in said
    assert fragments(tmp_path / "s") == whole


def test_two_results_for_an_atom_end_the_run_after_all_else_is_done(tmp_path: Path, capsys) -> None:
    request = sweep(tmp_path / "s")
    store = StudyStore.create(request.store, request.sweep_id, request.spec_json)
    rows = FakeJob(request.spec_json).run_atom(5).table
    other = rows.set_column(rows.column_names.index("sharpe"), "sharpe", [[0.5] * 4])
    first = write_fragment(store.storage, store.sweep_id, 5, other)
    store.commit([first])
    written = write_fragment(store.storage, store.sweep_id, 5, rows)
    with pytest.raises(StoreError, match=r"is flagged[\s\S]*atom 5 gave[\s\S]*study explain"):
        run(request)
    now = StudyStore.open(request.store)
    assert len(now.committed()) == 40 and now.impure() == {5: (first, written)}
    with pytest.raises(StoreError, match="is flagged"):
        run(request, progress=True)
    assert "nothing to do" not in capsys.readouterr().err


def test_a_finished_sweep_does_nothing_and_needs_no_ray(tmp_path: Path, counted: Path) -> None:
    request = sweep(tmp_path / "s", executions=str(counted))
    run(request)
    before = sorted(path for path in (tmp_path / "s").rglob("*"))
    arguments = [request.spec_json, request.sweep_id, "40", request.store]
    ended = subprocess.run(
        [sys.executable, str(DRIVER), "ray", "fake_job:open_job", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert ended.stdout.strip() == "False", "ray was imported"
    assert ended.stderr.startswith("nothing to do: all 160 trials are in /")
    assert executions(counted).total() == 40
    assert sorted(path for path in (tmp_path / "s").rglob("*")) == before
    with pytest.raises(StoreError, match="holds 40 of 40 atoms"):
        run(request, resume=False)


def test_an_atom_that_raises_costs_that_atom(tmp_path: Path) -> None:
    request = sweep(tmp_path / "s", raises=[7, 11])
    with pytest.raises(FarmError) as caught:
        run(request)
    text = str(caught.value)
    assert "2 of 40 atoms failed, 152 trials are committed" in text
    assert "atom 7: ValueError: no rows for 7" in text and "atom 11: ValueError" in text
    assert sorted(fragments(tmp_path / "s")) == [atom for atom in range(40) if atom not in (7, 11)]
    note = next(note for name, note in StudyStore.open(tmp_path / "s").notes().items() if "failures" in name)
    assert "run_atom" in note["000007"]["traceback"]


def test_when_every_atom_raises_the_run_ends_early(tmp_path: Path, counted: Path) -> None:
    with pytest.raises(FarmError, match="3 of 3 atoms failed, 0 trials"):
        run(sweep(tmp_path / "s", raises="all", executions=str(counted)))
    assert executions(counted).total() == 3


def test_a_place_that_fills_up_says_what_stands_and_what_to_do(tmp_path: Path, monkeypatch) -> None:
    commit, left = StudyStore.commit, [2]

    def full(store: StudyStore, fragments):
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("log/4 could not be written: no space left on device", hint="check space")
        return commit(store, fragments)

    monkeypatch.setattr(StudyStore, "commit", full)
    times = iter(range(10_000))
    with pytest.raises(StoreError, match="no space left") as caught:
        run(sweep(tmp_path / "s", 40), clock=lambda: float(next(times)))
    assert "check space; mend that, then run the same sweep again" in caught.value.hint
    monkeypatch.undo()
    stands = sum(one.rows for one in StudyStore.open(tmp_path / "s").committed().values())
    assert 0 < stands < 160 and f"{stands} of 160 trials are committed" in caught.value.hint
    assert run(sweep(tmp_path / "s", 40)).n_committed == 160


def test_a_failures_note_that_cannot_be_written_hides_no_failure(tmp_path: Path, monkeypatch) -> None:
    put = StudyStore.put_note

    def full(store: StudyStore, name: str, note) -> None:
        if name.endswith("-failures"):
            raise StoreError("no space left on device")
        put(store, name, note)

    monkeypatch.setattr(StudyStore, "put_note", full)
    with pytest.raises(FarmError, match="1 of 40 atoms failed, 156 trials are committed"):
        run(sweep(tmp_path / "s", 40, raises=[3]))


def test_a_job_that_cannot_open_says_why_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"panels/us is not there[\s\S]*build it first"):
        run(sweep(tmp_path / "s", no_panel=True))
    with pytest.raises(InputError, match=r"cannot be imported[\s\S]*on every machine"):
        run(sweep(tmp_path / "s2", job="no_such_module:open_job"))


def test_another_sweep_is_refused_before_anything_runs(tmp_path: Path, counted: Path) -> None:
    run(sweep(tmp_path / "s", 2))
    with pytest.raises(StoreError, match="seed: 1 -> 2"):
        run(sweep(tmp_path / "s", 2, seed=2, executions=str(counted)))
    assert executions(counted).total() == 0


def test_all_wrong_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(sweep(tmp_path / "s", 0), executor="rya", workers=0, shard_seconds=0)
    assert len(caught.value.faults) == 4 and "did you mean 'ray'" in str(caught.value)
    with pytest.raises(InputError, match="makes no sense with the inline"):
        run(sweep(tmp_path / "s"), executor="inline", address="auto")
    assert not (tmp_path / "s").exists()


def test_auto_weighs_what_is_left_against_rays_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import backtest_farm.farm.ray.executor as ray_room

    monkeypatch.setattr(ray_room, "RayExecutor", lambda workers, address: ("ray", workers, address))
    said: list[str] = []

    def chosen(wanted, workers, address, seconds):
        return _choose_executor(wanted, workers, address, lambda: seconds, said.append)

    # Two workers halve ten seconds, and Ray takes five to start; one worker never makes up for that.
    assert chosen("auto", 2, None, 10.0).name == "inline" and said == []
    assert chosen("auto", 2, None, 10.1) == ("ray", 2, None) and said == ["starting Ray"]
    assert chosen("auto", 1, None, 1e6).name == "inline"
    assert chosen("auto", None, "auto", 0.0) == ("ray", None, "auto")
    assert said[1:] == ["joining the Ray cluster at auto"]
    assert chosen("ray", None, None, 0.0) == ("ray", None, None)
    assert quickest(100.0, 20) == ("ray", 20, 10.0) and quickest(100.0, 1) == ("inline", 1, 100.0)


def test_a_note_is_told_when_work_begins_and_never_without_work(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    request = dataclasses.replace(sweep(tmp_path / "s"), note="the first run compiles")
    run(request, progress=True)
    assert capsys.readouterr().err.splitlines()[0] == (
        "the first run compiles; 0 of 160 trials committed (0 %)"
    )
    run(request, progress=True)
    assert capsys.readouterr().err.startswith("nothing to do")
    run(sweep(tmp_path / "t"), progress=True)
    assert len(capsys.readouterr().err.splitlines()) == 1, "without a note there is nothing to wait for"


def test_a_clock_of_its_own_sets_the_commits(tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    run(sweep(tmp_path / "s", 12), shard_seconds=1e-6, progress=False, clock=clock)
    assert len(list((tmp_path / "s" / "log").iterdir())) == 13, (
        "every shard is a second later: one commit each"
    )
    assert json.loads(sweep(tmp_path).spec_json)["per_atom"] == 4
