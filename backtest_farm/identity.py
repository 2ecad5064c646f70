"""Names made from content: canonical JSON and its hash.

Two values that mean the same have one canonical text: keys are sorted, ``5``, ``5.0`` and
``numpy.int64(5)`` are one number (``"5"`` is another value), ``-0.0`` is ``0``. NaN and infinities have no
JSON form and are refused, so that no key ever depends on how a library spells them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from backtest_farm.errors import InputError


def canonical(value: Any) -> Any:
    """Return `value` rebuilt from plain dicts, lists, strings, ints, floats, bools and None.

    Raises
    ------
    InputError
        If a number is not finite or a type has no canonical form.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            raise InputError(f"{number} cannot be part of a specification: give a finite number")
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    raise InputError(f"a value of type {type(value).__name__} has no canonical form: {value!r}")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_bytes(data: bytes | memoryview) -> str:
    """Return the sha256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Return the first 128 bits of the sha256 of `value`'s canonical JSON, as 32 hexadecimal digits."""
    return digest_bytes(canonical_json(value).encode())[:32]
