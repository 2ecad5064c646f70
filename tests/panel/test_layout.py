"""A block is plain Parquet to everyone, and an aligned array to us."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastparquet.cencoding import NumpyIO
from fastparquet.core import ThriftObject

from backtest_farm.errors import PanelError
from backtest_farm.panel import Panel, layout
from backtest_farm.panel.footer import chunks_of, footer_of
from backtest_farm.panel.layout import tidy, write_block
from tests.panel.test_blocks import is_mapped

UNITS = ["D", "us"]
DATA_PAGE = PLAIN = 0  # as Parquet numbers them


def block_file(panel: Panel) -> Path:
    (path,) = (panel.path / "blocks").glob("*.parquet")
    return path


def long_form(
    timestamps: np.ndarray, symbols: tuple[str, ...], fields: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        "timestamp": np.repeat(timestamps.astype("M8[us]"), len(symbols)),
        "symbol": np.tile(np.array(symbols, dtype=object), len(timestamps)),
        **{name: values.reshape(-1) for name, values in fields.items()},
    }


def pages_of(file: np.ndarray, chunk: slice) -> list[tuple[Any, int]]:
    """The header of each page of a chunk, and where its body starts."""
    pages, start = [], chunk.start
    while start < chunk.stop:
        window = NumpyIO(file[start : min(start + 512, chunk.stop)].copy())
        header = ThriftObject.from_buffer(window, "PageHeader")
        pages.append((header, start + window.tell()))
        start = pages[-1][1] + header.compressed_page_size
    return pages


def with_pyarrow(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path, page_checksum_verification=True)
    return {name: table[name].to_numpy() for name in table.column_names}


def with_polars(path: Path) -> dict[str, np.ndarray]:
    frame = pl.read_parquet(path)
    return {name: frame[name].to_numpy() for name in frame.columns}


def with_fastparquet(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        frame = fastparquet.ParquetFile(file).to_pandas()
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def with_duckdb(path: Path) -> dict[str, np.ndarray]:
    with duckdb.connect() as connection:
        table = connection.sql("select * from read_parquet(?)", params=[str(path)]).to_arrow_table()
    return {name: table[name].to_numpy() for name in table.column_names}


READERS = {
    "pyarrow": with_pyarrow,
    "polars": with_polars,
    "fastparquet": with_fastparquet,
    "duckdb": with_duckdb,
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_the_same_table(tmp_path: Path, reader: str, unit: str) -> None:
    draw = np.random.default_rng(5)
    timestamps = (np.datetime64("2024-01-01", unit) + np.arange(700)).astype(f"M8[{unit}]")
    symbols = ("A", "BRK.B", "é", "a longer name")
    fields = {name: tidy(draw.normal(size=(700, 4))) for name in ("close", "open", "score of x")}
    fields["close"][3, 1] = np.nan
    path = tmp_path / "block.parquet"
    write_block(path, timestamps, symbols, fields)
    found = READERS[reader](path)
    expected = long_form(timestamps, symbols, fields)
    assert list(found) == list(expected)
    np.testing.assert_array_equal(found.pop("timestamp").astype("M8[us]"), expected.pop("timestamp"))
    np.testing.assert_array_equal(found.pop("symbol").astype(object), expected.pop("symbol"))
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes()


def test_other_tools_read_a_built_panel(market: Panel) -> None:
    path = block_file(market)
    tables = [reader(path) for reader in READERS.values()]
    for table in tables:
        for name in market.fields:
            np.testing.assert_array_equal(table[name].reshape(market.shape), market[name])


def test_columns_are_one_plain_aligned_page(market: Panel) -> None:
    file = np.memmap(block_file(market), dtype=np.uint8, mode="r")
    chunks = {name: pages_of(file, chunk) for name, chunk in chunks_of(footer_of(file)).items()}
    assert list(chunks) == ["timestamp", "symbol", *market.fields]
    for pages in chunks.values():
        assert sum(header.type == DATA_PAGE for header, _ in pages) == 1
    for name in market.fields:
        ((header, body),) = chunks[name]
        assert header.data_page_header.encoding == PLAIN and body % 64 == 0
        assert header.data_page_header.num_values == 300 * 40
        assert header.compressed_page_size == 8 * 300 * 40
        place = market._manifest.fields[name].pieces[0].block.bodies[name]
        assert (place.offset, place.bytes) == (body, header.compressed_page_size)
        assert place.crc32 == header.crc % 2**32
    meta = pq.ParquetFile(block_file(market)).metadata.row_group(0)
    codecs = [meta.column(i).compression for i in range(meta.num_columns)]
    assert codecs == ["ZSTD", "ZSTD", *["UNCOMPRESSED"] * len(market.fields)]
    assert meta.column(1).total_compressed_size < 2000


def test_a_wide_block_is_still_one_page(tmp_path: Path) -> None:
    # More rows than any of pyarrow's default limits: 20,000 a page, 1 Mi a row group.
    timestamps = np.arange(1100).astype("M8[D]")
    symbols = tuple(f"S{i:04d}" for i in range(1000))
    values = tidy(np.arange(1_100_000.0).reshape(1100, 1000))
    bodies = write_block(tmp_path / "block.parquet", timestamps, symbols, {"x": values})
    assert bodies["x"].bytes == values.nbytes
    assert pq.ParquetFile(tmp_path / "block.parquet").metadata.num_row_groups == 1


def test_a_field_is_mapped_not_copied(market: Panel) -> None:
    panel = Panel.open(market.path)
    panel["open"]  # checks the file, once
    allocated = pa.total_allocated_bytes()
    tracemalloc.start()
    close = panel["close"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 < close.nbytes
    assert pa.total_allocated_bytes() == allocated
    assert type(close) is np.ndarray and is_mapped(close)
    assert close.flags.aligned and close.flags.c_contiguous and not close.flags.writeable
    assert close.ctypes.data % 64 == 0
    assert np.shares_memory(close, panel["close"])
    with pytest.raises(ValueError, match="read-only"):
        close[0, 0] = 1.0


def test_tidy_gives_equal_content_equal_bytes() -> None:
    odd = np.array([[-0.0, -np.nan]])
    odd.view(np.int64)[0, 1] |= 1  # a NaN with a payload
    assert tidy(odd).tobytes() == np.array([[0.0, np.nan]]).tobytes()
    assert tidy(np.asfortranarray(np.ones((3, 2), np.float32))).flags.c_contiguous


@pytest.mark.parametrize("spoiled", ["pages", "dictionary", "compressed"])
def test_an_unexpected_layout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    other = {
        "pages": {"max_rows_per_page": 20},
        "dictionary": {"use_dictionary": True},
        "compressed": {"compression": "zstd"},
    }[spoiled]
    write_table = pq.write_table
    monkeypatch.setattr(
        layout.pq, "write_table", lambda table, path, **usual: write_table(table, path, **usual | other)
    )
    fields = {"close": np.ones((50, 2))}
    with pytest.raises(PanelError, match="'close' was not written as one plain page of 100 values"):
        write_block(tmp_path / "block.parquet", np.arange(50).astype("M8[D]"), ("A", "B"), fields)
