"""The one wrapper that compiles; what comes of it is kept on local disk, so that a node compiles once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.extending import intrinsic, overload

from backtest_farm.kernel.code_cache import kept


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` with the package's only set of options.

    No ``fastmath`` and no ``parallel``: a trial's bytes must not depend on the machine or on its
    neighbours. ``error_model="numpy"`` divides as IEEE 754 does instead of raising.
    """
    return kept(numba.njit(function, error_model="numpy", fastmath=False, nogil=True))


def bare(function: Callable[..., Any]) -> Any:
    """Compile `function` as `jit` does, but without counting references to arrays.

    For functions that make no array and return none: their caller keeps what they work on. Otherwise an array
    that is taken in a branch or a loop costs an atomic operation each time, and a bar has thousands of them.
    """
    return kept(numba.njit(function, error_model="numpy", fastmath=False, nogil=True, _nrt=False))


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
