"""A folder of a local or shared file system as create-only storage."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from backtest_farm.errors import InputError, PlatformError, StoreError
from backtest_farm.storage.protocol import AlreadyExists, Missing, Names

# What file systems without hard links answer to link(2).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class LocalStorage:
    """Files under one folder, each written once.

    A file is written under a hidden temporary name, synced, then linked to its name: ``link`` refuses to
    replace, also between processes and on NFS, and a crash at any point leaves either no file or all of it.
    Hidden names (a leading dot) are never listed, so that torn temporary files stay out of sight.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    @property
    def uri(self) -> str:
        """The folder as a ``file://`` URI."""
        return self.folder.as_uri()

    def put_new(self, name: str, data: bytes) -> None:
        """Create `name` with content `data`; see `Storage.put_new`."""
        target = self._path(name)
        _make_folder(target.parent)
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)
            _sync_folder(target.parent)
        except FileExistsError:
            raise AlreadyExists(f"{target} exists already and is never replaced") from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise PlatformError(
                    f"{target.parent}: this file system has no hard links ({error})",
                    hint="without them files cannot be created safely: use a local disk or NFS",
                ) from error
            raise StoreError(
                f"{target} could not be written: {error}", hint="check space and rights"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def read(self, name: str) -> bytes:
        """Return the content of `name`; see `Storage.read`."""
        target = self._path(name)
        try:
            return target.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{target} is not there") from None
        except OSError as error:
            raise StoreError(
                f"{target} could not be read: {error}", hint="check rights and the disk"
            ) from error

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return the sorted names that start with `prefix`; see `Storage.list`."""
        found: Names = []
        for name in self._names(prefix):
            if limit is not None and len(found) >= limit:
                break
            found.append(name)
        return sorted(found)

    def _names(self, prefix: str) -> Iterator[str]:
        # Only the folder part of the prefix is walked: a log is listed without looking at fragments.
        start, _, stem = prefix.rpartition("/")
        root = self._path(start) if start else self.folder
        if root.is_file():
            raise StoreError(f"{root} is a file, not a folder", hint="give the folder of a study")
        for place, folders, files in os.walk(root):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            at_root = Path(place) == root
            if at_root:
                folders[:] = [folder for folder in folders if folder.startswith(stem)]
            for file in sorted(files):
                if not file.startswith(".") and (not at_root or file.startswith(stem)):
                    yield (Path(place) / file).relative_to(self.folder).as_posix()

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or any(part == ".." or part.startswith(".") for part in parts):
            raise InputError(
                f"{name!r} is not a name inside {self.folder}",
                hint="names are relative and have no hidden parts",
            )
        return self.folder.joinpath(*parts)


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(exist_ok=True)
            _sync_folder(new.parent)
        except OSError as error:
            raise StoreError(
                f"{new} could not be created: {error}", hint="check the path and its rights"
            ) from error


def _sync_folder(folder: Path) -> None:
    # A new name is durable only when the folder that holds it is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
