"""From what validators raise to the lines that people read: file, line, dotted path, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

Place = tuple[int | str, ...]
"""Where a fault lies: field names, and the index of a value within an axis."""


def fault(text: str) -> PydanticCustomError:
    """Return the error by which a validator says `text`."""
    # The text goes in as data: braces in a user's value must not be read as a template.
    return PydanticCustomError("spec", "{text}", {"text": text})


def faults(
    error: ValidationError, title: str = "", line_of: Callable[[Place], int] | None = None
) -> list[str]:
    """Return one text per fault: where it lies and what is wrong with it; by line if lines are known."""
    found = []
    for item in error.errors(include_url=False):
        where = dotted(item["loc"])
        text = f"{where}: {item['msg']}" if where else item["msg"]
        found.append((line_of(item["loc"]), text) if line_of else (0, text))
    found.sort(key=lambda fault: fault[0])
    return [f"{title}:{line}: {text}" if line else text for line, text in found]


def dotted(place: Place) -> str:
    """Return a place as people write it: ``strategy.n[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
