"""Where two frozen specs differ, for people."""

from __future__ import annotations

import json
from typing import Any

_NOTHING = object()


def spec_difference(old_json: str, new_json: str, most: int = 20) -> list[str]:
    """Return the differing keys of two JSON texts as lines ``costs.commission_bps: 5 -> 10``.

    Parameters
    ----------
    old_json, new_json : str
        The texts.
    most : int
        No more lines than this; one more then says how many are left out.
    """
    lines = _walk("", json.loads(old_json), json.loads(new_json))
    rest = len(lines) - most
    return lines if rest <= 0 else [*lines[:most], f"and {rest} more"]


def _walk(path: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _walk(
                f"{path}.{key}" if path else key, old.get(key, _NOTHING), new.get(key, _NOTHING)
            )
        ]
    # True == 1 in Python, but not in a spec.
    if type(old) is type(new) and old == new:
        return []
    return [f"{path}: {_show(old)} -> {_show(new)}"]


def _show(value: Any) -> str:
    if value is _NOTHING:
        return "(absent)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
