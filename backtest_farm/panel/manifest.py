"""Snapshots: what a panel is at one moment, as one immutable JSON file.

A snapshot has two parts. ``content`` says what the panel *is* (grid, ends of life, universes, a chain per
field); its digest names the snapshot, so that equal content has one name wherever it lies and however it is
cut into blocks. ``files`` says where the values *lie* and carries a digest of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backtest_farm.errors import InputError, PanelError, nearest
from backtest_farm.identity import canonical_json, digest, digest_bytes
from backtest_farm.ingest.grid import Ends, no_ends
from backtest_farm.ingest.spells import Spell
from backtest_farm.panel.block import Block, Body, damaged
from backtest_farm.panel.chain import NAMELESS
from backtest_farm.panel.field import Field, Piece

FORMAT = 2
Picked = TypeVar("Picked")
_KINDS = ("fields", "contexts")
_UNITS = {"day": "M8[D]", "us": "M8[us]"}
_DECODER = json.JSONDecoder()
_CONTENT, _FILES, _DIGEST = '{"content":', ',"files":', ',"files_digest":'
"""What stands in a snapshot's text before its parts, in the order of canonical JSON."""


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
    calendar : str or None
        Name of the exchange's calendar.
    ends : Ends
        Ends of life.
    statics : mapping of str to tuple
        One value per asset.
    universes : mapping of str to tuple of Spell
        Who was a member, from when to when.
    fields, contexts : mapping of str to Field
        Where the values lie; a context is a field of one nameless asset.
    """

    timestamps: np.ndarray
    symbols: tuple[str, ...]
    bars_per_year: float
    ends: Ends
    calendar: str | None = None
    statics: Mapping[str, tuple] = field(default_factory=dict)
    universes: Mapping[str, tuple[Spell, ...]] = field(default_factory=dict)
    fields: Mapping[str, Field] = field(default_factory=dict)
    contexts: Mapping[str, Field] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_bars, n_assets)."""
        return len(self.timestamps), len(self.symbols)

    @property
    def blocks(self) -> list[Block]:
        """Every file of the snapshot, once."""
        return list({piece.block.path: piece.block for _, _, piece in self._pieces()}.values())

    def _pieces(self) -> Iterator[tuple[str, str, Piece]]:
        for kind, stored in zip(_KINDS, (self.fields, self.contexts), strict=True):
            for name, one in stored.items():
                yield from ((kind, name, piece) for piece in one.pieces)

    def content(self) -> dict[str, Any]:
        """Return what the panel is, apart from where its fields lie."""
        ended = np.flatnonzero(self.ends.bar < len(self.timestamps))
        payouts = (None if np.isnan(payout) else payout for payout in self.ends.payout[ended])
        return {
            "bars_per_year": self.bars_per_year,
            "calendar": self.calendar,
            "contexts": {name: _said(one) for name, one in self.contexts.items()},
            "ends": list(zip(ended, self.ends.bar[ended], payouts, strict=True)),
            "fields": {name: _said(one) for name, one in self.fields.items()},
            "resolution": "day" if self.timestamps.dtype == np.dtype("M8[D]") else "us",
            "statics": self.statics,
            "symbols": self.symbols,
            "timestamps": _pack(self.timestamps.astype(np.int64)),
            "universes": self.universes,
        }

    def digest(self) -> str:
        """Return the name of the content, 16 hexadecimal digits."""
        return digest(self.content())[:16]

    def to_json(self) -> str:
        """Return the snapshot's text."""
        files: dict[str, Any] = {}
        for kind, name, piece in self._pieces():
            block = piece.block
            entry = {"bytes": block.size, "sha256": block.sha256, "first_bar": piece.first_bar}
            entry |= {"shape": [piece.n_bars, piece.n_assets], "fields": {}, "contexts": {}}
            body = block.bodies[piece.name]._asdict() | {"chain": piece.chain}
            files.setdefault(block.path.name, entry)[kind][name] = body
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
            body, _, tail = text.decode().rpartition(_DIGEST)
            said = json.loads(f"{{{_DIGEST[1:]}{tail}")
            content, stop = _DECODER.raw_decode(body, len(_CONTENT))
            files = json.loads(body[stop + len(_FILES) :])
            # The text is canonical: its parts have the digests of what they say, and are not written again.
            parts = body[len(_CONTENT) : stop], body[stop + len(_FILES) :]
            own = [digest_bytes(part.encode())[:length] for part, length in zip(parts, (16, 32), strict=True)]
            whole = own == [name.partition("-")[2], said["files_digest"]]
            whole &= _CONTENT + _FILES.join(parts) == body
            known = said["format"]
        except (ValueError, KeyError, TypeError):
            raise damaged(f"snapshot {name} is not readable: it was cut or changed") from None
        if known != FORMAT:
            raise PanelError(
                f"snapshot {name} has format {known}, this version reads {FORMAT}",
                hint="build the panel again into a new folder, or open it with the version that wrote it",
            )
        if not whole:
            raise damaged(f"snapshot {name} does not match its own digest: it was changed")
        # From here on the content is what was written: nothing in it needs a second look.
        ends = no_ends(len(content["symbols"]))
        for asset, bar, payout in content["ends"]:
            ends.bar[asset], ends.payout[asset] = bar, np.nan if payout is None else payout
        pieces: defaultdict[tuple[str, str], list[Piece]] = defaultdict(list)
        for file, entry in files.items():
            held = {(kind, one): said for kind in _KINDS for one, said in entry[kind].items()}
            bodies = {one: Body(*(said[part] for part in Body._fields)) for (_, one), said in held.items()}
            block = Block(folder / file, entry["bytes"], entry["sha256"], bodies)
            n_bars, n_assets = entry["shape"]
            for (kind, one), said in held.items():
                piece = Piece(entry["first_bar"], n_bars, n_assets, one, block, said["chain"])
                pieces[kind, one].append(piece)

        def stored(kind: str, names: tuple[str, ...]) -> dict[str, Field]:
            return {
                name: Field(tuple(sorted(pieces[kind, name])), _spread(said["since"]), names)
                for name, said in sorted(content[kind].items())
            }

        return cls(
            timestamps=_unpack(content["timestamps"]).view(_UNITS[content["resolution"]]),
            symbols=tuple(content["symbols"]),
            bars_per_year=float(content["bars_per_year"]),
            calendar=content["calendar"],
            ends=ends,
            statics={name: tuple(column) for name, column in content["statics"].items()},
            universes={name: tuple(map(tuple, spells)) for name, spells in content["universes"].items()},
            fields=stored("fields", tuple(content["symbols"])),
            contexts=stored("contexts", NAMELESS),
        )


