"""Axes: several values where a specification usually has one.

An axis is written ``axis([10, 25])`` in Python and as a list (or ``{axis: [...]}``) in a sweep file. Its
values are checked by the field at which it stands, so an axis itself knows nothing about them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any

from backtest_farm.errors import InputError

MAX_TRIALS = 10_000_000
"""The largest grid that is accepted unless a caller raises the limit; also the longest single axis."""


@dataclass(frozen=True)
class Axis:
    """The values that one parameter takes in a sweep, in the order in which trials are numbered.

    Attributes
    ----------
    values : tuple
        At least one value; distinct once the field at which the axis stands has checked them.
    """

    values: tuple[Any, ...]


def axis(values: Iterable[Any]) -> Any:
    """Make one parameter of a specification an axis of a sweep.

    Parameters
    ----------
    values : iterable
        The values, in order: a list, tuple, range or one-dimensional array. NaN, infinities and repeated
        values are refused by the parameter that receives the axis.

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
    """
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


def values_of(leaf: Any) -> tuple[Any, ...]:
    """Return the values of an axis, or the one value of a plain leaf as a tuple."""
    return leaf.values if isinstance(leaf, Axis) else (leaf,)
