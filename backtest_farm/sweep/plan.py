"""The plan of a sweep: what its trials are, how they are numbered and cut into atoms, and what they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import canonical_json, digest
from backtest_farm.spec import Universe
from backtest_farm.spec.inputs import SWITCHES
from backtest_farm.strategy import CrossOver, Strategy
from backtest_farm.strategy.code import folder_of, search_in
from backtest_farm.strategy.own import signal_of
from backtest_farm.sweep.atoms import Atom
from backtest_farm.sweep.checks import check
from backtest_farm.sweep.digits import INNER, Product
from backtest_farm.sweep.keys import KeyMaker
from backtest_farm.sweep.space import Space
from backtest_farm.sweep.spec import SweepSpec

ROW_BYTES = 800
"""About what a row takes in a fragment: key, digest, metrics, counters and per-segment sums."""

CURVE_BAR_BYTES = 80
"""What one bar of a kept curve takes: ten columns of eight bytes."""

_FORMAT = 2
_CARRIED = ("data_digests", "code_digest", "result_epoch", "panel_ref")


class PlannedUniverse(NamedTuple):
    """A universe of a sweep, and the digest of who its members are on the bars of the window."""

    universe: Universe
    digest: str


class PlanAxis(NamedTuple):
    """A column of a sweep's parameters, and all values that it takes (without None)."""

    column: str
    values: tuple[Any, ...]


def inputs_key(spec: SweepSpec) -> str:
    """Return the name of what a specification reads: fields, context series, what trading reads beside."""
    strategy, reads = spec.strategy, spec.reads
    if isinstance(strategy, Strategy):
        return "everything"
    fields = {*strategy.fields, *reads.fields}
    more = [[*reads.offered], [*reads.statics]]
    return canonical_json([sorted(fields), sorted(strategy.contexts), *(more if any(more) else ())])


def inputs_of(spec: SweepSpec) -> dict[str, SweepSpec]:
    """Return for each set of inputs of a sweep one of its trials that reads it."""
    # Of all points, since a condition may name universes, which a panel has yet to make.
    space = Space(spec.model_copy(update={"where": None}))
    found = {}
    for one in space.products:
        # Inputs are part of what a group shares; text names them, and switches what reads them.
        naming = [digit for digit in one.strides if digit.rank < INNER and _tells(digit.columns)]
        for number in space.combinations(one, naming):
            trial = one.point(number)
            found[inputs_key(trial)] = trial
    return found


