"""A disk that forgets at a crash what was not synced, and fails when it is told to.

`SimulatedDisk` has the calls of `os` that `LocalStorage` makes, and stands in its place. What the calls show
is the cache; beside it every file and folder knows what may be on the disk. A crash keeps of all that was not
synced any part: torn and zeroed pages of files, names in folders one by one and in any order. After a sync
that failed nothing syncs what was changed before it any more, though later syncs report success.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

PAGE = 64
"""Bytes that are kept or lost together; real ones are larger, and so are real files."""


@dataclass
class File:
    """Content as it is seen, as it is surely on the disk, and whether a sync of it has failed since."""

    seen: bytes = b""
    synced: bytes = b""
    failed: bool = False

    def sync(self) -> None:
        if not self.failed:
            self.synced = self.seen

    def fail(self) -> None:
        self.failed = self.failed or self.seen != self.synced

    def after_crash(self, rng: Random, kept: dict[int, Any]) -> File:
        if id(self) not in kept:
            data = self.synced
            if self.seen != self.synced:
                kind = rng.randrange(4)
                if kind == 1:
                    data = self.seen
                elif kind == 2:
                    data = self.seen[: rng.randint(0, len(self.seen))]
                elif kind == 3:
                    pages = [self.seen[at : at + PAGE] for at in range(0, len(self.seen), PAGE)]
                    data = b"".join(rng.choice([page, bytes(len(page))]) for page in pages)
            kept[id(self)] = File(data, data)
        return kept[id(self)]


@dataclass
class Folder:
    """Names as they are seen, and for each what it may be on the disk: one thing, unless it is not synced."""

    seen: dict[str, Any] = field(default_factory=dict)
    may_be: dict[str, list[Any]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """Names changed since the last sync, failed or not."""

    def put(self, name: str, what: File | Folder | None) -> None:
        self.may_be.setdefault(name, [None]).append(what)
        self.changed.add(name)
        if what is None:
            del self.seen[name]
        else:
            self.seen[name] = what

    def sync(self) -> None:
        for name in self.changed:
            self.may_be[name] = [self.seen.get(name)]
        self.changed.clear()

    def fail(self) -> None:
        self.changed.clear()

    def after_crash(self, rng: Random, kept: dict[int, Any]) -> Folder:
        folder = Folder()
        for name in sorted(self.may_be):
            what = rng.choice(self.may_be[name])
            if what is not None:
                left = what.after_crash(rng, kept)
                folder.seen[name], folder.may_be[name] = left, [left]
        return folder


class SimulatedDisk:
    """A file system in memory; see above.

    Parameters
    ----------
    room : int, optional
        Bytes that fit on it.

    Attributes
    ----------
    calls : list of str
        What was called, in order: the n-th call is the n-th of these.
    faults : dict of int to int
        Calls that fail, by number, with this errno. They fail before they have done anything, or, where it is
        negative, afterwards; a write is cut short, a sync loses what it should have kept.
    before : callable
        Is told the number and name of each call before it happens.
    """

    def __init__(self, room: int | None = None, root: Folder | None = None) -> None:
        self.root = Folder() if root is None else root
        self.room = room
        self.calls: list[str] = []
        self.faults: dict[int, int] = {}
        self.before: Callable[[int, str], None] = lambda number, name: None
        self._open: dict[int, tuple[Any, int]] = {}
        self._next_handle = 1000

    def after_crash(self, rng: Random) -> SimulatedDisk:
        """Return the disk as it may be found after a crash now; this one goes on."""
        return SimulatedDisk(root=self.root.after_crash(rng, {}))

    # --- calls of `os` ------------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        late = self._call("open")
        parent, name = self._place(path)
        found = parent.seen.get(name) if name else parent
        if name == ".lock":
            return os.memfd_create("lock")  # locks are not simulated: each has its own
        if found is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
            self._take_room(1)
            found = File()
            parent.put(name, found)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        late()
        self._next_handle += 1
        self._open[self._next_handle] = found, 0
        return self._next_handle

    def close(self, handle: int) -> None:
        if self._open.pop(handle, None) is None:
            os.close(handle)

    def write(self, handle: int, data: Any) -> int:
        file, _ = self._open[handle]
        try:
            late = self._call("write")
            data = bytes(data)
            part = min(len(data), 4 * PAGE)  # a long write is a few
            self._take_room(part)
        except OSError:
            file.seen += bytes(data)[: len(data) // 2]
            raise
        file.seen += data[:part]
        late()
        return part

    def fsync(self, handle: int) -> None:
        what, _ = self._open[handle]
        try:
            late = self._call("fsync of a file" if isinstance(what, File) else "fsync of a folder")
        except OSError:
            what.fail()
            raise
        what.sync()
        late()

    def read(self, handle: int, n: int) -> bytes:
        late = self._call("read")
        file, at = self._open[handle]
        if isinstance(file, Folder):
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        self._open[handle] = file, at + n
        late()
        return file.seen[at : at + n]

    def link(self, old: Any, new: Any) -> None:
        late = self._call("link")
        (source, name), (target, new_name) = self._place(old), self._place(new)
        if new_name in target.seen:
            raise FileExistsError(errno.EEXIST, "File exists", str(new))
        target.put(new_name, source.seen[name])
        late()

    def replace(self, old: Any, new: Any) -> None:
        late = self._call("replace")
        (source, name), (target, new_name) = self._place(old), self._place(new)
        target.put(new_name, source.seen[name])
        source.put(name, None)
        late()

    def unlink(self, path: Any) -> None:
        late = self._call("unlink")
        parent, name = self._place(path)
        if name not in parent.seen:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        if isinstance(parent.seen[name], Folder):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        parent.put(name, None)
        late()

    def mkdir(self, path: Any) -> None:
        late = self._call("mkdir")
        parent, name = self._place(path)
        if name in parent.seen:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        self._take_room(1)
        parent.put(name, Folder())
        late()

    def rmdir(self, path: Any) -> None:
        late = self._call("rmdir")
        parent, name = self._place(path)
        if parent.seen[name].seen:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        parent.put(name, None)
        late()

    def stat(self, path: Any) -> SimpleNamespace:
        late = self._call("stat")
        parent, name = self._place(path)
        found = parent.seen.get(name) if name else parent
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        late()
        if isinstance(found, Folder):
            return SimpleNamespace(st_mode=stat.S_IFDIR | 0o755, st_size=0)
        return SimpleNamespace(st_mode=stat.S_IFREG | 0o644, st_size=len(found.seen))

    def walk(
        self, top: Any, onerror: Callable[[OSError], None] | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        try:
            late = self._call("list")
            parent, name = self._place(top)
            found = parent.seen.get(name) if name else parent
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "No such file", str(top))
            late()
        except OSError as error:
            if onerror:
                onerror(error)
            return
        folders = [name for name, what in found.seen.items() if isinstance(what, Folder)]
        yield str(top), folders, [name for name, what in found.seen.items() if isinstance(what, File)]
        for name in folders:
            yield from self.walk(os.path.join(top, name), onerror)

    # --- below --------------------------------------------------------------------------------------------

    def _call(self, name: str) -> Callable[[], None]:
        """Count a call, and fail it; what is returned fails it afterwards."""
        number = len(self.calls)
        self.calls.append(name)
        self.before(number, name)
        code = self.faults.get(number, 0)
        error = OSError(abs(code), os.strerror(abs(code))) if code else None
        if error and code > 0:
            raise error

        def late() -> None:
            if error:
                raise error

        return late

    def _place(self, path: Any) -> tuple[Folder, str]:
        """Return the folder that a path's last part is in, and that part; no part for the root."""
        *above, name = str(path).strip("/").split("/")
        folder = self.root
        for part in above:
            found = folder.seen.get(part)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            if not isinstance(found, Folder):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
            folder = found
        return folder, name

    def _take_room(self, n: int) -> None:
        if self.room is not None:
            if self.room < n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= n
