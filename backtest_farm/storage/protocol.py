"""What a study needs of the place it is kept in: files that are made, read and removed, and never changed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Protocol

from backtest_farm.errors import InputError, StoreError

# Inside the classes below, `list` is a method.
Names = list[str]


class AlreadyExists(StoreError):
    """A file of that name is there already; nothing was written."""


class Missing(StoreError):
    """No file of that name is there."""


class Storage(Protocol):
    """Create-only storage of named byte strings.

    Names are relative, with ``/`` between folders (``fragments/a.arrow``). A file is either there in full or
    not there at all, and never changes. That is all that a study asks, so that a local folder and an object
    store with create-only puts can serve it alike.
    """

    @property
    def uri(self) -> str:
        """Where this is, in the form that `open_storage` takes in any process."""
        ...

    def put_new(self, name: str, data: bytes) -> None:
        """Create `name` with content `data`, durably and all at once.

        Raises
        ------
        AlreadyExists
            If `name` is there already, whatever it holds, and by then as durably as if it had been put now.
            Of several racing writers exactly one succeeds.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return the content of `name`.

        Raises
        ------
        Missing
            If `name` is not there.
        """
        ...

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return the sorted names that start with `prefix`; any `limit` of them when there are more."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes, in bytes, of the files whose names start with `prefix`, by names."""
        ...

    def remove(self, name: str) -> None:
        """Remove `name`, if it is there: for files that nothing needs any more."""
        ...

    def hold(self, *, alone: bool) -> AbstractContextManager[None]:
        """Be one of several users, or the only one, while the context lasts; a process that dies lets go.

        Readers need not hold anything.

        Raises
        ------
        StoreError
            At once, if somebody else is there already and one of the two wants to be alone.
        """
        ...


def refuse_strange(name: str, uri: str) -> tuple[str, ...]:
    """Return the parts of a name.

    Raises
    ------
    InputError
        If it is not relative, or a part of it is hidden.
    """
    parts = PurePosixPath(name).parts
    # An absolute name's first part is "/"; a part with a leading dot is hidden, or leads out.
    if not parts or any(part.startswith((".", "/")) for part in parts):
        raise InputError(
            f"{name!r} is not a name inside {uri}", hint="names are relative and have no hidden parts"
        )
    return parts
