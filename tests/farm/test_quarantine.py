"""Trials that end their process: found by halving, marked as rows, all others as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_farm.errors import InputError, PanelError, PlatformError
from backtest_farm.farm import InlineExecutor, SweepRequest
from backtest_farm.farm.quarantine import examined
from backtest_farm.farm.worker import QUARANTINE, SETTLED, Failure, Receipt, Task, run_shard
from backtest_farm.store import StudyStore, read_fragment
from tests.farm.cases import FakeSweep, run, sweep

N = 64
ENDS = {"70": "SIGSEGV", "71": "exit", "90": "eat", "127": "SIGKILL"}


def attempts_of(bad: Mapping[int, str], together: int = N + 1, numbers: range = range(N)):
    """Return attempts in which trials end their process, or too many of them do; and what was asked."""
    asked: list[tuple[int, bool, int]] = []

    def attempt(failures: Mapping[int, Failure], keep: bool, patience: int) -> Receipt | Failure:
        ran = [number for number in numbers if number not in failures]
        asked.append((len(ran), keep, patience))
        ended = [bad[number] for number in ran if number in bad]
        if ended or (len(ran) >= together and patience == 1):
            return Failure(ended[0] if ended else "timeout", "Kind: in words")
        return Receipt(0, counters={number: failures[number].status for number in failures})

    return attempt, asked


@given(st.dictionaries(st.integers(0, N - 1), st.sampled_from(["crashed", "oom", "timeout"]), max_size=N))
def test_exactly_the_bad_trials_are_found(bad: dict[int, str]) -> None:
    attempt, asked = attempts_of(bad)
    assert examined(range(N), attempt).counters == bad
    assert [keep for _, keep, _ in asked].count(True) == 1 + bool(bad), "rows are written by the last"


def test_one_bad_trial_costs_a_few_attempts() -> None:
    attempt, asked = attempts_of({37: "crashed"})
    examined(range(N), attempt)
    assert len(asked) == 2 + 2 * 6 + 1


def test_a_death_by_chance_marks_nobody() -> None:
    healthy, asked = attempts_of({})

    def attempt(*how) -> Receipt | Failure:
        # The third one takes the whole atom, the first half and so on down with it, each only once.
        outcome = healthy(*how)
        return Failure("crashed", "SIGKILL: ended its process") if len(asked) in (2, 4, 6, 8) else outcome

    assert examined(range(N), attempt).counters == {}


def test_many_slow_trials_are_no_hanging_one() -> None:
    attempt, asked = attempts_of({}, together=10)
    assert examined(range(N), attempt).counters == {}
    assert asked[-1] == (N, True, N), "together they get the time of each"


def test_what_only_all_trials_together_do_is_an_error() -> None:
    def attempt(failures: Mapping[int, Failure], keep: bool, patience: int) -> Receipt | Failure:
        return Receipt(0) if len(failures) else Failure("oom", "MemoryError: too much")

    with pytest.raises(PlatformError, match="MemoryError: too much: 64 trials together, and none of them"):
        examined(range(N), attempt)


def request_of(one: FakeSweep, deadline: float | None = None) -> SweepRequest:
    StudyStore.create(one.store, one.sweep_id, one.spec_json, one.n_atoms * N)
    return SweepRequest(one.spec_json, one.sweep_id, one.store, one.job, SETTLED, deadline)


def test_processes_die_and_the_rest_of_the_atom_does_not(tmp_path: Path) -> None:
    one = sweep(tmp_path / "s", 2, per_atom=N, ends=ENDS)
    [receipt] = run_shard(request_of(one), [Task(1, attempt=QUARANTINE)])
    assert receipt.attempt == QUARANTINE and receipt.fragment.failed == 4
    store = StudyStore.open(tmp_path / "s")
    have = {row["trial"]: row for row in read_fragment(store.storage, receipt.fragment.name).to_pylist()}
    assert {number: row["status"] for number, row in have.items() if row["status"] != "ok"} == {
        70: "crashed", 71: "crashed", 90: "oom", 127: "oom"
    }  # fmt: skip
    run(sweep(tmp_path / "well", 2, per_atom=N))
    for row in StudyStore.open(tmp_path / "well").rows(1).to_pylist():
        assert row["trial"] in (70, 71, 90, 127) or have[row["trial"]] == row


def test_a_trial_that_hangs_is_killed_and_marked(tmp_path: Path) -> None:
    one = sweep(tmp_path / "s", 2, ends={"6": "hang"})
    [receipt] = run_shard(request_of(one, deadline=3.0), [Task(1, attempt=QUARANTINE)])
    rows = read_fragment(StudyStore.open(tmp_path / "s").storage, receipt.fragment.name).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "timeout", "ok"]


def test_a_job_that_cannot_open_in_quarantine_says_why(tmp_path: Path) -> None:
    one = sweep(tmp_path / "s", 2, per_atom=N, no_panel=True)
    [receipt] = run_shard(request_of(one), [Task(1, attempt=QUARANTINE)])
    assert isinstance(receipt.error, PanelError)


def test_without_ray_a_trial_that_eats_the_memory_is_a_row_too(tmp_path: Path) -> None:
    summary = run(sweep(tmp_path / "s", 12, ends={"9": "eat"}), executor="inline")
    assert (summary.n_committed, summary.n_failed, summary.n_lost) == (48, 1, 2)
    rows = StudyStore.open(tmp_path / "s").rows(2).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "oom", "ok", "ok"]
    attempts = {
        atom["atom"]: atom["attempt"]
        for note in StudyStore.open(tmp_path / "s").notes().values()
        for atom in note["atoms"]
    }
    assert attempts.pop(2) == QUARANTINE and max(attempts.values()) == 1, "its shard was done again"


def test_such_rows_run_again_when_asked_to(tmp_path: Path) -> None:
    run(sweep(tmp_path / "s", 12, ends={"9": "eat"}), executor="inline")
    healthy = sweep(tmp_path / "s", 12)
    assert run(healthy, executor="inline").n_new == 0
    summary = run(healthy, executor="inline", retry_failed=True)
    assert (summary.n_executed, summary.n_failed, summary.n_committed) == (1, 0, 48)


@pytest.mark.parametrize("executor", ["inline", InlineExecutor()])
def test_inline_cannot_keep_a_deadline_and_says_so(tmp_path: Path, executor) -> None:
    with pytest.raises(InputError, match="deadline needs Ray: the inline executor cannot stop"):
        run(sweep(tmp_path / "s"), executor=executor, deadline=3.0)
    with pytest.raises(InputError, match="deadline is 0: give a number of seconds above 0"):
        run(sweep(tmp_path / "s"), deadline=0)
