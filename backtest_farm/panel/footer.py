"""Where the values of a Parquet file lie: the only module that knows Thrift (through fastparquet).

It reads only files that this package wrote in the same breath: fastparquet's Thrift reader trusts its
input, so a foreign or damaged file must never come here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastparquet.cencoding import NumpyIO
from fastparquet.core import ThriftObject

MAGIC = b"PAR1"
_TAIL = 8  # footer length and magic
_HEADER_ROOM = 512  # a page header without statistics takes about 30 bytes
_DATA_PAGE = 0
_PLAIN = 0


@dataclass(frozen=True)
class Page:
    """One page: its header starts at `start`, its body at `body`, both counted from the start of the file."""

    start: int
    body: int
    length: int
    is_data: bool
    is_plain: bool
    n_values: int
    crc32: int


@dataclass(frozen=True)
class Chunk:
    """One column of the file's only row group: where its pages start, and all its pages in order."""

    name: str
    start: int
    length: int
    pages: tuple[Page, ...]


def footer_of(file: np.ndarray) -> Any:
    """Return the footer of `file` (uint8, the whole file) as a Thrift object."""
    (length,) = struct.unpack("<I", file[-_TAIL : -len(MAGIC)].tobytes())
    return ThriftObject.from_buffer(NumpyIO(file[-_TAIL - length : -_TAIL].copy()), "FileMetaData")


def chunks_of(file: np.ndarray, footer: Any) -> list[Chunk]:
    """Return every column chunk of the first row group, with its pages, in file order."""
    chunks = []
    for column in footer.row_groups[0].columns:
        meta = column.meta_data
        start = meta.dictionary_page_offset or meta.data_page_offset
        length = meta.total_compressed_size
        name = ".".join(_text(part) for part in meta.path_in_schema)
        chunks.append(Chunk(name, start, length, tuple(_pages(file, start, start + length))))
    return chunks


def moved_footer(footer: Any, chunks: list[Chunk], starts: Mapping[str, int]) -> bytes:
    """Return the footer's bytes (with length and magic) after each chunk moved to ``starts[name]``.

    `footer` is changed in place.
    """
    group = footer.row_groups[0]
    for column, chunk in zip(group.columns, chunks, strict=True):
        step = starts[chunk.name] - chunk.start
        meta = column.meta_data
        meta.data_page_offset += step
        if meta.dictionary_page_offset:
            meta.dictionary_page_offset += step
    group.file_offset = starts[chunks[0].name]
    body = bytes(footer.to_bytes())
    return body + struct.pack("<I", len(body)) + MAGIC


def _pages(file: np.ndarray, start: int, stop: int) -> list[Page]:
    pages = []
    while start < stop:
        # NumpyIO wants a writable buffer, so it gets a copy of the header's bytes, never the mapping.
        window = NumpyIO(file[start : min(start + _HEADER_ROOM, stop)].copy())
        header = ThriftObject.from_buffer(window, "PageHeader")
        body = start + window.tell()
        length = header.compressed_page_size
        values = header.data_page_header or header.dictionary_page_header
        pages.append(
            Page(
                start=start,
                body=body,
                length=length,
                is_data=header.type == _DATA_PAGE,
                is_plain=values.encoding == _PLAIN,
                n_values=values.num_values,
                crc32=header.crc % 2**32,
            )
        )
        start = body + length
    return pages


def _text(part: str | bytes) -> str:
    return part.decode() if isinstance(part, bytes) else part
