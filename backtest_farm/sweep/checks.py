"""What is wrong with a sweep whose single values are right: sizes, repetitions, combinations, conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from backtest_farm.errors import InputError, nearest
from backtest_farm.spec import Axis, LineOf, Place, Spec, faulty, replaced, shown
from backtest_farm.sweep.digits import Digit, Product, chosen_by, column_of, deep
from backtest_farm.sweep.space import Space

Faults = dict[Place, str]
"""What is wrong, and where."""


def check(space: Space, limit: int, title: str, line_of: LineOf | None = None) -> None:
    """Refuse a sweep whose axes do not go together, or whose grid has more than `limit` points.

    The size is found by arithmetic, before anything is expanded.

    Raises
    ------
    InputError
        With all faults at once, or with the size of the grid, axis by axis.
    """
    if found := _zip_faults(space):
        raise faulty(found, title, line_of)
    if space.points > limit:
        axes = [leaf for leaf in space.leaves if isinstance(leaf.value, Axis)]
        raise InputError(
            f"the grid has {space.points:,} trials, over the limit of {limit:,}",
            faults=[f"{leaf.path}: {len(leaf.value.values):,} values" for leaf in axes],
            hint="take fewer values on the long axes, or raise the limit",
        )
    if found := _repeated(space) or _where_faults(space) or _refused(space):
        raise faulty(found, title, line_of)


def _zip_faults(space: Space) -> Faults:
    found: Faults = {}
    walks = [
        {column_of(leaf): len(leaf.value.values) for leaf in digit.leaves}
        for one in space.products
        for digit in deep(one.strides)
        if not digit.options
    ]
    axes = {name for walk in walks for name in walk} - {"universe"}
    zipped = [name for names in space.spec.zip for name in names]
    for at, names in enumerate(space.spec.zip):
        together = [walk for walk in walks if len(walk) > 1 and not walk.keys().isdisjoint(names)]
        if unknown := [name for name in names if name not in axes]:
            found["zip", at] = f"{unknown[0]!r} is no axis of this sweep: {nearest(unknown[0], axes)}"
        elif twice := [name for name in names if zipped.count(name) > 1]:
            found["zip", at] = f"{twice[0]} is zipped twice"
        elif not together or any(_apart(one.strides, {*names}) > 1 for one in space.products):
            found["zip", at] = "give two axes or more that stand in the same alternative, or in none"
        elif unequal := [walk for walk in together if len({*walk.values()}) > 1]:
            sizes = ", ".join(f"{name} has {size:,}" for name, size in unequal[0].items())
            found["zip", at] = f"axes that are walked together need as many values each: {sizes}"
    return found


def _repeated(space: Space) -> Faults:
    """Return what stands twice: a trial would run twice."""
    found: Faults = {}
    entries = space.spec.universes
    for at, entry in enumerate(entries):
        if entry in entries[:at]:
            found["universes", at] = f"[{entries.index(entry)}] is the same entry"
    for digit in (digit for one in space.products for digit in deep(one.strides)):
        leaf, first = digit.leaves[0], dict[Any, int]()
        # The name of a profile alone makes no other trial.
        values = {path: each for path, each in digit.values.items() if path != "profile"}
        for at, row in enumerate(zip(*values.values(), strict=True) if values else [()] * digit.size):
            if (before := first.setdefault(row, at)) == at:
                continue
            text = f"{', '.join(map(shown, row))} stands here twice"
            if profiles := digit.values.get("profile"):
                text = f"{profiles[at]!r} means the same as {profiles[before]!r} here: leave one out"
                found["profile", at] = text
            elif digit.options:
                found[leaf.place] = text
            elif len(digit.leaves) > 1:
                zips = (k for k, names in enumerate(space.spec.zip) if column_of(leaf) in names)
                found["zip", next(zips)] = f"{text}: at [{before}] and [{at}] of the axes"
            else:
                found[(*leaf.place, at)] = f"{text}: [{before}] is the same value"
    return found


def _where_faults(space: Space) -> Faults:
    try:
        if space.decided and space.numbers is not None and not len(space.numbers):
            return {("where",): f"{space.spec.where!r} leaves none of {space.points:,} points"}
    except InputError as error:
        return {("where",): error.message}
    return {}


def _refused(space: Space) -> Faults:
    """Return the models that refuse some combination of their axes which is a trial."""
    found: Faults = {}
    for one in space.products if space.decided else ():
        models: dict[Place, list[Digit]] = {}
        for digit in one.strides:
            for place in {leaf.place if digit.options else leaf.place[:-1] for leaf in digit.leaves}:
                models.setdefault(place, []).append(digit)
        for place, digits in models.items():
            reasons = [_reason(model) for model in _models(space, one, place, digits)]
            if refused := [*filter(None, reasons)]:
                more = ", ..." if len(refused) > 1 else ""
                text = f"{len(refused):,} of {len(reasons):,} combinations are refused: {refused[0]}{more}"
                found[place] = f"{text}; leave them out by where"
    return found


def _models(space: Space, one: Product, place: Place, digits: list[Digit]) -> Iterator[Any]:
    """Yield the model at a place with each combination of its axes."""
    path = ".".join(part for part in place if isinstance(part, str))
    model: Any = attrgetter(path)(one.spec) if path else None
    if not digits[0].options and not _validators(model):
        return
    numbers = space.combinations(one, digits)
    for ats in zip(*(one.at(digit, numbers).tolist() for digit in digits), strict=True):
        chosen = chosen_by(zip(digits, ats, strict=True))
        yield chosen[path] if path in chosen else replaced(model, chosen, f"{path}.")


def _validators(model: Any) -> list[Any]:
    """Return what a model checks after its single values."""
    if not isinstance(model, Spec):
        return []
    found = type(model).__pydantic_decorators__.model_validators.values()
    return [each.func for each in found if each.info.mode == "after"]


def _reason(model: Any) -> str:
    """Return why a model refuses its values, nothing if it takes them."""
    try:
        for validate in _validators(model):
            validate(model)
    except ValueError as error:
        return str(error)
    return ""


def _apart(digits: Iterable[Digit], names: set[str]) -> int:
    """Return in how many digits of one point some columns stand."""
    return sum(
        max(_apart(option, names) for option in digit.options)
        if digit.options
        else not names.isdisjoint(map(column_of, digit.leaves))
        for digit in digits
    )
