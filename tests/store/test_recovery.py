"""Recovery and repair: what is there is taken in, what is damaged is set aside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.storage import LocalStorage
from backtest_farm.store import Fragment, StudyStore, compact, compaction, recover, repair, write_fragment

ATOMS, PER_ATOM = 8, 4


class FewAtoms:
    """A plan of atoms of four trials; the spec says how its keys begin."""

    def __init__(self, spec_json: str) -> None:
        self.n = json.loads(spec_json)["n"]

    def atoms(self) -> range:
        return range(ATOMS)

    def atom(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(numbers=tuple(range(index * PER_ATOM, (index + 1) * PER_ATOM)))

    def keys(self, numbers: Sequence[int]) -> list[str]:
        return [f"{self.n}-{number}" for number in numbers]


def create(place: Path, n: int = 1) -> StudyStore:
    return StudyStore.create(place, digest(n), canonical_json({"n": n}), ATOMS * PER_ATOM, extend=True)


def written(store: StudyStore, atom: int, value: float = 0.5, status: str = "ok", **columns: Any) -> Fragment:
    plan = FewAtoms(store.spec_json)
    numbers = plan.atom(atom).numbers
    rows = {
        "trial": numbers,
        "key": plan.keys(numbers),
        "status": [status] * 4,
        "value": [value + n for n in numbers],
    }
    return write_fragment(store.storage, store.sweep_id, atom, pa.table({**rows, **columns}))


def recovered(place: Path, n: int = 1):
    store = create(place, n)
    return recover(store, FewAtoms(store.spec_json))


def content(place: Path) -> dict[str, list]:
    """All rows that count, by sweep; each file is checked on the way."""
    found = {}
    for entry in StudyStore.open(place).sweeps:
        found[entry.sweep_id] = [
            table.to_pylist() for table in StudyStore.open(place, entry.sweep_id).tables()
        ]
    return found


def bite(file: Path, at: int = 200) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two sweeps, each with a commit for every atom."""
    place = tmp_path / "study"
    for n in (1, 2):
        store = create(place, n)
        for atom in range(ATOMS):
            store.commit([written(store, atom)])
        store.put_curve(f"k{n}", pa.table({"equity": [1.0, 2.0]}))
    return place


