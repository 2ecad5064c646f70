"""Reading what a tile has recorded."""

from __future__ import annotations

import numpy as np

from backtest_farm.engine.tile import TileResult
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS, FILL_VALUES


def of_bar(tile: TileResult, name: str) -> np.ndarray:
    return tile.record.bars[:, BAR_COLUMNS.index(name), :]


def of_fill(tile: TileResult, name: str) -> np.ndarray:
    return tile.record.values[: tile.record.used[0], FILL_VALUES.index(name)]


def keys_of(tile: TileResult) -> np.ndarray:
    return tile.record.keys[: tile.record.used[0]]


def counted(tile: TileResult, name: str) -> int:
    return int(tile.counters[COUNTERS.index(name)].sum())
