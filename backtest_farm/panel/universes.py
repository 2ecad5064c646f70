"""Universes: from spells of membership, static columns and draws to the members of each bar."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.identity import digest
from backtest_farm.ingest.spells import ALL, member_mask
from backtest_farm.panel.chain import runs
from backtest_farm.panel.manifest import Manifest, pick

if TYPE_CHECKING:
    from backtest_farm.spec import Universe, UniverseSpec


class Universes:
    """The universes of one snapshot.

    Nobody is a member before the first bar with a close, because an asset without a price cannot be held
    anyway; so assets that a panel gets later change no earlier row.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._symbols = np.array(manifest.symbols)
        fields = manifest.fields
        priced = [fields["close"]] if "close" in fields else list(fields.values())
        self._listed = np.min([field.since for field in priced], axis=0)
        self._named: dict[str, np.ndarray] = {}
        self._made: dict[Universe, np.ndarray] = {}
        self._digests: dict[tuple[Universe, int, int], str] = {}

    def named(self, name: str) -> np.ndarray:
        """Return the members of a named universe, uint8 (n_bars, n_assets), read-only."""
        manifest = self._manifest
        if name in self._named:
            return self._named[name]
        spells = pick("universe", name, {ALL: (), **manifest.universes})
        if name == ALL:
            mask = (np.arange(manifest.shape[0])[:, None] >= self._listed).view(np.uint8)
        else:
            mask = member_mask(manifest.timestamps, manifest.symbols, spells, self._listed)
        mask.flags.writeable = False
        return self._named.setdefault(name, mask)

    def members(self, universe: Universe) -> np.ndarray:
        """See `Panel.members`."""
        # The last one is kept: whoever asks for one universe asks for it several times.
        if universe not in self._made:
            mask = self._mask(universe)
            mask.flags.writeable = False
            self._made = {universe: mask}
        return self._made[universe]

    def _mask(self, universe: Universe) -> np.ndarray:
        if universe == type(universe)():
            return np.ones(self._manifest.shape, np.uint8)
        base = self.named(universe.of)
        if universe.column is not None:
            column = pick("static column", universe.column, self._manifest.statics)
            chosen = np.array([value is not None and str(value) == universe.value for value in column])
        elif universe.draw is not None:
            chosen = np.isin(self._symbols, self._draw(universe))
        elif universe.symbol is not None:
            chosen = self._symbols == universe.symbol
        else:
            chosen = np.ones(len(self._symbols), bool)
        if not chosen.any():
            raise InputError(f"the panel has no asset of the universe {universe.label}")
        return base * chosen

    def digest(self, universe: Universe, start: int, stop: int) -> str:
        """See `Panel.members_digest`."""
        if universe == type(universe)():
            return digest(ALL)
        key = (universe, start, stop)
        if key not in self._digests:
            self._digests[key] = self._digest(universe, start, stop)
        return self._digests[key]

    def _digest(self, universe: Universe, start: int, stop: int) -> str:
        mask = self.members(universe)[start:stop] != 0
        ever = mask.any(axis=0)
        names = tuple(self._symbols[ever].tolist())
        changes = [(run.start, run.roster.hex()) for run in runs(mask[:, ever], names)]
        return digest({"rows": stop - start, "members": changes})

    def expand(self, spec: UniverseSpec) -> tuple[Universe, ...]:
        """See `Panel.expand`."""
        from backtest_farm.spec import Universe

        ever = self._ever(spec.of)
        if spec.by is not None:
            column = pick("static column", spec.by, self._manifest.statics)
            held = dict(zip(self._manifest.symbols, column, strict=True))
            values = sorted({str(held[symbol]) for symbol in ever if held[symbol] is not None})
            if not values:
                raise InputError(
                    f"no asset of {spec.of!r} has a value of {spec.by!r}: there is nothing to group by"
                )
            return tuple(Universe(of=spec.of, column=spec.by, value=value) for value in values)
        if spec.each is not None:
            return tuple(Universe(of=spec.of, symbol=symbol) for symbol in ever)
        if spec.draw is None:
            return (Universe(of=spec.of),)
        if spec.size is None or spec.size > len(ever):
            raise InputError(
                f"{spec.size} names cannot be drawn from {spec.of!r}: only {len(ever)} are ever in it",
                hint=f"give a size of at most {len(ever)}",
            )
        return tuple(Universe(of=spec.of, draw=i, size=spec.size, seed=spec.seed) for i in range(spec.draw))

    def _ever(self, name: str) -> list[str]:
        """Return the symbols that are members at some bar, in panel order."""
        return self._symbols[self.named(name).any(axis=0)].tolist()

    def _draw(self, universe: Universe) -> list[str]:
        # Hashes, not a generator: the same names everywhere, and a new listing moves at most one of them.
        def lot(symbol: str) -> bytes:
            return hashlib.sha256(f"{universe.seed} {universe.draw} {symbol}".encode()).digest()

        return sorted(self._ever(universe.of), key=lot)[: universe.size]
