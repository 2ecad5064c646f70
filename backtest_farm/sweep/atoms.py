"""Atoms: the runs of trials that a plan hands out as one piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from backtest_farm.factors.spec import Momentum
from backtest_farm.sweep.spec import SweepSpec

ATOM_TRIALS = 256
"""The most trials in an atom. Part of the meaning of atom numbers: a change orphans every fragment."""


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
        owner = self.base if hasattr(self.base, path.partition(".")[0]) else self.base.strategy
        return [attrgetter(path)(owner)] * (self.stop - self.first)
