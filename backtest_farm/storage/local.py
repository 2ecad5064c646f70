"""A folder of a local or shared file system as create-only storage."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from backtest_farm.errors import InputError, StoreError
from backtest_farm.storage.protocol import AlreadyExists, Missing, Names

_LOCK = ".lock"


class LocalStorage:
    """Files under one folder, each written once.

    A file is written under a hidden temporary name, synced, then linked to its name: ``link`` refuses to
    replace, also between processes and on NFS, and a crash at any point leaves either no file or all of it.
    Hidden names (a leading dot) are never listed, so that torn temporary files stay out of sight.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.expanduser(folder)).absolute()

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    @property
    def uri(self) -> str:
        """The folder's absolute path, which every process of this machine understands."""
        return str(self.folder)

    def put_new(self, name: str, data: bytes) -> None:
        """Create `name` with content `data`; see `Storage.put_new`."""
        target = self._path(name)
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
        try:
            try:
                _make_folder(target.parent)
            except FileExistsError as error:
                raise StoreError(
                    f"{target.parent} is no folder: {error}", hint="give another place"
                ) from None
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)
            sync_folder(target.parent)
        except FileExistsError:
            raise AlreadyExists(f"{target} exists already and is never replaced") from None
        except OSError as error:
            hint = "check space and rights; the file system must know hard links, as local disks and NFS do"
            raise StoreError(f"{target} could not be written: {error}", hint=hint) from error
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
            hint = "check rights and the disk"
            raise StoreError(f"{target} could not be read: {error}", hint=hint) from error

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return the sorted names that start with `prefix`; see `Storage.list`."""
        return sorted(itertools.islice(self._names(prefix), limit))

    def remove(self, name: str) -> None:
        """Remove `name`; see `Storage.remove`."""
        target = self._path(name)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{target} could not be removed: {error}", hint="check rights") from error

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[None]:
        """Use the folder with others or alone; see `Storage.hold`."""
        # Whoever shares only reads the lock's file, so that it may be another user's.
        how, kind = (os.O_RDWR, fcntl.LOCK_EX) if alone else (os.O_RDONLY, fcntl.LOCK_SH)
        with contextlib.ExitStack() as undo:
            try:
                handle = os.open(self.folder / _LOCK, how | os.O_CREAT, 0o666)
                undo.callback(os.close, handle)
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                what = "a sweep or a compaction is" if alone else "a compaction is"
                hint = "wait until it has ended, or stop it"
                raise StoreError(f"{what} at work in {self.folder}", hint=hint) from None
            except OSError as error:
                # Where locking is not possible nobody can be alone, so that sharing needs no lock.
                if alone or error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EROFS):
                    hint = "check rights; the file system must know locks"
                    raise StoreError(f"{self.folder} could not be locked: {error}", hint=hint) from error
            yield

    def _names(self, prefix: str) -> Iterator[str]:
        # Only the folder part of the prefix is walked: a log is listed without looking at fragments.
        root = self.folder / prefix.rpartition("/")[0]
        if root.is_file():
            raise StoreError(f"{root} is a file, not a folder", hint="give the folder of a study")
        for place, folders, files in os.walk(root):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                # Cut from the text: a Path for each of a million fragments takes seconds.
                name = os.path.join(place, file)[len(str(self.folder)) + 1 :]
                if name.startswith(prefix) and not file.startswith("."):
                    yield name

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        # An absolute name's first part is "/"; a part with a leading dot is hidden, or leads out.
        if not parts or any(part.startswith((".", "/")) for part in parts):
            hint = "names are relative and have no hidden parts"
            raise InputError(f"{name!r} is not a name inside {self.folder}", hint=hint)
        return self.folder.joinpath(*parts)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a new file survives a crash only when its folder was synced too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
