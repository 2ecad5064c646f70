"""From what a person writes as a place to the storage that serves it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backtest_farm.errors import InputError, nearest
from backtest_farm.storage.local import LocalStorage
from backtest_farm.storage.protocol import Storage

SCHEMES = ("file",)


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """Return the storage at `place`; nothing is created before the first write.

    Parameters
    ----------
    place : str or path
        A folder (``~`` is understood) or a ``file://`` URI.

    Raises
    ------
    InputError
        If the URI's scheme is not known.
    """
    text = os.fspath(place)
    if "://" not in text:
        return LocalStorage(Path(text))
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise InputError(
            f"{text}: storage of kind {parts.scheme!r} is not known", hint=nearest(parts.scheme, SCHEMES)
        )
    if parts.netloc not in ("", "localhost"):
        raise InputError(
            f"{text}: a file URI names a folder of this machine, not of {parts.netloc!r}",
            hint="write file:///path with three slashes",
        )
    return LocalStorage(Path(unquote(parts.path)))
