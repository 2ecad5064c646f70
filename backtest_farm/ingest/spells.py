"""Spells of membership: who belongs to a universe from which day to which."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Spell = tuple[str, str, str | None]
"""Symbol, first day and first day out (None = still in), as ISO text."""

ALL = "all"
"""The universe of all assets; no spells are given for it."""


def bars_of(timestamps: np.ndarray, start: str, end: str | None) -> tuple[int, int]:
    """Return the bars (first, stop) of the days from `start` up to, but not including, `end`."""
    days = np.array([start, end or "9999-12-31"], "M8[D]").astype(timestamps.dtype)
    first, stop = np.searchsorted(timestamps, days)
    return int(first), int(stop)


def member_mask(
    timestamps: np.ndarray, symbols: Iterable[str], spells: Iterable[Spell], listed: np.ndarray
) -> np.ndarray:
    """Return who is a member when.

    Parameters
    ----------
    timestamps : numpy.ndarray
        The bars, (n_bars,).
    symbols : iterable of str
        The assets; spells of others are passed over.
    spells : iterable of Spell
        Who was a member, from when to when.
    listed : numpy.ndarray
        int64 (n_assets,), the first bar on which an asset can be a member.

    Returns
    -------
    numpy.ndarray
        uint8 (n_bars, n_assets), 1 = member.
    """
    mask = np.zeros((len(timestamps), len(listed)), np.uint8)
    ids = {symbol: asset for asset, symbol in enumerate(symbols)}
    for symbol, start, end in spells:
        if symbol in ids:
            first, stop = bars_of(timestamps, start, end)
            mask[max(first, listed[ids[symbol]]) : stop, ids[symbol]] = 1
    return mask


def during(timestamps: np.ndarray, spells: Iterable[Spell]) -> list[Spell]:
    """Return the spells that hold any of these bars; the others say nothing about a panel."""
    return [spell for spell in spells if np.ptp(bars_of(timestamps, *spell[1:]))]


def lacking(spells: Iterable[Spell], symbols: Iterable[str]) -> list[Spell]:
    """Return the spells of symbols that are not among these."""
    have = set(symbols)
    return [spell for spell in spells if spell[0] not in have]
