"""The store loses nothing: crashes, failing calls, a full disk, damage. All of it is drawn by seed."""

from __future__ import annotations

import pytest

from tests.soak import crashes, damage

STATES = 5_000
CHANGES = 2_000
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_no_crash_loses_doubles_or_changes_what_was_acknowledged(part: int) -> None:
    size = STATES // PARTS
    for seed in range(part * size, (part + 1) * size):
        wrong = crashes.one(seed)
        assert wrong is None, f"python -m tests.soak crashes --only {seed}: {wrong}"


def test_the_courses_meet_every_kind_of_call() -> None:
    met = {state.call.partition(", ")[2] for seed in range(20) for state in crashes._states(seed)}
    assert met >= {name for _, name, _ in crashes.at_every_call()} - {"replace", "mkdir", "rmdir"}


@pytest.mark.parametrize("which", [0, 1])
def test_what_another_driver_sees_too_early_is_not_lost_under_its_work(which: int) -> None:
    found = list(crashes.cut_in(range(8), which))
    assert len(found) > 100
    assert not any(found)


def test_after_any_call_that_failed_nothing_is_lost_and_the_next_writer_goes_on() -> None:
    tried = 0
    for number, name, code in crashes.at_every_call():
        wrong = crashes.after_fault(number, code)
        assert wrong is None, f"call {number}, {name}, errno {code}: {wrong}"
        tried += name.startswith("fsync")
    assert tried > 30


@pytest.mark.parametrize("room", [*range(0, 600, 150), *range(600, 8_000, 600)])
def test_on_a_full_disk_the_writer_says_so_and_nothing_is_lost(room: int) -> None:
    assert crashes.after_fault(-1, 0, room) is None


def test_every_change_of_a_file_is_noticed() -> None:
    for seed in range(CHANGES):
        wrong = damage.one(seed)
        assert wrong is None, f"python -m tests.soak damage --only {seed}: {wrong}"
