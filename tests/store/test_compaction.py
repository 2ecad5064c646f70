"""Compaction: fewer files, the same rows, and nothing lost wherever it is cut off."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.storage import LocalStorage, Missing
from backtest_farm.store import StudyStore, compact, compaction, write_fragment
from tests.contracts.tree import ROOT

ATOMS, PER_ATOM = 9, 4


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three atoms a file, so that few rows make several files."""
    monkeypatch.setattr(compaction, "MERGED_ROWS", 3 * PER_ATOM)


def create(folder: Path, n: int = 10) -> StudyStore:
    return StudyStore.create(folder, digest(n), canonical_json({"n": n}), ATOMS * PER_ATOM, extend=True)


def fragment(store: StudyStore, atom: int, status: str = "ok", shift: float = 0.0):
    numbers = list(range(atom * PER_ATOM, (atom + 1) * PER_ATOM))
    rows = {"trial": numbers, "status": ["ok", status, "ok", "ok"], "value": [n / 7 + shift for n in numbers]}
    return write_fragment(store.storage, store.sweep_id, atom, pa.table(rows), copied=atom % 2)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two sweeps, some failures, one atom that was run again, and one file that no record names."""
    place = tmp_path / "study"
    for n in (10, 20):
        store = create(place, n)
        for atom in range(ATOMS):
            store.commit([fragment(store, atom, "error" if atom in (2, 5) else "ok", float(n))])
        store.commit([fragment(store, 5, "ok", 0.5)._replace(replaces=store.committed()[5].sha256)])
        store.put_curve("k1", pa.table({"equity": [1.0, 2.0]}))
    fragment(store, ATOMS)
    return place


def content(place: Path) -> dict[str, Any]:
    """All that a compaction must leave alone."""
    store = StudyStore.open(place)
    found: dict[str, Any] = {"curves": store.kept_curves()}
    for entry in store.sweeps:
        one = StudyStore.open(place, entry.number)
        facts = [(f.atom, f.rows, f.failed, f.sha256, f.copied, f.replaces) for f in one.committed().values()]
        found[entry.sweep_id] = facts, [table.to_pylist() for table in one.tables()]
    return found


def _counts(done: dict[str, int]) -> tuple[int, ...]:
    return tuple(done[name] for name in ("fragments_before", "fragments_after", "removed"))


def files(place: Path) -> set[str]:
    return {f"fragments/{path.name}" for path in (place / "fragments").iterdir()}


def test_fewer_files_hold_the_same_rows_in_the_same_order(study: Path) -> None:
    before = content(study)
    done = compact(StudyStore.open(study))
    assert content(study) == before
    store = StudyStore.open(study)
    assert _counts(done) == (2 * ATOMS, 6, 2 * ATOMS + 2)
    assert done["bytes_after"] == sum((study / name).stat().st_size for name in store.files())
    assert done["bytes_after"] < done["bytes_before"]
    stranger = {name for name in files(study) if f"-{ATOMS:06d}-" in name}
    assert files(study) == {*store.files()} | stranger and len(stranger) == 1, (
        "a worker's file may be on its way"
    )


def test_a_second_one_finds_nothing_to_do(study: Path) -> None:
    first = compact(StudyStore.open(study))
    names, records = files(study), StudyStore.open(study).n_commits()
    second = compact(StudyStore.open(study))
    assert _counts(second) == (6, 6, 0)
    assert second["bytes_before"] == second["bytes_after"] == first["bytes_after"]
    assert (files(study), StudyStore.open(study).n_commits()) == (names, records)


class Killed(BaseException):
    """Stands for the end of the process."""


class Cut(LocalStorage):
    """Ends the process before or after the n-th change of the folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.steps = steps

    def step(self) -> None:
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def put_new(self, name: str, data: bytes) -> None:
        self.step()
        super().put_new(name, data)
        self.step()

    def remove(self, name: str) -> None:
        self.step()
        super().remove(name)
        self.step()


def test_cut_off_at_any_step_it_leaves_the_old_state_or_the_new_one(study: Path, tmp_path: Path) -> None:
    before, old = content(study), StudyStore.open(study).files()
    whole = shutil.copytree(study, tmp_path / "whole")
    compact(StudyStore.open(whole))
    new = StudyStore.open(whole).files()
    seen = set()
    for steps in itertools.count():
        place = tmp_path / f"cut{steps}"
        shutil.copytree(study, place)
        store = StudyStore(Cut(place, steps))
        try:
            compact(store)
        except Killed:
            pass
        else:
            break
        assert content(place) == before, f"after {steps} steps"
        now = StudyStore.open(place)
        for entry in now.sweeps:
            names = {name for name in now.files() if name.startswith(f"fragments/{entry.sweep_id[:12]}")}
            was, will = ({n for n in some if entry.sweep_id[:12] in n} for some in (old, new))
            assert names in (was, will), "a sweep is moved as a whole"
            seen.add((entry.number, names == will))
        # Going on ends where an undisturbed one ends.
        compact(StudyStore.open(place))
        assert content(place) == before
        assert (StudyStore.open(place).files(), files(place)) == (new, files(whole))
        assert compact(StudyStore.open(place))["removed"] == 0
        shutil.rmtree(place)
    assert seen == set(itertools.product((1, 2), (False, True))), "both sides of each record were met"
    assert steps == 1 + 2 * (6 + 2 + 2 * ATOMS + 2), "and the newest record is put again, to no effect"


