"""Profiles: named sets of switches that make a backtest mean what it means in another engine.

A profile decides how orders fill, how they are sized and rounded, and what happens when cash is short. What a
user gives explicitly beats it, and the name that results carry says so: ``zipline+fill=next_open`` is
``zipline`` but for its fill. Such a name may be given as a profile too. Keys of trials follow from the
switches alone, so two ways to say the same thing are one trial.

A profile's version changes with its switches; results that an older version named keep their own switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from backtest_farm.errors import nearest
from backtest_farm.spec.axes import Axis, values_of
from backtest_farm.spec.base import Spec
from backtest_farm.spec.wording import fault


class Profile(NamedTuple):
    """What one profile decides; the defaults are those of the accounting contract."""

    version: int = 1
    fill: str = "next_open"
    sizing: str = "decision"
    lot: float = 0
    lot_rounding: str = "nearest"
    afford: str = "scale"


SWITCHES = ("fill", "sizing", "limits.lot", "limits.lot_rounding", "limits.afford")
"""What profiles decide, in the order of `Profile`."""

PROFILES: dict[str, Profile] = {
    "default": Profile(),
    "vectorbt": Profile(fill="same_close", sizing="fill"),
    "backtrader": Profile(afford="reject"),
    "zipline": Profile(fill="next_close", lot=1, lot_rounding="down", afford="allow"),
    "bt": Profile(fill="same_close", afford="allow"),
    "ml4t": Profile(afford="reject"),
    "backtesting": Profile(sizing="fill", lot=1, lot_rounding="down"),
}
"""The profiles by name. `tests/peers` holds each of them against the engine that it is named after."""


def _known(name: str) -> str:
    base, *changes = name.split("+")
    if base not in PROFILES:
        raise fault(f"{name!r} is not allowed: {nearest(base, PROFILES)}")
    if wrong := [each for each in changes if each.partition("=")[0] not in SWITCHES]:
        raise fault(f"{wrong[0]!r} is no switch of a profile with its value: {nearest(wrong[0], SWITCHES)}")
    return name


ProfileName = Annotated[str, AfterValidator(_known)]
"""A profile, also with changes: ``zipline+fill=next_open+limits.lot=100``."""


def switches_of(name: str) -> dict[str, Any]:
    """Return the switches that a profile's name means, by their dotted paths."""
    base, *changes = name.split("+")
    given: dict[str, Any] = {path: value for path, _, value in (each.partition("=") for each in changes)}
    with suppress(KeyError, ValueError):  # the field at which it will stand says what is wrong with it
        given["limits.lot"] = float(given["limits.lot"])
    return {**dict(zip(SWITCHES, PROFILES[base][1:], strict=True)), **given}


def named(name: str, switches: Mapping[str, Any]) -> str:
    """Return the name of the same profile with the changes, and no others, that give it these switches.

    A switch that is missing, or takes several values, is as the name has it.
    """
    base = name.partition("+")[0]
    single = {path: each for path, each in switches.items() if isinstance(each, (str, int, float))}
    now = {**switches_of(name), **single}
    changed = (path for path, usual in switches_of(base).items() if now[path] != usual)
    return "+".join([base, *(f"{path}={now[path]}".removesuffix(".0") for path in changed)])


def profile_of(spec: Any) -> str:
    """Return the full name of a concrete specification's profile: ``zipline+fill=next_open``."""
    return named(spec.profile, {path: attrgetter(path)(spec) for path in SWITCHES})


def with_switches(given: Mapping[str, Any], walks: bool) -> Mapping[str, Any]:
    """Return what a user gave for a backtest, and where that says nothing, the switches of its profile.

    Parameters
    ----------
    given : mapping
        The fields of a `Trading` before they are read.
    walks : bool
        Whether several profiles may stand there. Switches in which they differ become axes that are zipped
        with the profile, and single switches that the user gave become a part of the profiles' names.
    """
    profile = given.get("profile")
    names = (profile,) if isinstance(profile, str) else _several(profile) if walks else ()
    if not names or not all(isinstance(name, str) and name.partition("+")[0] in PROFILES for name in names):
        return given
    rows = [switches_of(name) for name in names]
    told = {path: tuple(row[path] for row in rows) for path in SWITCHES}
    usual = {path: Axis(values) if len({*values}) > 1 else values[0] for path, values in told.items()}
    added: dict[str, Any] = {}
    if len(names) > 1:
        own = _own(given)
        free = [path for path in usual if isinstance(usual[path], Axis) and path not in own]
        added["profile"] = Axis(tuple(named(name, own) for name in names))
        added["zip"] = _zipped(given.get("zip", ()), free)
    limits = {path.removeprefix("limits."): value for path, value in usual.items() if "." in path}
    outer = {path: value for path, value in usual.items() if "." not in path}
    return {**outer, **given, **added, "limits": _filled(given.get("limits", {}), limits)}


def _several(given: Any) -> tuple[Any, ...]:
    """Return the values of an axis, in Python or in a file."""
    given = given["axis"] if isinstance(given, Mapping) and [*given] == ["axis"] else given
    return values_of(given) if isinstance(given, Axis) else tuple(given) if isinstance(given, list) else ()


def _own(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the switches that the user gave."""
    limits = _said(given.get("limits", {}))
    if _several(limits):
        raise fault("profile and limits cannot both be alternatives: give limits as one mapping")
    inside = limits if isinstance(limits, Mapping) else {}
    flat = {**given, **{f"limits.{name}": value for name, value in inside.items()}}
    return {path: flat[path] for path in SWITCHES if path in flat}


def _said(limits: Any) -> Any:
    """Return limits as a mapping of what they say, where they are some."""
    if not isinstance(limits, Spec):
        return limits
    return {name: getattr(limits, name) for name in limits.model_fields_set}


def _filled(limits: Any, usual: Mapping[str, Any]) -> Any:
    """Return limits, or alternatives of them, with what they do not say."""
    if several := _several(limits):
        return Axis(tuple(_filled(each, usual) for each in several))
    said = _said(limits)
    return {**usual, **said} if isinstance(said, Mapping) else limits


def _zipped(groups: Any, free: list[str]) -> Any:
    """Return groups of columns with some more that are walked with the profile."""
    if not free or not isinstance(groups, (list, tuple)):
        return groups
    listed = [groups] if groups and isinstance(groups[0], str) else [*groups]
    with_it = [isinstance(group, (list, tuple)) and "profile" in group for group in listed]
    more = [] if any(with_it) else [["profile", *free]]
    return [[*each, *free] if yes else each for each, yes in zip(listed, with_it, strict=True)] + more
