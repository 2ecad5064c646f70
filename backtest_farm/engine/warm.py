"""Compiling the kernel once per node, before any process needs it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numba
import numpy as np

from backtest_farm.engine.tile import market, ranked_targets, run_tile, terms
from backtest_farm.factors import kernels

_MARK = "complete"


def is_compiled() -> bool:
    """Return whether this machine's cache holds the kernel of this version."""
    return _mark().exists()


def compile_once() -> None:
    """Make sure that the kernel is in the machine's cache; of several processes one compiles, the others
    wait: on a node with many workers each would spend the same half a minute of a core.
    """
    if not is_compiled():
        _run_everything()
        # Without a folder that can be written the kernel was compiled for this process alone.
        with contextlib.suppress(OSError):
            _mark().touch()


def _mark() -> Path:
    return Path(numba.config.CACHE_DIR) / _MARK  # type: ignore[attr-defined]


def _run_everything() -> None:
    """Call every compiled function once with arrays of the types that it always gets."""
    kernels.warm()
    prices, never = np.ones((2, 1)), np.full(1, 2**62)
    run_tile(
        market([{"open": prices, "close": prices}], never, np.full(1, np.nan), 252.0),
        terms(1, n=1),
        ranked_targets(np.zeros((2, 1)), np.ones(2), np.ones((1, 2))),
    )
