"""From what a person writes as a place to the storage that serves it."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from backtest_farm.errors import InputError, nearest
from backtest_farm.storage.local import LocalStorage
from backtest_farm.storage.protocol import Storage
from backtest_farm.storage.s3 import S3Storage

SCHEMES = ("file", "s3")


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """Return the storage at `place`; nothing is created before the first write.

    Parameters
    ----------
    place : str or path
        A folder (``~`` is understood), a ``file://`` URI, or ``s3://bucket/prefix``.

    Raises
    ------
    InputError
        If it is no place at all, or the URI's scheme is not known.
    """
    if not isinstance(place, str | os.PathLike):
        raise InputError(
            f"{place!r} is no place for a study", hint="give the path of a folder, as text or Path"
        )
    text = os.fspath(place)
    if "://" not in text:
        return LocalStorage(text)
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        hint = nearest(parts.scheme, SCHEMES)
        raise InputError(f"{text}: storage of kind {parts.scheme!r} is not known", hint=hint)
    if parts.scheme == "s3":
        return S3Storage(text)
    if parts.netloc not in ("", "localhost"):
        hint = "write file:///path with three slashes"
        raise InputError(f"{text}: a file is on this machine, not on {parts.netloc!r}", hint=hint)
    return LocalStorage(unquote(parts.path))
