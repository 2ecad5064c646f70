"""What people read when a specification is wrong: where, what stands there, and what may stand there.

Validators leave pydantic's own errors alone. They are put into words once, at the end: each error's place is
walked through the model's JSON schema, which holds every key, bound and name that is allowed there.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from backtest_farm.errors import InputError, nearest

Place = tuple[int | str, ...]
"""Where a fault lies: field names, and the index of a value within an axis."""

LineOf = Callable[[Place], int]
"""Turns a place into a line of a file, counted from 1."""

_WORDS = {
    "integer": "a whole number",
    "number": "a finite number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "date": "a date such as 2017-10-31",
    "date-time": "a time such as 2017-10-31T09:30:00 (UTC)",
}
_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NUMBER = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
shown = _short.repr
"""Returns a value as messages quote it."""


def fault(text: str) -> PydanticCustomError:
    """Return the error by which a validator says `text`."""
    # The text goes in as data: braces in a user's value must not be read as a template.
    return PydanticCustomError("spec", "{text}", {"text": text})


def refused(model: type[BaseModel], error: ValidationError, title: str, line_of: LineOf | None) -> InputError:
    """Return what tells a person of all faults at once, in the order of their lines where these are known."""
    schema = model.model_json_schema()
    # A union gives one error for each of its members, all with the same place and text.
    return faulty(dict(_worded(schema, item) for item in error.errors(include_url=False)), title, line_of)


def reworded(model: type[BaseModel], error: ValidationError) -> ValidationError:
    """Return an error of a model that no other model's schema knows, put into words already."""
    schema = model.model_json_schema()
    found = dict(_worded(schema, item) for item in error.errors(include_url=False))
    lines = [InitErrorDetails(type=fault(text), loc=place, input=None) for place, text in found.items()]
    return ValidationError.from_exception_data(model.__name__, lines)


def faulty(found: Mapping[Place, str], title: str, line_of: LineOf | None) -> InputError:
    """Return the error that tells what is wrong at each of some places."""
    faults = []
    for place in sorted(found, key=line_of) if line_of else found:
        line = f"{title}:{line_of(place)}" if line_of else ""
        faults.append(": ".join(filter(None, (line, dotted(place), found[place]))))
    return InputError(f"{title} is not valid", faults=faults)


def dotted(place: Place) -> str:
    """Return a place as people write it: ``strategy.n[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _worded(schema: Mapping[str, Any], item: ErrorDetails) -> tuple[Place, str]:
    """Return the place of one error as a person knows it, and what to say there."""
    here, keys = schema, schema["properties"]
    place: list[int | str] = []
    for part in item["loc"]:
        if isinstance(part, int) and item["type"] != "invalid_key":
            place.append(part)
            here = here.get("items", here)
        elif "properties" in here:
            keys = here["properties"]
            here = keys.get(str(part), {})
            place.append(str(part))
        elif part in here.get("discriminator", {}).get("mapping", ()):
            # The tag by which pydantic chose one of several models: nobody wrote it as a key.
            here = {"$ref": here["discriminator"]["mapping"][part]}
        elif "discriminator" in here:
            # A parameter of a class of the user's, which no schema here knows.
            here = {}
            place.append(str(part))
        here = _meant(schema, here)
    value = item["input"]
    if item["type"].startswith("union_tag"):
        known, value = here["discriminator"], item["ctx"].get("tag")
        here = {"enum": [*known["mapping"]]}
        place.append(known["propertyName"])
    if item["type"] == "spec":
        text = item["msg"]
    elif not here:
        text = f"unknown key: {nearest(str(place[-1]), keys)}"
    elif item["type"] in ("missing", "union_tag_not_found"):
        text = f"is missing: give {allowed(here)}"
    else:
        text = refusal(value, here)
    return tuple(place), text


def _meant(schema: Mapping[str, Any], here: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema behind a reference, also where it may be left out: the model or nothing."""
    options = [option for option in here.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        here = options[0]
    return schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here


def refusal(value: Any, schema: Mapping[str, Any]) -> str:
    """Say that `value` is not allowed, what is, and which name may have been meant."""
    names = _names(schema)
    if names and "anyOf" not in schema:
        return f"{shown(value)} is not allowed: {nearest(str(value), names)}"
    text = f"{shown(value)} is not allowed: give {allowed(schema)}"
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return f"{text}, without quotes"
    if isinstance(value, str) and names:
        return f"{text}; {nearest(value, names)}"
    if isinstance(value, (list, tuple)) and value and schema.get("type") != "object":
        return f"{text}; several values are written axis([...])"
    return text


def allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema takes."""
    if "anyOf" in schema:
        return " or ".join(allowed(option) for option in schema["anyOf"] if option.get("type") != "null")
    if names := _names(schema):
        return " or ".join(repr(name) for name in names)
    if "discriminator" in schema:
        known = schema["discriminator"]
        return f"a mapping with {known['propertyName']}: {' or '.join(known['mapping'])}"
    if "properties" in schema:
        return f"a mapping with the keys {', '.join(schema['properties'])}"
    word = _WORDS.get(schema.get("format", schema.get("type")), "another value")
    if "minimum" in schema and "maximum" in schema:
        return f"{word} from {schema['minimum']:,} to {schema['maximum']:,}"
    return word + "".join(f" {sign} {schema[key]:,}" for key, sign in _SIGNS.items() if key in schema)


def _names(schema: Mapping[str, Any]) -> list[str]:
    """Return all values that a JSON schema lists by name."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum") or [name for option in schema.get("anyOf", ()) for name in _names(option)]
