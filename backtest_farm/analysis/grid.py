"""The trials of a study as points on the axes of their parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.kernel.summary import METRICS
from backtest_farm.study.study import SMALLER_IS_BETTER

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.study import Study

OVER = ("median", "max", "min")
"""How trials that share a cell of a heat map can be put together."""

UNSET = "not set"
"""Where a trial's alternative has no such parameter."""

_SPIKE = 2.0 / 3.0
_PLATEAU = 1.0 / 3.0


@dataclass(frozen=True)
class Axis:
    """One parameter and the values it takes in a study.

    Attributes
    ----------
    column : str
        Dotted path.
    labels : tuple of str
        Its values as texts: numbers first and by size, then words by the alphabet.
    n_numbers : int
        How many of them are numbers. Only between those has a step a meaning.
    """

    column: str
    labels: tuple[str, ...]
    n_numbers: int

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number."""
        return self.n_numbers == len(self.labels)


@dataclass(frozen=True)
class Cells:
    """A metric over two parameters, put together over all others.

    Attributes
    ----------
    x, y : Axis
    metric : str
    count : ndarray of int, shape (len(y.labels), len(x.labels))
        Trials with a value of the metric in each cell.
    by : dict of str to ndarray of float64, of the same shape
        The cell's value for each word of `OVER`; NaN where the count is 0.
    """

    x: Axis
    y: Axis
    metric: str
    count: np.ndarray
    by: dict[str, np.ndarray]


@dataclass(frozen=True)
class Neighbourhood:
    """A trial and the trials one step away on the grid.

    Attributes
    ----------
    trial : int
    value : float
        Its metric.
    steps : polars.DataFrame
        parameter, from, to, trial, value: one row a neighbour.
    typical : float
        Median of the metric over the whole study.
    """

    trial: int
    value: float
    steps: pl.DataFrame
    typical: float

    @property
    def median(self) -> float:
        """Median of the neighbours' metric; NaN without neighbours."""
        return float(self.steps["value"].median()) if self.steps.height else math.nan  # type: ignore[arg-type]

    @property
    def lost(self) -> float:
        """Part of the lead over the typical trial that is gone one step away; NaN if there is no lead."""
        lead = self.value - self.typical
        return (self.value - self.median) / lead if abs(lead) > 1e-12 else math.nan

    @property
    def verdict(self) -> str:
        """``plateau`` (at most a third of the lead is lost), ``slope``, ``spike`` (two thirds or more)."""
        if math.isnan(self.lost):
            return "unknown"
        return "plateau" if self.lost <= _PLATEAU else "spike" if self.lost >= _SPIKE else "slope"


