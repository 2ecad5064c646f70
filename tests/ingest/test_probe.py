"""Parquet files of strangers: what kills their reader kills a child, and is said with the file's name."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import probe, read
from tests.ingest.bars import bars

PLENTY = 2**40


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two whole files."""
    paths = [tmp_path / "2024-01.parquet", tmp_path / "2024-02.parquet"]
    for path, rows in zip(paths, (bars()[:6], bars()[6:]), strict=True):
        rows.write_parquet(path)
    return paths


@pytest.mark.parametrize(("held_bytes", "held"), [(PLENTY, True), (0, False)])
def test_whole_files_pass_and_are_held_when_they_are_small(files, held_bytes, held) -> None:
    assert probe.probe(files, held_bytes) is held


@pytest.mark.parametrize("held_bytes", [PLENTY, 0])
def test_a_file_that_cannot_be_read_is_named(files, held_bytes) -> None:
    text = bytearray(files[1].read_bytes())
    text[8:60] = bytes(52)
    files[1].write_bytes(text)
    with pytest.raises(InputError, match=rf"{files[1]} cannot be read: \w+"):
        probe.probe(files, held_bytes)


DEATHS = {
    "import os; probe.whole_parquet = lambda path: os.abort()": "died \\(SIGABRT\\)",
    "import os; probe.whole_parquet = lambda path: os._exit(9)": "died \\(exit code 9\\)",
    "probe.whole_parquet = lambda path: sum(0 for _ in iter(int, 1))": "takes more than 2 s of CPU time",
    "probe.whole_parquet = lambda path: bytes(7 << 30)": "cannot be read: MemoryError",
    "import polars; probe.whole_parquet = lambda path: 1 / 0": "cannot be read: division by zero",
}


@pytest.mark.parametrize(("does", "said"), DEATHS.items())
def test_what_kills_the_child_is_told_of(does, said, files, monkeypatch) -> None:
    monkeypatch.setattr(probe, "_START", f"{probe._START}; {does}")
    monkeypatch.setattr(probe, "CPU_S", 2)
    with pytest.raises(InputError, match=f"{files[0]}.*{said}"):
        probe.probe(files, PLENTY)


def test_many_rows_in_few_bytes_have_a_limit(tmp_path, monkeypatch) -> None:
    bomb = tmp_path / "bomb.parquet"
    pl.select(close=pl.repeat(1.0, 60_000_000)).write_parquet(bomb, compression="zstd")
    assert bomb.stat().st_size < 500_000
    monkeypatch.setattr(probe, "MEMORY_BYTES", 1000 * 2**20)
    with pytest.raises(InputError, match=f"{bomb} cannot be read: .*memory"):
        probe.probe([bomb], PLENTY)


def test_every_way_in_is_probed(files, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("backtest_farm.ingest.files.probe", lambda some, held: asked.append(some) or True)
    read(files[0])
    read(tmp_path)
    assert asked == [files[:1], files]
