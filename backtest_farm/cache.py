"""Where a node keeps what can be rebuilt: compiled kernels, rankings, the stamps of verified files."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """Return this node's cache folder: ``$BACKTEST_FARM_CACHE``, or one in the user's cache folder."""
    chosen = os.environ.get("BACKTEST_FARM_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("backtest_farm"))
