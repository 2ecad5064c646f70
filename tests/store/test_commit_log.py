"""The log: every change to it is noticed, and two writers make one history."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, LocalStorage
from backtest_farm.store import CommitLog
from backtest_farm.store.commit_log import checkpoint_due


def write(folder: Path, n: int = 4) -> list[Path]:
    log = CommitLog(LocalStorage(folder))
    for i in range(n):
        assert log.append({"kind": "rows", "value": i})
        list(log.news())
    return sorted((folder / "log").iterdir())


def read(folder: Path) -> list[int]:
    return [record["value"] for record in CommitLog(LocalStorage(folder)).news()]


def test_records_come_back_in_order_and_only_once(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert [file.name for file in files] == [f"{i:08d}.json" for i in range(1, 5)]
    log = CommitLog(LocalStorage(tmp_path))
    assert [record["value"] for record in log.news()] == [0, 1, 2, 3]
    assert list(log.news()) == []
    assert json.loads(files[1].read_text())["body"]["previous"] == digest_bytes(files[0].read_bytes())


def test_of_two_writers_the_later_one_is_told(tmp_path: Path) -> None:
    first, second = (CommitLog(LocalStorage(tmp_path)) for _ in range(2))
    assert first.append({"value": 1}) and not second.append({"value": 2})
    assert [record["value"] for record in second.news()] == [1]
    assert second.append({"value": 2})
    assert read(tmp_path) == [1, 2]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_record_is_noticed(tmp_path: Path, which: int) -> None:
    write(tmp_path)[which].unlink()
    with pytest.raises(StoreError, match=f"{which + 1:08d}[.]json is missing"):
        read(tmp_path)


def test_a_record_that_vanishes_under_an_open_log_is_noticed(tmp_path: Path) -> None:
    files = write(tmp_path)
    log = CommitLog(LocalStorage(tmp_path))
    list(log.news())
    files[1].unlink()
    with pytest.raises(StoreError, match=r"00000002\.json is missing"):
        list(log.news())


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path)[1]
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match=r"damaged|replaced|format"):
            read(tmp_path)
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="damaged"):
            read(tmp_path)


def test_a_replaced_record_breaks_the_chain(tmp_path: Path) -> None:
    file = write(tmp_path)[1]
    body = {**json.loads(file.read_text())["body"], "value": 99}
    file.write_text(canonical_json({"body": body, "sha256": digest_bytes(canonical_json(body).encode())}))
    with pytest.raises(StoreError, match=r"00000003\.json does not follow"):
        read(tmp_path)


def test_swapped_records_are_noticed(tmp_path: Path) -> None:
    files = write(tmp_path)
    files[1].rename(tmp_path / "keep")
    files[2].rename(files[1])
    (tmp_path / "keep").rename(files[2])
    with pytest.raises(StoreError, match=r"00000002\.json does not follow"):
        read(tmp_path)


def test_strange_files_and_later_formats_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path)
    (tmp_path / "log" / "notes.txt").touch()
    with pytest.raises(StoreError, match=r"no records[\s\S]*log/notes.txt"):
        read(tmp_path)
    (tmp_path / "log" / "notes.txt").unlink()
    body = {**json.loads(files[3].read_text())["body"], "format": 4}
    files[3].write_text(canonical_json({"body": body, "sha256": digest_bytes(canonical_json(body).encode())}))
    with pytest.raises(StoreError, match="has format 4, this version reads up to 3"):
        read(tmp_path)


def test_racing_writers_make_one_history(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def writer(i: int) -> None:
        log = CommitLog(LocalStorage(tmp_path))
        start.wait()
        for j in range(10):
            while not log.append({"value": 100 * i + j}):
                list(log.news())
            list(log.news())

    threads = [threading.Thread(target=writer, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    values = read(tmp_path)
    assert sorted(values) == [100 * i + j for i in range(4) for j in range(10)]
    for i in range(4):
        mine = [value for value in values if value // 100 == i]
        assert mine == sorted(mine)
    assert values != sorted(values), "the writers did race"


class LostAnswer(LocalStorage):
    """Writes, then says that it could not: an object store whose answer got lost and was asked again."""

    def put_new(self, name: str, data: bytes) -> None:
        super().put_new(name, data)
        raise AlreadyExists(name)


def test_a_lost_answer_is_settled_by_reading_back(tmp_path: Path) -> None:
    log = CommitLog(LostAnswer(tmp_path))
    assert log.append({"value": 1})
    list(log.news())
    assert log.append({"value": 2})
    assert read(tmp_path) == [1, 2]


def test_a_later_epoch_takes_the_place_of_records(tmp_path: Path) -> None:
    files = write(tmp_path, 4)
    open_before = CommitLog(LocalStorage(tmp_path))
    list(open_before.news())
    files[2].write_bytes(b"{}")
    log = CommitLog(LocalStorage(tmp_path))
    with pytest.raises(StoreError, match=r"00000003\.json is damaged[\s\S]*study repair"):
        list(log.news())
    assert len(log.names) == 2, "it stands where it was sound"
    log.restate({"value": "again"})
    assert read(tmp_path) == [0, 1, "again"] and len(list((tmp_path / "log").iterdir())) == 5
    assert [record["value"] for record in open_before.news()] == [0, 1, "again"], "who reads, notices"
    assert open_before.append({"value": 5})
    assert read(tmp_path) == [0, 1, "again", 5]
    # A second one further back, and one by a driver that has not noticed yet.
    (tmp_path / "log" / "00000002.json").write_bytes(b"")
    late, again = log, CommitLog(LocalStorage(tmp_path))
    with pytest.raises(StoreError, match=r"00000002\.json is damaged"):
        list(again.news())
    again.restate({"value": "third"})
    late.append({"value": "late"})
    assert read(tmp_path) == [0, "third"]


def test_two_repairs_at_once_make_one_epoch(tmp_path: Path) -> None:
    write(tmp_path)[1].unlink()
    logs = [CommitLog(LocalStorage(tmp_path)) for _ in range(2)]
    for log in logs:
        with pytest.raises(StoreError, match="00000002"):
            list(log.news())
    logs[0].restate({"value": "a"})
    logs[1].restate({"value": "b"})
    assert read(tmp_path) == [0, "b"], "the later one says all of it once more"


def test_a_checkpoint_saves_reading_and_counts_only_where_it_fits(tmp_path: Path) -> None:
    files = write(tmp_path, 5)
    log = CommitLog(LocalStorage(tmp_path))
    list(log.news())
    log.checkpoint({"value": "all"})
    assert log.append({"value": 5})
    [file] = (tmp_path / "checkpoints").iterdir()

    def values(checkpoints: bool = True) -> list:
        return [record["value"] for record in CommitLog(LocalStorage(tmp_path), checkpoints).news()]

    assert values() == ["all", 5] and values(False) == [0, 1, 2, 3, 4, 5]
    files[1].write_bytes(b"")
    assert values() == ["all", 5], "what it says was checked when it was written"
    with pytest.raises(StoreError, match="damaged"):
        values(False)
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match="00000002"):
            values()
    file.write_bytes(whole)
    files[4].write_bytes(files[3].read_bytes())
    with pytest.raises(StoreError, match="00000002"):
        values()


@pytest.mark.parametrize("n", [300, 10_000, 200_000])
def test_checkpoints_cost_little_and_leave_little_to_read(n: int) -> None:
    due = [number for number in range(1, n + 1) if checkpoint_due(number)]
    assert sum(due) <= 64 * n
    assert n - due[-1] <= max(256, n / 32)
