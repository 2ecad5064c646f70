"""Rankings: built once per node for every factor, window and depth, however many trials use them.

A ranking is a pure function of what its key names, so any process may build it and all others read it. The
file lies in the node's cache folder, is checked against its own hash at every load, and is rebuilt when it is
missing or damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from backtest_farm.cache import cache_root
from backtest_farm.factors.kernels import momentum, rank_rows
from backtest_farm.factors.spec import Momentum
from backtest_farm.identity import digest
from backtest_farm.kernel import RESULT_EPOCH
from backtest_farm.kernel.state import frozen
from backtest_farm.panel import Panel

CACHE_BYTES = 2 * 2**30
"""Rankings kept on a node; the least recently built go first."""


class Window(NamedTuple):
    """Bars of the panel that are traded: `start` included, `stop` excluded."""

    start: int
    stop: int


class Ranking(NamedTuple):
    """Each bar's best assets, in order.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_bars, depth)
        Asset ids, best first; 0 beyond the bar's count.
    counts : ndarray of int64, shape (n_bars,)
        How many assets of the bar have a value.
    """

    ids: np.ndarray
    counts: np.ndarray


class Built(NamedTuple):
    """A ranking and whether this call had to build it."""

    ranking: Ranking
    fresh: bool


def factor_values(panel: Panel, factor: Momentum, stop: int) -> np.ndarray:
    """Return a factor on the panel's bars before `stop`.

    Returns
    -------
    ndarray of float64, shape (stop, n_assets)
        NaN where the factor has no value.
    """
    close = frozen(panel["close"][:stop])
    out = np.empty(close.shape)
    momentum(close, factor.lookback, factor.skip, out)
    return out


def rank(values: np.ndarray, last_bar: np.ndarray, depth: int) -> Ranking:
    """Rank each row of `values`, largest first, ties to the lower asset id, NaN never.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
    last_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, counted from the first row; later rows leave the asset out.
    depth : int
        Places to fill.
    """
    n_bars, n_assets = values.shape
    depth = min(depth, n_assets)
    ids = np.zeros((n_bars, depth), np.int32)
    counts = np.zeros(n_bars, np.int64)
    rank_rows(frozen(values), frozen(last_bar, np.int64), depth, ids, counts)
    return Ranking(ids, counts)


def ranked_window(panel: Panel, factor: Momentum, window: Window, depth: int) -> Ranking:
    """Compute the ranking of a factor over a window; bars before it only warm the factor."""
    values = factor_values(panel, factor, window.stop)
    return rank(values[window.start :], panel.ends.bar - window.start, depth)


def ranking(panel: Panel, factor: Momentum, window: Window, depth: int) -> Built:
    """Return the ranking of a factor over a window, from the node's cache or built now.

    Parameters
    ----------
    panel : Panel
    factor : Momentum
        Without axes.
    window : Window
    depth : int
        How many places the trials need at most.
    """
    key = digest(
        {
            "data": panel.digest(factor.fields, window.stop),
            "factor": factor.model_dump(),
            "window": list(window),
            "depth": depth,
            "universe": "all",
            "epoch": RESULT_EPOCH,
        }
    )

    folder = cache_root() / "rankings"
    path = folder / key
    size = window.stop - window.start, min(depth, panel.shape[1])
    known = _load(path, *size)
    if known is not None:
        return Built(known, False)
    with contextlib.ExitStack() as locked:
        # A full, foreign or read-only cache folder costs a build in each process, never a result.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One builder per node: the others wait for its file instead of computing the same.
            locked.enter_context(FileLock(path.with_suffix(".lock")))
            known = _load(path, *size)
            if known is not None:
                return Built(known, False)
        made = ranked_window(panel, factor, window, depth)
        with contextlib.suppress(OSError):
            _save(path, made)
            _prune(folder)
    return Built(made, True)


def _save(path: Path, made: Ranking) -> None:
    data = made.counts.tobytes() + made.ids.tobytes()
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(hashlib.sha256(data).digest())
        file.write(data)
    os.replace(file.name, path)


def _load(path: Path, n_bars: int, depth: int) -> Ranking | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = memoryview(content)[32:]
    if len(data) != n_bars * (8 + 4 * depth) or hashlib.sha256(data).digest() != content[:32]:
        return None
    counts = np.frombuffer(data[: 8 * n_bars], np.int64)
    return Ranking(np.frombuffer(data[8 * n_bars :], np.int32).reshape(n_bars, depth), counts)


def _prune(folder: Path) -> None:
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - CACHE_BYTES
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        if path.suffix != ".lock":
            path.unlink(missing_ok=True)
            excess -= size
