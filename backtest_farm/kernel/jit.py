"""The one wrapper that compiles, and the folder its machine code is kept in.

Compiled code is cached on local disk so that a node compiles once. numba's own index notices a change of
the file a function stands in, but not of the files it calls into, so the folder's name also holds a hash
of all kernel sources, next to the versions and the processor that the code was made for.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from backtest_farm.cache import cache_root

COMPILED_ROOMS = ("kernel", "factors")


def _sources_digest() -> str:
    package = Path(__file__).resolve().parent.parent
    mixed = hashlib.sha256()
    for room in COMPILED_ROOMS:
        for source in sorted((package / room).rglob("*.py")):
            mixed.update(source.relative_to(package).as_posix().encode())
            mixed.update(source.read_bytes())
    return mixed.hexdigest()[:16]


def code_cache_folder() -> Path:
    """Return the private folder (mode 0700) for this machine's compiled kernels, made if missing.

    Falls back to a fresh temporary folder when the cache root cannot be written or belongs to somebody
    else: cached machine code is executed as it is, so only its owner may be able to change it.
    """
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    cpu = llvmlite.binding.get_host_cpu_name()
    name = "-".join((*versions, cpu, _sources_digest()))
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    # Below a folder of the user's choice too: code of another version of the kernel must never be found.
    folder = (Path(chosen) / "backtest_farm" if chosen else cache_root() / "numba") / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="backtest_farm-numba-"))


numba.config.CACHE_DIR = str(code_cache_folder())  # type: ignore[attr-defined]


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` with the package's only set of options.

    No ``fastmath`` and no ``parallel``: a trial's bytes must not depend on the machine or on its
    neighbours. ``error_model="numpy"`` divides as IEEE 754 does instead of raising.
    """
    return numba.njit(function, cache=True, error_model="numpy", fastmath=False, nogil=True)


def bare(function: Callable[..., Any]) -> Any:
    """Compile `function` as `jit` does, but without counting references to arrays.

    For functions that make no array and return none: their caller keeps what they work on. Otherwise an array
    that is taken in a branch or a loop costs an atomic operation each time, and a bar has thousands of them.
    """
    return numba.njit(function, cache=True, error_model="numpy", fastmath=False, nogil=True, _nrt=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` into each of its callers, as if it stood there."""
    return numba.njit(function, inline="always", error_model="numpy", fastmath=False)


def widest() -> None:
    """Let LLVM vectorise the function that calls this as wide as the processor can.

    By default it takes half of that on processors that lower their clock for the widest vectors.
    """


@intrinsic
def _ask_for_widest(_):
    def generate(context, builder, signature, arguments):
        # llvmlite knows no attributes with values, but writes whatever this set holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@overload(widest, inline="always")
def _widest():
    return lambda: _ask_for_widest()
