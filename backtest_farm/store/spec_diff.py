"""Where two frozen specs differ, for people."""

from __future__ import annotations

import itertools
import json
from typing import Any


def spec_difference(old_json: str, new_json: str, most: int = 20) -> list[str]:
    """Return the differing keys of two JSON texts as lines ``costs.commission_bps: 5 -> 10``.

    Parameters
    ----------
    old_json, new_json : str
        The texts.
    most : int
        No more lines than this; one more then says how many are left out.
    """
    old, new = (_leaves("", json.loads(text)) for text in (old_json, new_json))
    differing = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    lines = [f"{path}: {_show(old, path)} -> {_show(new, path)}" for path in differing]
    rest = len(lines) - most
    return lines if rest <= 0 else [*lines[:most], f"and {rest} more"]


def _leaves(path: str, value: Any) -> dict[str, str]:
    # As JSON texts, in which true is not 1 although Python thinks so.
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value, ensure_ascii=False)}
    below = (_leaves(f"{path}.{key}" if path else key, item) for key, item in value.items())
    return dict(itertools.chain.from_iterable(leaves.items() for leaves in below))


def _show(leaves: dict[str, str], path: str) -> str:
    text = leaves.get(path, "(absent)")
    return text if len(text) <= 80 else f"{text[:77]}..."
