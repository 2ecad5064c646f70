"""How a panel's arrays are laid out in a file.

A block is an ordinary long Parquet table, sorted by (timestamp, asset id), dense, in which the values of
each field are one uncompressed run of float64 that starts on a 64-byte boundary. Any Parquet reader opens
it; this package maps it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtest_farm.errors import PanelError
from backtest_farm.panel.body import ALIGNMENT, Body
from backtest_farm.panel.footer import MAGIC, Chunk, chunks_of, footer_of, moved_footer

_KEYS = ("timestamp", "symbol")
_LARGEST_PAGE = 2**31 - 1


def tidy(values: np.ndarray) -> np.ndarray:
    """Return C-ordered float64 with one pattern for NaN and one for zero: equal content, equal hash."""
    clean = np.ascontiguousarray(values, dtype=np.float64) + 0.0  # -0.0 + 0.0 is 0.0
    clean[np.isnan(clean)] = np.nan
    return clean


def write_block(
    path: Path, timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]
) -> dict[str, Body]:
    """Write one block to `path` and return where each field's values are.

    Parameters
    ----------
    path : pathlib.Path
        A new file; its folder exists. The file is flushed to disk before returning.
    timestamps : numpy.ndarray
        datetime64[D] or datetime64[us], (n_bars,).
    symbols : tuple of str
        One name per asset id.
    fields : mapping of str to numpy.ndarray
        Arrays from `tidy`, (n_bars, n_assets).

    Raises
    ------
    PanelError
        If the writer did not lay a field out as one plain page.
    """
    draft = path.with_name(path.name + ".draft")
    try:
        _write_draft(draft, timestamps, symbols, fields)
        return _align(draft, path, tuple(fields), len(timestamps) * len(symbols))
    finally:
        draft.unlink(missing_ok=True)


def _write_draft(
    path: Path, timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]
) -> None:
    n_bars, n_assets = len(timestamps), len(symbols)
    rows = n_bars * n_assets
    daily = timestamps.dtype == np.dtype("M8[D]")
    asset_ids = np.tile(np.arange(n_assets, dtype=np.int32), n_bars)
    columns = {
        "timestamp": pa.array(np.repeat(timestamps, n_assets)).cast(
            pa.date32() if daily else pa.timestamp("us", "UTC")
        ),
        "symbol": pa.DictionaryArray.from_arrays(pa.array(asset_ids), pa.array(symbols, pa.string())),
        **{name: pa.array(values.reshape(-1)) for name, values in fields.items()},
    }
    # "not null" keeps definition levels out of the pages: NaN, not null, says that there is no bar.
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    pq.write_table(
        pa.table(list(columns.values()), schema=schema),
        path,
        row_group_size=rows,
        max_rows_per_page=rows,
        data_page_size=_LARGEST_PAGE,
        dictionary_pagesize_limit=_LARGEST_PAGE,
        compression={name: "zstd" if name in _KEYS else "none" for name in columns},
        use_dictionary=list(_KEYS),
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,  # readers then see plain strings, not the dictionary this was written from
    )


def _align(draft: Path, path: Path, fields: tuple[str, ...], rows: int) -> dict[str, Body]:
    """Copy `draft` to `path` with every field's body moved to a 64-byte boundary."""
    file = np.memmap(draft, dtype=np.uint8, mode="r")
    footer = footer_of(file)
    chunks = chunks_of(file, footer)
    starts: dict[str, int] = {}
    bodies: dict[str, Body] = {}
    with path.open("xb") as out:
        out.write(MAGIC)
        for chunk in chunks:
            if chunk.name in fields:
                _check_plain(chunk, rows, path)
                head = chunk.pages[0].body - chunk.start
                out.write(bytes(-(out.tell() + head) % ALIGNMENT))
                starts[chunk.name] = out.tell()
                bodies[chunk.name] = _copy_body(file, chunk, out)
            else:
                starts[chunk.name] = out.tell()
                out.write(file[chunk.start : chunk.start + chunk.length].data)
        out.write(moved_footer(footer, chunks, starts))
        out.flush()
        os.fsync(out.fileno())
    return bodies


def _copy_body(file: np.ndarray, chunk: Chunk, out: BinaryIO) -> Body:
    (page,) = chunk.pages
    out.write(file[page.start : page.body].data)
    offset = out.tell()
    values = file[page.body : page.body + page.length].data
    out.write(values)
    return Body(offset, page.length, page.crc32, hashlib.sha256(values).hexdigest())


def _check_plain(chunk: Chunk, rows: int, path: Path) -> None:
    pages = chunk.pages
    if (
        len(pages) == 1
        and pages[0].is_data
        and pages[0].is_plain
        and (pages[0].n_values, pages[0].length) == (rows, 8 * rows)
    ):
        return
    raise PanelError(
        f"{path}: field {chunk.name!r} was not written as one plain page of {rows} values",
        hint=f"pyarrow {pa.__version__} lays files out differently: install the version in constraints.txt",
    )
