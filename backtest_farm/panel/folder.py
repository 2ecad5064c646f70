"""The one owner of a panel's paths: immutable blocks, immutable snapshots, the report beside them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock

from backtest_farm.errors import PanelError, nearest
from backtest_farm.ingest.report import Report
from backtest_farm.panel.block import Block, damaged, file_sha256
from backtest_farm.panel.manifest import Manifest
from backtest_farm.storage import AlreadyExists, LocalStorage, sync_folder

_PARTS = {"blocks", "snapshots", "reports", "lock"}


class PanelFolder:
    """A panel on disk.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder; it need not exist before something is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise PanelError(f"{path!r} is no place of a panel", hint="give the path of its folder")
        if "://" in os.fspath(path):
            raise PanelError(f"{path} is a URI; panels lie in folders of this machine", hint="give a path")
        # Absolute, so that a panel sent to another process is found from any working directory.
        self.path = Path(os.path.expanduser(path)).absolute()

    def names(self) -> list[str]:
        """Return the names of all snapshots, oldest first."""
        return sorted(file.stem for file in (self.path / "snapshots").glob("[0-9]*-*.json"))

    def refuse_foreign(self) -> None:
        """Make sure that a panel may be written here.

        Raises
        ------
        PanelError
            If the path holds something that is no panel.
        """
        hint = "give the path of a new folder, or of an existing panel"
        if self.path.exists() and not self.path.is_dir():
            raise PanelError(f"{self.path} is a file, a panel is a folder", hint=hint)
        foreign = sorted({item.name for item in self.path.iterdir()} - _PARTS) if self.path.is_dir() else []
        if foreign:
            raise PanelError(f"{self.path} holds something else: {', '.join(foreign[:5])}", hint=hint)

    def find(self, snapshot: str | int | None) -> str:
        """Return the full name of a snapshot: the newest, or the one with this name or number.

        Raises
        ------
        PanelError
            If there is no panel here, or no such snapshot.
        """
        names = self.names()
        if not names:
            what = "holds no snapshot" if self.path.is_dir() else "does not exist"
            raise PanelError(
                f"{self.path} is no panel: it {what}",
                hint="build one: backtest-farm panel build SOURCE PATH, or Panel.build(source, path)",
            )
        if snapshot is None:
            return names[-1]
        wanted = str(snapshot)
        for name in names:
            if name == wanted or (wanted.isdecimal() and int(wanted) == _number(name)):
                return name
        raise PanelError(f"{self.path} has no snapshot {wanted!r}: {nearest(wanted, names)}")

    def load(self, name: str) -> Manifest:
        """Return a snapshot's manifest, after checking that every file it needs has the right size."""
        text = (self.path / "snapshots" / f"{name}.json").read_bytes()
        manifest = Manifest.from_json(text, name, self.path / "blocks")
        for block in manifest.blocks:
            block.check_size()
        return manifest

    @contextlib.contextmanager
    def drafting(self) -> Iterator[Path]:
        """Lend a room for new blocks; what `commit` did not take from there is gone afterwards."""
        blocks = self.path / "blocks"
        blocks.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=blocks, prefix="writing-") as room:
                yield Path(room)
        finally:
            for folder in (blocks, self.path):
                with contextlib.suppress(OSError):  # refused data leaves no trace: an empty folder goes too
                    folder.rmdir()

    def draft_block(
        self, room: Path, timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]
    ) -> Block:
        """Write `fields` as one block file, named by its own hash, and return it as it will be."""
        # Imported here because only writing needs a Parquet library; workers open and map without one.
        from backtest_farm.panel.layout import write_block

        draft = room / "block.parquet"
        bodies = write_block(draft, timestamps, symbols, fields)
        sha256 = file_sha256(draft)
        written = draft.rename(room / f"{sha256[:32]}.parquet")
        return Block(self.path / "blocks" / written.name, written.stat().st_size, sha256, bodies)

    def commit(
        self,
        manifest: Manifest,
        room: Path | None = None,
        report: Report | None = None,
        *,
        guard: Callable[[], None] = lambda: None,
        again: bool = False,
    ) -> str:
        """Publish a snapshot and return its name; content that is already published keeps its first name.

        Parameters
        ----------
        manifest : Manifest
            The snapshot.
        room : pathlib.Path, optional
            Where its new blocks wait.
        report : Report, optional
            What reading its new data found.
        guard : callable
            Raises if the snapshot may not follow those that are there; nobody else writes meanwhile.
        again : bool
            Publish it also when its content is published: it lies in other files now.
        """
        store = LocalStorage(self.path)
        own = manifest.digest()
        published = None if again else self.published(own)
        if published:
            return published
        # Two writers must not take the same number; readers need no lock, snapshots appear whole.
        with FileLock(self.path / "lock"):
            published = None if again else self.published(own)
            if published:
                return published
            guard()
            if room is not None:
                for block in room.glob("*.parquet"):
                    block.rename(self.path / "blocks" / block.name)
                sync_folder(self.path / "blocks")
            number = 1 + max(map(_number, self.names()), default=0)
            name = f"{number:06d}-{own}"
            if report is not None:
                text = json.dumps(report.to_dict(), ensure_ascii=False)
                with contextlib.suppress(AlreadyExists):  # left by a writer that died before its snapshot
                    store.put_new(f"reports/{name}.json", text.encode())
            store.put_new(f"snapshots/{name}.json", manifest.to_json().encode())
            return name

    def published(self, own: str) -> str | None:
        """Return the name of the first snapshot with this content, None when there is none."""
        return next((name for name in self.names() if name.endswith(f"-{own}")), None)

    def refuse_other(self) -> None:
        """Make sure that there is no panel here yet.

        Raises
        ------
        PanelError
            If there is one.
        """
        if self.names():
            raise PanelError(
                f"{self.path} already holds a panel with other content (newest snapshot {self.find(None)})",
                hint="to add later bars to it: panel append PATH SOURCE, or Panel.open(path).append(source); "
                "otherwise give another path, or remove the folder if nobody needs the old panel",
            )

    def refuse_stale(self, snapshot: str) -> None:
        """Make sure that no other snapshot was published after this one.

        Raises
        ------
        PanelError
            If one was: what followed an older one would hide what it added.
        """
        newest = self.find(None)
        if newest != snapshot:
            raise PanelError(
                f"{self.path}: only the newest snapshot, {newest}, can be appended to or compacted, not "
                f"{snapshot}",
                hint="open the panel again and go on from there: Panel.open(path).append(source)",
            )

    def report(self, snapshot: str) -> Report:
        """Return the newest report up to this snapshot."""
        names = reversed([name for name in self.names() if name <= snapshot])
        files = [self.path / "reports" / f"{name}.json" for name in names]
        file = next(filter(Path.exists, files), files[-1])
        try:
            return Report.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise damaged(f"{file}, the report of the build, is not readable: {fault}") from None


def _number(name: str) -> int:
    return int(name.partition("-")[0])
