"""The plan of a sweep: what its trials are, how they are numbered and cut into atoms, and what they share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import canonical_json, digest
from backtest_farm.spec import replaced
from backtest_farm.sweep.atoms import ATOM_TRIALS, Atom
from backtest_farm.sweep.keys import KeyMaker, key_document
from backtest_farm.sweep.points import PlanAxis, numbered_axes
from backtest_farm.sweep.spec import SweepSpec

ROW_BYTES = 800
"""About what a row takes in a fragment: key, digest, metrics, counters and per-segment sums."""

CURVE_BAR_BYTES = 80
"""What one bar of a kept curve takes: ten columns of eight bytes."""

_FORMAT = 1
_CARRIED = ("data_digest", "code_digest", "result_epoch", "panel_ref")


@dataclass(frozen=True)
class Plan:
    """A sweep that is fixed: its specification, and the digests of the data and code it runs on.

    Attributes
    ----------
    spec : SweepSpec
        What the user asked for.
    data_digest : str
        Hash of exactly the data that the trials read, up to the end of their window.
    code_digest : str
        Hash of the strategy's code.
    result_epoch : int
        The kernel's number that changes whenever results change.
    panel_ref : mapping
        What a worker needs to find the panel again (snapshot, bars); no part of any key.
    """

    spec: SweepSpec
    data_digest: str
    code_digest: str
    result_epoch: int
    panel_ref: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def axes(self) -> tuple[PlanAxis, ...]:
        """The axes, slowest first; independent of the order in which the user wrote them."""
        return numbered_axes(self.spec)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the axes in results, in the order of `axes`."""
        return tuple(axis.column for axis in self.axes)

    @cached_property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """The axes that each stage of the work reads: it runs once for each combination of their values."""
        factor = tuple(axis.column for axis in self.axes if axis.stage == "factor")
        return {"factor": factor, "rank": factor, "portfolio": self.columns}

    @cached_property
    def n_trials(self) -> int:
        """How many trials the sweep has."""
        return math.prod(len(axis.values) for axis in self.axes)

    @cached_property
    def n_factors(self) -> int:
        """How many distinct signals the trials use."""
        return math.prod(len(axis.values) for axis in self.axes if axis.stage == "factor")

    @cached_property
    def n_atoms(self) -> int:
        """How many atoms the sweep has."""
        return self.n_factors * self._atoms_of_factor

    @cached_property
    def sweep_id(self) -> str:
        """The digest of the sweep: equal for equal trials in equal order, wherever the panel lies."""
        inside = self.spec.model_dump(mode="json", exclude={"panel", "keep"})
        return digest({"sweep": inside, **self.around})

    @cached_property
    def around(self) -> dict[str, Any]:
        """What the trials depend on beside the specification."""
        return {"data": self.data_digest, "code": self.code_digest, "result_epoch": self.result_epoch}

    def trial(self, number: int) -> SweepSpec:
        """Return the specification of one trial: concrete values only."""
        self._check(number, self.n_trials, "trial")
        return replaced(self.spec, {axis.path: axis.value(number) for axis in self.axes})

    def parameters(self, number: int) -> dict[str, Any]:
        """Return the values of the axes in one trial, by column."""
        self._check(number, self.n_trials, "trial")
        return {axis.column: axis.value(number) for axis in self.axes}

    def number(self, parameters: Mapping[str, Any]) -> int:
        """Return the number of the trial with these values of the axes: the inverse of `parameters`.

        Raises
        ------
        InputError
            If a parameter is no axis, an axis has no parameter, or a value does not stand on its axis.
        """
        faults = [
            f"{name} is not an axis of this sweep {nearest(name, self.columns)}"
            for name in sorted({*parameters} - {*self.columns})
        ]
        number = 0
        for axis in self.axes:
            given = parameters.get(axis.column)
            # Compared as texts: a boolean equals 0 or 1 in Python, but is no number here.
            texts = [canonical_json(value) for value in axis.values]
            if (text := canonical_json(given)) in texts:
                number += texts.index(text) * axis.stride
            else:
                faults.append(f"{axis.column}: {given!r} does not stand on its axis")
        if faults:
            raise InputError("these parameters name no trial of the sweep", faults=faults)
        return number

    def key(self, number: int) -> str:
        """Return the key of one trial: equal for equal trials in any sweep."""
        return digest(key_document(self.trial(number), self.around))

    def keys(self, first: int, stop: int) -> list[str]:
        """Return the keys of the trials `first` to `stop` (exclusive), equal to those of `key` but fast."""
        if not 0 <= first <= stop <= self.n_trials:
            raise InputError(f"trials {first} to {stop} do not lie within 0 to {self.n_trials}")
        return self._key_maker.keys(first, stop)

    def atom(self, index: int) -> Atom:
        """Return one atom: atoms follow each other without gaps and never mix signals."""
        self._check(index, self.n_atoms, "atom")
        factor, part = divmod(index, self._atoms_of_factor)
        first = factor * self._trials_of_factor + part * ATOM_TRIALS
        stop = min(first + ATOM_TRIALS, (factor + 1) * self._trials_of_factor)
        base = self.trial(first)
        columns = {axis.column: [axis.value(number) for number in range(first, stop)] for axis in self.axes}
        return Atom(index, first, stop, base.strategy.signal, base, columns)

    def atom_of(self, number: int) -> int:
        """Return the index of the atom to which a trial belongs."""
        self._check(number, self.n_trials, "trial")
        factor, inner = divmod(number, self._trials_of_factor)
        return factor * self._atoms_of_factor + inner // ATOM_TRIALS

    def estimate(self, n_bars: int) -> dict[str, int]:
        """Count what the sweep would do, by arithmetic alone.

        Parameters
        ----------
        n_bars : int
            Bars in the window.

        Returns
        -------
        dict
            ``trials``, ``atoms``; ``unique_factors`` and ``unique_rankings`` (distinct combinations of what
            these stages read); ``factor_builds`` (one for each unique factor when every worker takes whole
            factors; at most one for each atom); ``portfolio_passes`` (one for each trial); ``bar_steps``
            (bars x trials); ``rows``; ``bytes`` of rows and kept curves, uncompressed.
        """
        curves = min(self.spec.keep.equity.top, self.n_trials)
        return {
            "trials": self.n_trials,
            "atoms": self.n_atoms,
            "unique_factors": self.n_factors,
            "unique_rankings": self.n_factors,
            "factor_builds": self.n_factors,
            "portfolio_passes": self.n_trials,
            "bar_steps": self.n_trials * n_bars,
            "rows": self.n_trials,
            "bytes": self.n_trials * (ROW_BYTES + 8 * len(self.axes)) + curves * n_bars * CURVE_BAR_BYTES,
        }

    def frozen_json(self) -> str:
        """Return the plan as canonical JSON, from which `from_json` makes an equal plan on any machine."""
        carried = {name: getattr(self, name) for name in _CARRIED}
        sweep = self.spec.model_dump(mode="json")
        return canonical_json({"format": _FORMAT, "sweep": sweep, "sweep_id": self.sweep_id, **carried})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `frozen_json` wrote.

        Raises
        ------
        InputError
            If the text is damaged, of another format, or means another sweep in this version than it did
            when it was written.
        """
        try:
            frozen = json.loads(text)
            if frozen["format"] != _FORMAT:
                raise InputError(f"a sweep of format {frozen['format']}, but this version reads {_FORMAT}")
            spec = SweepSpec.from_file(frozen["sweep"], "frozen sweep")
            plan = cls(spec, **{name: frozen[name] for name in _CARRIED})
            written = frozen["sweep_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"this text is no frozen sweep: {type(error).__name__}: {error}") from None
        if plan.sweep_id != written:
            raise InputError(
                f"the frozen sweep {str(written)[:12]} reads as {plan.sweep_id[:12]}: it was changed, or "
                "written by another version",
                hint="use the version that wrote it, or run the sweep into a new study",
            )
        return plan

    @cached_property
    def _trials_of_factor(self) -> int:
        return self.n_trials // self.n_factors

    @cached_property
    def _atoms_of_factor(self) -> int:
        return math.ceil(self._trials_of_factor / ATOM_TRIALS)

    @cached_property
    def _key_maker(self) -> KeyMaker:
        return KeyMaker(self.spec, self.axes, self.around)

    def _check(self, number: int, count: int, what: str) -> None:
        if not 0 <= number < count:
            raise InputError(f"{what} {number} is not in this sweep: its {what}s are 0 to {count - 1:,}")