def test_finished_rows_that_nobody_committed_are_taken_in(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.commit([written(store, 0)])
    orphans = [written(store, atom) for atom in (1, 5)]
    found = recovered(tmp_path)
    assert found.adopted == tuple(orphans) and not found.lost and not found.set_aside
    assert list(found.lines()) == ["found finished but uncommitted, and taken in: 8 trials in 2 atoms"]
    assert StudyStore.open(tmp_path).committed()[5] == orphans[1]
    assert list(recovered(tmp_path).lines()) == [], "a second one has nothing to say"


def test_a_damaged_orphan_is_set_aside_and_its_name_is_free_again(tmp_path: Path) -> None:
    store = create(tmp_path)
    bad = written(store, 3)
    bite(tmp_path / bad.name)
    found = recovered(tmp_path)
    assert (found.adopted, found.set_aside) == ((), (bad.name,))
    assert "1 files, moved to quarantine/" in next(found.lines())
    assert len(list(tmp_path.glob("quarantine/fragments/*"))) == 1
    assert written(store, 3) == bad


def test_orphans_that_are_not_the_plan_s_rows_do_not_count(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.commit([written(store, 0)])
    foreign = [
        written(store, 1, key=[f"9-{n}" for n in range(4, 8)]),
        written(store, 2, trial=[0, 1, 2, 3]),
        written(store, 3, more=[1, 2, 3, 4]),
        write_fragment(store.storage, store.sweep_id, 4, pa.table({"status": ["ok"]})),
        write_fragment(store.storage, digest(2), 5, pa.table({"status": ["ok"]})),
    ]
    (tmp_path / "fragments" / "notes.txt").touch()
    assert list(recovered(tmp_path).lines()) == []
    assert all((tmp_path / one.name).exists() for one in foreign), "they are in nobody's way"


def test_an_orphan_that_differs_from_what_counts_flags_the_study(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.commit([one := written(store, 0), bad := written(store, 1, status="error")])
    other, passed = written(store, 0, 2.0), written(store, 1, 2.0)
    assert recovered(tmp_path).adopted == ()
    now = StudyStore.open(tmp_path)
    assert now.impure() == {0: (one, other)}
    assert now.committed()[1] == bad and passed != bad, "a failure that passes proves nothing"
    compact(now)
    assert (tmp_path / other.name).exists(), "the proof is not cleared away"


@pytest.mark.parametrize("how", ["missing", "short"])
def test_committed_rows_whose_file_is_gone_are_to_be_made_again(study: Path, how: str) -> None:
    one = StudyStore.open(study, 1).committed()[2]
    file = study / one.name
    file.unlink() if how == "missing" else file.write_bytes(file.read_bytes()[:-1])
    found = recovered(study, 2)
    assert found.lost == (one,), "also those of the other sweep, whose rows it would copy"
    assert len(found.set_aside) == (how == "short")
    assert "4 trials in 1 atoms; they run again" in [*found.lines()][-1]
    store = create(study)
    assert 2 not in store.committed()
    assert store.commit([written(store, 2)]) == [one]


def test_a_crash_after_rows_were_given_up_changes_nothing(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.commit([one := written(store, 0)])
    (tmp_path / one.name).unlink()
    assert recovered(tmp_path).lost == (one,)
    written(create(tmp_path), 0)
    assert recovered(tmp_path).adopted == (one,), "made again, killed before the commit"


def mended(place: Path, dry_run: bool = False) -> dict[str, Any]:
    return repair(LocalStorage(place), FewAtoms, dry_run)


def everything(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flipped": lambda file: bite(file, 60),
    "empty": lambda file: file.write_bytes(b""),
    "missing": Path.unlink,
    "not ours": lambda file: file.write_text("{}"),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("number", [1, 2, 5, 9, 10, 14])
def test_one_bad_record_costs_nothing(study: Path, how: str, number: int) -> None:
    before = content(study)
    DAMAGE[how](study / "log" / f"{number:08d}.json")
    with pytest.raises(StoreError, match=f"{number:08d}[\\s\\S]*study repair"):
        StudyStore.open(study)
    files = everything(study)
    rehearsed = mended(study, dry_run=True)
    assert everything(study) == files, "a rehearsal writes nothing"
    done = mended(study)
    assert done == rehearsed and f"{number:08d}" in done["fault"]
    assert content(study) == before
    assert (done["rows"], done["lost"], done["unread"]) == (2 * ATOMS * PER_ATOM, 0, [])
    assert done["rebuilt"] == (0 if number in (1, 10) else PER_ATOM)
    after = everything(study)
    assert {*files.values()} <= {*after.values()}, "nothing is deleted"
    assert mended(study)["set_aside"] == [] and everything(study) == after, "a second one has nothing to do"
    store = create(study)
    assert store.commit([written(store, atom) for atom in range(ATOMS)]) == []


def test_a_log_that_is_gone_for_good_is_made_from_the_files(study: Path) -> None:
    before = content(study)
    shutil.rmtree(study / "log")
    (study / "log").mkdir()
    (study / "log" / "00000001.json").touch()
    done = mended(study)
    assert done["rebuilt"] == 2 * ATOMS * PER_ATOM
    assert {*content(study)} == {*before} and sorted(map(str, content(study).values())) == sorted(
        map(str, before.values())
    )


def test_a_compaction_whose_record_is_damaged_is_found_again(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MERGED_ROWS", 3 * PER_ATOM)
    before = content(study)
    n = StudyStore.open(study).n_commits()
    compact(StudyStore.open(study))
    bite(study / "log" / f"{n + 2:08d}.json", 60)
    done = mended(study)
    assert (done["rebuilt"], done["lost"]) == (ATOMS * PER_ATOM, 0)
    assert content(study) == before
    compact(StudyStore.open(study))
    assert content(study) == before


def test_damaged_rows_and_curves_are_set_aside_and_run_again(study: Path) -> None:
    store = create(study)
    one = store.committed()[4]
    bite(study / one.name)
    bite(next((study / "curves").iterdir()))
    with pytest.raises(StoreError, match=r"damaged[\s\S]*study repair"):
        list(store.tables())
    done = mended(study)
    assert (done["lost"], done["rebuilt"], len(done["set_aside"])) == (PER_ATOM, 0, 2)
    store = create(study)
    assert 4 not in store.committed() and len(store.kept_curves()) == 1
    assert store.commit([written(store, 4)]) == [one]
    assert done["fault"] == "" and mended(study)["set_aside"] == []


def test_a_sweep_without_its_text_is_said_and_its_rows_are_kept(study: Path) -> None:
    for file in (study / "sweeps").glob(f"{digest(1)}-*"):
        file.unlink()
    bite(study / "log" / "00000001.json", 60)
    done = mended(study)
    assert len(done["unread"]) == 1 and "run the same sweep into this study again" in done["unread"][0]
    store = create(study)
    assert len(store.committed()) == ATOMS and len(store.sweeps) == 2


def test_a_study_of_a_later_version_is_not_repaired(study: Path) -> None:
    from backtest_farm.store.commit_log import _sealed

    file = study / "log" / "00000003.json"
    body = json.loads(file.read_text())["body"]
    file.write_bytes(_sealed({**body, "format": 9}))
    files = everything(study)
    with pytest.raises(StoreError, match="has format 9"):
        mended(study)
    with pytest.raises(StoreError, match="holds no study"):
        mended(study / "nowhere")
    assert everything(study) == files


def test_a_study_without_its_log_says_what_to_do_and_comes_back_whole(study: Path) -> None:
    before = content(study)
    shutil.rmtree(study / "log")
    with pytest.raises(StoreError, match="holds no study") as caught:
        StudyStore.open(study)
    assert f"study repair {study}" in caught.value.hint
    with pytest.raises(StoreError, match="no study, nothing was written") as caught:
        create(study)
    assert f"study repair {study}" in caught.value.hint
    assert mended(study)["rebuilt"] == 2 * ATOMS * PER_ATOM
    assert content(study) == before


def test_a_driver_at_work_notices_a_repair(study: Path) -> None:
    """Where locks do not keep them apart."""
    driver = create(study)
    bite(study / "log" / "00000004.json", 60)
    mended(study)
    said = []
    for atom in range(100, 120):
        [one] = driver.commit([written(driver, atom)])
        said.append(StudyStore.open(study, 1).committed().get(atom) == one)
    assert said.index(True) < 16 and all(said[said.index(True) :])


def test_two_drivers_that_recover_at_once_take_rows_in_once(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.commit([gone := written(store, 0)])
    (tmp_path / gone.name).unlink()
    orphans = [written(store, atom) for atom in (1, 2)]
    one, other = create(tmp_path), create(tmp_path)
    plan = FewAtoms(store.spec_json)
    assert recover(one, plan).adopted == tuple(orphans)
    assert recover(other, plan) == ((), (), ())
    other.lose(other.sweep_id, [gone])
    assert other.n_commits() == 4, "given up once, taken in once"
