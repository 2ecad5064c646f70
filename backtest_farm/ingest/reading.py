"""Bars that are being read: look at everything, then refuse or leave out what is faulty.

A source is gone through three times: how it is written, which bars and symbols it has, and its values. What
is small is read once and held for that; what is larger is read anew each time, in pieces, and when it makes
more than one block its values go to disk by block before the first block is put together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.ingest.blocks import Block, Spill
from backtest_farm.ingest.checks import Survey, place_of, row_at
from backtest_farm.ingest.grid import Ends, Grid, no_ends, show_time
from backtest_farm.ingest.keys import Moments, Sort
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.matching import match, note_columns, read_ends, read_keys
from backtest_farm.ingest.numbers import read_numbers
from backtest_farm.ingest.options import ReadOptions
from backtest_farm.ingest.report import Report
from backtest_farm.ingest.sources import open_source
from backtest_farm.ingest.synthetic import SyntheticMarket
from backtest_farm.ingest.table import KEYS, Table

OnFault = Literal["strict", "report"]
MAX_BYTES = 96 * 2**20
"""Most bytes that all fields of one block take together."""

_NEEDED = (*KEYS, "open", "close")
_APART = 2**20  # moments that may be held more than once


class After(NamedTuple):
    """The panel that bars are read for."""

    symbols: tuple[str, ...]
    last: np.datetime64
    ended: frozenset[str]


class Reading:
    """Bars that are being read.

    Attributes
    ----------
    title : str
        The source's name.
    timestamps : numpy.ndarray
        datetime64[D] or datetime64[us], all bars of the source, strictly ascending.
    symbols : tuple of str
        The order of the assets.
    fields : tuple of str
        Sorted names.
    statics : mapping of str to tuple
        One value per asset.
    ends : Ends
        Ends of life, as bars of `timestamps`.
    report : Report
        Complete when `blocks` has been drawn to its end.
    """

    title: str
    timestamps: np.ndarray
    symbols: tuple[str, ...]
    fields: tuple[str, ...]
    statics: Mapping[str, tuple]
    ends: Ends
    report: Report

    def __init__(self, on_fault: OnFault, max_bytes: int) -> None:
        if on_fault not in get_args(OnFault):
            raise InputError(f"on_fault {on_fault!r} is not known: {nearest(on_fault, get_args(OnFault))}")
        self._strict = on_fault == "strict"
        self._max_bytes = max_bytes
        self._ledger = Ledger()
        self.report = Report()

    @property
    def shape(self) -> tuple[int, int]:
        """(n_bars, n_assets)."""
        return len(self.timestamps), len(self.symbols)

    @property
    def bars_in_block(self) -> int:
        """Bars of every block but the last."""
        return max(1, self._max_bytes // (8 * len(self.symbols) * max(1, len(self.fields))))

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Give the first bar of each block and its fields, float64 (n, n_assets), once and in order.

        Raises
        ------
        InputError
            With every fault at once; after the last block at the latest, because a repeated row of the last
            block is known only then.
        """
        raise NotImplementedError

    @property
    def _is_refused(self) -> bool:
        return self._ledger.refuse_always or (self._strict and self._ledger.has_errors)

    def _refuse_faults(self) -> None:
        if self._is_refused:
            self._ledger.refuse(self.title, mendable=not self._ledger.refuse_always)


class GridReading(Reading):
    """A grid, or a market made as it is read, that is given in blocks."""

    def __init__(self, grid: Grid | SyntheticMarket, on_fault: OnFault, ends: Any, max_bytes: int) -> None:
        super().__init__(on_fault, max_bytes)
        self.title, self.timestamps, self.symbols = "<grid>", grid.timestamps, grid.symbols
        self.fields, self.statics, self.ends = tuple(sorted(grid.fields)), grid.statics, grid.ends
        if ends is not None:
            self.ends = read_ends(ends, self.timestamps, self.symbols, self._ledger)
        self._grid = grid

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        self._refuse_faults()
        survey = Survey(self.timestamps, self.symbols, self.ends, self.title, self._ledger)
        for first, fields in self._grid.blocks(self.bars_in_block):
            survey.take(first, fields)
            yield first, fields
        self.report = survey.report()


