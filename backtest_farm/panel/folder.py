"""The one owner of a panel's paths: immutable blocks, immutable snapshots, the report beside them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from backtest_farm.errors import PanelError, nearest
from backtest_farm.ingest.report import Report
from backtest_farm.panel.body import RESTORE, check_size
from backtest_farm.panel.manifest import BlockFile, Manifest

_PARTS = {"blocks", "snapshots", "reports", "lock"}


class PanelFolder:
    """A panel on disk.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder; it need not exist before something is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute, so that a panel sent to another process is found from any working directory.
        self.path = Path(path).expanduser().absolute()

    def block(self, name: str) -> Path:
        """Return the path of a block file."""
        return self.path / "blocks" / name

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
                f"{self.path} is no panel: it {what}", hint="build it with Panel.build(source, path)"
            )
        if snapshot is None:
            return names[-1]
        wanted = str(snapshot)
        numbered = f"{int(wanted):06d}-" if wanted.isdecimal() else wanted
        for name in names:
            if name == wanted or (wanted.isdecimal() and name.startswith(numbered)):
                return name
        raise PanelError(f"{self.path} has no snapshot {wanted!r}: {nearest(wanted, names)}")

    def load(self, name: str) -> Manifest:
        """Return a snapshot's manifest, after checking that every file it needs has the right size."""
        try:
            text = (self.path / "snapshots" / f"{name}.json").read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise PanelError(
                f"snapshot {name} of {self.path} is not text: it was changed", hint=RESTORE
            ) from None
        manifest = Manifest.from_json(text, name)
        for file in {file.name: file for file in manifest.fields.values()}.values():
            check_size(self.block(file.name), file.size)
        return manifest

    def add_block(
        self, timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]
    ) -> BlockFile:
        """Write `fields` as one block file named by its own hash."""
        # Imported here because only writing needs a Parquet library; workers open and map without one.
        from backtest_farm.panel.layout import write_block

        for part in ("blocks", "snapshots", "reports"):
            (self.path / part).mkdir(parents=True, exist_ok=True)
        blocks = self.path / "blocks"
        with tempfile.TemporaryDirectory(dir=blocks, prefix="writing-") as room:
            draft = Path(room) / "block.parquet"
            bodies = write_block(draft, timestamps, symbols, fields)
            sha256 = file_sha256(draft)
            name = f"{sha256[:32]}.parquet"
            size = draft.stat().st_size
            draft.rename(blocks / name)
        _sync_folder(blocks)
        return BlockFile(name, size, sha256, bodies)

    def commit(self, manifest: Manifest, report: Report | None = None) -> str:
        """Publish a snapshot and return its name; content that is already published keeps its first name."""
        with self._locked():
            names = self.names()
            own = manifest.digest()
            for name in names:
                if name.endswith(f"-{own}"):
                    return name
            number = 1 + (int(names[-1].partition("-")[0]) if names else 0)
            name = f"{number:06d}-{own}"
            if report is not None:
                text = json.dumps(report.to_dict(), ensure_ascii=False)
                _put(self.path / "reports" / f"{name}.json", text)
            _put(self.path / "snapshots" / f"{name}.json", manifest.to_json())
            return name

    def report(self) -> Report:
        """Return the report of the build, which is that of the first snapshot."""
        file = self.path / "reports" / f"{self.names()[0]}.json"
        try:
            return Report.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise PanelError(
                f"{file}, the report of the build, is not readable: {fault}", hint=RESTORE
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Two writers must not take the same number; readers need no lock, snapshots appear whole.
        with (self.path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(path: Path, text: str) -> None:
    """Make `path` appear whole, or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".writing-", encoding="utf-8", delete=False
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
    path.chmod(0o644)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