class Grid:
    """Trials as points on axes, and their metrics.

    Use `Grid.of`. Trials that failed, and metrics that are NaN, count as missing.

    Attributes
    ----------
    axes : tuple of Axis
        The parameters that vary. Of parameters that only move together the first one stands here.
    followers : dict of str to str
        The others of those, and the parameter that each moves with.
    """

    def __init__(self, frame: pl.DataFrame, columns: Sequence[str]) -> None:
        import polars as pl

        self._frame = frame
        self._values = frame.select(
            pl.col("trial"),
            *(
                pl.when(pl.col("status") == "ok")
                .then(pl.col(name).fill_nan(None))
                .cast(pl.Float64)
                .alias(name)
                for name in METRICS
                if name in frame.columns
            ),
        )
        self._codes: dict[str, pl.Series] = {}
        self._axes: dict[str, Axis] = {}
        varied = [name for name in columns if self._add(name)]
        self.followers = self._find_followers(varied)
        self.axes = tuple(self._axes[name] for name in varied if name not in self.followers)

    @classmethod
    def of(cls, study: Study) -> Self:
        """Read the trials of a study.

        Raises
        ------
        StoreError
            If the study holds no rows.
        """
        return cls.from_frame(study.trials().collect(), study.plan.columns)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, columns: Sequence[str]) -> Self:
        """Take trials as `Study.trials` gives them, and the columns of their parameters."""
        named = [name for name in columns if name in frame.columns]
        # A sweep over universes varies them, whether or not its plan lists them as an axis.
        return cls(frame, [*named, *(["universe"] if "universe" not in named else [])])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the trials have."""
        return tuple(self._values.columns[1:])

    def where(self, at: Mapping[str, Any]) -> Grid:
        """Return the trials whose parameters have these values.

        Raises
        ------
        InputError
            If a parameter does not vary, or a value does not stand on its axis.
        """
        import polars as pl

        kept = pl.repeat(True, self._frame.height, eager=True)
        for column, value in at.items():
            axis, label = self.axis(column), label_of(value)
            if label not in axis.labels:
                raise InputError(f"{column} is never {value!r}", hint=f"its values: {', '.join(axis.labels)}")
            kept &= (self._codes[column] == axis.labels.index(label)).fill_null(False)
        return Grid(self._frame.filter(kept), [name for name in self._codes if name not in at])

    def is_complete(self, metric: str) -> bool:
        """Whether every combination of the axes' values is there once and has a value of the metric."""
        full = math.prod(len(axis.labels) for axis in self.axes)
        unset = any(codes.null_count() for codes in self._codes.values())
        return full == self.values(metric).count() == self._frame.height and not unset

    def by_share(self, metric: str) -> list[Axis]:
        """Return the axes, that which explains most of the metric's variance first."""
        shares = {axis.column: self.variance_share(axis.column, metric) for axis in self.axes}
        return sorted(self.axes, key=lambda axis: -(shares[axis.column] if shares[axis.column] >= 0 else 0.0))

    def axis(self, column: str) -> Axis:
        """Return a parameter by name, followers included.

        Raises
        ------
        InputError
            If it is no parameter that varies.
        """
        if column not in self._axes:
            raise InputError(
                f"{column!r} is no parameter that varies in this study: {nearest(column, self._axes)}"
            )
        return self._axes[column]

    def values(self, metric: str) -> pl.Series:
        """Return the metric of every trial, null where missing, in the order of the rows.

        Raises
        ------
        InputError
            If there is no such metric.
        """
        if metric not in self.metrics:
            raise InputError(f"{metric!r} is no metric: {nearest(metric, self.metrics)}")
        return self._values[metric]

    def cells(self, x: str, y: str, metric: str) -> Cells:
        """Return a metric over two parameters; trials in which either is not set have no cell."""
        import polars as pl

        across, down = self.axis(x), self.axis(y)
        parts = pl.DataFrame({"x": self._codes[x], "y": self._codes[y], "value": self.values(metric)})
        value = pl.col("value")
        grouped = (
            parts.drop_nulls()
            .group_by("x", "y")
            .agg(count=value.len(), median=value.median(), max=value.max(), min=value.min())
        )
        at = grouped["y"].to_numpy(), grouped["x"].to_numpy()
        shape = len(down.labels), len(across.labels)
        count = np.zeros(shape, np.int64)
        count[at] = grouped["count"].to_numpy()
        by = {over: np.full(shape, np.nan) for over in OVER}
        for over, values in by.items():
            values[at] = grouped[over].to_numpy()
        return Cells(across, down, metric, count, by)

    def spread(self, column: str, metric: str) -> pl.DataFrame:
        """Return how a metric is spread at each value of a parameter, in the axis' order.

        Returns
        -------
        polars.DataFrame
            label, count, min, median, max, q1, q3; a last row `UNSET` for trials without the parameter.
        """
        import polars as pl

        axis, value = self.axis(column), pl.col("value")
        quarters = {name: value.quantile(part, "linear") for name, part in (("q1", 0.25), ("q3", 0.75))}
        return (
            pl.DataFrame({"code": self._codes[column], "value": self.values(metric)})
            .with_columns(pl.col("code").fill_null(len(axis.labels)))
            .drop_nulls()
            .group_by("code")
            .agg(count=value.len(), min=value.min(), median=value.median(), max=value.max(), **quarters)
            .sort("code")
            .select(pl.lit(pl.Series("label", [*axis.labels, UNSET])).gather("code"), pl.exclude("code"))
        )

    def variance_share(self, column: str, metric: str) -> float:
        """Return the part of a metric's variance that a parameter explains by itself (eta squared).

        The sum of squares between the means of its values over the total; NaN when nothing varies. On a
        complete grid the shares of all parameters add up to at most 1, and interactions are the rest.
        """
        known = self.values(metric).is_not_null().to_numpy()
        codes = self._codes[self.axis(column).column].fill_null(-1).to_numpy()[known] + 1
        values = self.values(metric).to_numpy()[known]
        off = values - (values.mean() if len(values) else 0.0)
        total = float((off**2).sum())
        sums, counts = np.bincount(codes, off), np.bincount(codes)
        return float((sums**2 / np.maximum(counts, 1)).sum()) / total if total > 1e-24 else math.nan

    def neighbourhood(self, trial: int, metric: str) -> Neighbourhood:
        """Return a trial with those whose parameters differ by one step of one numeric parameter."""
        import polars as pl

        values = self.values(metric)
        own = float(values.filter(self._values["trial"] == trial)[0])
        typical = float(values.median())  # type: ignore[arg-type]
        steps = self._steps(metric).filter(pl.col("trial") == trial)
        named = [
            (name, self.axis(name).labels[code], self.axis(name).labels[to], other, value)
            for _, other, value, name, code, to in steps.iter_rows()
        ]
        kinds = {"parameter": pl.String, "from": pl.String, "to": pl.String, "trial": pl.Int64}
        return Neighbourhood(
            trial, own, pl.DataFrame(named, {**kinds, "value": pl.Float64}, orient="row"), typical
        )

    def most_robust(self, metric: str) -> tuple[int, float] | None:
        """Return the trial whose surroundings are best: number, and median over it and its neighbours.

        Returns
        -------
        tuple of int and float, or None
            None when no trial with a value has a neighbour.
        """
        import polars as pl

        steps = self._steps(metric).select("trial", "value")
        own = pl.DataFrame({"trial": self._values["trial"], "value": self.values(metric)}).drop_nulls()
        around = (
            pl.concat([own.join(steps, on="trial", how="semi"), steps.join(own, on="trial", how="semi")])
            .group_by("trial")
            .agg(pl.col("value").median())
            .sort("value", "trial", descending=[metric not in SMALLER_IS_BETTER, False])
        )
        return around.row(0) if around.height else None

    def _steps(self, metric: str) -> pl.DataFrame:
        """Every pair of trials one step apart: trial, other, value of the other, parameter, code, to."""
        import polars as pl

        names = [axis.column for axis in self.axes]
        points = pl.DataFrame({"trial": self._values["trial"], "value": self.values(metric)})
        points = points.with_columns(self._codes[name].alias(f"at {name}") for name in names)
        on = [f"at {name}" for name in names]
        found = []
        for axis, by in itertools.product(self.axes, (-1, 1)):
            here = f"at {axis.column}"
            moved = pl.col(here) + by
            valid = (pl.col(here) < axis.n_numbers) & (moved >= 0) & (moved < axis.n_numbers)
            start = points.filter(valid).with_columns(pl.col(here).alias("code"), moved.alias(here))
            others = points.drop_nulls("value").rename({"trial": "other"})
            found.append(
                start.drop("value")
                .join(others, on=on, how="inner", nulls_equal=True)
                .select("trial", "other", "value", pl.lit(axis.column).alias("parameter"), "code", to=here)
            )
        kinds = {"trial": pl.Int64, "other": pl.Int64, "value": pl.Float64, "parameter": pl.String}
        empty = pl.DataFrame(schema={**kinds, "code": pl.Int32, "to": pl.Int32})
        return pl.concat([empty, *found], how="vertical_relaxed")

    def _add(self, column: str) -> bool:
        """Read a column as an axis, if it varies."""
        import polars as pl

        texts = [label_of(value) for value in self._frame[column].to_list()]
        distinct = set(texts)
        if len(distinct) < 2:
            return False
        labels = sorted((text for text in distinct if text is not None), key=_place)
        code = {label: at for at, label in enumerate(labels)}
        codes = [None if text is None else code[text] for text in texts]
        self._codes[column] = pl.Series(codes, dtype=pl.Int32)
        numbers = sum(_number(label) is not None for label in labels)
        self._axes[column] = Axis(column, tuple(labels), numbers)
        return True

    def _find_followers(self, columns: Sequence[str]) -> dict[str, str]:
        import polars as pl

        followers: dict[str, str] = {}
        for first, second in itertools.combinations(columns, 2):
            sizes = {self._codes[first].n_unique(), self._codes[second].n_unique()}
            if first not in followers and second not in followers and len(sizes) == 1:
                pairs = pl.DataFrame({"one": self._codes[first], "two": self._codes[second]})
                followers |= {second: first} if pairs.n_unique() == sizes.pop() else {}
        return followers


def label_of(value: Any) -> str | None:
    """Return a parameter's value as the text that stands for it; None stays."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _place(text: str) -> tuple[bool, float, str]:
    number = _number(text)
    return number is None, number or 0.0, text
