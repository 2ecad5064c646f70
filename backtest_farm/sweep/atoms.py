"""Atoms: the runs of trials that a plan hands out as one piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from backtest_farm.factors.spec import Factor
from backtest_farm.spec import Universe
from backtest_farm.sweep.spec import SweepSpec


@dataclass(frozen=True)
class Atom:
    """A fixed run of trials that share signal, universe and filter: the unit of fragments and retries.

    Attributes
    ----------
    index : int
        Its number within the sweep.
    numbers : tuple of int
        Its trials' numbers, at most `ATOM_TRIALS`; those that ``where`` leaves out are missing.
    signal : Factor
        The one signal of all its trials.
    universe : Universe
        The assets that they may hold.
    base : SweepSpec
        The specification at its first trial, without any axis.
    columns : dict of str to list
        For each column of the sweep the values of its trials, in order; None where a trial has no such
        parameter.
    """

    index: int
    numbers: tuple[int, ...]
    signal: Factor
    universe: Universe
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
        return [attrgetter(path)(owner)] * len(self.numbers)
