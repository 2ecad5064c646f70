"""Snapshots: what a panel is at one moment, as one immutable JSON file.

A snapshot has two parts. ``content`` says what the panel *is* (grid, ends of life, a hash per field and
block); its digest names the snapshot, so that equal content has one name wherever it lies. ``files`` says
where the values *lie* and carries a digest of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest_farm.errors import PanelError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.ingest.grid import Ends, no_ends
from backtest_farm.panel.body import RESTORE, Body

FORMAT = 1
_UNITS = {"day": "M8[D]", "us": "M8[us]"}


@dataclass(frozen=True)
class BlockFile:
    """One Parquet file of a panel: its name in ``blocks/``, its size in bytes, its sha256, its fields."""

    name: str
    size: int
    sha256: str
    bodies: Mapping[str, Body]


@dataclass(frozen=True, eq=False)
class Manifest:
    """All that a snapshot holds.

    Attributes
    ----------
    timestamps : numpy.ndarray
        datetime64[D] or datetime64[us] (UTC), (n_bars,).
    symbols : tuple of str
        One name per asset id.
    bars_per_year : float
        Bars in a year, for annualising.
    ends : Ends
        Ends of life.
    statics : mapping of str to tuple
        One value per asset.
    fields : mapping of str to BlockFile
        The file that holds each field; several fields share one.
    """

    timestamps: np.ndarray
    symbols: tuple[str, ...]
    bars_per_year: float
    ends: Ends
    statics: Mapping[str, tuple]
    fields: Mapping[str, BlockFile]

    @property
    def shape(self) -> tuple[int, int]:
        """(n_bars, n_assets)."""
        return len(self.timestamps), len(self.symbols)

    def body(self, name: str) -> Body:
        """Return where field `name` lies in its file."""
        return self.fields[name].bodies[name]

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of each field's values."""
        return {name: self.body(name).sha256 for name in self.fields}

    def content(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Return what a panel with these fields is, apart from where they lie."""
        resolution = "day" if self.timestamps.dtype == np.dtype("M8[D]") else "us"
        ended = np.flatnonzero(self.ends.bar < len(self.timestamps))
        return {
            "bars_per_year": self.bars_per_year,
            "blocks": [
                {
                    "first_bar": 0,
                    "n_assets": len(self.symbols),
                    "n_bars": len(self.timestamps),
                    "sha256": dict(hashes),
                }
            ],
            "ends": [[int(a), int(self.ends.bar[a]), _number(self.ends.payout[a])] for a in ended],
            "resolution": resolution,
            "statics": {name: list(column) for name, column in self.statics.items()},
            "symbols": list(self.symbols),
            "timestamps": _pack(self.timestamps.astype(np.int64)),
        }

    def digest(self, hashes: Mapping[str, str] | None = None) -> str:
        """Return the name of the content, 16 hexadecimal digits; `hashes` stand in for the fields."""
        return digest(self.content(self.hashes() if hashes is None else hashes))[:16]

    def to_json(self) -> str:
        """Return the snapshot's text."""
        files: dict[str, Any] = {}
        for name, file in self.fields.items():
            entry = files.setdefault(file.name, {"bytes": file.size, "sha256": file.sha256, "fields": {}})
            body = file.bodies[name]
            entry["fields"][name] = {"offset": body.offset, "bytes": body.length, "crc32": body.crc32}
        return canonical_json(
            {
                "format": FORMAT,
                "content": self.content(self.hashes()),
                "files": files,
                "files_digest": digest(files),
            }
        )

    @classmethod
    def from_json(cls, text: str, name: str) -> Manifest:
        """Return the manifest in `text`, which must have the digest that its file name says.

        Raises
        ------
        PanelError
            If the text is damaged or of a format this version does not know.
        """
        try:
            snapshot = json.loads(text)
            known = snapshot["format"]
            content, files = snapshot["content"], snapshot["files"]
            whole = (
                digest(content)[:16] == name.partition("-")[2] and digest(files) == snapshot["files_digest"]
            )
        except (ValueError, KeyError, TypeError):
            raise PanelError(
                f"snapshot {name} is not readable: it was cut or changed", hint=RESTORE
            ) from None
        if known != FORMAT:
            raise PanelError(
                f"snapshot {name} has format {known}, this version reads {FORMAT}",
                hint="open it with the version of backtest_farm that wrote it, or build the panel again",
            )
        if not whole:
            raise PanelError(f"snapshot {name} does not match its own digest: it was changed", hint=RESTORE)
        return cls._from_parts(content, files)

    @classmethod
    def _from_parts(cls, content: dict[str, Any], files: dict[str, Any]) -> Manifest:
        (block,) = content["blocks"]
        ends = no_ends(block["n_assets"])
        for asset, bar, payout in content["ends"]:
            ends.bar[asset] = bar
            ends.payout[asset] = np.nan if payout is None else payout
        fields = {}
        for name, entry in files.items():
            bodies = {
                field: Body(at["offset"], at["bytes"], at["crc32"], block["sha256"][field])
                for field, at in entry["fields"].items()
            }
            fields.update(dict.fromkeys(bodies, BlockFile(name, entry["bytes"], entry["sha256"], bodies)))
        return cls(
            timestamps=_unpack(content["timestamps"]).view(_UNITS[content["resolution"]]),
            symbols=tuple(content["symbols"]),
            bars_per_year=float(content["bars_per_year"]),
            ends=ends,
            statics={name: tuple(column) for name, column in content["statics"].items()},
            fields={name: fields[name] for name in sorted(fields)},
        )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _pack(moments: np.ndarray) -> dict[str, Any]:
    """Write ascending integers as the first one and runs ``[step, repeats]``: weeks, days of minutes."""
    steps = np.diff(moments)
    starts = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    repeats = np.diff(starts, append=len(steps))
    return {"first": int(moments[0]), "steps": np.stack([steps[starts], repeats], axis=1).tolist()}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    step, repeats = np.array(packed["steps"], np.int64).reshape(-1, 2).T
    return packed["first"] + np.concatenate([[0], np.cumsum(np.repeat(step, repeats))])
