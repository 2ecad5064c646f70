"""Arrays that a node builds once and maps from then on: factor fields and rankings.

Such an array is a pure function of what its key names, so any process may build it and all others read it.
It lies in a file of the node's cache folder behind its own checksum, with which a process compares it before
it first uses it; a missing or damaged file is built again. The checksum is XXH3: a disk or a crash may damage
a file, and hashing a field by sha256 takes longer than computing most factors. A folder that cannot be used
(full, read-only, somebody else's) costs a build in each process, never a result.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from filelock import FileLock

from backtest_farm.cache import cache_root

CACHE_BYTES = 2 * 2**30
"""Kept on a node; the least recently built go first."""

HEAD_BYTES = 64
"""Before the array: its checksum, and zeros up to a cache line."""

_checked: set[tuple] = set()
"""Files that this process has compared with their checksum, as they were then."""


def built_once(
    kind: str, key: str | None, shape: tuple[int, ...], dtype: type, build: Callable[[np.ndarray], None]
) -> tuple[np.ndarray, bool]:
    """Return a read-only array, mapped from the node's cache; the first who asks builds it.

    Parameters
    ----------
    kind : str
        What it is. A build may ask for arrays of another kind, never of its own: it could wait for itself.
    key : str or None
        Hexadecimal digits that stand for all that the array depends on; None keeps nothing.
    shape, dtype
        Of the array.
    build : callable
        Fills the array, which holds zeros before.

    Returns
    -------
    array : ndarray
    fresh : bool
        Whether this call built it.
    """
    if key is None:
        values: np.ndarray = np.zeros(shape, dtype)
        build(values)
        return values, True
    made = None
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path = cache_root() / "factors" / key
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{path.parent} belongs to somebody else")
            if (known := _load(path, shape, dtype)) is not None:
                return known, False
            # One builder a node: the others wait for its file instead of computing the same. Few locks serve
            # all keys, since their files can never be removed safely.
            held.enter_context(FileLock(path.parent / f"{kind}-{key[:2]}.lock"))
            if (known := _load(path, shape, dtype)) is not None:
                return known, False
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                held.callback(Path(file.name).unlink, missing_ok=True)
                # A full disk must be an error here: in a mapping it would kill the process.
                size = HEAD_BYTES + math.prod(shape) * np.dtype(dtype).itemsize
                os.posix_fallocate(file.fileno(), 0, size)
                made = np.memmap(file, dtype, "r+", HEAD_BYTES, shape).view(np.ndarray)
        mapped = made is not None
        made = np.zeros(shape, dtype) if made is None else made
        build(made)
        if mapped:
            with contextlib.suppress(OSError):
                with open(file.name, "r+b") as head:
                    head.write(xxhash.xxh3_128_digest(made.data))
                os.replace(file.name, path)
                _checked.add(_stamp(path))
                _prune(path.parent)
    made.flags.writeable = False
    return made, True


def _stamp(path: Path) -> tuple:
    state = path.stat()
    return path, state.st_ino, state.st_size, state.st_mtime_ns


def _load(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
    """Map a file's array, or return None where there is no sound one."""
    try:
        stamp = _stamp(path)
        # Refused by numpy when the file is too short for the shape.
        known = np.memmap(path, dtype, "r", HEAD_BYTES, shape).view(np.ndarray)
        if stamp not in _checked:
            with path.open("rb") as head:
                if head.read(16) != xxhash.xxh3_128_digest(known.data):
                    return None
            _checked.add(stamp)
    except (OSError, ValueError):
        return None
    return known


def _prune(folder: Path) -> None:
    files = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            files.append((status.st_mtime, status.st_size, entry.path))
    excess = sum(size for _, size, _ in files) - CACHE_BYTES
    for _, size, path in sorted(files) if excess > 0 else ():
        if excess <= 0:
            break
        if not path.endswith(".lock"):
            Path(path).unlink(missing_ok=True)
            excess -= size
