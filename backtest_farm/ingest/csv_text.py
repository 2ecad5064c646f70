"""CSV files of strangers: any encoding, any separator, lines of wrong length; every cell stays text.

Polars cuts lines into cells, block by block of whole lines, so that a file of any size is read in bounded
memory. What polars would refuse without naming the line, or fill up in silence, is found and taken out first.
A quoted cell does not go over the end of its line.
"""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.options import ReadOptions

BLOCK_BYTES = 32 * 2**20
_SEPARATORS = ",;\t|"
_GZIP = b"\x1f\x8b"
_FALLBACK = "cp1252"


class Lines(NamedTuple):
    """A block of a CSV file.

    Attributes
    ----------
    names : list of str
        The header's, as they stand there.
    frame : polars.DataFrame
        All text, columns named by their position; rows without any cell are left out.
    rows : numpy.ndarray
        int64, the line of each row; the header of most files is line 1.
    ragged : tuple of (int, str)
        Lines that could not be cut into cells, and why; they are not in `frame`.
    said : tuple of str
        What was inferred.
    """

    names: list[str]
    frame: pl.DataFrame
    rows: np.ndarray
    ragged: tuple[tuple[int, str], ...]
    said: tuple[str, ...]


def read_lines(path: Path, options: ReadOptions) -> Iterator[Lines]:
    """Read a file block by block; at least one block is given.

    Raises
    ------
    InputError
        If the file is empty.
    OSError, EOFError
        If it cannot be read.
    """
    with _open(path) as file:
        names: list[str] = []
        separator, line = options.separator or "", 0
        while block := file.read(BLOCK_BYTES):
            text, said = _decoded(block + file.readline())
            lines = pl.Series([text]).str.split("\n").explode().str.strip_chars_end("\r")
            if lines[-1] == "":
                lines = lines[:-1]
            first = 0
            if not names:
                first, names, separator, inferred = _header(lines, separator)
                said += inferred
            if names:
                frame, rows, ragged = _cells(lines[first:], separator, len(names))
                start = line + first + 1
                yield Lines(names, frame, rows + start, tuple((at + start, why) for at, why in ragged), said)
            line += len(lines)
        if not names:
            raise InputError(f"{path} cannot be read: it is empty", hint="check that the file is whole")


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as raw:
        head = raw.read(4)
    opener = gzip.open if head.startswith(_GZIP) else open
    file: IO[bytes] = opener(path, "rb")  # type: ignore[assignment]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.EncodedFile(file, "utf-8", "utf-16")  # type: ignore[return-value]
    return file


def _decoded(block: bytes) -> tuple[str, tuple[str, ...]]:
    block = block.removeprefix(codecs.BOM_UTF8)
    if b"\n" not in block:
        block = block.replace(b"\r", b"\n")
    try:
        return block.decode(), ()
    except UnicodeDecodeError as fault:
        around = block[max(fault.start - 8, 0) : fault.start + 8].decode(_FALLBACK, "replace")
        said = f"text as Windows-1252, because it is not UTF-8: {' '.join(around.split())}"
        return block.decode(_FALLBACK, "replace"), (said,)


def _header(lines: pl.Series, separator: str) -> tuple[int, list[str], str, tuple[str, ...]]:
    """Return where the rows begin, the columns' names, the separator, and what was inferred."""
    at = 0
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith("#")):
        at += 1
    if at < len(lines) and lines[at].lower().startswith("sep=") and len(lines[at]) == 5:  # Excel's own way
        separator, at = separator or lines[at][4], at + 1
    if at == len(lines):
        return at, [], separator, ()
    said: tuple[str, ...] = ()
    if not separator:
        # The first of those that cut the header into most names.
        separator = max(_SEPARATORS, key=lambda one: len(_split(lines[at], one)))
        if separator != ",":
            said = (f"separator={separator!r}",)
    names = [name.strip() for name in _split(lines[at], separator)]
    while len(names) > 1 and not names[-1]:  # a separator that ends the line
        names.pop()
    return at + 1, names, separator, said


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _cells(
    lines: pl.Series, separator: str, width: int
) -> tuple[pl.DataFrame, np.ndarray, list[tuple[int, str]]]:
    """Return the lines' cells, the position of each row, and the lines that have not `width` cells."""
    blank = lines.str.strip_chars(" \t" + separator) == ""
    quotes = lines.str.count_matches('"', literal=True)
    cuts = lines.str.count_matches(separator, literal=True)
    suspect = (~blank & ((cuts != width - 1) | (quotes % 2 == 1))).arg_true().to_list()
    ragged, mended = [], []
    for at in suspect:
        cells = [] if quotes[at] % 2 else _split(lines[at], separator)
        if not cells:
            ragged.append((at, f"a quote is open at its end: {lines[at]}"))
        elif len(cells) < width or any(cell.strip() for cell in cells[width:]):
            ragged.append((at, f"{len(cells)} cells for {width} columns: {lines[at]}"))
        elif len(cells) > width:  # nothing behind the last column
            mended.append((at, separator.join('"' + cell.replace('"', '""') + '"' for cell in cells[:width])))
    out = blank.clone()
    if ragged:
        out = out.scatter([at for at, _ in ragged], True)
    if mended:
        lines = lines.scatter([at for at, _ in mended], [line for _, line in mended])
    rows = (~out).arg_true().to_numpy().astype(np.int64)
    kept = lines.filter(~out)
    schema = {str(column): pl.String for column in range(width)}
    if kept.is_empty():
        return pl.DataFrame(schema=schema), rows, ragged
    frame = pl.read_csv(
        "\n".join(kept.to_list()).encode(), has_header=False, separator=separator, schema=schema,
        quote_char='"' if mended or quotes.sum() else None,
    )  # fmt: skip
    return frame, rows, ragged
