"""The suites that kill real processes, as far as a usual run has time for them; they share one Ray node."""

from __future__ import annotations

import pytest

from tests.soak import bad_trials, kills, one_digest


@pytest.mark.parametrize(("kind", "n"), [("worker", 20), ("inline", 40), ("ray", 5)])
def test_kill_9_loses_nothing(ray_executor, kind: str, n: int) -> None:
    kills.EVENTS.clear()
    seeds = [seed for seed in range(1000) if kills.KINDS[seed % len(kills.KINDS)] == kind][:n]
    wrong = {seed: found for seed in seeds if (found := kills.one(seed)) is not None}
    assert wrong == {}, "again: python -m tests.soak kills --only SEED"
    assert kills.EVENTS[kind] == n


@pytest.mark.parametrize("how", bad_trials.HOWS)
def test_one_bad_trial_in_a_thousand_is_flagged_and_no_other(ray_executor, how: str) -> None:
    assert bad_trials.with_bad(how, 1, seed=7) is None


# Each size of shards, cold and warm, with and without a kill, in this process and on 1, 2 and 4 workers.
TWELVE = (0, 3, 6, 11, 13, 14, 18, 25, 30, 35, 41, 46)


def test_one_digest_however_it_is_run(ray_executor) -> None:
    for at in range(4):
        assert len({way[at] for seed in TWELVE for way in [one_digest.WAYS[seed]]}) == (4, 3, 2, 2)[at]
    assert [found for seed in TWELVE if (found := one_digest.one(seed)) is not None] == []
