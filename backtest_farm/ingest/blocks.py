"""Rows that become blocks: dense arrays in memory, or by way of files when there are several blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from backtest_farm.ingest.report import LISTED

_TAKEN_ROWS = 2**18
NoteRepeats = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]], None]


class Block:
    """The bars from one on, filled row by row.

    Parameters
    ----------
    fields : sequence of str
        Their names.
    shape : tuple of int
        (n_bars, n_assets).
    note_repeats : callable
        Takes the rows whose cells were filled before: bars, assets, places, the places of the earlier ones,
        and in words how the first few of them differ.
    first_bar : int
        The block's first bar.

    Attributes
    ----------
    fields : dict of str to numpy.ndarray
        float64 (n_bars, n_assets).
    places : numpy.ndarray
        int64 (n_bars, n_assets), where each cell comes from; -1 from nowhere.
    """

    def __init__(
        self, fields: Sequence[str], shape: tuple[int, int], note_repeats: NoteRepeats, first_bar: int = 0
    ) -> None:
        self.first_bar = first_bar
        self.fields = {name: np.full(shape, np.nan) for name in fields}
        self.places = np.full(shape, -1)
        self._note_repeats = note_repeats

    def take(
        self, bars: np.ndarray, assets: np.ndarray, places: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        """Put rows into their cells; of those with the same cell the first stays and the others are noted."""
        at = (bars - self.first_bar) * self.places.shape[1] + assets
        owners = self.places.reshape(-1)
        free = np.flatnonzero(owners[at] < 0)[::-1]
        owners[at[free]] = places[free]  # backwards, so that the first of equal ones is written last
        first = owners[at] == places
        some = slice(None) if first.all() else first
        for name, column in values.items():
            self.fields[name].reshape(-1)[at[some]] = column[some]
        if not first.all():
            again = np.flatnonzero(~first)
            listed = again[:LISTED]
            differences = [
                self._difference({name: column[row] for name, column in values.items()}, at[row])
                for row in listed
            ]
            self._note_repeats(bars[again], assets[again], places[again], owners[at[again]], differences)

    def _difference(self, row: Mapping[str, float], at: int) -> str:
        there = {name: float(self.fields[name].reshape(-1)[at]) for name in row}
        other = [
            name for name in row if row[name] != there[name] and not np.isnan([row[name], there[name]]).all()
        ]
        if not other:
            return "is identical"
        return f"has {', '.join(f'{name} {there[name]:g} (here {row[name]:g})' for name in other)}"

    def blocks(self) -> Iterator[Block]:
        """Give the block itself."""
        yield self


class Spill:
    """Rows on disk, in one file for each block, until all of them have come.

    Parameters
    ----------
    fields, shape, note_repeats
        As in `Block`, of all blocks together.
    room : pathlib.Path
        An empty folder.
    bars_in_block : int
        Bars of every block but the last.
    """

    def __init__(
        self,
        fields: Sequence[str],
        shape: tuple[int, int],
        note_repeats: NoteRepeats,
        room: Path,
        bars_in_block: int,
    ) -> None:
        columns = [(name, np.float64) for name in fields]
        self._row = np.dtype([("bar", np.int64), ("asset", np.int32), ("place", np.int64), *columns])
        self._fields, self._shape, self._note_repeats = fields, shape, note_repeats
        self._room, self._size = room, bars_in_block

    def take(
        self, bars: np.ndarray, assets: np.ndarray, places: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        """Write rows to the files of their blocks."""
        block = bars // self._size
        order = np.argsort(block, kind="stable")
        rows = np.empty(len(bars), self._row)
        absent = np.full(len(bars), np.nan)
        columns = {
            "bar": bars,
            "asset": assets,
            "place": places,
            **dict.fromkeys(self._fields, absent),
            **values,
        }
        for name, column in columns.items():
            rows[name] = column[order]
        cuts = np.flatnonzero(np.diff(block[order], prepend=-1))
        for start, stop in zip(cuts, [*cuts[1:], len(rows)], strict=True):
            with self._file(int(block[order[start]])).open("ab") as file:
                rows[start:stop].tofile(file)

    def blocks(self) -> Iterator[Block]:
        """Put the blocks together, one after another."""
        n_bars, n_assets = self._shape
        for number, first in enumerate(range(0, n_bars, self._size)):
            shape = (min(self._size, n_bars - first), n_assets)
            block = Block(self._fields, shape, self._note_repeats, first)
            rows = np.memmap(self._file(number), self._row, mode="r")
            for start in range(0, len(rows), _TAKEN_ROWS):
                some = rows[start : start + _TAKEN_ROWS]
                values = {name: some[name] for name in self._fields}
                block.take(some["bar"], some["asset"], some["place"], values)
            del rows
            self._file(number).unlink()
            yield block
            del block

    def _file(self, block: int) -> Path:
        return self._room / str(block)
