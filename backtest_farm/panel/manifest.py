"""Snapshots: what a panel is at one moment, as one immutable JSON file.

A snapshot has two parts. ``content`` says what the panel *is* (grid, ends of life, a hash per field and
block); its digest names the snapshot, so that equal content has one name wherever it lies. ``files`` says
where the values *lie* and carries a digest of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backtest_farm.errors import PanelError
from backtest_farm.identity import canonical_json, digest
from backtest_farm.ingest.grid import Ends, no_ends
from backtest_farm.panel.block import Block, Body, damaged

FORMAT = 1
_UNITS = {"day": "M8[D]", "us": "M8[us]"}


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
    hashes : mapping of str to str
        The sha256 of each field's values.
    fields : mapping of str to Block
        The file that holds each field; several fields share one.
    """

    timestamps: np.ndarray
    symbols: tuple[str, ...]
    bars_per_year: float
    ends: Ends
    statics: Mapping[str, tuple]
    hashes: Mapping[str, str]
    fields: Mapping[str, Block]

    @property
    def blocks(self) -> list[Block]:
        """Every file of the snapshot, once."""
        return list({block.path: block for block in self.fields.values()}.values())

    def content(self) -> dict[str, Any]:
        """Return what the panel is, apart from where its fields lie."""
        n_bars, n_assets = len(self.timestamps), len(self.symbols)
        ended = np.flatnonzero(self.ends.bar < n_bars)
        payouts = (None if np.isnan(payout) else payout for payout in self.ends.payout[ended])
        return {
            "bars_per_year": self.bars_per_year,
            "blocks": [{"first_bar": 0, "n_assets": n_assets, "n_bars": n_bars, "sha256": self.hashes}],
            "ends": list(zip(ended, self.ends.bar[ended], payouts, strict=True)),
            "resolution": "day" if self.timestamps.dtype == np.dtype("M8[D]") else "us",
            "statics": self.statics,
            "symbols": self.symbols,
            "timestamps": _pack(self.timestamps.astype(np.int64)),
        }

    def digest(self) -> str:
        """Return the name of the content, 16 hexadecimal digits."""
        return digest(self.content())[:16]

    def to_json(self) -> str:
        """Return the snapshot's text."""
        files: dict[str, Any] = {}
        for name, block in self.fields.items():
            file = {"bytes": block.size, "sha256": block.sha256, "fields": {}}
            files.setdefault(block.path.name, file)["fields"][name] = block.bodies[name]._asdict()
        content = self.content()
        return canonical_json(
            {"format": FORMAT, "content": content, "files": files, "files_digest": digest(files)}
        )

    @classmethod
    def from_json(cls, text: bytes, name: str, folder: Path) -> Manifest:
        """Return the manifest in `text`, which must have the digest that its file name says.

        Parameters
        ----------
        text : bytes
            What `to_json` gave, in UTF-8.
        name : str
            The snapshot's name.
        folder : pathlib.Path
            Where its files lie.

        Raises
        ------
        PanelError
            If the text is damaged or of a format this version does not know.
        """
        try:
            snapshot = json.loads(text)
            known, content, files = snapshot["format"], snapshot["content"], snapshot["files"]
            own = name.partition("-")[2], snapshot["files_digest"]
            whole = own == (digest(content)[:16], digest(files))
        except (ValueError, KeyError, TypeError):
            raise damaged(f"snapshot {name} is not readable: it was cut or changed") from None
        if known != FORMAT:
            raise PanelError(
                f"snapshot {name} has format {known}, this version reads {FORMAT}",
                hint="open it with the version of backtest_farm that wrote it, or build the panel again",
            )
        if not whole:
            raise damaged(f"snapshot {name} does not match its own digest: it was changed")
        # From here on the content is what was written: nothing in it needs a second look.
        (block,) = content["blocks"]
        ends = no_ends(block["n_assets"])
        for asset, bar, payout in content["ends"]:
            ends.bar[asset], ends.payout[asset] = bar, np.nan if payout is None else payout
        fields: dict[str, Block] = {}
        for file, entry in files.items():
            bodies = {field: Body(**place) for field, place in entry["fields"].items()}
            fields |= dict.fromkeys(bodies, Block(folder / file, entry["bytes"], entry["sha256"], bodies))
        return cls(
            timestamps=_unpack(content["timestamps"]).view(_UNITS[content["resolution"]]),
            symbols=tuple(content["symbols"]),
            bars_per_year=float(content["bars_per_year"]),
            ends=ends,
            statics={name: tuple(column) for name, column in content["statics"].items()},
            hashes=block["sha256"],
            fields=dict(sorted(fields.items())),
        )


def _pack(moments: np.ndarray) -> dict[str, Any]:
    """Write ascending integers as the first one and runs ``[step, repeats]``: weeks, days of minutes."""
    steps = np.diff(moments)
    starts = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    repeats = np.diff(starts, append=len(steps))
    return {"first": int(moments[0]), "steps": np.stack([steps[starts], repeats], axis=1).tolist()}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    step, repeats = np.array(packed["steps"], np.int64).reshape(-1, 2).T
    return packed["first"] + np.concatenate([[0], np.cumsum(np.repeat(step, repeats))])
