"""Walking a specification: its leaves in order, its axes, its plain form, and changed copies of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from backtest_farm.spec.axes import Axis
from backtest_farm.spec.base import Spec, Stage

S = TypeVar("S", bound=Spec)


class Leaf(NamedTuple):
    """One parameter of a specification."""

    path: tuple[str, ...]
    stage: Stage
    value: Any


def leaves(spec: Spec, above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield the parameters of `spec` and of the models within it, in the order of their fields."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from leaves(value, (*above, name))
        else:
            yield Leaf((*above, name), spec.spec_stage, value)


def has_axes(spec: Spec) -> list[str]:
    """Return the dotted paths at which axes stand: empty for a specification of one single run."""
    return [".".join(leaf.path) for leaf in leaves(spec) if isinstance(leaf.value, Axis)]


def leaf_at(spec: Spec, path: tuple[str, ...]) -> Any:
    """Return the value that stands at `path`."""
    found: Any = spec
    for name in path:
        found = getattr(found, name)
    return found


def replaced(spec: S, changes: Mapping[tuple[str, ...], Any]) -> S:
    """Return a copy of `spec` with other values at some leaves.

    The values are taken as they are: they come from axes, which were checked when they were read.
    """
    here: dict[str, Any] = {}
    below: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in changes.items():
        if rest:
            below.setdefault(name, {})[tuple(rest)] = value
        else:
            here[name] = value
    for name, deeper in below.items():
        here[name] = replaced(getattr(spec, name), deeper)
    return spec.model_copy(update=here) if here else spec


def plain(value: Any) -> Any:
    """Return `value` as dicts, lists, text and numbers; an axis becomes ``{"axis": [...]}``.

    Dates become ISO text. What comes out can be read again by :meth:`Spec.from_file`.
    """
    if isinstance(value, Spec):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Axis):
        return {"axis": [plain(item) for item in value.values]}
    if isinstance(value, dt.date):
        return value.isoformat()
    return value