def pick(what: str, name: str, known: Mapping[str, Picked]) -> Picked:
    """Return what has this name, or say which names there are."""
    if name not in known:
        has = nearest(name, known) if known else "it has none at all"
        raise InputError(
            f"the panel has no {what} {name!r}: {has}",
            hint=f"add it with panel.with_{what.split()[0]}, or on the command line with "
            f"backtest-farm panel attach --{what.split()[0]} {name}=FILE",
        )
    return known[name]


def _said(one: Field) -> dict[str, Any]:
    return {"chain": one.chain, "since": _runs(one.since)}


def _runs(values: np.ndarray) -> list[list[int]]:
    """Write integers as runs ``[value, repeats]``."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return np.stack([values[starts], np.diff(starts, append=len(values))], axis=1).tolist()


def _spread(runs: list[list[int]]) -> np.ndarray:
    return np.repeat(*np.fromiter(chain.from_iterable(runs), np.int64).reshape(-1, 2).T)


def _pack(moments: np.ndarray) -> dict[str, Any]:
    """Write ascending integers as the first one and runs of steps: weeks, days of minutes."""
    return {"first": int(moments[0]), "steps": _runs(np.diff(moments))}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    steps = _spread(packed["steps"])
    moments = np.full(len(steps) + 1, packed["first"])
    moments[1:] += np.cumsum(steps, out=steps)
    return moments
