"""Studies that hold what a test wants: the part of `Study` that figures and reports rely on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from backtest_farm.errors import StoreError
from backtest_farm.kernel.summary import METRICS
from backtest_farm.study.study import SMALLER_IS_BETTER

FEW = {"lookback": [20, 60, 120], "n": [5, 10], "rebalance": ["1", "21", "month_end"]}


class MadeSpec(BaseModel):
    """A specification as far as a report prints it."""

    panel: str = "panels/made"

    @classmethod
    def from_file(cls, content: Mapping[str, Any], name: str) -> MadeSpec:
        return cls(**content)


class MadeStudy:
    """Trials made from a table, with one curve for all."""

    def __init__(self, frame: pl.DataFrame, columns: Sequence[str], store: str = "studies/made") -> None:
        self.frame = frame
        self.plan = SimpleNamespace(columns=tuple(columns), n_trials=frame.height, spec=MadeSpec())
        self.store = store

    def trials(self) -> pl.LazyFrame:
        return self.frame.lazy()

    def best(self, n: int = 20, by: str = "sharpe") -> pl.DataFrame:
        known = self.frame.filter((pl.col("status") == "ok") & pl.col(by).is_not_nan())
        return known.sort([by, "trial"], descending=[by not in SMALLER_IS_BETTER, False]).head(n)

    def summary(self) -> dict[str, Any]:
        return {"store": self.store, "digest": "d" * 64, "sweep": "s" * 32}

    def equity(self, trial: int) -> pl.DataFrame:
        if trial % 7 == 6:
            raise StoreError(f"no curve of {trial}")
        days = np.datetime64("2015-01-01") + np.arange(900)
        moves = np.random.default_rng(trial).normal(4e-4, 0.01, len(days))
        return pl.DataFrame({"timestamp": days, "equity": 1e6 * np.exp(np.cumsum(moves))})


def rows_of(
    points: Sequence[Mapping[str, Any]], sharpe: Callable[[Mapping[str, Any]], float]
) -> pl.DataFrame:
    """One row a point, in the shape of `Study.trials`; the other metrics follow from the Sharpe ratio."""
    rows = []
    for trial, point in enumerate(points):
        value = sharpe(point)
        metrics = {name: value * (at + 1) for at, name in enumerate(METRICS)} | {"sharpe": value}
        rows.append(
            {
                "trial": trial, "key": f"k{trial}", "universe": "all", "fold": 0, "status": "ok",
                "error": None, **point, **metrics, "bars": 900, "bars_per_year": 252.0, "profile": "default",
            }
        )  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None)
    window = {"window_start": "2015-01-01", "window_end": "2017-06-18"}
    numbers = [pl.col(name).cast(pl.Float64) for name in METRICS]
    moments = [pl.lit(np.datetime64(day)).alias(name) for name, day in window.items()]
    return frame.with_columns(*moments, *numbers, pl.col("error").cast(pl.String))


def made_study(axes: Mapping[str, Sequence[Any]], sharpe: Callable[[Mapping[str, Any]], float]) -> MadeStudy:
    """A complete grid."""
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return MadeStudy(rows_of(points, sharpe), tuple(axes))


def noisy(seed: int = 0) -> Callable[[Mapping[str, Any]], float]:
    """Sharpe ratios without any structure."""
    random = np.random.default_rng(seed)
    return lambda point: float(random.normal(0.5, 0.2))
