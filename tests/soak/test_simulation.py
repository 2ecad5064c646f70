"""The simulation finds nothing in the product, and finds what is put there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backtest_farm.farm import loop, quarantine, run
from backtest_farm.store import Recovery
from tests.soak import simulation

SEEDS = 2_000
LEAST = 20


def test_whatever_happens_the_rows_are_the_same() -> None:
    simulation.EVENTS.clear()
    wrong = {seed: found for seed in range(SEEDS) if (found := simulation.one(seed)) is not None}
    assert wrong == {}, "again: python -m tests.soak simulation --only SEED"
    scarce = {event: times for event, times in simulation.EVENTS.items() if times < LEAST}
    assert scarce == {} and len(simulation.EVENTS) >= 27, simulation.EVENTS


@pytest.fixture
def known() -> None:
    """What the studies look like undisturbed."""
    for seed in range(simulation.STUDIES):
        simulation._undisturbed(seed)


def test_a_seed_is_the_same_each_time(known: None) -> None:
    def events(seed: int) -> dict[str, int]:
        simulation.EVENTS.clear()
        simulation.one(seed)
        return dict(simulation.EVENTS)

    before = [events(seed) for seed in range(3000, 3020)]
    assert [events(seed) for seed in range(3000, 3020)] == before


def data_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(simulation.SimulatedJob, "check_data", lambda job: None)


def nothing_recovered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run, "recover", lambda store, plan: Recovery())


def losses_forgotten(patch: pytest.MonkeyPatch) -> None:
    collect = loop.collect
    patch.setattr(loop, "collect", lambda *given: (collect(*given)[0], []))


def marked_by_one_death(patch: pytest.MonkeyPatch) -> None:
    def culprits(part, alone) -> dict:
        return {part[0]: quarantine.Failure("crashed", "SIGKILL: of all")}

    patch.setattr(quarantine, "_culprits", culprits)


def failures_not_kept_apart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop, "QUARANTINE", 99)
    patch.setattr("backtest_farm.farm.worker.QUARANTINE", 99)


@pytest.mark.parametrize(
    "defect",
    [data_unchecked, nothing_recovered, losses_forgotten, marked_by_one_death, failures_not_kept_apart],
)
def test_a_defect_is_noticed(known: None, monkeypatch: pytest.MonkeyPatch, defect: Callable) -> None:
    defect(monkeypatch)
    assert any(simulation.one(seed) is not None for seed in range(60))
