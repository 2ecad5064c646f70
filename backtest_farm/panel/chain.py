"""Running hashes of rows: equal rows, equal hash, whatever the block cuts and whoever lists later.

A chain takes in one bar after the other: hash of (chain so far, number of the bar, names of the assets with
a value, their values). So the chain of the first bars is on the way to that of all bars, later bars only
continue it, an asset without a value leaves no trace, and a bar without any value none either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

START = bytes(32).hex()
"""The chain of no bars."""

NAMELESS = ("",)
"""The one asset of a context, which is the same whatever the context is called."""


def name_hashes(names: Iterable[str]) -> np.ndarray:
    """Return the sha256 of each name, uint8 (n_names, 32); of one length, so that no two runs are alike."""
    hashes = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    return np.frombuffer(hashes, np.uint8).reshape(-1, 32)


def rosters(present: np.ndarray, names: np.ndarray) -> Iterator[tuple[np.ndarray, bytes]]:
    """Yield, for each row of a mask (n_bars, n_assets), the assets in it and the hash of their names."""
    fresh = np.ones(len(present), bool)
    np.any(present[1:] != present[:-1], axis=1, out=fresh[1:])
    for row, changed in zip(present, fresh.tolist(), strict=True):
        if changed:  # seldom: most bars have the assets of the bar before
            assets = np.flatnonzero(row)
            roster = hashlib.sha256(names[assets].tobytes()).digest()
        yield assets, roster


def advance(chain: str, first_bar: int, values: np.ndarray, names: np.ndarray) -> str:
    """Return `chain` after more bars.

    Parameters
    ----------
    chain : str
        The chain up to `first_bar`.
    first_bar : int
        The number of the first row of `values`.
    values : numpy.ndarray
        float64 (n_bars, n_assets) from `tidy`; NaN = no value.
    names : numpy.ndarray
        `name_hashes` of the assets.
    """
    state = bytes.fromhex(chain)
    for row, (assets, roster) in enumerate(rosters(~np.isnan(values), names)):
        if len(assets):
            bar = (first_bar + row).to_bytes(8, "little")
            held = values[row] if len(assets) == values.shape[1] else values[row, assets]
            state = hashlib.sha256(b"".join((state, bar, roster, held.tobytes()))).digest()
    return state.hex()
