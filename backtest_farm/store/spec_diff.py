"""Where two frozen specs differ, for people."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")
_SAID_ELSEWHERE = {"sweep_id", "panel_ref.path"}


def spec_difference(old_json: str, new_json: str, most: int = 20) -> list[str]:
    """Return the differing keys of two JSON texts as lines ``costs.commission_bps: 5 -> 10``.

    Digests follow from other things, so they are shown only where nothing else differs: by 12 digits.

    Parameters
    ----------
    old_json, new_json : str
        The texts.
    most : int
        No more lines than this; one more then says how many are left out.
    """
    old, new = (_leaves("", json.loads(text)) for text in (old_json, new_json))
    paths = sorted((old.keys() | new.keys()) - _SAID_ELSEWHERE)
    differing = [path for path in paths if old.get(path) != new.get(path)]
    plain = [path for path in differing if not _DIGEST.search(f"{old.get(path)} {new.get(path)}")]
    lines = [
        f"{path.removeprefix('sweep.')}: {_show(old, path)} -> {_show(new, path)}"
        for path in plain or differing
    ]
    rest = len(lines) - most
    return lines if rest <= 0 else [*lines[:most], f"and {rest} more"]


def _leaves(path: str, value: Any) -> dict[str, str]:
    # As JSON texts, in which true is not 1 although Python thinks so.
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(_given(value), ensure_ascii=False)}
    below = (_leaves(f"{path}.{key}" if path else key, item) for key, item in value.items())
    return dict(itertools.chain.from_iterable(leaves.items() for leaves in below))


def _given(value: Any) -> Any:
    """Return a value without the keys of its mappings that were not given."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


def _show(leaves: dict[str, str], path: str) -> str:
    text = _DIGEST.sub(r"\1", leaves.get(path, "(absent)"))
    return text if len(text) <= 80 else f"{text[:77]}..."