class SourceReading(Reading):
    """Any other source; see `backtest_farm.ingest.readers.stream` for what it takes."""

    def __init__(
        self,
        source: Any,
        on_fault: OnFault,
        ends: Any,
        options: ReadOptions | None,
        max_bytes: int,
        scratch: Path | None,
        after: After | None,
    ) -> None:
        super().__init__(on_fault, max_bytes)
        self._scratch, self._after = scratch, after
        held = min(max_bytes, MAX_BYTES)
        self._source = open_source(source, "<frame>", options or ReadOptions(), self._ledger, held)
        self.title, self.statics = self._source.title, {}
        habits = self._source.habits
        for table in self._source.tables("habits"):
            habits.learn(table)
        self._columns = habits.settle(self._ledger)
        self.fields = tuple(sorted(self._columns))
        self.timestamps, self.symbols = np.empty(0, "M8[D]"), ()
        self._files: list[str] = []
        note_columns(habits.first, _NEEDED, self._ledger)
        if all(key in habits.first for key in KEYS):
            self._read_axes()
        if not len(self.timestamps):
            self._refuse_unplaced()
        self.ends = no_ends(len(self.symbols))
        if ends is not None:
            self.ends = read_ends(ends, self.timestamps, self.symbols, self._ledger)

    def _refuse_unplaced(self) -> NoReturn:
        """Refuse a source of which no row has a place on a grid, with the faults of them all."""
        self._fill(None)
        if self._is_refused:
            self._ledger.refuse(self.title)
        later = f" after {show_time(self._after.last)}" if self._after else ""
        faults = [finding.line() for finding in self._ledger.report().errors]
        raise InputError(f"{self.title} has no usable row{later}", faults=faults)

    def _read_axes(self) -> None:
        """Find the bars and symbols, and whether the bars are sessions."""
        axes = _Axes()
        for table in self._source.tables("keys"):
            axes.take(table)
        self._ledger.refuse_always |= axes.settle()
        self._daily, self._as_sessions = axes.daily, axes.as_sessions
        times, symbols = axes.times, axes.symbols
        if self._after is not None:
            known = set(self._after.symbols)
            times = times[times > self._after.last.astype("M8[us]")]
            symbols = [*self._after.symbols, *(name for name in symbols if name not in known)]
            if (self._after.last.dtype == np.dtype("M8[D]")) != self._daily:
                holds, has = ("daily sessions", "intraday bars")[:: 1 if not self._daily else -1]
                raise InputError(
                    f"the panel holds {holds}, {self.title} {has}", hint="append bars of the same kind"
                )
        self.timestamps = times.astype("M8[D]") if self._daily else times
        self.symbols = tuple(symbols)

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        n_bars, size = self.shape[0], self.bars_in_block
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="reading-") as room:
            what = (self.fields, self.shape, self._note_repeats)
            sink = Block(*what) if n_bars <= size else Spill(*what, Path(room), size)
            self._fill(sink)
            known = len(self._after.symbols) if self._after else 0
            survey = Survey(
                self.timestamps, self.symbols, self._lives(), self.title, self._ledger,
                files=self._files, n_known=known,
            )  # fmt: skip
            refused = self._is_refused
            for block in sink.blocks():
                if not refused:
                    survey.take(block.first_bar, block.fields, block.places)
                    yield block.first_bar, block.fields
                del block  # the next one needs its place
        self._refuse_faults()
        self._note_absent(survey.has_bars())
        self.report = survey.report()

    def _fill(self, sink: Block | Spill | None) -> None:
        for table in self._source.tables():
            self._take(table, sink)
        del self._source  # which may hold all that was read

    def _take(self, table: Table, sink: Block | Spill | None) -> None:
        """Read one table's values into their cells, or only for their faults."""
        ledger = self._ledger
        ledger.note_ragged(table)
        fields = {name: read_numbers(table, name, ledger) for name in self._columns if name in table}
        if not all(key in table for key in KEYS):
            return
        keys = read_keys(table, ledger)
        if self._as_sessions:
            keys = keys._replace(moments=keys.moments.as_sessions())
        usable = keys.usable & ~self._note_zones(table, keys.moments)
        if self._after is not None:
            early = usable & (keys.moments.micros <= self._after.last.astype("M8[us]"))
            last = show_time(self._after.last)
            ledger.note_rows(
                "overlapping_bar", table, early, more=lambda at: f" (the panel's last bar: {last})"
            )
            usable &= ~early
        if sink is None:
            return
        cells = match(table, keys._replace(usable=usable), self.timestamps, self.symbols, ledger)
        if not self._files or self._files[-1] != table.file:
            self._files.append(table.file)
        places = place_of(len(self._files) - 1, table.rows[cells.rows])
        whole = len(cells.rows) == table.frame.height
        values = {name: column if whole else column[cells.rows] for name, column in fields.items()}
        sink.take(cells.bars, cells.assets, places, values)

    def _note_repeats(
        self,
        bars: np.ndarray,
        assets: np.ndarray,
        places: np.ndarray,
        earlier: np.ndarray,
        differences: list[str],
    ) -> None:
        """Note rows that have the timestamp and symbol of an earlier one."""

        def finding(at: int) -> dict[str, Any]:
            here, there = (row_at(int(place), self._files) for place in (places[at], earlier[at]))
            row = "" if there["row"] is None else f" row {there['row']}"
            other = f"{row} of {there['file']}" if there["file"] != here["file"] else row
            return {
                **here,
                "order": (int(places[at]),),
                "symbol": self.symbols[assets[at]],
                "timestamp": show_time(self.timestamps[bars[at]]),
                "more": f"; the other one{other and f',{other},'} {differences[at]}",
            }

        names = [self.symbols[asset] for asset in np.unique(assets)]
        found = (finding(at) for at in range(len(differences)))
        self._ledger.note("duplicate_key", self.title, found, count=len(bars), symbols=names)

    def _note_zones(self, table: Table, moments: Moments) -> np.ndarray:
        """Note timestamps that are of another sort than most; return a mask of them."""
        if not self._daily:
            odd = moments.where(Sort.DAY, Sort.NAIVE)
            self._ledger.note_rows("mixed_zone", table, odd, "timestamp")
            return odd
        zoned, naive = moments.where(Sort.ZONED), moments.where(Sort.NAIVE)
        self._ledger.note_rows("mixed_zone", table, zoned, "timestamp")
        self._ledger.note_rows("naive_timestamp", table, naive, "timestamp")
        return zoned | naive

    def _lives(self) -> Ends:
        """Return the ends of life, those that came before these bars too."""
        if self._after is None:
            return self.ends
        bar = self.ends.bar.copy()
        bar[[asset for asset, name in enumerate(self.symbols) if name in self._after.ended]] = -1
        return self.ends._replace(bar=bar)

    def _note_absent(self, present: np.ndarray) -> None:
        """Note symbols of the panel that have no bar here, though nothing says that they ended."""
        known = self._after.symbols if self._after else ()
        ended = self._after.ended if self._after else frozenset()
        absent = [name for asset, name in enumerate(known) if name not in ended and not present[asset]]
        if absent:
            places = ({"symbol": name} for name in absent)
            self._ledger.note("absent_symbol", self.title, places, count=len(absent), symbols=absent)


