"""A folder as create-only storage: whole files or none, and never a replaced one."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from backtest_farm.errors import InputError, StoreError
from backtest_farm.storage import AlreadyExists, LocalStorage, Missing, open_storage


def test_what_is_put_can_be_read_and_listed_by_prefix(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "deep" / "study")
    storage.put_new("log/00000001.json", b"one")
    storage.put_new("fragments/ab-1.arrow", b"two")
    storage.put_new("fragments/ac-1.arrow", b"")
    assert storage.read("log/00000001.json") == b"one"
    assert storage.read("fragments/ac-1.arrow") == b""
    assert storage.list("") == ["fragments/ab-1.arrow", "fragments/ac-1.arrow", "log/00000001.json"]
    assert storage.list("fragments/ab") == ["fragments/ab-1.arrow"]
    assert storage.list("fr") == ["fragments/ab-1.arrow", "fragments/ac-1.arrow"]
    assert storage.list("nowhere/") == []
    assert len(storage.list("", limit=2)) == 2


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put_new("a", b"first")
    with pytest.raises(AlreadyExists, match="never replaced"):
        storage.put_new("a", b"second")
    assert storage.read("a") == b"first"
    assert sorted(os.listdir(tmp_path)) == ["a"], "the loser's temporary file is gone"


def test_a_file_can_be_removed_and_put_again(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put_new("a/b", b"1")
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.list("") == []
    storage.put_new("a/b", b"2")
    assert storage.read("a/b") == b"2"
    with pytest.raises(StoreError, match="could not be removed"):
        storage.remove("a")


def test_users_share_and_one_can_be_alone(tmp_path: Path) -> None:
    one, other = LocalStorage(tmp_path), LocalStorage(tmp_path)
    with one.hold(alone=False), other.hold(alone=False), pytest.raises(StoreError, match="at work"):
        one.hold(alone=True).__enter__()
    for second in (True, False):
        with one.hold(alone=True), pytest.raises(StoreError, match="at work"):
            other.hold(alone=second).__enter__()
    with one.hold(alone=True):
        pass
    assert one.list("") == [], "what locks is no file of the storage"


def test_a_failure_of_who_holds_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="mine"), LocalStorage(tmp_path).hold(alone=True):
        raise BlockingIOError("mine")
    with LocalStorage(tmp_path).hold(alone=True):
        pass


def test_where_locks_are_not_known_nobody_can_be_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("backtest_farm.storage.local.fcntl.flock", unknown)
    with LocalStorage(tmp_path).hold(alone=False):
        pass
    with pytest.raises(StoreError, match=r"could not be locked: .*not implemented\n  -> check rights"):
        LocalStorage(tmp_path).hold(alone=True).__enter__()


def test_a_lock_that_may_not_be_taken_is_no_missing_lock(tmp_path: Path, monkeypatch) -> None:
    """Somebody else's compaction could take it: going on without one would not be safe."""

    def forbidden(*_) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("backtest_farm.storage.local.fcntl.flock", forbidden)
    with pytest.raises(StoreError, match="could not be locked"):
        LocalStorage(tmp_path).hold(alone=False).__enter__()


def test_what_is_no_place_is_named() -> None:
    with pytest.raises(InputError, match="None is no place for a study"):
        open_storage(None)  # type: ignore[arg-type]


def test_of_racing_threads_one_wins(tmp_path: Path) -> None:
    for turn in range(20):
        wins: list[int] = []
        start = threading.Barrier(8)

        def race(i: int, name: str = f"race/{turn}", wins: list[int] = wins, start=start) -> None:
            start.wait()
            try:
                LocalStorage(tmp_path).put_new(name, b"%d" % i * 1000)
                wins.append(i)
            except AlreadyExists:
                pass

        threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(wins) == 1
        assert LocalStorage(tmp_path).read(f"race/{turn}") == b"%d" % wins[0] * 1000
    assert len(LocalStorage(tmp_path).list("race/")) == 20


def _race_in_process(folder: str, i: int, start, results) -> None:
    storage = LocalStorage(folder)
    won = []
    for turn in range(20):
        start.wait()
        try:
            storage.put_new(f"race/{turn}", b"%d" % i)
            won.append(turn)
        except AlreadyExists:
            pass
    results.put((i, won))


def test_of_racing_processes_one_wins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    start, results = spawn.Barrier(8), spawn.Queue()
    processes = [
        spawn.Process(target=_race_in_process, args=(str(tmp_path), i, start, results)) for i in range(8)
    ]
    [process.start() for process in processes]
    won = dict(results.get(timeout=60) for _ in processes)
    [process.join() for process in processes]
    assert sorted(turn for turns in won.values() for turn in turns) == list(range(20))
    for i, turns in won.items():
        assert all(LocalStorage(tmp_path).read(f"race/{turn}") == b"%d" % i for turn in turns)


def test_torn_temporary_files_are_invisible(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put_new("log/1", b"x")
    (tmp_path / "log" / ".2.0011223344556677.tmp").write_bytes(b"half of a rec")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "file").touch()
    assert storage.list("log/") == ["log/1"]
    assert storage.list("") == ["log/1"]
    storage.put_new("log/2", b"whole")
    assert storage.read("log/2") == b"whole"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        storage.put_new("a", b"x")
    assert os.listdir(tmp_path) == []


def test_the_content_is_synced_before_it_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalStorage(tmp_path).put_new("first", b"settles the folders above")
    calls = []
    for name in ("fsync", "link", "unlink"):
        original = getattr(os, name)

        def note(*args, name=name, original=original):
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(os, name, note)
    LocalStorage(tmp_path).put_new("a", b"x")
    assert calls == ["fsync", "link", "fsync", "unlink"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", ".hidden", "a/.b"])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name inside"):
        LocalStorage(tmp_path).put_new(name, b"x")


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="is not there"):
        LocalStorage(tmp_path).read("a/b")


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a study"
    assert open_storage(place).uri == open_storage(place.as_uri()).uri == str(place)
    open_storage(open_storage(place).uri).put_new("a", b"x")
    assert (place / "a").read_bytes() == b"x"
    monkeypatch.chdir(tmp_path)
    assert open_storage("a study").read("a") == b"x"
    assert open_storage("a study").uri == str(place), "a worker in another folder finds the same place"
    with pytest.raises(InputError, match="'gopher' is not known"):
        open_storage("gopher://bucket/x")
    with pytest.raises(InputError, match="three slashes"):
        open_storage("file://study/x")
    with pytest.raises(StoreError, match="is a file"):
        open_storage(place / "a").list("")
