"""The loop's decisions, and the loop itself with an executor that records what it is told."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_farm.errors import PanelError
from backtest_farm.farm import SweepRequest
from backtest_farm.farm.loop import (
    Pace,
    Running,
    collect,
    commit_due,
    give_up,
    schedule,
    shard_seconds,
    shard_size,
)
from backtest_farm.farm.worker import QUARANTINE, Receipt, Task
from tests.farm.cases import sweep

seconds = st.floats(0, 1e9, allow_nan=False)


@given(seconds, st.integers(1, 10_000), st.floats(0.01, 60))
def test_shard_seconds_keep_their_bounds(total: float, workers: int, longest: float) -> None:
    wanted = shard_seconds(total, workers, longest)
    assert min(0.1, longest) <= wanted <= longest
    if min(0.1, longest) < wanted < longest:
        assert abs(wanted * 24 * workers - total) <= 1e-9 * total


@given(seconds, seconds, st.integers(1, 1000))
def test_more_work_never_makes_shards_shorter(one: float, other: float, workers: int) -> None:
    less, more = sorted([one, other])
    assert shard_seconds(less, workers) <= shard_seconds(more, workers)
    assert shard_seconds(more, workers + 1) <= shard_seconds(more, workers)


def test_shard_seconds_of_nonsense() -> None:
    assert shard_seconds(float("nan"), 2) == shard_seconds(-1.0, 1) == 0.1


@given(st.floats(0, 1e4), st.floats(1e-3, 60))
def test_shards_hold_at_least_one_atom_and_no_more_than_asked(per_atom: float, wanted: float) -> None:
    size = shard_size(per_atom, wanted)
    assert 1 <= size <= 1000
    assert size == 1 or size * per_atom <= wanted * (1 + 1e-9)


def test_commits_wait_for_rows_and_for_the_clock() -> None:
    assert not commit_due(0, now=100.0, last=0.0)
    assert not commit_due(5, now=10.4, last=10.0)
    assert commit_due(1, now=10.5, last=10.0)


def test_giving_up_needs_a_rule_not_an_exception() -> None:
    assert not give_up(0, 0) and not give_up(2, 0) and not give_up(5, 5)
    assert give_up(3, 0) and give_up(6, 5)


def test_pace_starts_small_and_learns() -> None:
    pace = Pace(4800, workers=2, longest=5.0)
    assert pace.next_size() == 1
    for _ in range(9):
        pace.learn(0.01)
    pace.learn(3.0)
    assert pace.next_size() == 100, "4800 atoms of 0.01 s over 48 shards; the outlier is no rule"
    assert Pace(4800, 2, 5.0, fixed=0.5).next_size() == 1


class Recorder:
    """Ends its oldest shard, after all others have been handed out, whenever the loop looks for one."""

    name, workers, queue, longest_shard = "recorder", 2, 3, 5.0

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.running: dict[Future, Sequence[Task]] = {}
        self.shards: list[Sequence[Task]] = []
        self.most = 0
        patch.setattr(concurrent.futures, "wait", self.wait)

    def submit(self, request: SweepRequest, tasks: Sequence[Task]) -> Future[list[Receipt]]:
        shard: Future[list[Receipt]] = Future()
        self.running[shard] = tasks
        self.shards.append(tasks)
        self.most = max(self.most, len(self.running))
        return shard

    def wait(self, shards: Iterable[Future], timeout: float, return_when: str) -> tuple[set, set]:
        oldest = next(iter(self.running))
        assert set(shards) == set(self.running) and return_when == "FIRST_COMPLETED"
        oldest.set_result([Receipt(task.atom, elapsed=0.01) for task in self.running.pop(oldest)])
        return {oldest}, set(self.running)

    def close(self) -> None: ...


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def run(atoms, executor: Recorder, n_atoms: int, lost=pytest.fail):
    pace = Pace(n_atoms, executor.workers, executor.longest_shard)
    return schedule(sweep("/nowhere"), map(Task, atoms), executor, pace, {}, lost)


def test_every_atom_is_run_once_with_bounded_flight(executor: Recorder) -> None:
    done = [receipt.atom for batch in run(iter(range(997)), executor, 997) for receipt in batch]
    assert done == list(range(997))
    assert [task.atom for tasks in executor.shards for task in tasks] == done
    assert executor.most == 3
    assert len(executor.shards[0]) == 1 and 5 <= max(map(len, executor.shards)) <= 21


def test_an_iterator_may_look_at_results_before_it_names_the_next_atom(executor: Recorder) -> None:
    results: list[int] = []
    asked_after: list[int] = []

    def search():
        for atom in range(10):
            asked_after.append(len(results))
            yield atom

    for batch in run(search(), executor, 10):
        results += [receipt.atom for receipt in batch]
    assert sorted(results) == list(range(10))
    assert asked_after[:3] == [0, 0, 0] and asked_after[-1] > 0


def test_an_empty_iterator_ends_at_once(executor: Recorder) -> None:
    assert list(run(iter(()), executor, 0)) == []


def test_a_shard_that_lost_its_worker_is_told_with_its_tasks() -> None:
    lost: Future[list[Receipt]] = Future()
    lost.set_exception(RuntimeError("the worker died\nlong story"))
    done: Future[list[Receipt]] = Future()
    done.set_result([Receipt(7)])
    running: Running = {lost: (Task(4), Task(5)), Future(): (Task(6),), done: (Task(7),)}
    assert collect(running, 1.0) == ([Receipt(7)], [((Task(4), Task(5)), "RuntimeError: the worker died")])
    assert list(running.values()) == [(Task(6),)] and collect(running, 0) == ([], [])


class Losing(Recorder):
    """Loses the worker of each shard that holds atom 5, the first `times` times."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int) -> None:
        super().__init__(patch)
        self.times = times

    def wait(self, shards: Iterable[Future], timeout: float, return_when: str) -> tuple[set, set]:
        oldest = next(iter(self.running))
        if self.times and 5 in [task.atom for task in self.running[oldest]]:
            self.times -= 1
            del self.running[oldest]
            oldest.set_exception(RuntimeError("the worker died"))
            return {oldest}, set(self.running)
        return super().wait(shards, timeout, return_when)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_lost_its_worker_is_done_again_alone_and_then_in_quarantine(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    executor, told = Losing(monkeypatch, times), []
    batches = run(iter(range(40)), executor, 40, told.append)
    assert sorted(receipt.atom for batch in batches for receipt in batch) == list(range(40))
    [first, *others] = [tasks for tasks in executor.shards if 5 in [task.atom for task in tasks]]
    assert [task.attempt for task in first] == [0] * len(first)
    assert others == [(Task(5, attempt=attempt),) for attempt in range(1, times + 1)]
    assert told == ["RuntimeError: the worker died"] * times
    assert [task.attempt >= QUARANTINE for [task] in others] == [False, True, True][:times]


def test_what_loses_every_worker_fails_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Losing(monkeypatch, times=99)
    receipts = [receipt for batch in run(iter(range(40)), executor, 40, print) for receipt in batch]
    [failed] = [receipt for receipt in receipts if receipt.error]
    assert (failed.atom, failed.attempt, executor.times) == (5, 4, 95)
    assert failed.error.message == "WorkerLost: RuntimeError: the worker died"


def test_data_that_changed_ends_the_loop_before_anything_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(why: str) -> None:
        raise PanelError("prices.parquet is missing")

    executor = Losing(monkeypatch, times=99)
    with pytest.raises(PanelError):
        list(run(iter(range(40)), executor, 40, lost))
    assert executor.times == 98
