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


def write(folder: Path, n: int = 4) -> list[Path]:
    log = CommitLog(LocalStorage(folder))
    for i in range(n):
        assert log.append({"kind": "rows", "value": i})
        log.refresh()
    return sorted((folder / "log").iterdir())


def read(folder: Path) -> list[int]:
    return [record["value"] for record in CommitLog(LocalStorage(folder)).refresh()]


def test_records_come_back_in_order_and_only_once(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert [file.name for file in files] == [f"{i:08d}.json" for i in range(1, 5)]
    log = CommitLog(LocalStorage(tmp_path))
    assert [record["value"] for record in log.refresh()] == [0, 1, 2, 3]
    assert log.refresh() == []
    assert json.loads(files[1].read_text())["body"]["previous"] == digest_bytes(files[0].read_bytes())


def test_of_two_writers_the_later_one_is_told(tmp_path: Path) -> None:
    first, second = (CommitLog(LocalStorage(tmp_path)) for _ in range(2))
    assert first.append({"value": 1}) and not second.append({"value": 2})
    assert [record["value"] for record in second.refresh()] == [1]
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
    log.refresh()
    files[1].unlink()
    with pytest.raises(StoreError, match=r"00000002\.json is missing"):
        log.refresh()


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
    body = {**json.loads(files[3].read_text())["body"], "format": 3}
    files[3].write_text(canonical_json({"body": body, "sha256": digest_bytes(canonical_json(body).encode())}))
    with pytest.raises(StoreError, match="has format 3, this version reads up to 2"):
        read(tmp_path)


def test_racing_writers_make_one_history(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def writer(i: int) -> None:
        log = CommitLog(LocalStorage(tmp_path))
        start.wait()
        for j in range(10):
            while not log.append({"value": 100 * i + j}):
                log.refresh()
            log.refresh()

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
    log.refresh()
    assert log.append({"value": 2})
    assert read(tmp_path) == [1, 2]