SUICIDE = """
import os, signal, sys
from tests.store import test_compaction as room
room.compaction.MERGED_ROWS = 12
room.Cut.step = lambda self: os.kill(os.getpid(), signal.SIGKILL) if self.steps == 0 else setattr(
    self, "steps", self.steps - 1)
room.compact(room.StudyStore(room.Cut(sys.argv[1], int(sys.argv[2]))))
"""


@pytest.mark.parametrize("steps", [3, 7, 9, 21])
def test_a_process_that_is_killed_leaves_no_lock_and_no_harm(study: Path, steps: int) -> None:
    before = content(study)
    done = subprocess.run([sys.executable, "-c", SUICIDE, study, str(steps)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert content(study) == before
    assert compact(StudyStore.open(study))["fragments_after"] == 6
    assert content(study) == before


def test_what_runs_and_what_compacts_exclude_each_other(study: Path) -> None:
    store, other = StudyStore.open(study), StudyStore.open(study)
    refused = pytest.raises(StoreError, match=r"a sweep or a compaction is at work in .*study\n  -> wait")
    with store.hold(), other.hold(), refused:
        compact(StudyStore.open(study))
    with store.storage.hold(alone=True):
        for one in (other.hold(), other.hold(alone=True)):
            with pytest.raises(StoreError, match="compaction is at work"), one:
                pass
    assert compact(other)["removed"] > 0, "who is refused or has left holds nothing"


def test_who_holds_a_study_sees_what_was_moved_before(study: Path) -> None:
    store = StudyStore.open(study)
    compact(StudyStore.open(study))
    with store.hold():
        assert len(store.files()) == 6


def test_a_reader_goes_on(study: Path) -> None:
    before, reader = content(study), StudyStore.open(study)
    rows = reader.tables()
    first = next(rows)
    compact(StudyStore.open(study))
    assert [table.to_pylist() for table in (first, *rows)] == before[reader.sweep_id][1]


def test_a_lost_file_is_still_told(study: Path) -> None:
    reader = StudyStore.open(study)
    (study / reader.committed()[0].name).unlink()
    with pytest.raises(Missing, match="-000000-"):
        list(reader.tables())
    with pytest.raises(Missing, match="-000000-"):
        compact(StudyStore.open(study))
    assert len(StudyStore.open(study, 2).files()) >= ATOMS, "nothing was removed"


def test_a_damaged_small_file_never_gets_into_a_large_one(study: Path) -> None:
    name = StudyStore.open(study).committed()[4].name
    with open(study / name, "r+b") as file:
        file.seek(300)
        file.write(b"\xff\xff")
    there = files(study)
    with pytest.raises(StoreError, match="damaged"):
        compact(StudyStore.open(study))
    assert there <= files(study)


def test_what_was_run_again_after_a_compaction_is_merged_anew(study: Path) -> None:
    compact(StudyStore.open(study))
    store = StudyStore.open(study)
    good = fragment(store, 2, "ok", 3.0)._replace(replaces=store.committed()[2].sha256)
    assert store.commit([good]) == [good]
    before = content(study)
    assert [table["value"][0].as_py() for table in store.tables()][2] == 8 / 7 + 3.0
    done = compact(StudyStore.open(study))
    assert _counts(done) == (7, 6, 2)
    assert content(study) == before


def test_a_sweep_that_is_not_finished_goes_on_afterwards(tmp_path: Path) -> None:
    store = create(tmp_path / "s")
    store.commit([fragment(store, atom) for atom in (0, 1, 4, 5, 6)])
    compact(store)
    store = create(tmp_path / "s")
    assert list(store.committed()) == [0, 1, 4, 5, 6]
    again = [fragment(store, atom) for atom in range(ATOMS)]
    assert [one.atom for one in store.commit(again)] == [2, 3, 7, 8], "moved rows are the same rows"
    compact(StudyStore.open(tmp_path / "s"))
    alone = create(tmp_path / "alone")
    alone.commit([fragment(alone, atom) for atom in range(ATOMS)])
    assert content(tmp_path / "s") == content(tmp_path / "alone")
    compact(alone)
    assert files(tmp_path / "s") >= files(tmp_path / "alone")


def test_a_commit_in_between_is_noticed(study: Path) -> None:
    store = StudyStore.open(study)
    late = StudyStore.open(study)
    late.commit([fragment(late, ATOMS)])
    with pytest.raises(StoreError, match="changed meanwhile"):
        store.move(store.sweep_id, store.committed().values())


def test_older_versions_are_told_by_the_format_of_the_record(study: Path) -> None:
    compact(StudyStore.open(study))
    formats = [json.loads(path.read_text())["body"]["format"] for path in sorted((study / "log").iterdir())]
    assert formats == [1] * (len(formats) - 2) + [2, 2]
