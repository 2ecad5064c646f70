"""Panel: fields on the same bars and assets, opened from disk in milliseconds and mapped, not loaded."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.identity import digest, digest_bytes
from backtest_farm.ingest.clock import Side, find_bar
from backtest_farm.ingest.grid import BAR_FIELDS
from backtest_farm.ingest.report import Report
from backtest_farm.panel.chain import NAMELESS
from backtest_farm.panel.folder import PanelFolder
from backtest_farm.panel.manifest import pick
from backtest_farm.panel.universes import Universes

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.ingest.calendars import Period
    from backtest_farm.ingest.matching import Lag
    from backtest_farm.ingest.reading import OnFault
    from backtest_farm.spec import Universe, UniverseSpec


@dataclass(frozen=True)
class Slab:
    """A run of bars whose fields lie together in one file.

    Attributes
    ----------
    panel : Panel
    first, n_bars : int
        Its bars.
    """

    panel: Panel
    first: int
    n_bars: int

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a field, float64 (n_bars, n_assets), read-only; see `Panel.read`."""
        return self.panel.read(name, self.first, self.first + self.n_bars)


class Panel:
    """One snapshot of a panel on disk; use `Panel.build` or `Panel.open`.

    A panel never changes: adding to it gives a new `Panel` of a new snapshot that shares files with the old
    one. It pickles as its path and snapshot, so it can be sent anywhere the path exists.

    Attributes
    ----------
    path : pathlib.Path
        The panel's folder.
    snapshot : str
        Number and content digest of the snapshot, ``000001-…``.
    timestamps : numpy.ndarray
        datetime64[D] for daily sessions, datetime64[us] in UTC for intraday bars; (n_bars,), read-only.
    symbols : tuple of str
        One name per asset id.
    fields, contexts, statics, universes : tuple of str
        The names of all of each, sorted.
    shape : tuple of int
        (n_bars, n_assets).
    bars_per_year : float
        Bars in a year, for annualising.
    calendar : str or None
        Name of the exchange's calendar in exchange_calendars; None = the panel's own bars.
    ends : Ends
        Ends of life, as given; read-only.
    """

    def __init__(self, folder: PanelFolder, snapshot: str) -> None:
        manifest = folder.load(snapshot)
        self.path: Final = folder.path
        self.snapshot: Final = snapshot
        self.timestamps: Final = manifest.timestamps
        self.symbols: Final = manifest.symbols
        self.fields: Final = tuple(manifest.fields)
        self.contexts: Final = tuple(manifest.contexts)
        self.statics: Final = tuple(sorted(manifest.statics))
        self.universes: Final = tuple(sorted(manifest.universes))
        self.shape: Final = manifest.shape
        self.bars_per_year: Final = manifest.bars_per_year
        self.calendar: Final = manifest.calendar
        self.ends: Final = manifest.ends
        self._folder = folder
        self._manifest = manifest
        self._universes = Universes(manifest)
        # A copy of several blocks lives as long as somebody uses it.
        self._whole: weakref.WeakValueDictionary[str, np.ndarray] = weakref.WeakValueDictionary()
        for values in (self.timestamps, *self.ends):
            values.flags.writeable = False

    @classmethod
    def build(
        cls,
        source: Any,
        path: str | os.PathLike[str],
        *,
        on_fault: OnFault = "strict",
        ends: Any = None,
        bars_per_year: float | None = None,
        calendar: str | None = None,
        **options: Any,
    ) -> Panel:
        """Read `source`, check it, and write it as a panel.

        Parameters
        ----------
        source : path, frame or Grid
            A CSV or Parquet file, or a polars, pandas or Arrow frame, in long form: timestamp, symbol, open,
            high, low, close, volume (optional) and any further numeric columns. A null price is a missing
            value (NaN) and a warning.
        path : path
            The panel's folder. A panel with the same content is left as it is.
        on_fault : {"strict", "report"}
            ``strict`` refuses faulty data and lists every fault; ``report`` leaves faulty rows and cells out
            and lists them in `report`.
        ends : frame, optional
            Ends of life: symbol, date, payout (null = the last mark).
        bars_per_year : float, optional
            For annualising. By default 252 for daily bars, 365 when weekends trade, and for intraday bars
            what the grid shows.
        calendar : str, optional
            Name of a calendar of exchange_calendars, such as ``XNYS`` or ``24/7`` (pip install
            "backtest_farm[calendars]"). Sessions without bars and bars outside of sessions are warnings, and
            `closes_period` goes by it.
        **options
            How text is to be read; see `backtest_farm.ingest.ReadOptions`.

        Returns
        -------
        Panel
            The snapshot that holds this content.

        Raises
        ------
        InputError
            If the data has faults, all of them listed.
        PanelError
            If `path` holds something else, or a panel with other content.
        PlatformError
            If a calendar is asked for and exchange_calendars is not installed.
        """
        # Readers and writers load polars and pyarrow, which nobody needs who only opens.
        from backtest_farm.panel.writing import build

        folder = PanelFolder(path)
        return cls(folder, build(folder, source, on_fault, ends, bars_per_year, calendar, options))

    @classmethod
    def open(cls, path: str | os.PathLike[str], snapshot: str | int | None = None) -> Panel:
        """Open the newest snapshot of a panel, or the one with this name or number.

        Raises
        ------
        PanelError
            If there is no panel, no such snapshot, or a file is missing or cut.
        """
        folder = PanelFolder(path)
        return cls(folder, folder.find(snapshot))

    @property
    def report(self) -> Report:
        """What was found when this snapshot, or the last one before it that read data, was written."""
        return self._folder.report(self.snapshot)

    def static(self, name: str) -> tuple:
        """Return a static column, one value (text, number, truth value or None) per asset.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return pick("static column", name, self._manifest.statics)

    def context(self, name: str) -> np.ndarray:
        """Return a context: float64 (n_bars,), read-only; NaN before its first value.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return pick("context", name, self._manifest.contexts).read(0, self.shape[0])[:, 0]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a field: float64 (n_bars, n_assets), read-only; NaN = no bar or no value.

        In a panel of one block this is the file itself, mapped and 64-byte aligned. In one of several blocks
        it is a copy of all of them: `slabs` and `read` take less memory.

        Raises
        ------
        InputError
            If there is no such field.
        PanelError
            If its file is damaged.
        """
        whole = self._whole.get(name)
        if whole is None:
            self._whole[name] = whole = self.read(name, 0, self.shape[0])
        return whole

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return some bars of a field.

        Parameters
        ----------
        name : str
            The field.
        start, stop : int
            The first bar, and the first one after the last.

        Returns
        -------
        numpy.ndarray
            float64 (stop - start, n_assets), read-only: mapped if one block holds these bars of all assets,
            otherwise a copy. Assets that were listed later than a block was written are NaN there.

        Raises
        ------
        InputError
            If there is no such field, or there are no such bars.
        PanelError
            If a file is damaged.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise InputError(f"bars {start} to {stop} cannot be read from a panel of {self.shape[0]}")
        return pick("field", name, self._manifest.fields).read(start, stop)

    def slabs(self) -> tuple[Slab, ...]:
        """Return the runs of bars that were written together, in order: what to read one after the other."""
        fields = self._manifest.fields.values()
        starts = sorted({piece.first_bar for field in fields for piece in field.pieces})
        return tuple(Slab(self, start, stop - start) for start, stop in pairwise([*starts, self.shape[0]]))

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def bar_of(self, timestamp: Any, side: Side = "exact") -> int:
        """Return the bar of a moment.

        Parameters
        ----------
        timestamp : str, date, datetime or datetime64
            ISO text or a moment; without a zone it is UTC. On an intraday panel a plain date means that whole
            day.
        side : {"exact", "left", "right"}
            ``exact``: the bar at this moment. ``left``: the first bar at or after it. ``right``: the first
            bar after it. So a window from a to b, both included, is ``bar_of(a, "left")`` up to, but not
            including, ``bar_of(b, "right")``.

        Raises
        ------
        InputError
            If the moment cannot be read, or ``exact`` finds no bar (the nearest one is named).
        """
        return find_bar(self.timestamps, timestamp, side)

    def closes_period(self, period: Period, stop: int | None = None) -> np.ndarray:
        """Return which bars are the last of their period, for schedules such as ``month_end``.

        Parameters
        ----------
        period : {"week", "month", "quarter"}
            Weeks start on Monday; days are those of UTC.
        stop : int, optional
            The first bar that is not looked at, as if the panel ended before it.

        Returns
        -------
        numpy.ndarray
            bool (n_bars,), or (stop,). With a calendar: the last session of the period (of intraday bars its
            last bar), known before the next one is there; a period whose last session has no bar is not
            closed. Without one: where the next bar is in another period, so never the panel's last. An
            intraday panel's last bar is never known to be a session's last.
        """
        from backtest_farm.ingest.calendars import last_of_period

        return last_of_period(self.timestamps[:stop], period, self.calendar)

    def expand(self, spec: UniverseSpec) -> tuple[Universe, ...]:
        """Return the concrete universes that an entry of a sweep's ``universes`` stands for, in order.

        Groups go by the value's text, symbols by asset id, draws by number. A draw takes the `size` symbols
        that come first by the hash of seed, number and symbol, among those that are ever members.

        Raises
        ------
        InputError
            If the panel has no such universe or static column, or too few members to draw from.
        """
        return self._universes.expand(spec)

    def members(self, universe: Universe) -> np.ndarray:
        """Return who is a member when: uint8 (n_bars, n_assets), read-only, 1 = member.

        In ``all`` everybody is one at all times; in any other universe nobody is before its first close.

        Raises
        ------
        InputError
            If the panel has no such universe, static column or symbol.
        """
        return self._universes.members(universe)

    def members_digest(self, universe: Universe, start: int, stop: int) -> str:
        """Return the content hash of the rows `start` to `stop` of a universe's members, and of nothing else.

        Symbols that are no members in these rows, listed or not, do not matter.
        """
        return self._universes.digest(universe, start, stop)

    def digest(
        self, fields: Iterable[str], end_bar: int, contexts: Iterable[str] = (), statics: Iterable[str] = ()
    ) -> str:
        """Return the content hash of what a run up to `end_bar` can read.

        Parameters
        ----------
        fields, contexts, statics : iterable of str
            The fields, contexts and static columns read; their order does not matter.
        end_bar : int
            The first bar that is not read.

        Returns
        -------
        str
            32 hexadecimal digits over these fields' and contexts' rows, the timestamps, the calendar's name,
            the symbols with a value in these rows and their ends of life that can be seen by then. Equal for
            equal content, whatever the path, the snapshot, the blocks, and whatever is listed later.
        """
        if not 0 < end_bar <= self.shape[0]:
            raise InputError(f"{end_bar} bars cannot be read from a panel of {self.shape[0]}")
        manifest, ends = self._manifest, self.ends
        chosen = {name: pick("field", name, manifest.fields) for name in sorted(set(fields))}
        series = {name: pick("context", name, manifest.contexts) for name in sorted(set(contexts))}
        visible = self.visible(chosen, end_bar)
        # A life that ends on the last bar read is paid out on the next: no run up to here can tell.
        known = np.flatnonzero(visible & (ends.bar < end_bar - 1))
        content: dict[str, Any] = {
            "calendar": self.calendar,
            "contexts": {name: one.chain_at(end_bar) for name, one in series.items()},
            "ends": [[self.symbols[a], int(ends.bar[a]), repr(float(ends.payout[a]))] for a in known],
            "fields": {name: one.chain_at(end_bar) for name, one in chosen.items()},
            "symbols": [self.symbols[a] for a in np.flatnonzero(visible)],
            "timestamps": digest_bytes(self.timestamps[:end_bar].astype("M8[us]").tobytes()),
            "unit": str(self.timestamps.dtype),
        }
        if tags := {name: self.static(name) for name in sorted(set(statics))}:
            content["statics"] = {
                name: [tag[a] for a in np.flatnonzero(visible)] for name, tag in tags.items()
            }
        return digest(content)

    def visible(self, fields: Iterable[str], stop: int) -> np.ndarray:
        """Return which assets have a value in some of these fields before a bar: bool (n_assets,)."""
        return np.any([pick("field", name, self._manifest.fields).since < stop for name in fields], axis=0)

    def append(self, source: Any, *, on_fault: OnFault = "strict", **options: Any) -> Panel:
        """Return a new snapshot with later bars; it costs what the new bars cost.

        Parameters
        ----------
        source, on_fault, **options
            As in `build`. All bars must come after the panel's last one. New symbols get the next asset ids.

        Returns
        -------
        Panel
            Its `report` speaks of the new bars. Fields that the source does not carry, and contexts, are NaN
            on them (``missing_field``); universes follow their dates; static columns of new symbols are None.

        Raises
        ------
        InputError
            If the data has faults, or bars that the panel has already, whether they are equal or revised.
        PanelError
            If this is not the panel's newest snapshot.

        Notes
        -----
        `digest` up to any earlier bar stays what it was, also when symbols are added; so does
        `members_digest`, but that of draws: a symbol that becomes a member takes part in them, and takes the
        place of another one in about size / (members + 1) of the draws.
        """
        from backtest_farm.panel.writing import append

        name = append(self._folder, self.snapshot, self._manifest, source, on_fault, options)
        return Panel(self._folder, name)

    def compact(self) -> Panel:
        """Return a new snapshot of the same content in few large blocks, where appends left many small ones.

        Digests, and so the keys of trials, stay as they are. Older snapshots stay too, and so do their files:
        disk space is used, not freed. A panel that has no more blocks than it needs is returned as it is.

        Raises
        ------
        PanelError
            If this is not the panel's newest snapshot, or a file is damaged.
        """
        from backtest_farm.panel.writing import compact

        return Panel(self._folder, compact(self._folder, self.snapshot, self._manifest))

    def with_field(self, name: str, values: Any, *, available: str | None = None, lag: Lag = None) -> Panel:
        """Return a new snapshot with one more field, or with another content of an added field.

        Parameters
        ----------
        name : str
            The field's name; open, high, low, close and volume cannot be replaced.
        values : frame or numpy.ndarray
            A long frame (timestamp, symbol, `name`), or an (n_bars, n_assets) array. Pairs that a frame
            leaves out are NaN.
        available, lag : optional
            For frames: the column that says when a value became known, and the bars (3) or the time ("45d")
            to add to that. With either, each bar has the last value that was known by then.

        Raises
        ------
        InputError
            If the name is taken by a bar field, or the values do not fit the panel; all faults are listed.
        """
        if name in BAR_FIELDS and name in self:
            raise InputError(
                f"field {name!r} holds the panel's own bars: choose another name for the new field"
            )
        array = self.align(name, values, available=available, lag=lag)
        return self._with_values("fields", name, array, self.symbols)

    def with_context(self, name: str, frame: Any, *, available: str | None = None, lag: Lag = None) -> Panel:
        """Return a new snapshot with a market-wide series, or with another content of one.

        Parameters
        ----------
        name : str
            The context's name.
        frame : frame or path
            timestamp and one column of numbers (called `name` if there are others); an empty value is no
            news.
        available, lag : optional
            As in `with_field`.

        Returns
        -------
        Panel
            At each bar the context has the last value that was known by then. A date's value is known on the
            session of that date, and on intraday bars when the day is over (UTC); that of a time of day, on
            the next session.

        Raises
        ------
        InputError
            If the name or the values will not do; all faults are listed.
        """
        from backtest_farm.ingest.attached import read_series

        values = read_series(name, frame, self.timestamps, available, lag)
        return self._with_values("contexts", name, values[:, None], NAMELESS)

    def with_static(self, name: str, frame: Any) -> Panel:
        """Return a new snapshot with a static column, or with another content of one.

        Parameters
        ----------
        name : str
            The column's name.
        frame : frame or path
            symbol and one column of values (called `name` if there are others). Symbols that it leaves out
            have None; symbols that the panel lacks are counted in `report`.

        Raises
        ------
        InputError
            If a symbol is repeated or empty, or none is the panel's; all faults are listed.
        """
        from backtest_farm.ingest.attached import read_static

        column, report = read_static(name, frame, self.symbols)
        return self._with(report, statics={**self._manifest.statics, name: column})

    def with_universe(self, name: str, spells: Any) -> Panel:
        """Return a new snapshot with a universe, or with another content of one.

        Parameters
        ----------
        name : str
            The universe's name.
        spells : frame or path
            symbol, start_date, end_date: a member on day d when start_date <= d < end_date; an empty end_date
            means still in. Spells of symbols that the panel lacks are kept, for bars that are appended later,
            and counted in `report` as ``survivorship``.

        Raises
        ------
        InputError
            If a date cannot be read or a spell ends before it starts; all faults are listed.
        """
        from backtest_farm.ingest.attached import read_spells

        found, report = read_spells(name, spells, self.timestamps, self.symbols)
        return self._with(report, universes={**self._manifest.universes, name: found})

    def with_ends(self, frame: Any) -> Panel:
        """Return a new snapshot with ends of life; those of other symbols stay.

        Parameters
        ----------
        frame : frame or path
            symbol, date (one of the panel's bars: the last of the life), payout per share (empty = the last
            mark).

        Raises
        ------
        InputError
            If a symbol, a date or a payout will not do; all faults are listed.
        """
        from backtest_farm.ingest.attached import read_more_ends

        ends, report = read_more_ends(frame, self.timestamps, self.symbols, self.ends)
        return self._with(report, ends=ends)

    def _with_values(self, kind: str, name: str, values: np.ndarray, symbols: tuple[str, ...]) -> Panel:
        from backtest_farm.panel.writing import cut, write

        others = {other: one for other, one in getattr(self._manifest, kind).items() if other != name}
        with self._folder.drafting() as room:
            stored = write(self._folder, room, self.timestamps, symbols, cut({name: values}), others)
            return self._with(None, room, **{kind: stored})

    def _with(self, report: Report | None, room: Path | None = None, **changed: Any) -> Panel:
        manifest = replace(self._manifest, **changed)
        return Panel(self._folder, self._folder.commit(manifest, room, report))

    def align(self, name: str, values: Any, *, available: str | None = None, lag: Lag = None) -> np.ndarray:
        """Return values on this panel's bars and assets without storing them.

        Parameters
        ----------
        name : str
            The column that holds the values, in lower case.
        values, available, lag
            As in `with_field`.

        Returns
        -------
        numpy.ndarray
            float64 (n_bars, n_assets); NaN where nothing was given.

        Raises
        ------
        InputError
            If a row has no place on the panel, is repeated or is infinite; all faults are listed.
        """
        from backtest_farm.ingest.matching import read_field
        from backtest_farm.panel.layout import tidy

        return tidy(read_field(name, values, self.timestamps, self.symbols, available, lag))

    def check_files(self) -> None:
        """Make sure that all files of the snapshot are what was opened, while they are in use.

        Raises
        ------
        PanelError
            If one is missing or cut, or holds other values.
        """
        for block in self._manifest.blocks:
            block.check_unchanged()

    def check(self) -> Report:
        """Read every file of the snapshot in full and check its bytes and its bars.

        Returns
        -------
        Report
            Damaged files as errors; the warnings of `build` for the bars as they are now.
        """
        from backtest_farm.ingest.audit import audit_bars, audit_files

        damage = audit_files(self._manifest.blocks)
        if damage.errors:
            return damage
        blocks = ((slab.first, {name: slab[name] for name in self.fields}) for slab in self.slabs())
        where = str(self.path)
        return audit_bars(self.timestamps, self.symbols, self.ends, self.calendar, blocks, where)

    def to_frame(self) -> pl.DataFrame:
        """Return the panel in long form: timestamp, symbol and all fields, where any of them has a value.

        Sorted by timestamp and asset id; null = no value. Reading it again gives the same bars.
        """
        from backtest_farm.ingest.frames import long_frame

        return long_frame(self.timestamps, self.symbols, {name: self[name] for name in self.fields})

    def to_wide(self, field: str) -> pl.DataFrame:
        """Return one field: timestamp and one column per symbol; null = no value."""
        from backtest_farm.ingest.frames import wide_frame

        return wide_frame(self.timestamps, self.symbols, self[field])

    def info(self) -> dict[str, Any]:
        """Return what there is to say about the panel: plain numbers, text, lists and dates.

        Of each universe: its members on the first and the last bar, its spells during the panel, and how many
        of those are of symbols that the panel lacks.
        """
        from backtest_farm.ingest.description import describe_static, describe_universe

        manifest, (n_bars, n_assets) = self._manifest, self.shape
        return {
            "path": str(self.path),
            "snapshot": self.snapshot,
            "snapshots": self._folder.names(),
            "n_bars": n_bars,
            "n_assets": n_assets,
            "first": self.timestamps[0].item(),
            "last": self.timestamps[-1].item(),
            "fields": list(self.fields),
            "bars_per_year": self.bars_per_year,
            "calendar": self.calendar,
            "blocks": len(self.slabs()),
            "bytes": sum(block.size for block in manifest.blocks),
            "contexts": list(self.contexts),
            "statics": {name: describe_static(column) for name, column in manifest.statics.items()},
            "universes": {
                name: describe_universe(self.timestamps, self.symbols, spells, self._universes.named(name))
                for name, spells in sorted(manifest.universes.items())
            },
            "ends": int((self.ends.bar < n_bars).sum()),
        }

    def __reduce__(self) -> tuple:
        return Panel.open, (self.path, self.snapshot)

    def __repr__(self) -> str:
        n_bars, n_assets = self.shape
        first, last = self.timestamps[0], self.timestamps[-1]
        return (
            f"Panel({str(self.path)!r}, snapshot {self.snapshot}: {n_bars:,} bars {first} .. {last}, "
            f"{n_assets:,} assets, fields {', '.join(self.fields)})"
        )


def synthetic_panel(
    path: str | os.PathLike[str], n_bars: int = 2520, n_assets: int = 500, seed: int = 0
) -> Panel:
    """Build a panel of a made-up market: regimes, sectors, late listings, ends of life, gaps and a ``score``.

    Parameters
    ----------
    path : path
        The panel's folder; the same arguments again give the panel that is there.
    n_bars, n_assets : int
        Daily bars and names.
    seed : int
        The same seed gives the same bytes.

    Returns
    -------
    Panel
        See `backtest_farm.ingest.synthetic.synthetic_grid` for its fields.
    """
    from backtest_farm.ingest.synthetic import SyntheticMarket

    return Panel.build(SyntheticMarket(n_bars, n_assets, seed), path)
