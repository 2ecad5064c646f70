"""The space of a sweep: all its points, and which of them are trials.

Where strategies are alternatives, the numbers of the first one come before those of the second. A *group* is
one combination of what trials share (factor, universe, filter), an *atom* a run of consecutive numbers within
a group. Both follow from the axes alone: a condition only leaves numbers out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from backtest_farm.identity import canonical_json
from backtest_farm.spec import SWITCHES, Axis, Leaf, leaves_of, switches_of
from backtest_farm.sweep.digits import ATOM_TRIALS, Digit, Product, column_of, deep, rank_of
from backtest_farm.sweep.where import Where

BLOCK = 2**18
"""How many numbers are looked at at a time where all have to be."""


class Space:
    """The points of a specification and which of them are trials.

    Parameters
    ----------
    spec : SweepSpec
    universes : sequence of str, optional
        The labels of its universes. Without them each entry of `spec.universes` counts as one, of which
        nothing is known.

    Attributes
    ----------
    leaves : list of Leaf
        All parameters of a point, also those within alternatives.
    products : list of Product
        One for each strategy.
    points, atoms : int
        How many there are.
    """

    def __init__(self, spec: Any, universes: Sequence[str] | None = None) -> None:
        self.spec = spec
        self._universes = universes
        labels = tuple(universes or (f"universes[{at}]" for at in range(len(spec.universes))))
        universe = Leaf(("universe",), "universe", Axis(labels) if len(labels) > 1 else labels[0])
        # What no axis may stand at is no parameter of a point.
        leaves = [*(leaf for leaf in leaves_of(spec) if leaf.place[0] not in spec.spec_fixed), universe]
        self.leaves = [*deep(leaves)]
        (options,) = [leaf.options for leaf in leaves if leaf.place == ("strategy",)] or [((),)]
        self.products: list[Product] = []
        self.points = self.atoms = 0
        for strategy, option in zip(spec.strategies, options, strict=True):
            chosen = spec.model_copy(update={"strategy": strategy})
            own = [leaf for leaf in leaves if leaf.place != ("strategy",)] + [*option]
            self.products.append(Product(chosen, own, spec.zip, self.points, self.atoms))
            self.points += self.products[-1].points
            self.atoms += self.products[-1].atoms

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Every parameter by its column, with the index of its stage, in the order of fields."""
        found: dict[str, int] = {}
        for leaf in self.leaves:
            if not leaf.options:
                name, rank = column_of(leaf), rank_of(leaf)
                found[name] = min(rank, found.get(name, rank))
        return found

    @cached_property
    def values(self) -> dict[str, list[Any]]:
        """Every parameter with all values that it takes, None where some point has none."""
        found = {}
        for name in self.ranks:
            every = [one.values(name) for one in self.products]
            # A boolean equals 0 or 1 in Python, but is another value.
            pairs = dict.fromkeys((value, type(value) is bool) for values in every for value in values)
            found[name] = [value for value, _ in pairs]
        return found

    @cached_property
    def walked(self) -> tuple[str, ...]:
        """The switches that follow from a column of profiles, so that they need none of their own."""
        axes = {leaf.path: leaf.value.values for leaf in self.leaves if isinstance(leaf.value, Axis)}
        together = {name for names in self.spec.zip if "profile" in names for name in names}
        rows = [switches_of(name) for name in axes.get("profile", ())]
        told = {path: tuple(row[path] for row in rows) for path in SWITCHES if path in together}
        return tuple(path for path, values in told.items() if axes.get(path) == values)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What results show, slowest stage first: axes, tags of alternatives, and what these differ in."""
        shown = {column_of(leaf) for leaf in self.leaves if isinstance(leaf.value, Axis) and not leaf.options}
        for leaf in self.leaves:
            for model, option in zip(leaf.value.values if leaf.options else (), leaf.options, strict=True):
                shown |= {column_of(each) for each in option if each.place[-1] in model.spec_fixed}
        names = (name for name in self.ranks if name in shown or len(self.values[name]) > 1)
        names = (name for name in names if name not in self.walked)
        return tuple(sorted(names, key=self.ranks.__getitem__))

    @cached_property
    def where(self) -> Where | None:
        """The condition, read.

        Raises
        ------
        InputError
            If it cannot be read or names what is no parameter.
        """
        if self.spec.where is None:
            return None
        return Where(self.spec.where, {**self.values, "universe": self._universes or ()})

    @property
    def decided(self) -> bool:
        """Whether it is known which points are trials: not while a condition asks for an unknown universe."""
        return self.where is None or self._universes is not None or "universe" not in self.where.names

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """The numbers of the trials, or None where all points are trials."""
        if self.where is None:
            return None
        blocks = (np.arange(at, min(at + BLOCK, self.points)) for at in range(0, self.points, BLOCK))
        return np.concatenate([block[self.holds(block)] for block in blocks])

    def holds(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return which of some numbers are trials (bool)."""
        found = np.ones(len(numbers), bool)
        if self.where is None:
            return found
        for one, rows, mine in self.parts(numbers):
            tables = self._tables[one].items()
            columns = {name: table[:, one.indices(name, mine)] for name, table in tables}
            found[rows] = self.where.holds(columns, len(mine))
        return found

    @cached_property
    def _tables(self) -> dict[Product, dict[str, np.ndarray]]:
        """The values of the parameters that the condition names, as it compares them."""
        if (where := self.where) is None:
            return {}
        return {one: {name: where.column(one.values(name)) for name in where.names} for one in self.products}

    def parts(self, numbers: Sequence[int] | np.ndarray) -> Iterator[tuple[Product, np.ndarray, np.ndarray]]:
        """Yield the products in which some numbers lie, the places of these among them, and these."""
        given = np.asarray(numbers, np.int64)
        which = np.searchsorted([one.start for one in self.products], given, side="right") - 1
        for at in np.unique(which).tolist():
            rows = np.flatnonzero(which == at)
            yield self.products[at], rows, given[rows]

    def product_of(self, number: int) -> Product:
        """Return the product in which a number lies."""
        return self.products[bisect_right(self.products, number, key=lambda one: one.start) - 1]

    def combinations(self, one: Product, digits: Collection[Digit]) -> np.ndarray:
        """Return one number for each combination of some digits that occurs among the trials of a product.

        All other digits of these numbers are 0, so that they need not be trials themselves.
        """
        if self.numbers is None:
            found = np.zeros(1, np.int64)
            for digit in digits:
                found = (found[:, None] + np.arange(digit.size) * one.strides[digit]).ravel()
            return found + one.start
        numbers = self.numbers[(self.numbers >= one.start) & (self.numbers < one.start + one.points)]
        found = np.zeros(len(numbers), np.int64)
        for digit in digits:
            found += one.at(digit, numbers) * one.strides[digit]
        return np.unique(found) + one.start

    def find(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the number of the point with these values in all columns, None where there is none."""
        # Compared as texts: a boolean equals 0 or 1 in Python, but is no number here.
        texts = {name: canonical_json(parameters.get(name)) for name in self.columns}
        for one in self.products:
            number = one.start
            for digit, stride in one.strides.items():
                names = [name for name in self.columns if name in digit.columns]
                rows = zip(*(map(canonical_json, digit.columns[name]) for name in names), strict=True)
                wanted = tuple(texts[name] for name in names)
                number += next((at * stride for at, row in enumerate(rows) if row == wanted), self.points)
            others = (name for name in self.columns if name not in one.places)
            same = all(canonical_json(one.constants.get(name)) == texts[name] for name in others)
            if same and number < self.points:
                return number
        return None

    def span(self, atom: int) -> range:
        """Return the numbers of an atom's points."""
        one = self.products[bisect_right(self.products, atom, key=lambda one: one.first_atom) - 1]
        group, part = divmod(atom - one.first_atom, one.cuts)
        first = one.start + group * one.inner
        return range(first + part * ATOM_TRIALS, first + min((part + 1) * ATOM_TRIALS, one.inner))

    def atoms_of(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the atom in which each of some numbers lies."""
        found = np.empty(len(numbers), np.int64)
        for one, rows, mine in self.parts(numbers):
            group, inner = np.divmod(mine - one.start, one.inner)
            found[rows] = one.first_atom + group * one.cuts + inner // ATOM_TRIALS
        return found
