"""Atoms: the runs of trials that a plan hands out as one piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest_farm.factors.spec import Factor
from backtest_farm.spec import SWITCHES, Universe, named, value_at
from backtest_farm.sweep.spec import SweepSpec

if TYPE_CHECKING:
    from backtest_farm.factors.own import OwnFactor


@dataclass(frozen=True)
class Atom:
    """A fixed run of trials that share signal, universe and filter: the unit of fragments and retries.

    Attributes
    ----------
    index : int
        Its number within the sweep.
    numbers : tuple of int
        Its trials' numbers, at most `ATOM_TRIALS`; those that ``where`` leaves out are missing.
    signal : Factor, OwnFactor or None
        The one signal of all its trials (of crossings the first one's: they differ in their averages); None
        where they decide without one.
    universe : Universe
        The assets that they may hold.
    base : SweepSpec
        The specification at its first trial, without any axis.
    columns : dict of str to list
        For each column of the sweep, and each switch that a column of profiles stands for, the values of its
        trials, in order; None where a trial has no such parameter.
    """

    index: int
    numbers: tuple[int, ...]
    signal: Factor | OwnFactor | None
    universe: Universe
    base: SweepSpec
    columns: dict[str, list[Any]]

    @property
    def profiles(self) -> list[str]:
        """The profile of each trial, with what it has otherwise."""
        rows = zip(*(self.values(path) for path in SWITCHES), strict=True)
        pairs = [*zip(self.values("profile"), rows, strict=True)]
        # Trials by the hundred have the same; a boolean equals 0 or 1 in Python, but is named otherwise.
        texts = [repr(pair) for pair in pairs]
        names = {
            text: named(name, dict(zip(SWITCHES, row, strict=True)))
            for text, (name, row) in dict(zip(texts, pairs, strict=True)).items()
        }
        return [names[text] for text in texts]

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
        return [value_at(owner, path)] * len(self.numbers)