def _tells(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether the values of a digit may decide what a trial reads."""
    texts = (isinstance(each, str) for each in chain(*columns.values()))
    return not SWITCHES.isdisjoint(columns) or any(texts)


@dataclass(frozen=True)
class Plan:
    """A sweep that is fixed: its specification, and the digests of the data and code it runs on.

    Attributes
    ----------
    spec : SweepSpec
        What the user asked for.
    universes : tuple of PlannedUniverse
        The concrete universes, in the order of the specification.
    data_digests : mapping of str to str
        For each set of inputs (`inputs_key`) the hash of exactly the data that trials which read it take, up
        to the end of their window.
    code_digest : str
        Hash of the strategy's code.
    result_epoch : int
        The kernel's number that changes whenever results change.
    panel_ref : mapping
        What a worker needs to find the panel again (snapshot, bars); no part of any key.
    """

    spec: SweepSpec
    universes: tuple[PlannedUniverse, ...]
    data_digests: Mapping[str, str]
    code_digest: str
    result_epoch: int
    panel_ref: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def space(self) -> Space:
        """The points, and which of them are trials."""
        labels = [planned.universe.label for planned in self.universes]
        if repeated := {label for label in labels if labels.count(label) > 1}:
            raise InputError(
                f"the universe {min(repeated)} stands twice in universes", hint="leave one of the entries out"
            )
        return Space(self.spec, labels)

    @cached_property
    def axes(self) -> tuple[PlanAxis, ...]:
        """The columns of the parameters with their values."""
        values = self.space.values
        return tuple(
            PlanAxis(name, tuple(each for each in values[name] if each is not None)) for name in self.columns
        )

    @property
    def own_strategies(self) -> list[Strategy]:
        """The strategies that are classes of the user's."""
        return [each for each in self.spec.strategies if isinstance(each, Strategy)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the parameters in results: axes, and what alternatives differ in."""
        return self.space.columns

    @property
    def n_points(self) -> int:
        """How many points the whole grid has."""
        return self.space.points

    @cached_property
    def n_trials(self) -> int:
        """How many of the points are trials: all, or those that ``where`` leaves.

        Raises
        ------
        InputError
            If ``where`` names universes and leaves no trial, or none that a model takes.
        """
        where, numbers = self.space.where, self.space.numbers
        if where is None or numbers is None:
            return self.n_points
        if "universe" in where.names:
            # Before the universes were known nothing could be said about the trials.
            check(self.space, self.n_points, "sweep")
        return len(numbers)

    @property
    def n_atoms(self) -> int:
        """How many atoms the sweep has, those that ``where`` empties too."""
        return self.space.atoms

    @cached_property
    def n_factors(self) -> int:
        """How many distinct signals the trials use."""
        # Crossings share a group whatever their averages are.
        pair = CrossOver.spec_signal
        names = [name for name in self.columns if self.space.ranks[name] == 0 or name in pair]
        signals = set()
        for one in self.space.products:
            told = [
                digit for digit in one.strides if digit.rank == 0 or not digit.columns.keys().isdisjoint(pair)
            ]
            numbers = self.space.combinations(one, told)
            # By what they are, since two strategies may rank by one signal.
            signals |= {*zip(numbers * 0, *(one.column(name, numbers) for name in names), strict=True)}
        return len(signals)

    @cached_property
    def sweep_id(self) -> str:
        """The digest of the sweep: equal for equal trials in equal order, wherever the panel lies."""
        inside = self.spec.model_dump(mode="json", exclude={"panel", "keep"})
        universes = [[planned.universe.label, planned.digest] for planned in self.universes]
        # Crossings were cut into other atoms once: such a study must not be taken for one of these.
        cut = {"cut": 2} if any(isinstance(each, CrossOver) for each in self.spec.strategies) else {}
        known = {"sweep": inside, "universes": universes, "data": self.data_digests}
        return digest({**known, **cut, **self._around})

    def trial(self, number: int) -> SweepSpec:
        """Return the specification of one trial: concrete values only, its universe apart."""
        return self._product(number).point(number).model_copy(update={"zip": (), "where": None})

    def universe(self, number: int) -> Universe:
        """Return the assets that one trial may hold."""
        return self._universes(self._product(number), [number])[0].universe

    def parameters(self, number: int) -> dict[str, Any]:
        """Return the values of one trial by column, None where it has no such parameter."""
        one = self._product(number)
        return {name: one.column(name, np.array([number]))[0] for name in self.columns}

    def number(self, parameters: Mapping[str, Any]) -> int:
        """Return the number of the trial with these parameters: the inverse of `parameters`.

        Columns with None may be left out.

        Raises
        ------
        InputError
            If a parameter is no column, a value does not stand in its column, or no trial has them all.
        """
        faults = [
            f"{name} is not an axis of this sweep {nearest(name, self.columns)}"
            for name in sorted({*parameters} - {*self.columns})
        ]
        faults += [
            f"{name}: {parameters.get(name)!r} does not stand on its axis"
            for name in self.columns
            if canonical_json(parameters.get(name)) not in map(canonical_json, self.space.values[name])
        ]
        number = None if faults else self.space.find(parameters)
        if number is None:
            faults = faults or ["each value stands on its axis, but no trial has them all"]
            raise InputError("these parameters name no trial of the sweep", faults=faults)
        self._product(number)
        return number

    def key(self, number: int) -> str:
        """Return the key of one trial: equal for equal trials in any sweep."""
        self._product(number)
        return self.keys([number])[0]

    def keys(self, numbers: Sequence[int]) -> list[str]:
        """Return the keys of some trials."""
        if len(numbers) and not (min(numbers) >= 0 and max(numbers) < self.n_points):
            last = self.n_points - 1
            raise InputError(f"trials {min(numbers)} to {max(numbers)} do not lie within 0 to {last:,}")
        found = np.empty(len(numbers), object)
        for one, rows, mine in self.space.parts(numbers):
            members = [planned.digest for planned in self._universes(one, mine)]
            digests = {"universe": members, "data": self._data(one, mine)}
            found[rows] = self._key_makers[one].keys(mine, digests)
        return found.tolist()

    def atoms(self) -> Sequence[int]:
        """Return the indices of the atoms that hold trials."""
        numbers = self.space.numbers
        return range(self.n_atoms) if numbers is None else np.unique(self.space.atoms_of(numbers)).tolist()

    def atom(self, index: int) -> Atom:
        """Return one atom: atoms never mix signals, universes or filters.

        Raises
        ------
        InputError
            If there is no such atom, or ``where`` leaves nothing of it.
        """
        numbers = self._numbers_of(index)
        if not len(numbers):
            raise InputError(f"atom {index} holds no trial: where leaves nothing of it")
        one, base = self._product(numbers[0]), self.trial(numbers[0])
        names = [*self.columns, *self.space.walked]
        columns = {name: one.column(name, np.array(numbers)) for name in names}
        signal = signal_of(base.strategy)
        return Atom(index, tuple(numbers), signal, self.universe(numbers[0]), base, columns)

    def twin_of(self, index: int) -> int | None:
        """Return the earlier atom whose trials have the same keys, None where there is none.

        Twins differ in the universe alone, and their universes have the same members on all bars.
        """
        if self._n_members == len(self.universes):
            return None
        numbers, first = self._numbers_of(index), self.space.span(index).start
        one = self.space.product_of(first)
        digests = [planned.digest for planned in self.universes]
        own = int(one.indices("universe", np.array([first]))[0])
        shift = (own - digests.index(digests[own])) * one.strides[one.places["universe"]]
        twin = int(self.space.atoms_of([first - shift])[0])
        # A condition may name the universe, so that less is left of the one than of the other.
        same = self._numbers_of(twin) == [number - shift for number in numbers]
        return twin if shift and same else None

    def estimate(self, n_bars: int) -> dict[str, int]:
        """Count what the sweep would do, running nothing.

        Parameters
        ----------
        n_bars : int
            Bars in the window.

        Returns
        -------
        dict
            ``points`` of the whole grid, ``trials`` that ``where`` leaves of them and ``duplicates`` among
            these (trials of atoms that have a twin: not run again); ``portfolio_passes`` (trials without
            duplicates); ``atoms`` that hold trials; ``unique_factors`` and at most so many
            ``unique_rankings`` (of a factor in a universe); ``rows``; ``bytes`` of rows and kept curves,
            uncompressed.
        """
        curves = min(self.spec.keep.equity.top, self.n_trials)
        if self.space.where is None or self._n_members == len(self.universes):
            duplicates = self.n_trials - self.n_trials // len(self.universes) * self._n_members
        else:
            twins = (index for index in self.atoms() if self.twin_of(index) is not None)
            duplicates = sum(len(self._numbers_of(index)) for index in twins)
        passes = self.n_trials - duplicates
        return {
            "points": self.n_points,
            "trials": self.n_trials,
            "duplicates": duplicates,
            "atoms": len(self.atoms()),
            "unique_factors": self.n_factors,
            "unique_rankings": self.n_factors * self._n_members,
            "portfolio_passes": passes,
            "rows": self.n_trials,
            "bytes": self.n_trials * (ROW_BYTES + 8 * len(self.columns)) + curves * n_bars * CURVE_BAR_BYTES,
        }

    def frozen_json(self) -> str:
        """Return the plan as canonical JSON, from which `from_json` makes an equal plan on any machine."""
        frozen = {name: getattr(self, name) for name in _CARRIED}
        frozen["universes"] = [[one.universe.model_dump(mode="json"), one.digest] for one in self.universes]
        frozen |= {"format": _FORMAT, "sweep": self.spec.model_dump(mode="json"), "sweep_id": self.sweep_id}
        own = {folder_of(type(each).__module__) for each in self.own_strategies}
        return canonical_json({**frozen, "folders": sorted(own - {None})})

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
            search_in(*frozen.get("folders", ()))
            spec = SweepSpec.from_file(frozen["sweep"], "frozen sweep")
            universes = tuple(
                PlannedUniverse(Universe.from_file(one, "frozen universe"), members)
                for one, members in frozen["universes"]
            )
            plan = cls(spec, universes, **{name: frozen[name] for name in _CARRIED})
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
    def _around(self) -> dict[str, Any]:
        return {"code": self.code_digest, "result_epoch": self.result_epoch}

    @cached_property
    def _n_members(self) -> int:
        """How many of the universes differ in their members."""
        return len({planned.digest for planned in self.universes})

    @cached_property
    def _key_makers(self) -> dict[Product, KeyMaker]:
        return {one: KeyMaker(one, self._around) for one in self.space.products}

    def _universes(self, one: Product, numbers: Sequence[int] | np.ndarray) -> list[PlannedUniverse]:
        """Return the universe of each of some trials."""
        return [self.universes[at] for at in one.indices("universe", np.asarray(numbers)).tolist()]

    def _data(self, one: Product, numbers: np.ndarray) -> list[str]:
        """Return the digest of the data that each of some trials reads."""
        # Trials of one group read the same: their strategies differ in the portfolio at most.
        firsts, which = np.unique(numbers - (numbers - one.start) % one.inner, return_inverse=True)
        digests = [self.data_digests[inputs_key(one.point(first))] for first in firsts.tolist()]
        return [digests[at] for at in which.tolist()]

    def _numbers_of(self, index: int) -> list[int]:
        """Return the numbers of an atom's trials."""
        if not 0 <= index < self.n_atoms:
            raise InputError(f"atom {index} is not in this sweep: its atoms are 0 to {self.n_atoms - 1:,}")
        numbers = np.array(self.space.span(index))
        return numbers[self.space.holds(numbers)].tolist()

    def _product(self, number: int) -> Product:
        """Return the product in which a trial lies; refuse what is no trial."""
        if not 0 <= number < self.n_points:
            last = self.n_points - 1
            raise InputError(f"trial {number} is not in this sweep: its trials are 0 to {last:,}")
        if not self.space.holds([number])[0]:
            raise InputError(f"trial {number} is not in this sweep: where ({self.spec.where}) leaves it out")
        return self.space.product_of(number)
