"""What a person reads about a field: what it takes, and what was given instead."""

from __future__ import annotations

import datetime as dt
import reprlib
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backtest_farm.errors import nearest

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_SIGNS = {"ge": ">=", "gt": ">", "le": "<="}


def shown(value: Any) -> str:
    """Return `value` as messages quote it: short, and marked when it is text that reads as a number."""
    text = _short.repr(value)
    if isinstance(value, str) and _reads_as_number(value):
        return f"{text} (text)"
    return text


def members(annotation: Any) -> list[Any]:
    """Return the alternatives of an annotation: the parts of a union, otherwise itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for option in get_args(annotation) for part in members(option)]
    return [annotation]


def choices(annotation: Any) -> list[Any]:
    """Return all values that an annotation lists by name (its literals)."""
    found: list[Any] = []
    for option in members(annotation):
        base, _ = _stripped(option, ())
        found += get_args(base) if get_origin(base) is Literal else []
    return found


def allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say in words what a field with this annotation and these constraints takes."""
    parts = [_option(*_stripped(option, metadata)) for option in members(annotation)]
    return " or ".join(dict.fromkeys(part for part in parts if part))


def refusal(value: Any, annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say that `value` is not allowed, what is, and which name may have been meant."""
    names = choices(annotation)
    if all(get_origin(option) is Literal for option in members(annotation)):
        return f"{shown(value)} is not allowed: {nearest(str(value), names)}"
    text = f"{shown(value)} is not allowed: give {allowed(annotation, metadata)}"
    if isinstance(value, str) and _reads_as_number(value):
        return f"{text}, without quotes"
    if isinstance(value, str) and names:
        return f"{text}; {nearest(value, names)}"
    return text


def _stripped(option: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:
    if get_origin(option) is typing.Annotated:
        base, *inner = get_args(option)
        for item in inner:
            metadata = [*metadata, *(item.metadata if isinstance(item, FieldInfo) else [item])]
        return base, list(metadata)
    return option, list(metadata)


def _option(kind: Any, metadata: list[Any]) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a mapping with the keys {', '.join(kind.model_fields)}"
    words = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        dt.date: "a date such as 2017-10-31",
        dt.datetime: "a time such as 2017-10-31T09:30:00 (UTC)",
        type(None): "",
    }
    word = words.get(kind, str(kind))
    return f"{word}{_bounds(metadata)}" if kind in (int, float) else word


def _bounds(metadata: list[Any]) -> str:
    limits = {name: getattr(item, name) for item in metadata for name in _SIGNS if hasattr(item, name)}
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']:,} to {limits['le']:,}"
    return "".join(f" {_SIGNS[name]} {limit:,}" for name, limit in limits.items())


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
