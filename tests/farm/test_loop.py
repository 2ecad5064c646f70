"""The loop's decisions, and the loop itself with an executor that records what it is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backtest_farm.farm import Outcome, Shard
from backtest_farm.farm.loop import Pace, commit_due, give_up, schedule, shard_seconds, shard_size
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
    assert shard_seconds(float("nan"), 2) == shard_seconds(-1.0, 0) == 0.1


@given(st.none() | st.floats(0, 1e4), st.floats(1e-3, 60))
def test_shards_hold_at_least_one_atom_and_no_more_than_asked(per_atom: float | None, wanted: float) -> None:
    size = shard_size(per_atom, wanted)
    assert 1 <= size <= 1000
    assert size == 1 or (per_atom is not None and size * per_atom <= wanted * (1 + 1e-9))


def test_commits_wait_for_rows_and_for_the_clock() -> None:
    assert not commit_due(0, now=100.0, last=0.0)
    assert not commit_due(5, now=10.4, last=10.0)
    assert commit_due(1, now=10.5, last=10.0)


def test_giving_up_needs_a_rule_not_an_exception() -> None:
    assert not give_up(0, 0) and not give_up(2, 0) and not give_up(5, 5)
    assert give_up(3, 0) and give_up(6, 5)


def test_pace_starts_small_and_learns() -> None:
    pace = Pace(workers=2, longest=5.0, estimated_seconds=100.0, n_atoms=4800)
    assert pace.next_size() == 1
    for _ in range(9):
        pace.learn(0.01)
    pace.learn(3.0)
    assert pace.next_size() == 100, "4800 atoms of 0.01 s over 48 shards; the outlier is no rule"
    assert Pace(2, 5.0, 480.0, None, fixed_seconds=0.5).next_size() == 1


class Recorder:
    """Ends the oldest shard on each wait."""

    name, workers, queue, longest_shard = "recorder", 2, 3, 5.0

    def __init__(self) -> None:
        self.running: list[Shard] = []
        self.most = 0

    def submit(self, shard: Shard) -> None:
        self.running.append(shard)
        self.most = max(self.most, len(self.running))

    def wait(self, timeout: float) -> list[Outcome]:
        shard = self.running.pop(0)
        return [Outcome(shard, tuple({"atom": atom, "elapsed": 0.01} for atom in shard.atoms))]

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def run(atoms, executor: Recorder, n_atoms: int | None):
    pace = Pace(executor.workers, executor.longest_shard, 1.0, n_atoms)
    return schedule(sweep("/nowhere"), atoms, executor, pace, lambda: 0.5)


def test_every_atom_is_run_once_with_bounded_flight(tmp_path) -> None:
    executor = Recorder()
    done = [o for batch in run(iter(range(997)), executor, 997) for o in batch]
    assert sorted(atom for outcome in done for atom in outcome.shard.atoms) == list(range(997))
    assert [outcome.shard.number for outcome in done] == list(range(len(done)))
    assert executor.most == 3
    assert len(done[0].shard.atoms) == 1 and 5 <= max(len(o.shard.atoms) for o in done) <= 21


def test_an_iterator_may_look_at_results_before_it_names_the_next_atom() -> None:
    results: list[int] = []
    asked_after: list[int] = []

    def search():
        for atom in range(10):
            asked_after.append(len(results))
            yield atom

    executor = Recorder()
    for batch in run(search(), executor, None):
        results += [receipt["atom"] for outcome in batch for receipt in outcome.receipts]
    assert sorted(results) == list(range(10))
    assert asked_after[:3] == [0, 0, 0] and asked_after[-1] > 0


def test_an_empty_iterator_ends_at_once() -> None:
    assert list(run(iter(()), Recorder(), 0)) == []
