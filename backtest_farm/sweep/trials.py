"""What a plan hands out: one trial with concrete values, and atoms, runs of trials that share a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backtest_farm.factors.spec import Momentum
from backtest_farm.spec import Costs, Fill, Limits, Sizing, Window, leaf_at
from backtest_farm.strategy import TopN
from backtest_farm.sweep.spec import SweepSpec

ATOM_TRIALS = 256
"""The most trials in an atom. Part of the meaning of atom numbers: a change orphans every fragment."""


@dataclass(frozen=True)
class Trial:
    """One backtest of a sweep: concrete values only."""

    number: int
    strategy: TopN
    costs: Costs
    fill: Fill
    sizing: Sizing
    cash: float
    limits: Limits
    window: Window
    profile: str
    universe: str = "all"
    fold: int = 0


@dataclass(frozen=True)
class Atom:
    """A fixed run of trials that share one signal: the unit of fragments, commits and retries.

    Attributes
    ----------
    index : int
        Its number within the sweep.
    first, stop : int
        Its trials' numbers, `stop` excluded; at most `ATOM_TRIALS` of them.
    signal : Momentum
        The one signal of all its trials.
    base : SweepSpec
        The specification at its first trial, without any axis.
    columns : dict of str to list
        For each axis of the sweep the values of its trials, in order.
    """

    index: int
    first: int
    stop: int
    signal: Momentum
    base: SweepSpec
    columns: dict[str, list[Any]]

    def values(self, path: str) -> list[Any]:
        """Return one parameter for each trial, whether it is an axis or not.

        Parameters
        ----------
        path : str
            As in `columns` (``n``, ``costs.commission_bps``, ``sizing``).
        """
        if path in self.columns:
            return self.columns[path]
        parts = tuple(path.split("."))
        inside = parts if parts[0] in type(self.base).model_fields else ("strategy", *parts)
        return [leaf_at(self.base, inside)] * (self.stop - self.first)
