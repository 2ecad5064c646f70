"""Blocks: files that hold fields, each field's values in one piece to be mapped, aligned and checked.

Nothing here parses a file format: offsets and checksums come from the snapshot.
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backtest_farm.cache import cache_root
from backtest_farm.errors import PanelError
from backtest_farm.ingest.report import KINDS


def damaged(message: str, faults: Sequence[str] = ()) -> PanelError:
    """Return the error that says that a panel's files are not what was written, and what to do."""
    return PanelError(message, faults=faults, hint=KINDS["damaged_file"].advice)


class Body(NamedTuple):
    """Where one field's values lie in a file.

    Attributes
    ----------
    offset, bytes : int
        Start, a multiple of 64, and length.
    crc32 : int
        The Parquet page checksum, which is that of the values.
    """

    offset: int
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Block:
    """One Parquet file of a panel: its path, its size in bytes, its sha256, and its fields."""

    path: Path
    size: int
    sha256: str
    bodies: Mapping[str, Body]
    _mapped: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _sound: set[Path] = field(default_factory=set, repr=False, compare=False)

    def map(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """Return a field's values as a read-only, aligned (n_bars, n_assets) view of the file, uncopied.

        Raises
        ------
        PanelError
            If a checksum of the file differs; all damaged fields are listed.
        """
        if name not in self._mapped:
            self._check_once()
            file = np.memmap(self.path, dtype="<f8", mode="r", offset=self.bodies[name].offset, shape=shape)
            # A plain ndarray (its base is the mapping) takes numba's fast dispatch; the subclass does not.
            self._mapped[name] = file.view(np.ndarray)
        return self._mapped[name]

    def check_size(self) -> None:
        """Refuse a missing or truncated file before anything maps it: reading past its end would kill the
        process.

        Raises
        ------
        PanelError
            If the file is missing or has another size.
        """
        try:
            found = self.path.stat().st_size
        except FileNotFoundError:
            raise damaged(f"{self.path} is missing, but the snapshot needs it") from None
        if found != self.size:
            raise damaged(f"{self.path} has {found:,} bytes instead of {self.size:,}: it was cut or changed")

    def check_bytes(self) -> None:
        """Read the whole file and compare its hash.

        Raises
        ------
        PanelError
            If the file is missing, or any of its bytes changed.
        """
        self.check_size()
        found = file_sha256(self.path)
        if found != self.sha256:
            raise damaged(f"its bytes changed: sha256 {found[:16]}… instead of {self.sha256[:16]}…")

    def check_unchanged(self) -> None:
        """Make sure that the values are what was written; they are read where size or time of the file
        changed since.

        Raises
        ------
        PanelError
            If the file is missing or cut, or any value changed.
        """
        self.check_size()
        self._check_once()

    def _check_once(self) -> None:
        """Compare the values of all fields with their page checksums, once per node and state of the file."""
        stamp = self._stamp()
        if stamp in self._sound or stamp.exists():
            self._sound.add(stamp)
            return
        file = np.memmap(self.path, dtype=np.uint8, mode="r")
        faults = []
        for name, body in self.bodies.items():
            found = zlib.crc32(file[body.offset : body.offset + body.bytes].data)
            if found != body.crc32:
                faults.append(f"field {name!r}: checksum {found:08x} instead of {body.crc32:08x}")
        if faults:
            raise damaged(f"{self.path} is damaged", faults)
        self._sound.add(stamp)
        # Without a writable cache folder every process checks for itself: slower, not wrong.
        with contextlib.suppress(OSError):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()

    def _stamp(self) -> Path:
        state = self.path.stat()
        checked = zlib.crc32("\n".join(sorted(self.bodies)).encode())
        numbers = (checked, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        return cache_root() / "verified" / "-".join([self.path.stem, *(f"{number:x}" for number in numbers)])


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
