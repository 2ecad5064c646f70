"""The folder that compiled code is kept in, private to its user, and the seal on each of its files.

Machine code from a file is run as it is: a single changed bit may kill the process or change a result. So
every file begins with a hash of its name and its bytes, and one that does not fit is as good as missing: the
function is compiled anew, and its file replaced.

numba's own index notices a change of the file a function stands in, but not of the files it calls into, so
the folder's name also holds a hash of all kernel sources, next to the versions and the processor that the
code was made for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import platform
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from filelock import FileLock
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from backtest_farm.cache import cache_root

COMPILED_ROOMS = ("kernel", "factors")
_PATIENCE_S = 300.0
"""How long a process waits for another one that compiles, before it does so for itself."""

_log = logging.getLogger(__name__)


def _sources_digest() -> str:
    package = Path(__file__).resolve().parent.parent
    mixed = hashlib.sha256(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for room in COMPILED_ROOMS:
        for source in sorted((package / room).rglob("*.py")):
            mixed.update(source.relative_to(package).as_posix().encode())
            mixed.update(source.read_bytes())
    return mixed.hexdigest()[:16]


def code_cache_folder() -> Path:
    """Return the private folder (mode 0700) for this machine's compiled kernels, made if missing.

    One that others could have written to is set aside, and a fresh one made. Falls back to a temporary folder
    when the cache root cannot be written.
    """
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    cpu = llvmlite.binding.get_host_cpu_name()
    name = "-".join((*versions, cpu, _sources_digest()))
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    # Below a folder of the user's choice too: code of another version of the kernel must never be found.
    folder = (Path(chosen) / "backtest_farm" if chosen else cache_root() / "numba") / name
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder) and not _is_private(folder):
            folder.rename(Path(tempfile.mkdtemp(prefix="set-aside-", dir=folder.parent), name))
            _log.warning("%s could be written by others: set aside, kernels are compiled anew", folder)
        folder.mkdir(exist_ok=True, mode=0o700)
        if _is_private(folder) and os.access(folder, os.W_OK):
            return folder
    spare = tempfile.mkdtemp(prefix="backtest_farm-numba-")
    _log.warning("%s cannot be used: kernels are compiled for this process alone, in %s", folder, spare)
    return Path(spare)


def _is_private(folder: Path) -> bool:
    state = folder.lstat()
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077


numba.config.CACHE_DIR = str(code_cache_folder())  # type: ignore[attr-defined]


def kept(compiled: Any) -> Any:
    """Keep what a dispatcher compiles in the folder, under seal, and take it from there."""
    if hasattr(compiled, "py_func"):  # else numba was told not to compile
        compiled._cache = _SealedCache(compiled.py_func)
    return compiled


class _SealedCache(FunctionCache):
    """numba's cache of a function, with files of our own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _SealedFiles(Path(self.cache_path), self._impl.filename_base, stamp)


class _SealedFiles:
    """One file for each signature of a function: the seal, then what numba keeps, with what it was made for.

    numba's own pair of index and data can be read in between its two writes, and both are unpickled unseen.
    """

    def __init__(self, folder: Path, function: str, source_stamp: object) -> None:
        self._folder, self._function, self._stamp = folder, function, source_stamp
        # One for all functions: who compiles one compiles those that it calls.
        self._lock = FileLock(folder.parent / "compiling.lock", is_singleton=True)

    def load(self, key: tuple) -> Any:
        """Return what is kept for `key`; None asks the caller to compile, and to `save` what comes of it."""
        found = self._read(key)
        if found is None:
            # A folder that cannot be written still lets the process compile, for itself alone.
            with contextlib.suppress(OSError):
                self._lock.acquire(timeout=_PATIENCE_S)
            found = self._read(key)
            if found is not None:
                self._lock.release()
            elif self._path(key).exists():
                _log.warning("%s is damaged: the function is compiled anew", self._path(key))
        return found

    def save(self, key: tuple, data: Any) -> None:
        """Keep what was compiled for `key`, if there is room for it."""
        path, text = self._path(key), dumps((key, data))
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            draft.write_bytes(_seal(path, text) + text)
            draft.replace(path)
        self._lock.release()

    def _read(self, key: tuple) -> Any:
        path = self._path(key)
        try:
            sealed = path.read_bytes()
        except OSError:
            return None
        text = memoryview(sealed)[hashlib.blake2b().digest_size :]
        if not sealed.startswith(_seal(path, text)):
            return None
        made_for, data = pickle.loads(text)
        return data if made_for == key else None

    def _path(self, key: tuple) -> Path:
        made_of = hashlib.sha256(str((self._stamp, key)).encode()).hexdigest()
        return self._folder / f"{self._function}.{made_of[:16]}.nbc"


def _seal(path: Path, text: bytes | memoryview) -> bytes:
    # Where the processor has no instruction for sha256, it takes three times as long.
    return hashlib.blake2b(text, key=hashlib.sha256(path.name.encode()).digest()).digest()
