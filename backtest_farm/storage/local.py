"""A folder of a local or shared file system as create-only storage."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from backtest_farm.errors import StoreError
from backtest_farm.storage.protocol import AlreadyExists, Missing, Names, refuse_strange

_LOCK = ".lock"
_CHUNK_BYTES = 2**20
_settled: WeakKeyDictionary[Any, set[Path]] = WeakKeyDictionary()
"""By system, the folders that are known to survive a crash, so that they are synced once a process."""


class LocalStorage:
    """Files under one folder, each written once.

    A file is written under a hidden temporary name, synced, then linked to its name: ``link`` refuses to
    replace, also between processes and on NFS, and a crash at any point leaves either no file or all of it.
    Hidden names (a leading dot) are never listed, so that torn temporary files stay out of sight.

    Parameters
    ----------
    folder : str or path
        Where the files lie.
    system : module
        What has the calls of `os` that are used here: tests put a disk below that loses what was not synced.
    """

    def __init__(self, folder: str | os.PathLike[str], system: Any = os) -> None:
        self.folder = Path(os.path.expanduser(folder)).absolute()
        self._system = system

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    @property
    def uri(self) -> str:
        """The folder's absolute path, which every process of this machine understands."""
        return str(self.folder)

    def put_new(self, name: str, data: bytes) -> None:
        """Create `name` with content `data`; see `Storage.put_new`."""
        target = self._path(name)
        hint = "check space and rights; the file system must know hard links, as local disks and NFS do"
        with _clear(target, "written", hint):
            try:
                self._make_folder(target.parent)
            except (FileExistsError, NotADirectoryError) as error:
                hint = "give another place"
                raise StoreError(f"{target.parent} is no folder: {error}", hint=hint) from None
            try:
                self._put(target, data, self._system.link)
            except FileExistsError:
                # Its writer may not have synced the folder yet, or failed to. Whoever is told that a file is
                # there counts on it; and as after a failed sync the next one proves nothing, it gets its
                # name anew, with the same bytes.
                self._put(target, self._read(target), self._system.replace)
                raise AlreadyExists(f"{target} exists already and is never replaced") from None

    def read(self, name: str) -> bytes:
        """Return the content of `name`; see `Storage.read`."""
        target = self._path(name)
        with _clear(target, "read"):
            try:
                return self._read(target)
            except (FileNotFoundError, NotADirectoryError):
                raise Missing(f"{target} is not there") from None

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return the sorted names that start with `prefix`; see `Storage.list`."""
        with _clear(self.folder, "listed"):
            return sorted(itertools.islice(self._names(prefix), limit))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the files that start with `prefix`; see `Storage.sizes`."""
        found = {}
        with _clear(self.folder, "listed"):
            for name in self._names(prefix):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found[name] = self._system.stat(os.path.join(self.folder, name)).st_size
        return found

    def path_of(self, name: str) -> Path | None:
        """Return where `name` can be mapped into memory, or None where only `read` knows it."""
        return self._path(name) if self._system is os else None

    def remove(self, name: str) -> None:
        """Remove `name`; see `Storage.remove`."""
        target = self._path(name)
        with _clear(target, "removed"), contextlib.suppress(FileNotFoundError):
            self._system.unlink(target)

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[None]:
        """Use the folder with others or alone; see `Storage.hold`."""
        # Whoever shares only reads the lock's file, so that it may be another user's.
        how, kind = (os.O_RDWR, fcntl.LOCK_EX) if alone else (os.O_RDONLY, fcntl.LOCK_SH)
        with contextlib.ExitStack() as undo:
            try:
                handle = self._system.open(self.folder / _LOCK, how | os.O_CREAT, 0o666)
                undo.callback(self._system.close, handle)
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

    def _put(self, target: Path, data: bytes, give_name: Callable[[Path, Path], None]) -> None:
        """Write a temporary file, give it its name, and make both durable."""
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
        try:
            handle = self._system.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                left = memoryview(data)
                while left:
                    left = left[self._system.write(handle, left) :]
                self._system.fsync(handle)
            finally:
                self._system.close(handle)
            give_name(temporary, target)
            sync_folder(target.parent, self._system)
        finally:
            with contextlib.suppress(OSError):
                self._system.unlink(temporary)

    def _read(self, target: Path) -> bytes:
        handle = self._system.open(target, os.O_RDONLY)
        try:
            return b"".join(iter(lambda: self._system.read(handle, _CHUNK_BYTES), b""))
        finally:
            self._system.close(handle)

    def _make_folder(self, folder: Path) -> None:
        """Make sure that a folder and all above it are there, and are still there after a crash."""
        settled = _settled.setdefault(self._system, set())
        there = self._mode(folder) is not None
        if (there and folder in settled) or folder == folder.parent:
            return
        self._make_folder(folder.parent)
        if not there:
            with contextlib.suppress(FileExistsError):  # another writer was faster
                self._system.mkdir(folder)
        try:
            # Also one that is there: who made it may have been stopped before the sync.
            sync_folder(folder.parent, self._system)
        except OSError as error:
            if not there:
                # Whoever tries again has to make it again: see `put_new` on syncs that failed.
                with contextlib.suppress(OSError):
                    self._system.rmdir(folder)
            if not (there and isinstance(error, PermissionError)):
                raise
        settled.add(folder)

    def _names(self, prefix: str) -> Iterator[str]:
        # Only the folder part of the prefix is walked: a log is listed without looking at fragments.
        root = self.folder / prefix.rpartition("/")[0]
        if stat.S_ISREG(self._mode(root) or 0):
            raise StoreError(f"{root} is a file, not a folder", hint="give the folder of a study")
        for place, folders, files in self._system.walk(root, onerror=_refuse):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                # Cut from the text: a Path for each of a million fragments takes seconds.
                name = os.path.join(place, file)[len(str(self.folder)) + 1 :]
                if name.startswith(prefix) and not file.startswith("."):
                    yield name

    def _mode(self, place: Path) -> int | None:
        try:
            return self._system.stat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _path(self, name: str) -> Path:
        return self.folder.joinpath(*refuse_strange(name, self.uri))


@contextlib.contextmanager
def _clear(place: Path, what: str, hint: str = "check rights and the disk") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{place} could not be {what}: {error}", hint=hint) from error


def _refuse(error: OSError) -> None:
    # What cannot be listed is not empty: a study would look new.
    if not isinstance(error, FileNotFoundError):
        raise error


def sync_folder(folder: Path, system: Any = os) -> None:
    """Make the names in `folder` durable: a new file survives a crash only when its folder was synced too."""
    handle = system.open(folder, os.O_RDONLY)
    try:
        system.fsync(handle)
    finally:
        system.close(handle)
