"""Numbers and points: the axes of a sweep in their one order, and mixed-radix arithmetic on them.

A trial's number is written in the digits of the axes, the first axis slowest. Nothing is ever expanded: a
number gives its point, and a point its number, in time proportional to the number of axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import canonical
from backtest_farm.spec import Axis, Spec, Stage, leaves

STAGES: tuple[Stage, ...] = get_args(Stage)
"""Stages from the slowest digits to the fastest, so that trials which share a factor follow each other."""


@dataclass(frozen=True)
class PlanAxis:
    """One axis of a sweep, placed among the digits of the trial number.

    Attributes
    ----------
    column : str
        Its dotted path with a leading ``strategy.`` dropped: the column of the results.
    path : tuple of str
        The fields that lead to it.
    stage : Stage
        What the parameter belongs to.
    values : tuple
        Its values, in the order of the specification.
    stride : int
        How many consecutive trial numbers share one value.
    """

    column: str
    path: tuple[str, ...]
    stage: Stage
    values: tuple[Any, ...]
    stride: int

    def value(self, number: int) -> Any:
        """Return this axis's value in the trial with this number."""
        return self.values[self.digit(number)]

    def digit(self, number: int) -> int:
        """Return the index of this axis's value in the trial with this number."""
        return number // self.stride % len(self.values)


def column_of(path: Sequence[str]) -> str:
    """Return the name of a parameter in results: its dotted path without a leading ``strategy``."""
    return ".".join(path[1:] if path[0] == "strategy" else path)


def axes_of(spec: Spec) -> tuple[PlanAxis, ...]:
    """Return the axes of a sweep, slowest first: by stage, then in the order of the models' fields."""
    # sorted() is stable, so the order of fields stays within a stage.
    found = sorted(
        (leaf for leaf in leaves(spec) if isinstance(leaf.value, Axis)),
        key=lambda leaf: STAGES.index(leaf.stage),
    )
    sizes = [len(leaf.value) for leaf in found]
    return tuple(
        PlanAxis(column_of(leaf.path), leaf.path, leaf.stage, leaf.value.values, math.prod(sizes[at + 1 :]))
        for at, leaf in enumerate(found)
    )


def number_of(axes: Sequence[PlanAxis], parameters: Mapping[str, Any]) -> int:
    """Return the number of the trial with these parameters (column -> value, one for each axis).

    Raises
    ------
    InputError
        If a parameter is no axis, an axis has no parameter, or a value does not stand on its axis.
    """
    columns = [axis.column for axis in axes]
    faults = [
        f"{name} is not an axis of this sweep {nearest(name, columns)}"
        for name in sorted({*parameters} - {*columns})
    ]
    number = 0
    for axis in axes:
        if axis.column not in parameters:
            faults.append(f"{axis.column} has no value")
            continue
        given = canonical(parameters[axis.column])
        # A boolean equals 0 or 1 in Python, but is no number here.
        if isinstance(given, bool) or given not in axis.values:
            faults.append(f"{axis.column}: {given!r} does not stand on its axis")
            continue
        number += axis.values.index(given) * axis.stride
    if faults:
        raise InputError("these parameters name no trial of the sweep", faults=faults)
    return number
