"""Running hashes of rows: equal rows, equal hash, whatever the block cuts and whoever lists later.

A chain takes in one bar after the other: hash of (chain so far, number of the bar, names of the assets with
a value, their values). So the chain of the first bars is on the way to that of all bars, later bars only
continue it, an asset without a value leaves no trace, and a bar without any value none either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

START = bytes(32).hex()
"""The chain of no bars."""

NAMELESS = ("",)
"""The one asset of a context, which is the same whatever the context is called."""


@lru_cache(maxsize=8)
def name_hashes(names: tuple[str, ...]) -> np.ndarray:
    """Return the sha256 of each name, uint8 (n_names, 32); of one length, so that no two runs are alike."""
    hashes = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    return np.frombuffer(hashes, np.uint8).reshape(-1, 32)


class Run(NamedTuple):
    """Bars that have the same assets.

    Attributes
    ----------
    start, stop : int
        Its first row, and the first one after it.
    assets : numpy.ndarray
        Their ids, ascending.
    roster : bytes
        The hash of their names.
    """

    start: int
    stop: int
    assets: np.ndarray
    roster: bytes


def runs(present: np.ndarray, names: tuple[str, ...]) -> Iterator[Run]:
    """Yield the runs of a mask (n_bars, n_assets), in order: most bars have the assets of the bar before."""
    if not len(present):
        return
    hashes = name_hashes(names)
    changes = np.flatnonzero((present[1:] != present[:-1]).any(axis=1)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(present)]):
        assets = np.flatnonzero(present[start])
        yield Run(start, stop, assets, hashlib.sha256(hashes[assets].tobytes()).digest())


def advance(chain: str, first_bar: int, values: np.ndarray, names: tuple[str, ...]) -> str:
    """Return `chain` after more bars.

    Parameters
    ----------
    chain : str
        The chain up to `first_bar`.
    first_bar : int
        The number of the first row of `values`.
    values : numpy.ndarray
        float64 (n_bars, n_assets) from `tidy`; NaN = no value.
    names : tuple of str
        The assets.
    """
    state = bytes.fromhex(chain)
    for start, stop, assets, roster in runs(~np.isnan(values), names):
        if not len(assets):
            continue
        held = values[start:stop]
        if len(assets) < values.shape[1]:
            held = held.take(assets, axis=1)
        for bar, row in enumerate(held, first_bar + start):
            state = hashlib.sha256(b"".join((state, bar.to_bytes(8, "little"), roster, row))).digest()
    return state.hex()
