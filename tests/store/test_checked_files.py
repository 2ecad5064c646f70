"""Files are hashed once, and again when they are other files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from backtest_farm.errors import StoreError
from backtest_farm.storage import LocalStorage
from backtest_farm.store import Fragment, arrow_file, write_fragment
from backtest_farm.store.checked_files import CheckedFiles


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what was hashed."""
    sizes: list[int] = []
    digest_bytes = arrow_file.digest_bytes

    def counted(data) -> str:
        sizes.append(len(data))
        return digest_bytes(data)

    monkeypatch.setattr(arrow_file, "digest_bytes", counted)
    return sizes


def fragment(folder: Path) -> Fragment:
    return write_fragment(LocalStorage(folder), "abc", 0, pa.table({"status": ["ok"] * 9, "value": range(9)}))


class NoMaps(LocalStorage):
    """A storage whose files only it can read, as an object store's."""

    def path_of(self, name: str) -> Path | None:
        return None


@pytest.mark.parametrize("kind", [LocalStorage, NoMaps])
def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[int], kind: type[LocalStorage]) -> None:
    one = fragment(tmp_path)
    files = CheckedFiles(kind(tmp_path))
    tables = [files.table(one.name, one.sha256) for _ in range(3)]
    assert hashed == [one.bytes]
    assert tables[0] is tables[2] and tables[0]["value"].to_pylist() == list(range(9))


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_that_changed_is_hashed_again_before_it_is_read(tmp_path: Path, cut: bool) -> None:
    one = fragment(tmp_path)
    files = CheckedFiles(LocalStorage(tmp_path))
    files.table(one.name, one.sha256)
    data = bytearray((tmp_path / one.name).read_bytes())
    data[200] ^= 1
    (tmp_path / one.name).write_bytes(data[:100] if cut else data)
    with pytest.raises(StoreError, match=r"is damaged[\s\S]*study repair"):
        files.table(one.name, one.sha256)


def test_more_files_than_can_be_mapped_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        raise OSError(12, "Cannot allocate memory")

    one = fragment(tmp_path)
    monkeypatch.setattr(pa, "memory_map", full)
    assert CheckedFiles(LocalStorage(tmp_path)).table(one.name, one.sha256).num_rows == 9
    (tmp_path / one.name).unlink()
    with pytest.raises(StoreError, match="is not there"):
        CheckedFiles(LocalStorage(tmp_path)).table(one.name, one.sha256)
