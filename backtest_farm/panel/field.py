"""One field of a snapshot: pieces in files, in the order of bars, read as if they were one array."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from backtest_farm.ingest.grid import NO_END, lives
from backtest_farm.panel.block import Block
from backtest_farm.panel.chain import START, advance


class Piece(NamedTuple):
    """A field's values on some bars, in one file.

    Attributes
    ----------
    first_bar, n_bars, n_assets : int
        The bars, and the assets there were when it was written; later ones have no value here.
    name : str
        The field's name in the file.
    block : Block
        The file.
    chain : str
        The field's chain up to the end of the piece.
    """

    first_bar: int
    n_bars: int
    n_assets: int
    name: str
    block: Block
    chain: str

    @property
    def stop(self) -> int:
        """The first bar after the piece."""
        return self.first_bar + self.n_bars

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return the bars from `start` to `stop` as a view of the file."""
        whole = self.block.map(self.name, (self.n_bars, self.n_assets))
        return whole[start - self.first_bar : stop - self.first_bar]


@dataclass(frozen=True, eq=False)
class Field:
    """A field or a context.

    Attributes
    ----------
    pieces : tuple of Piece
        Ascending and apart; what no piece holds is NaN.
    since : numpy.ndarray
        int64 (n_assets,), the first bar with a value, `NO_END` where there is none.
    names : tuple of str
        The assets.
    """

    pieces: tuple[Piece, ...]
    since: np.ndarray
    names: tuple[str, ...]
    _chains: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def chain(self) -> str:
        """The chain of all bars."""
        return self.pieces[-1].chain if self.pieces else START

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> Field:
        """Return a field of these assets without any value."""
        return cls((), np.full(len(names), NO_END), names)

    def widened(self, names: tuple[str, ...]) -> Field:
        """Return the field with more assets, which have no value; `names` are those of all."""
        return Field(self.pieces, np.append(self.since, Field.empty(names[len(self.names) :]).since), names)

    def after(self, first_bar: int, values: np.ndarray) -> tuple[str, np.ndarray]:
        """Return `chain` and `since` as they are after `values` (n_bars, n_assets), from `first_bar` on."""
        first = lives(values).first
        here = np.where(first < len(values), first_bar + first, NO_END)
        return advance(self.chain, first_bar, values, self.names), np.minimum(self.since, here)

    def with_piece(self, piece: Piece, since: np.ndarray) -> Field:
        """Return the field with one more piece, and `since` as it then is."""
        return Field((*self.pieces, piece), since, self.names)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return bars `start` to `stop`, float64 (stop - start, n_assets), read-only; see `Panel.read`."""
        within, n_assets = list(self._within(start, stop)), len(self.names)
        for piece in within:
            if piece.first_bar <= start and stop <= piece.stop and piece.n_assets == n_assets:
                return piece.rows(start, stop)  # there is no other one
        dense = np.full((stop - start, n_assets), np.nan)
        for piece in within:
            first, last = max(start, piece.first_bar), min(stop, piece.stop)
            dense[first - start : last - start, : piece.n_assets] = piece.rows(first, last)
        dense.flags.writeable = False
        return dense

    def chain_at(self, end_bar: int) -> str:
        """Return the chain of the first `end_bar` bars; at most a part of one piece is read."""
        if end_bar not in self._chains:
            near = max((bar for bar in self._chains if bar < end_bar), default=0)
            chain = self._chains.get(near, START)
            for piece in self._within(near, end_bar):
                if piece.stop <= end_bar:
                    chain = piece.chain
                else:
                    start = max(near, piece.first_bar)
                    rows = piece.rows(start, end_bar)
                    chain = advance(chain, start, rows, self.names[: piece.n_assets])
            self._chains[end_bar] = chain
        return self._chains[end_bar]

    def _within(self, start: int, stop: int) -> Iterator[Piece]:
        first = bisect_right(self.pieces, start, key=lambda piece: piece.stop)
        return takewhile(lambda piece: piece.first_bar < stop, self.pieces[first:])
