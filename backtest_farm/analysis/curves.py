"""Equity curves, and what is seen of them at the width of a page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest_farm.errors import FarmError

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.study import Study


@dataclass(frozen=True)
class Line:
    """Values over time under a name.

    Attributes
    ----------
    label : str
    timestamps : ndarray of datetime64, shape (n,)
    values : ndarray of float64, shape (n,)
        NaN where undefined.
    """

    label: str
    timestamps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str, label: str) -> Line:
        """Take a column of an equity frame."""
        return cls(label, frame["timestamp"].to_numpy().astype("M8[us]"), frame[column].to_numpy())

    def drawdown(self, start: float | None = None) -> Line:
        """Return value / peak so far - 1, the peak counted from `start` (the starting cash) on."""
        peaks = np.maximum.accumulate(self.values if start is None else np.maximum(self.values, start))
        return Line(self.label, self.timestamps, self.values / peaks - 1.0)

    def growth(self) -> Line:
        """Return the values as multiples of the first one."""
        return Line(self.label, self.timestamps, self.values / self.values[0])

    def thinned(self, most: int = 600) -> Line:
        """Return at most about `most` points that look the same: first, last and the extremes between."""
        if len(self.values) <= most:
            return self
        edges = np.linspace(0, len(self.values), most // 2 + 1).astype(int)
        kept = {0, len(self.values) - 1}
        for start, stop in itertools.pairwise(edges):
            part = self.values[start:stop]
            if np.isfinite(part).any():
                kept |= {int(start + np.nanargmin(part)), int(start + np.nanargmax(part))}
        at = np.array(sorted(kept))
        return Line(self.label, self.timestamps[at], self.values[at])


def kept_lines(study: Study, trials: Sequence[int]) -> tuple[list[Line], list[str]]:
    """Return the equity of trials, and why some of them have none here.

    A curve that was not kept is replayed, which needs the panel.
    """
    lines, missing = [], []
    for trial in trials:
        try:
            lines.append(Line.of(study.equity(trial), "equity", f"trial {trial}"))
        except FarmError as error:
            missing.append(f"trial {trial}: {error.message}")
    return lines, missing
