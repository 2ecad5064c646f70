"""Digits: how a point is written as a number, and read again, without ever expanding a grid.

There is one digit for each axis, for axes that are zipped, and for each place where alternatives stand; the
slowest stage comes first. The values of a digit are small tables, so both ways are arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any, TypeVar, get_args

import numpy as np

from backtest_farm.spec import Axis, Leaf, Spec, Stage, leaves_of, replaced

STAGES: tuple[Stage, ...] = get_args(Stage)
"""Stages from the slowest digits to the fastest."""

INNER = STAGES.index("portfolio")
"""The first stage in which trials of one group (factor, universe, filter) differ."""

ATOM_TRIALS = 256
"""The most trials in an atom. Part of the meaning of atom numbers: a change orphans every fragment."""

Zips = Sequence[Sequence[str]]
"""Groups of columns that are walked together."""


def column_of(leaf: Leaf) -> str:
    """Return the name of a parameter in results: its dotted path without a leading ``strategy``."""
    return leaf.path.removeprefix("strategy.")


class Digit:
    """One digit of a trial's number.

    Attributes
    ----------
    leaves : tuple of Leaf
        An axis, several that are zipped, or one place where alternatives stand.
    options : list of list of Digit
        The digits within each alternative.
    rank : int
        The slowest stage of what it decides.
    size : int
        How many values it has.
    """

    def __init__(self, leaves: tuple[Leaf, ...], zips: Zips) -> None:
        self.leaves = leaves
        self.options = [digits_of(option, zips) for option in leaves[0].options]
        self.rank = min(map(rank_of, leaves))
        lengths = [math.prod(digit.size for digit in digits) for digits in self.options]
        self.size: int = sum(lengths) or min(len(leaf.value.values) for leaf in leaves)

    @cached_property
    def values(self) -> dict[str, Sequence[Any]]:
        """What stands at each of its paths, by the digit's value; alternatives without any axis."""
        if not self.options:
            return {leaf.path: leaf.value.values for leaf in self.leaves}
        (leaf,) = self.leaves
        found: list[Any] = []
        for model, digits in zip(leaf.value.values, self.options, strict=True):
            for ats in product(*(range(digit.size) for digit in digits)):
                chosen = chosen_by(zip(digits, ats, strict=True))
                found.append(replaced(model, chosen, f"{leaf.path}.") if model else None)
        return {leaf.path: found}

    @cached_property
    def columns(self) -> dict[str, Sequence[Any]]:
        """Its parameters by column; None where an alternative has none."""
        if not self.options:
            return {column_of(leaf): leaf.value.values for leaf in self.leaves}
        (leaf,) = self.leaves
        rows = [
            {column_of(each): each.value for each in leaves_of(model, leaf.place)} if model else {}
            for model in self.values[leaf.path]
        ]
        return {name: [row.get(name) for row in rows] for row in rows for name in row}


Node = TypeVar("Node", Leaf, Digit)


def digits_of(leaves: Iterable[Leaf], zips: Zips) -> list[Digit]:
    """Return the digits that the axes among some leaves make, the slowest first."""
    left = [leaf for leaf in leaves if isinstance(leaf.value, Axis)]
    found = []
    while left:
        together = next((names for names in zips if column_of(left[0]) in names), ())
        walk = [leaf for leaf in left if leaf is left[0] or column_of(leaf) in together]
        left = [leaf for leaf in left if leaf not in walk]
        found.append(Digit(tuple(walk), zips))
    # sorted() is stable, so the order of fields stays within a stage.
    return sorted(found, key=lambda digit: digit.rank)


def chosen_by(digits: Iterable[tuple[Digit, int]]) -> dict[str, Any]:
    """Return what stands at each path where some digits have some values."""
    return {path: values[at] for digit, at in digits for path, values in digit.values.items()}


def deep(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield leaves or digits, and after alternatives those within them."""
    for node in nodes:
        yield node
        for option in node.options:
            yield from deep(option)


def rank_of(leaf: Leaf) -> int:
    """Return where a parameter stands among the stages: alternatives where they first differ."""
    every = (each for option in leaf.options for each in option)
    plain = [each for each in every if not isinstance(each.value, Axis)]
    found = Counter((each.path, each.value) for each in plain)
    shared = {pair for pair, count in found.items() if count == len(leaf.options)}
    within = (each for option in leaf.options for each in option if (each.path, each.value) not in shared)
    return min(map(rank_of, within), default=STAGES.index(leaf.stage))


class Product:
    """All points of one strategy: their numbers begin at `start`.

    Attributes
    ----------
    spec : Spec
        The specification with this strategy.
    strides : dict of Digit to int
        How many consecutive numbers share a value of each digit, the slowest digit first.
    start, first_atom : int
        Its first number and its first atom.
    points, inner : int
        How many points it has, and how many each group of them has.
    cuts, atoms : int
        How many atoms each group has, and how many there are in all.
    constants : dict of str to object
        The parameters that have one value.
    """

    def __init__(self, spec: Spec, leaves: Sequence[Leaf], zips: Zips, start: int, first_atom: int) -> None:
        self.spec, self.start, self.first_atom = spec, start, first_atom
        digits = digits_of(leaves, zips)
        sizes = [digit.size for digit in digits]
        self.strides = {digit: math.prod(sizes[at + 1 :]) for at, digit in enumerate(digits)}
        self.points = math.prod(sizes)
        self.inner = math.prod(digit.size for digit in digits if digit.rank >= INNER)
        self.cuts = math.ceil(self.inner / ATOM_TRIALS)
        self.atoms = self.points // self.inner * self.cuts
        self.constants = {column_of(leaf): leaf.value for leaf in leaves if not isinstance(leaf.value, Axis)}

    @cached_property
    def places(self) -> dict[str, Digit]:
        """The digit that decides each parameter."""
        return {name: digit for digit in self.strides for name in digit.columns}

    def at(self, digit: Digit, numbers: np.ndarray) -> np.ndarray:
        """Return which value of a digit some numbers have."""
        return (numbers - self.start) // self.strides[digit] % digit.size

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of a parameter by its digit, or its one value: None if the strategy has none."""
        return self.places[name].columns[name] if name in self.places else (self.constants.get(name),)

    def indices(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """Return which of its values a parameter has in some numbers."""
        return self.at(self.places[name], numbers) if name in self.places else np.zeros_like(numbers)

    def column(self, name: str, numbers: np.ndarray) -> list[Any]:
        """Return one parameter of some numbers."""
        values = self.values(name)
        return [values[at] for at in self.indices(name, numbers).tolist()]

    def point(self, number: int) -> Any:
        """Return the specification at one point: without any axis."""
        each = np.array([number])
        return replaced(self.spec, chosen_by((digit, int(self.at(digit, each)[0])) for digit in self.strides))