class _Axes:
    """The moments and symbols of a source."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Sort, 0)
        self._times: dict[Sort, list[np.ndarray]] = {Sort.DAY: [], Sort.ZONED: []}
        self._sessions: list[np.ndarray] = []
        self._names: dict[Sort, set[str]] = {Sort.DAY: set(), Sort.ZONED: set()}
        self._at_midnight, self._away = True, False

    def take(self, table: Table) -> None:
        """Look at one table's keys."""
        moments, names, usable = read_keys(table, Ledger())
        self._at_midnight &= moments.at_midnight
        self._away |= moments.away
        for sort in Sort:
            self._counts[sort] += moments.count(sort)
        for sort in self._times:
            rows = usable & (moments.sorts == sort)
            if rows.any():
                some = slice(None) if rows.all() else rows
                _add(self._times[sort], moments.micros[some])
                self._names[sort].update((names if rows.all() else names.filter(rows)).unique().to_list())
                if sort is Sort.ZONED and moments.local is not None and self._at_midnight:
                    _add(self._sessions, moments.local[some])

    def settle(self) -> bool:
        """Decide whether bars are sessions; return whether too many have no zone to build from the others."""
        others = self._counts[Sort.DAY] + self._counts[Sort.NAIVE]
        self.as_sessions = self._at_midnight and self._away and not others
        if self.as_sessions:
            self._times[Sort.DAY] = self._sessions
            self._names[Sort.DAY] = self._names[Sort.ZONED]
            self._counts[Sort.DAY] = self._counts.pop(Sort.ZONED)
        naive = self._counts[Sort.NAIVE]
        # Most rows decide: then the others are the faulty ones.
        self.daily = self._counts.get(Sort.ZONED, 0) <= self._counts[Sort.DAY] + naive
        sort = Sort.DAY if self.daily else Sort.ZONED
        self.times = _distinct(np.concatenate([np.empty(0, "M8[us]"), *self._times[sort]]))
        self.symbols = sorted(self._names[sort])
        # Bars of unknown zone whose midnights would pass for sessions leave nothing to build from.
        return self.daily and naive > self._counts[Sort.DAY]


def _add(parts: list[np.ndarray], moments: np.ndarray) -> None:
    """Add moments to distinct ones; many symbols have the same, which are not held once for each."""
    parts.append(_distinct(moments))
    if sum(map(len, parts[1:])) > max(len(parts[0]), _APART):
        parts[:] = [_distinct(np.concatenate(parts))]


def _distinct(moments: np.ndarray) -> np.ndarray:
    """Return datetime64[us] once each; whole numbers sort faster than moments hash."""
    ticks = np.sort(moments.view(np.int64))
    return ticks[np.flatnonzero(np.diff(ticks, prepend=ticks[:1] - 1))].view(moments.dtype)
