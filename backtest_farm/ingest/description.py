"""What is attached to a panel, in numbers: for people who want to know what they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from backtest_farm.ingest.spells import Spell, during, lacking


def describe_static(column: tuple) -> dict[str, int]:
    """Count the different values of a static column, and the assets without one."""
    return {"values": len(set(column) - {None}), "missing": column.count(None)}


def describe_universe(
    timestamps: np.ndarray, symbols: Iterable[str], spells: Iterable[Spell], members: np.ndarray
) -> dict[str, Any]:
    """Count the members on the first and the last bar, the spells during these bars, and those lacking.

    Parameters
    ----------
    timestamps, symbols
        The panel's.
    spells : iterable of Spell
        The universe's.
    members : numpy.ndarray
        uint8 (n_bars, n_assets) from `member_mask`.
    """
    here = during(timestamps, spells)
    lost = len(lacking(here, symbols))
    return {
        "members_first": int(members[0].sum()),
        "members_last": int(members[-1].sum()),
        "spells": len(here),
        "lacking": lost,
        "lacking_share": lost / len(here) if here else 0.0,
    }
