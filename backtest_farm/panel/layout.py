"""How a panel's arrays are laid out in a file.

A block is an ordinary long Parquet table, sorted by (timestamp, asset id), dense, in which the values of
each field are one uncompressed run of float64 that starts on a 64-byte boundary. Any Parquet reader opens
it; this package maps it.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtest_farm.errors import PanelError
from backtest_farm.panel.block import Body
from backtest_farm.panel.footer import MAGIC, chunks_of, footer_of, moved_footer

_ALIGNMENT = 64
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
    bodies: dict[str, Body] = {}
    starts: list[int] = []
    with tempfile.NamedTemporaryFile(dir=path.parent) as draft, path.open("xb") as out:
        _write_draft(draft.name, _long_table(timestamps, symbols, fields))
        file = np.memmap(draft.name, dtype=np.uint8, mode="r")
        footer = footer_of(file)
        out.write(MAGIC)
        for name, chunk in chunks_of(footer).items():
            content = file[chunk]
            if name in fields:
                values = fields[name]
                _check_plain(content, values, name)
                head = len(content) - values.nbytes
                out.write(bytes(-(out.tell() + head) % _ALIGNMENT))
                bodies[name] = Body(out.tell() + head, values.nbytes, zlib.crc32(values.data))
            starts.append(out.tell())
            out.write(content.data)
        out.write(moved_footer(footer, starts))
        out.flush()
        os.fsync(out.fileno())
    return bodies


def _long_table(timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]) -> Any:
    n_bars, n_assets = len(timestamps), len(symbols)
    moment = pa.date32() if timestamps.dtype == np.dtype("M8[D]") else pa.timestamp("us", "UTC")
    asset_ids = np.tile(np.arange(n_assets, dtype=np.int32), n_bars)
    columns = {
        "timestamp": pa.array(np.repeat(timestamps, n_assets)).cast(moment),
        "symbol": pa.DictionaryArray.from_arrays(pa.array(asset_ids), pa.array(symbols, pa.string())),
        **{name: pa.array(values.reshape(-1)) for name, values in fields.items()},
    }
    # "not null" keeps definition levels out of the pages: NaN, not null, says that there is no bar.
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    return pa.table(list(columns.values()), schema=schema)


def _write_draft(path: str, table: Any) -> None:
    pq.write_table(
        table,
        path,
        row_group_size=table.num_rows,
        max_rows_per_page=table.num_rows,
        data_page_size=_LARGEST_PAGE,
        dictionary_pagesize_limit=_LARGEST_PAGE,
        compression={name: "zstd" if name in _KEYS else "none" for name in table.column_names},
        use_dictionary=list(_KEYS),
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,  # readers then see plain strings, not the dictionary this was written from
    )


def _check_plain(chunk: np.ndarray, values: np.ndarray, name: str) -> None:
    """Make sure that a chunk ends with the field's values, byte for byte as they are in memory."""
    # Encoded, or cut into pages with a header each, they would not be there in one piece.
    if not np.array_equal(chunk[-values.nbytes :], values.reshape(-1).view(np.uint8)):
        raise PanelError(
            f"field {name!r} was not written as one plain page of {values.size} values",
            hint=f"pyarrow {pa.__version__} lays files out differently: install the one in constraints.txt",
        )
