"""The simulated disk loses what it should, and `LocalStorage` knows how to live with it."""

from __future__ import annotations

import errno
import os
from random import Random

import pytest

from backtest_farm.errors import StoreError
from backtest_farm.storage import AlreadyExists, LocalStorage
from tests.storage.simulated_disk import SimulatedDisk

DRAWS = range(200)


def write(disk: SimulatedDisk, name: str, data: bytes, sync: bool = False) -> int:
    handle = disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    while data:
        data = data[disk.write(handle, data) :]
    if sync:
        disk.fsync(handle)
    return handle


def left(disk: SimulatedDisk, name: str) -> set[bytes | None]:
    """Return what may be left of a file after a crash."""
    roots = (disk.after_crash(Random(draw)).root for draw in DRAWS)
    return {root.seen[name].seen if name in root.seen else None for root in roots}


def test_what_was_not_synced_may_be_lost_torn_or_kept() -> None:
    disk = SimulatedDisk()
    write(disk, "/a", b"x" * 300)
    found = left(disk, "a")
    assert {None, b"", b"x" * 300} <= found
    assert any(data and data.startswith(b"x") and len(data) < 300 for data in found)
    assert any(data and b"\0" in data and len(data) == 300 for data in found)
    disk.fsync(disk.open("/a", os.O_RDONLY))
    assert left(disk, "a") == {None, b"x" * 300}, "its name is another thing"
    disk.fsync(disk.open("/", os.O_RDONLY))
    assert left(disk, "a") == {b"x" * 300}
    disk.unlink("/a")
    assert left(disk, "a") == {None, b"x" * 300}


@pytest.mark.parametrize("path", ["/a", "/"])
def test_a_sync_after_one_that_failed_proves_nothing(path: str) -> None:
    disk = SimulatedDisk()
    write(disk, "/a", b"x" * 300, sync=path == "/")
    handle = disk.open(path, os.O_RDONLY)
    disk.faults[len(disk.calls)] = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        disk.fsync(handle)
    for each in ("/a", "/"):
        disk.fsync(disk.open(each, os.O_RDONLY))
    assert len(left(disk, "a")) > 1


def test_a_full_disk_is_full() -> None:
    disk = SimulatedDisk(room=100)
    with pytest.raises(OSError, match="No space left"):
        write(disk, "/a", b"x" * 300)


def test_who_finds_a_file_after_a_failed_sync_can_count_on_it_all_the_same() -> None:
    disk = SimulatedDisk()
    storage = LocalStorage("/s", disk)
    storage.put_new("first", b"")
    kinds = []
    disk.before = lambda number, name: kinds.append(name)
    storage.put_new("other", b"")
    last = len(kinds) - 1 - kinds[::-1].index("fsync of a folder")
    disk.faults = {len(disk.calls) + last: errno.EIO}
    with pytest.raises(StoreError, match="could not be written"):
        storage.put_new("a", b"x")
    assert storage.read("a") == b"x"
    for content in (b"x", b"somebody else's"):
        with pytest.raises(AlreadyExists):
            storage.put_new("a", content)
        for draw in DRAWS:
            assert LocalStorage("/s", disk.after_crash(Random(draw))).read("a") == b"x"


def test_a_listing_that_fails_is_not_an_empty_one() -> None:
    disk = SimulatedDisk()
    storage = LocalStorage("/s", disk)
    storage.put_new("log/1", b"")
    for call in range(1, 3):
        disk.faults = {len(disk.calls) + call: errno.EIO}
        with pytest.raises(StoreError, match="could not be listed"):
            storage.list("")
    assert storage.list("nowhere/") == []
