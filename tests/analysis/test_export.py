"""Exports: whole or not at all, in bounded memory, as other programs read them."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_farm.analysis.export import export
from backtest_farm.errors import InputError, PlatformError


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 4 KiB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    asked = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, asked)


def test_a_delta_table_holds_the_rows_and_gets_a_version_with_each_export(study, tmp_path) -> None:
    from deltalake import DeltaTable

    for target, kind in ((tmp_path / "trials.delta", None), (tmp_path / "lake", "delta")):
        for version in (0, 1):
            assert study.export(target, kind) == 24
            assert DeltaTable(target).version() == version
        there, rows = pl.read_delta(str(target)).sort("trial"), study.trials().collect()
        assert there.columns == rows.columns
        lists = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
        assert lists and there[lists].to_dicts() == rows[lists].to_dicts()
        assert_frame_equal(there.drop(lists), rows.drop(lists))
    assert {path.name for path in tmp_path.iterdir()} == {"trials.delta", "lake"}


def test_a_delta_table_takes_no_folder_that_holds_something_else(study, tmp_path) -> None:
    (tmp_path / "mine.delta").mkdir()
    (tmp_path / "mine.delta" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"mine.delta cannot be written: .*not empty"):
        study.export(tmp_path / "mine.delta")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.delta", "thesis.txt"]


def test_without_its_package_delta_says_what_to_install(study, tmp_path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "deltalake" else found(name, *more)
    )
    with pytest.raises(PlatformError, match=r'pip install "backtest-farm\[delta\]"'):
        study.export(tmp_path / "a.delta")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(study, tmp_path, suffix, small_files) -> None:
    target = tmp_path / f"a{suffix}"
    target.write_text("the export of yesterday")
    with pytest.raises(
        InputError, match=rf"a\{suffix} cannot be written: .*too large.*\n.*nothing was changed"
    ):
        export(pl.LazyFrame({"trial": range(100_000)}), target)
    assert target.read_text() == "the export of yesterday"
    assert os.listdir(tmp_path) == [target.name]


def test_texts_that_start_a_formula_are_disarmed_and_numbers_stay(tmp_path) -> None:
    starts = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"]
    texts = [f"{start}cmd|' /C calc'!A0" for start in starts]
    frame = pl.LazyFrame({"name": texts, "gain": [-1.5] * len(texts), "n": [-1] * len(texts)})
    export(frame, tmp_path / "a.csv")
    back = pl.read_csv(tmp_path / "a.csv")
    assert back["name"].to_list() == [f"'{text}" for text in texts]
    assert back["gain"].to_list() == [-1.5] * len(texts) and back["n"].to_list() == [-1] * len(texts)


_MANY_ROWS = """
import resource, sys
from pathlib import Path
import numpy as np, polars as pl
from polars.io.plugins import register_io_source
from backtest_farm.analysis.export import export

BATCHES, ROWS, COLUMNS = 100, 10_000, 16
numbers = np.random.default_rng(0).random((COLUMNS, ROWS))

def batches(with_columns, predicate, n_rows, batch_size):
    for _ in range(BATCHES):
        batch = pl.DataFrame({f"c{at}": column.copy() for at, column in enumerate(numbers)})
        yield batch if with_columns is None else batch.select(with_columns)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

rows = register_io_source(batches, schema={f"c{at}": pl.Float64 for at in range(COLUMNS)})
export(rows.head(10), Path("warm.arrow"))
before = peak()
assert export(rows, Path(sys.argv[1])) == BATCHES * ROWS
print(peak() - before, Path(sys.argv[1]).stat().st_size / 2**20)
"""


def test_a_million_rows_pass_in_bounded_memory(tmp_path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _MANY_ROWS, "a.arrow"], cwd=tmp_path, capture_output=True, text=True
    )
    assert not ran.stderr
    grown_mib, written_mib = map(float, ran.stdout.split())
    assert written_mib > 100 and grown_mib < written_mib / 2


def test_an_unknown_format_is_told(study, tmp_path) -> None:
    with pytest.raises(InputError, match=r"'xlsx' is no format"):
        study.export(tmp_path / "a.csv", "xlsx")
