"""The footer of a Parquet file: the only module that knows Thrift (through fastparquet).

It reads only files that this package wrote in the same breath: fastparquet's Thrift reader trusts its
input, so a foreign or damaged file must never come here.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from fastparquet.cencoding import NumpyIO
from fastparquet.core import ThriftObject

MAGIC = b"PAR1"
_TAIL = 8  # footer length and magic


def footer_of(file: np.ndarray) -> Any:
    """Return the footer of `file` (uint8, the whole file) as a Thrift object."""
    (length,) = struct.unpack("<I", file[-_TAIL : -len(MAGIC)].tobytes())
    return ThriftObject.from_buffer(NumpyIO(file[-_TAIL - length : -_TAIL].copy()), "FileMetaData")


def chunks_of(footer: Any) -> dict[str, slice]:
    """Return where in the file each column of its only row group lies, in file order."""
    chunks = {}
    for column in footer.row_groups[0].columns:
        meta = column.meta_data
        start = meta.dictionary_page_offset or meta.data_page_offset
        name = ".".join(part.decode() if isinstance(part, bytes) else part for part in meta.path_in_schema)
        chunks[name] = slice(start, start + meta.total_compressed_size)
    return chunks


def moved_footer(footer: Any, starts: list[int]) -> bytes:
    """Return the footer's bytes (with length and magic) after each chunk moved to its place in `starts`.

    `footer` is changed in place.
    """
    group = footer.row_groups[0]
    for column, chunk, start in zip(group.columns, chunks_of(footer).values(), starts, strict=True):
        meta = column.meta_data
        meta.data_page_offset += start - chunk.start
        if meta.dictionary_page_offset:
            meta.dictionary_page_offset += start - chunk.start
    group.file_offset = starts[0]
    body = bytes(footer.to_bytes())
    return body + struct.pack("<I", len(body)) + MAGIC
