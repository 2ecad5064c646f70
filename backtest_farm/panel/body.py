"""Values in place: one field of one block as a mapped, aligned, checked array.

Nothing here parses a file format: offset, length and checksum come from the snapshot.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backtest_farm.cache import cache_root
from backtest_farm.errors import PanelError

ALIGNMENT = 64
RESTORE = "restore the folder from a copy, or build the panel again into a new folder"


@dataclass(frozen=True)
class Body:
    """Where one field's values lie in a file, and what they are.

    Attributes
    ----------
    offset, length : int
        Bytes from the start of the file; `offset` is a multiple of 64.
    crc32 : int
        The Parquet page checksum, which is that of the body.
    sha256 : str
        Of the body: the content hash of this field in this block.
    """

    offset: int
    length: int
    crc32: int
    sha256: str


def map_body(path: Path, body: Body, shape: tuple[int, int]) -> np.ndarray:
    """Return a field's values as a read-only, aligned (n_bars, n_assets) view of the file, uncopied."""
    mapping = np.memmap(path, dtype="<f8", mode="r", offset=body.offset, shape=shape)
    # A plain ndarray (its base is the mapping) takes numba's fast dispatch; the subclass does not.
    return mapping.view(np.ndarray)


def check_size(path: Path, size: int) -> None:
    """Refuse a missing or truncated file before anything maps it: reading past its end would kill the
    process.

    Raises
    ------
    PanelError
        If the file is missing or its size is not `size`.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise PanelError(f"{path} is missing, but the snapshot needs it", hint=RESTORE) from None
    if found != size:
        raise PanelError(
            f"{path} has {found:,} bytes instead of {size:,}: it was cut or changed", hint=RESTORE
        )


def check_once(path: Path, bodies: Mapping[str, Body]) -> None:
    """Compare every field's values in `path` with their page checksums, once per node and state of the file.

    Parameters
    ----------
    path : pathlib.Path
        The file, of the right size.
    bodies : mapping of str to Body
        The fields to check, all that the snapshot reads from this file.

    Raises
    ------
    PanelError
        If a checksum differs; all damaged fields are listed.
    """
    stamp = _stamp(path, bodies)
    if stamp.exists():
        return
    file = np.memmap(path, dtype=np.uint8, mode="r")
    faults = []
    for name, body in bodies.items():
        found = zlib.crc32(file[body.offset : body.offset + body.length].data)
        if found != body.crc32:
            faults.append(f"field {name!r}: checksum {found:08x} instead of {body.crc32:08x}")
    if faults:
        raise PanelError(f"{path} is damaged", faults=faults, hint=RESTORE)
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        # Without a writable cache folder every process checks for itself: slower, not wrong.
        return


def _stamp(path: Path, fields: Iterable[str]) -> Path:
    state = path.stat()
    checked = zlib.crc32("\n".join(sorted(fields)).encode())
    name = (
        f"{path.stem}-{checked:08x}-{state.st_dev:x}-{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"
    )
    return cache_root() / "verified" / name
