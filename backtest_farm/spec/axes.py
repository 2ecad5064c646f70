"""Axes: several values where a specification usually has one.

An axis is written ``axis([10, 25])`` or ``axis(start=10, stop=50, step=10)`` in Python; in a sweep file as a
list (or ``{axis: [...]}``) or as ``{start: 10, stop: 50, step: 10}``. Its values are checked by the field at
which it stands, so an axis itself knows nothing about them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from operator import length_hint
from typing import Any

from backtest_farm.errors import InputError, nearest

MAX_TRIALS = 10_000_000
"""The largest grid that is accepted unless a caller raises the limit; also the longest single axis."""


@dataclass(frozen=True)
class Axis:
    """The values that one parameter takes in a sweep, in the order in which trials are numbered.

    Where a model stands (a signal, a strategy), the values are alternatives: models with axes of their own.

    Attributes
    ----------
    values : tuple
        At least one value; distinct in a sweep, unless the axis is zipped with others.
    """

    values: tuple[Any, ...]


def axis(
    values: Iterable[Any] | None = None, *, start: Any = None, stop: Any = None, step: Any = None
) -> Any:
    """Make one parameter of a specification an axis of a sweep.

    Parameters
    ----------
    values : iterable, optional
        The values, in order: a list, tuple, range or one-dimensional array. Wrong and repeated values are
        refused by the parameter or the sweep that receives the axis.
    start, stop, step : number
        Instead of `values`: ``start``, ``start + step``, ... up to and with ``stop``, without drift.

    Returns
    -------
    Axis
        Typed as ``Any``, since it stands wherever a single value may stand.

    Raises
    ------
    InputError
        If there is no value, if a single value or text is given, or if there are more values than a sweep
        may have trials.

    Examples
    --------
    >>> axis([10, 25])
    Axis(values=(10, 25))
    >>> axis(start=0.1, stop=0.3, step=0.1)
    Axis(values=(0.1, 0.2, 0.3))
    """
    span = {"start": start, "stop": stop, "step": step}
    if values is None:
        return stepped({name: given for name, given in span.items() if given is not None})
    if any(given is not None for given in span.values()):
        raise InputError("axis() got values and a range", hint="give one of the two")
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
        raise InputError(f"axis() needs a list of values, not {values!r}", hint=f"write axis([{values!r}])")
    # Asked for before anything is copied: axis(range(10**12)) must answer at once.
    hint = length_hint(values)
    kept = () if hint > MAX_TRIALS else tuple(islice(values, MAX_TRIALS + 1))
    count = max(hint, len(kept))
    if count > MAX_TRIALS:
        raise InputError(
            f"an axis of {count:,} or more values is too long", hint=f"take up to {MAX_TRIALS:,}"
        )
    if not kept:
        raise InputError("axis() got no value, so the grid would be empty", hint="give at least one value")
    return Axis(kept)


def stepped(span: dict[str, Any]) -> Axis:
    """Return the values from start by step up to and with stop.

    Parameters
    ----------
    span : dict
        The numbers ``start``, ``stop`` and ``step``.

    Raises
    ------
    InputError
        If one is missing or no finite number, or if the values are none or too many.
    """
    wanted = ("start", "stop", "step")
    if unknown := [name for name in span if name not in wanted]:
        raise InputError(f"a range has no {unknown[0]!r}", hint=nearest(str(unknown[0]), wanted))
    if missing := [name for name in wanted if name not in span]:
        raise InputError(f"a range needs start, stop and step: {' and '.join(missing)} is missing")
    # Decimals of the written numbers: 0.1 + 2 * 0.1 is 0.3, and start + i * step has the digits of both.
    start, stop, step = (_decimal(name, span[name]) for name in wanted)
    if step == 0:
        raise InputError("a range needs a step other than 0")
    count = int((stop - start) / step) + 1 if (stop - start) * step >= 0 else 0
    if count == 0:
        raise InputError(f"a range from {start} by {step} never comes to {stop}")
    if count > MAX_TRIALS:
        raise InputError(f"a range of more than {MAX_TRIALS:,} values is too long")
    values = (start + at * step for at in range(count))
    return Axis(tuple(int(each) if each == each.to_integral_value() else float(each) for each in values))


def _decimal(name: str, value: Any) -> Decimal:
    try:
        number = Decimal("nan" if isinstance(value, (bool, str)) else str(value))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise InputError(f"{name} of a range must be a finite number, not {value!r}")
    return number


def values_of(leaf: Any) -> tuple[Any, ...]:
    """Return the values of an axis, or the one value of a plain leaf as a tuple."""
    return leaf.values if isinstance(leaf, Axis) else (leaf,)
