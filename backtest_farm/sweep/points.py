"""Numbers and points: the axes of a sweep in their one order, and mixed-radix arithmetic on them.

A trial's number is written in the digits of the axes, the first axis slowest. Nothing is ever expanded: a
number gives its point, and a point its number, in time proportional to the number of axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

from backtest_farm.spec import Spec, Stage, axes_of

STAGES: tuple[Stage, ...] = get_args(Stage)
"""Stages from the slowest digits to the fastest, so that trials which share a factor follow each other."""


@dataclass(frozen=True)
class PlanAxis:
    """One axis of a sweep, placed among the digits of the trial number.

    Attributes
    ----------
    path : str
        Its dotted path in the specification.
    stage : Stage
        What the parameter belongs to.
    values : tuple
        Its values, in the order of the specification.
    stride : int
        How many consecutive trial numbers share one value.
    """

    path: str
    stage: Stage
    values: tuple[Any, ...]
    stride: int

    @property
    def column(self) -> str:
        """Its name in results: the dotted path without a leading ``strategy``."""
        return self.path.removeprefix("strategy.")

    def value(self, number: int) -> Any:
        """Return this axis's value in the trial with this number."""
        return self.values[number // self.stride % len(self.values)]


def numbered_axes(spec: Spec) -> tuple[PlanAxis, ...]:
    """Return the axes of a sweep, slowest first: by stage, then in the order of the models' fields."""
    # sorted() is stable, so the order of fields stays within a stage.
    found = sorted(axes_of(spec), key=lambda axis: STAGES.index(axis.stage))
    sizes = [len(axis.values) for axis in found]
    return tuple(PlanAxis(*axis, math.prod(sizes[at + 1 :])) for at, axis in enumerate(found))
