"""A panel held in memory, which answers what factors and rankings ask of one."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from backtest_farm.spec import Universe

NO_END = 2**62


class HeldPanel:
    """Fields as given (float32 too), bars of consecutive days, symbols S00, S01, ...; nobody ever ends."""

    def __init__(self, contexts: dict[str, np.ndarray] | None = None, **fields: np.ndarray) -> None:
        self.fields = fields
        self.contexts = contexts or {}
        self.shape = next(iter(fields.values())).shape
        n_bars, n_assets = self.shape
        self.timestamps = np.datetime64("2020-01-01") + np.arange(n_bars)
        self.symbols = tuple(f"S{a:02}" for a in range(n_assets))
        self.ends = SimpleNamespace(bar=np.full(n_assets, NO_END))
        self.masks: dict[Universe, np.ndarray] = {}

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= self.shape[0]
        return self.fields[name][start:stop]

    def check_files(self) -> None:
        """There are none."""

    def context(self, name: str) -> np.ndarray:
        return self.contexts[name]

    def members(self, universe: Universe) -> np.ndarray:
        return self.masks[universe]

    def members_digest(self, universe: Universe, start: int, stop: int) -> str:
        return hashlib.sha256(self.masks[universe][start:stop].tobytes()).hexdigest()

    def digest(self, fields: Any, end_bar: int, contexts: Any = ()) -> str:
        parts = [self.fields[name][:end_bar] for name in sorted(fields)]
        parts += [self.contexts[name][:end_bar] for name in sorted(contexts)]
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def market(n_bars: int = 200, n_assets: int = 6, seed: int = 0) -> HeldPanel:
    """Prices with gaps, an asset that is listed late, one that stops, one that never moves, and an index."""
    rng = np.random.default_rng(seed)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (n_bars, n_assets)), axis=0)) * 50
    close[:, 3] = 0.1
    close[rng.random(close.shape) < 0.01] = np.nan
    close[: n_bars // 3, 1] = np.nan
    close[-n_bars // 4 :, 2] = np.nan
    index = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars)))
    index[:3] = np.nan
    score = np.round(rng.normal(size=close.shape), 1)
    score[:, 4] = np.nan
    high, low = (close * (1.0 + side * rng.uniform(0, 0.03, close.shape)) for side in (1, -1))
    high[rng.random(close.shape) < 0.01] = np.nan
    return HeldPanel({"index": index}, close=close, open=close * 1.01, score=score, high=high, low=low)
