"""The study's folder: one sweep, what counts of it, and what lies beside."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from backtest_farm.errors import InputError, StoreError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.store import StudyStore, study_store, write_fragment

SPEC = {"panel": "us", "costs": {"commission_bps": [0, 5]}, "n": 10, "plain": True}


def create(folder: Path, extend: bool = False, **changes) -> StudyStore:
    spec = {**SPEC, **changes}
    return StudyStore.create(folder, digest(spec), canonical_json(spec), extend=extend)


def fragment(store: StudyStore, atom: int, value: float = 1.0, status: str = "ok"):
    table = pa.table({"trial": [atom], "status": [status], "value": [value]})
    return write_fragment(store.storage, store.sweep_id, atom, table)


def test_what_was_committed_is_what_counts(tmp_path: Path) -> None:
    store = create(tmp_path / "s")
    fragments = [fragment(store, atom) for atom in (3, 1, 2, 0)]
    assert set(store.commit(fragments[:2])) == set(fragments[:2])
    assert store.commit(fragments[1:3]) == fragments[2:3]
    assert store.commit(fragments[:3]) == []
    again = StudyStore.open(tmp_path / "s")
    assert list(again.committed()) == [1, 2, 3], "atom 0 is written, but in no record"
    assert [table["trial"].to_pylist() for table in again.tables()] == [[1], [2], [3]]
    assert (again.spec_json, again.sweep_id) == (store.spec_json, store.sweep_id)
    assert len(list((tmp_path / "s" / "log").iterdir())) == 3


def test_another_spec_is_refused_and_the_difference_shown(tmp_path: Path) -> None:
    create(tmp_path)
    assert create(tmp_path).committed() == {}
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(StoreError) as caught:
        create(tmp_path, n=20, costs={"commission_bps": [0, 5], "half_spread_bps": 1}, plain=1)
    assert caught.value.faults == ("costs.half_spread_bps: (absent) -> 1", "n: 10 -> 20", "plain: true -> 1")
    assert "--extend" in str(caught.value) and "folder of its own" in str(caught.value)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_digests_are_short_and_told_only_when_nothing_else_differs(tmp_path: Path) -> None:
    one, other = "a" * 30 + "01", "b" * 64
    create(tmp_path, data_digests={"x": one}, sweep_id=one, universes=[[{"of": "all", "by": None}, one]])
    with pytest.raises(StoreError) as caught:
        create(
            tmp_path, data_digests={"x": other}, sweep_id=other, universes=[[{"of": "us", "by": None}, one]]
        )
    a, b = one[:12], other[:12]
    assert caught.value.faults == (
        f'data_digests.x: "{a}" -> "{b}"',
        f'universes: [[{{"of": "all"}}, "{a}"]] -> [[{{"of": "us"}}, "{a}"]]',
    )
    with pytest.raises(StoreError) as caught:
        create(tmp_path, n=11, data_digests={"x": other}, sweep_id=other, sweep={"window": {"end": "2010"}})
    assert caught.value.faults == ("n: 10 -> 11", 'window.end: (absent) -> "2010"')


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    create(tmp_path, axes={f"a{i:02d}": i for i in range(30)})
    with pytest.raises(StoreError, match="and 10 more"):
        create(tmp_path, axes={f"a{i:02d}": i + 1 for i in range(30)})


def test_the_digest_decides_what_a_sweep_is_and_the_first_text_stays(tmp_path: Path) -> None:
    StudyStore.create(tmp_path, "abc", '{"panel":"/here"}')
    assert StudyStore.create(tmp_path, "abc", '{"panel":"/there"}').spec_json == '{"panel":"/here"}'
    with pytest.raises(StoreError, match=r"another sweep \(abc, not abd\)"):
        StudyStore.create(tmp_path, "abd", '{"panel":"/here"}')


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(StoreError, match=r"no study, nothing was written[\s\S]*photos/a.jpg"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(StoreError, match="holds no study"):
        StudyStore.open(tmp_path)
    with pytest.raises(StoreError, match="holds no study"):
        StudyStore.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_study_that_another_driver_begins_meanwhile_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = study_store._strangers

    def late(storage) -> list[str]:
        monkeypatch.undo()
        other = create(tmp_path)
        other.commit([fragment(other, 0)])
        return look(storage)

    monkeypatch.setattr(study_store, "_strangers", late)
    assert list(create(tmp_path).committed()) == [0]
    assert len(list((tmp_path / "log").iterdir())) == 2


def test_a_crash_between_spec_and_log_is_mended_by_the_next_start(tmp_path: Path) -> None:
    create(tmp_path)
    shutil.rmtree(tmp_path / "log")
    store = create(tmp_path)
    assert store.commit([fragment(store, 0)]) == [fragment(store, 0)]


def test_such_a_crash_may_have_left_the_text_with_another_panel_path(tmp_path: Path) -> None:
    StudyStore.create(tmp_path, "abc", '{"panel":"/here"}')
    shutil.rmtree(tmp_path / "log")
    store = StudyStore.create(tmp_path, "abc", '{"panel":"/there"}')
    assert store.spec_json == '{"panel":"/there"}'
    assert StudyStore.open(tmp_path).spec_json == store.spec_json


def test_a_changed_spec_file_is_noticed(tmp_path: Path) -> None:
    store = create(tmp_path)
    [file] = (tmp_path / "sweeps").glob(f"{store.sweep_id}-*.json")
    file.write_text(file.read_text().replace("10", "11"))
    with pytest.raises(StoreError, match=r"was changed after the sweep began\n  -> run the same sweep"):
        StudyStore.open(tmp_path)


@pytest.mark.parametrize("moved", [False, True])
def test_the_same_sweep_puts_its_text_back(tmp_path: Path, moved: bool) -> None:
    store = StudyStore.create(tmp_path, "abc", '{"panel":"/here"}', 7)
    store.commit([fragment(store, 0)])
    [file] = (tmp_path / "sweeps").iterdir()
    file.write_text("{}") if moved else file.unlink()
    with pytest.raises(StoreError, match="puts the text back"):
        StudyStore.open(tmp_path)
    text = '{"panel":"/there"}' if moved else '{"panel":"/here"}'
    StudyStore.create(tmp_path, "abc", text, 7)
    again = StudyStore.open(tmp_path)
    assert (again.spec_json, list(again.committed()), len(again.sweeps)) == (text, [0], 1)
    assert len([*tmp_path.glob("quarantine/sweeps/*")]) == moved, "nothing is deleted"


def test_of_two_results_for_one_atom_the_first_stands_and_the_other_is_told(tmp_path: Path) -> None:
    store = create(tmp_path)
    first, second, third = (fragment(store, 4, value=value) for value in (1.0, 2.0, 3.0))
    beside = fragment(store, 5)
    store.commit([first])
    assert store.impure() == {}
    assert store.commit([second, beside]) == [beside], "what is sound is committed all the same"
    assert store.commit([second]) == store.commit([third]) == [], "one other result is proof enough"
    again = StudyStore.open(tmp_path)
    assert again.committed() == {4: first, 5: beside}
    assert again.impure() == {4: (first, second)}
    assert (tmp_path / second.name).exists()
    record = json.loads((tmp_path / "log" / "00000003.json").read_text())["body"]
    assert record["format"] == 3 and record["who"].endswith(f":{os.getpid()}")


def test_a_study_holds_a_history_of_sweeps(tmp_path: Path) -> None:
    first = create(tmp_path)
    first.commit([fragment(first, 0), fragment(first, 1)])
    second = create(tmp_path, extend=True, n=20)
    assert second.committed() == {}, "rows belong to one sweep"
    second.commit([fragment(second, 0)])
    assert [(entry.number, entry.sweep_id) for entry in second.sweeps] == [
        (1, first.sweep_id),
        (2, second.sweep_id),
    ]
    assert all(entry.created.endswith("+00:00") for entry in second.sweeps)
    newest = StudyStore.open(tmp_path)
    assert (newest.sweep_id, newest.spec_json) == (second.sweep_id, second.spec_json)
    for name in (1, first.sweep_id, first.sweep_id[:6]):
        found = StudyStore.open(tmp_path, name)
        assert (found.sweep_id, found.spec_json) == (first.sweep_id, first.spec_json)
        assert list(found.committed()) == [0, 1]
        assert list(found.committed(second.sweep_id)) == [0]
    for name in (3, 0, "zz", ""):
        with pytest.raises(InputError, match=rf"sweeps {name!r}\n[\s\S]*2: {second.sweep_id} of 2"):
            StudyStore.open(tmp_path, name)


def test_a_sweep_of_the_history_goes_on_without_being_asked_to_extend(tmp_path: Path) -> None:
    first = create(tmp_path)
    create(tmp_path, extend=True, n=20)
    again = create(tmp_path)
    assert again.sweep_id == first.sweep_id and len(again.sweeps) == 2
    assert len(create(tmp_path, extend=True, n=20).sweeps) == 2
    with pytest.raises(StoreError, match="n: 20 -> 30"):
        create(tmp_path, n=30)


def test_two_drivers_that_extend_at_once_add_one_sweep(tmp_path: Path) -> None:
    create(tmp_path)
    start = threading.Barrier(4)
    found = []

    def driver(n: int) -> None:
        start.wait()
        found.append(create(tmp_path, extend=True, n=n).sweep_id)

    threads = [threading.Thread(target=driver, args=(n,)) for n in (20, 20, 20, 30)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    ids = [entry.sweep_id for entry in StudyStore.open(tmp_path).sweeps]
    assert len(ids) == len(set(ids)) == 3 and set(found) == set(ids[1:])


def test_rows_that_failed_are_superseded_by_a_later_commit(tmp_path: Path) -> None:
    store = create(tmp_path)
    bad, good = fragment(store, 0, status="error"), fragment(store, 0, value=2.0)
    store.commit([bad])
    assert store.commit([good]) == [], "a plain run of the atom does not change what counts"
    again = good._replace(replaces=bad.sha256)
    late = fragment(store, 0, value=3.0)._replace(replaces=bad.sha256)
    assert store.commit([bad._replace(replaces=bad.sha256)]) == [], "it failed in the same way"
    assert store.commit([again]) == [again]
    assert store.commit([late]) == [], "another driver was faster"
    assert StudyStore.open(tmp_path).committed() == {0: again}
    assert len(list((tmp_path / "log").iterdir())) == 3
    store.commit([fragment(store, 0, value=4.0)])
    assert list(store.impure()) == [0], "these rows did not fail"


def test_a_damaged_fragment_stops_reading(tmp_path: Path) -> None:
    store = create(tmp_path)
    one = fragment(store, 0)
    store.commit([one])
    with open(tmp_path / one.name, "r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    with pytest.raises(StoreError, match="damaged"):
        list(StudyStore.open(tmp_path).tables())


def test_two_drivers_make_one_history_without_double_rows(tmp_path: Path) -> None:
    create(tmp_path)
    start, new = threading.Barrier(3), []

    def driver() -> None:
        store = create(tmp_path)
        start.wait()
        for atom in range(30):
            new.append(len(store.commit([fragment(store, atom)])))

    threads = [threading.Thread(target=driver) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(new) == 30 and len(new) == 90
    store = StudyStore.open(tmp_path)
    assert list(store.committed()) == list(range(30))
    assert len(list((tmp_path / "log").iterdir())) == 31


def test_a_reader_sees_what_came_since(tmp_path: Path) -> None:
    writer, reader = create(tmp_path), create(tmp_path)
    writer.commit([fragment(writer, 0)])
    assert list(reader.committed()) == []
    reader.refresh()
    assert list(reader.committed()) == [0]


def test_curves_are_kept_beside_and_may_go(tmp_path: Path) -> None:
    store = create(tmp_path)
    curve = pa.table({"equity": [1.0, 1.5, 0.1 + 0.2]})
    assert store.get_curve("k1") is None
    store.put_curve("k1", curve)
    store.put_curve("k1", curve)
    assert StudyStore.open(tmp_path).get_curve("k1").equals(curve)
    assert store.get_curve("k") is None
    file = next((tmp_path / "curves").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"damaged[\s\S]*delete curves/"):
        store.get_curve("k1")
    shutil.rmtree(tmp_path / "curves")
    assert StudyStore.open(tmp_path).get_curve("k1") is None
    with pytest.raises(InputError, match="not a name inside"):
        store.put_curve("../k", curve)


def test_notes_are_side_files(tmp_path: Path) -> None:
    store = create(tmp_path)
    store.put_note("run-1", {"host": "a", "seconds": 0.5})
    assert StudyStore.open(tmp_path).notes() == {"run-1": {"host": "a", "seconds": 0.5}}
    store.put_note("run-2", {})
    (tmp_path / "notes" / "run-2.json").write_bytes(b"\xff{")
    assert list(store.notes()) == ["run-1"], "a damaged one is nobody's trouble"
    shutil.rmtree(tmp_path / "notes")
    assert StudyStore.open(tmp_path).notes() == {}
