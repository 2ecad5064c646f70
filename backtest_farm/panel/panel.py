"""Panel: fields on the same bars and assets, opened from disk in milliseconds and mapped, not loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

import numpy as np

from backtest_farm.errors import InputError, PanelError, nearest
from backtest_farm.identity import digest, digest_bytes
from backtest_farm.ingest.grid import BAR_FIELDS, Grid
from backtest_farm.ingest.report import Report
from backtest_farm.panel.clock import Side, bars_in_a_year, find_bar
from backtest_farm.panel.folder import PanelFolder
from backtest_farm.panel.manifest import Manifest

Picked = TypeVar("Picked")


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
    fields : tuple of str
        The names of all fields, sorted.
    shape : tuple of int
        (n_bars, n_assets).
    bars_per_year : float
        Bars in a year, for annualising.
    ends : Ends
        Ends of life, as given when building; read-only.
    """

    def __init__(self, folder: PanelFolder, snapshot: str) -> None:
        manifest = folder.load(snapshot)
        self.path: Final = folder.path
        self.snapshot: Final = snapshot
        self.timestamps: Final = manifest.timestamps
        self.symbols: Final = manifest.symbols
        self.fields: Final = tuple(manifest.fields)
        self.shape: Final = len(manifest.timestamps), len(manifest.symbols)
        self.bars_per_year: Final = manifest.bars_per_year
        self.ends: Final = manifest.ends
        self._folder = folder
        self._manifest = manifest
        self._mapped: dict[str, np.ndarray] = {}
        self._hashes: dict[tuple[str, int], str] = {}
        for values in (self.timestamps, *self.ends):
            values.flags.writeable = False

    @classmethod
    def build(
        cls,
        source: Any,
        path: str | os.PathLike[str],
        *,
        on_fault: Literal["strict", "report"] = "strict",
        ends: Any = None,
        bars_per_year: float | None = None,
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
        """
        # Readers and writers load polars and pyarrow, which nobody needs who only opens.
        from backtest_farm.ingest.readers import read
        from backtest_farm.panel.layout import tidy

        folder = PanelFolder(path)
        folder.refuse_foreign()
        grid, report = read(source, on_fault, ends)
        yearly = bars_in_a_year(grid.timestamps) if bars_per_year is None else float(bars_per_year)
        if not 0 < yearly < float("inf"):
            raise InputError(f"bars_per_year is {yearly}: give a positive number")
        fields = {name: tidy(grid.fields[name]) for name in sorted(grid.fields)}
        hashes = {name: digest_bytes(values.data) for name, values in fields.items()}
        manifest = Manifest(grid.timestamps, grid.symbols, yearly, grid.ends, grid.statics, hashes, {})
        snapshot = folder.published(manifest.digest())
        if snapshot is None:
            folder.refuse_other()  # before anything is written, and once more when it is
            block = folder.add_block(manifest, fields)
            snapshot = folder.commit(replace(manifest, fields=dict.fromkeys(fields, block)), report)
        return cls(folder, snapshot)

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
        """What building found."""
        return self._folder.report()

    def static(self, name: str) -> tuple:
        """Return a static column, one value per asset.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return _pick("static column", name, self._manifest.statics)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a field: float64 (n_bars, n_assets), read-only, mapped and 64-byte aligned; NaN = no bar or
        no value.

        Raises
        ------
        InputError
            If there is no such field.
        PanelError
            If its file is damaged.
        """
        if name not in self._mapped:
            self._mapped[name] = _pick("field", name, self._manifest.fields).map(name, self.shape)
        return self._mapped[name]

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

    def digest(self, fields: Iterable[str], end_bar: int) -> str:
        """Return the content hash of what a run up to `end_bar` can read.

        Parameters
        ----------
        fields : iterable of str
            The fields read; their order does not matter.
        end_bar : int
            The first bar that is not read.

        Returns
        -------
        str
            32 hexadecimal digits over these fields' rows, the timestamps, the symbols and the ends of life
            that can be seen by then; equal for equal content, whatever the path or the snapshot.
        """
        n_bars = self.shape[0]
        if not 0 < end_bar <= n_bars:
            raise InputError(f"{end_bar} bars cannot be read from a panel of {n_bars}")
        ends = self.ends
        # A life that ends on the last bar read is paid out on the next: no run up to here can tell.
        known = np.flatnonzero(ends.bar < end_bar - 1)
        content = {
            "ends": [[self.symbols[a], int(ends.bar[a]), repr(float(ends.payout[a]))] for a in known],
            "fields": {name: self._prefix_hash(name, end_bar) for name in sorted(set(fields))},
            "symbols": self.symbols,
            "timestamps": digest_bytes(self.timestamps[:end_bar].astype("M8[us]").tobytes()),
            "unit": str(self.timestamps.dtype),
        }
        return digest(content)

    def with_field(self, name: str, values: Any) -> Panel:
        """Return a new snapshot with one more field, or with another content of an added field.

        Parameters
        ----------
        name : str
            The field's name; open, high, low, close and volume cannot be replaced.
        values : frame or numpy.ndarray
            A long frame (timestamp, symbol, `name`), or an (n_bars, n_assets) array. Pairs that a frame
            leaves out are NaN.

        Raises
        ------
        InputError
            If the name is taken by a bar field, or the values do not fit the panel; all faults are listed.
        """
        if name in BAR_FIELDS and name in self:
            raise InputError(
                f"field {name!r} holds the panel's own bars: choose another name for the new field"
            )
        array, now = self.align(name, values), self._manifest
        block = self._folder.add_block(now, {name: array})
        hashes = {**now.hashes, name: digest_bytes(array.data)}
        more = replace(now, hashes=hashes, fields={**now.fields, name: block})
        return Panel(self._folder, self._folder.commit(more))

    def align(self, name: str, values: Any) -> np.ndarray:
        """Return values on this panel's bars and assets without storing them.

        Parameters
        ----------
        name : str
            The column that holds the values, in lower case.
        values : frame or numpy.ndarray
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
        from backtest_farm.ingest.matching import read_field  # polars is loaded only when values come in
        from backtest_farm.panel.layout import tidy

        return tidy(read_field(name, values, self.timestamps, self.symbols))

    def check(self) -> Report:
        """Read every file of the snapshot in full and check its bytes and its bars.

        Returns
        -------
        Report
            Damaged files as errors; the warnings of `build` for the bars as they are now.
        """
        from backtest_farm.ingest.checks import survey
        from backtest_farm.ingest.ledger import Ledger

        ledger = Ledger()
        for block in self._manifest.blocks:
            try:
                block.check_bytes()
            except PanelError as fault:
                ledger.note("damaged_file", str(block.path), [{"more": f"; {fault.message}"}])
        damage = ledger.report()
        if damage.errors:
            return damage
        fields = {name: self[name] for name in self.fields}
        grid = Grid(self.timestamps, self.symbols, fields, self._manifest.statics, self.ends)
        return survey(grid, str(self.path))

    def __reduce__(self) -> tuple:
        return Panel.open, (self.path, self.snapshot)

    def __repr__(self) -> str:
        n_bars, n_assets = self.shape
        first, last = self.timestamps[0], self.timestamps[-1]
        return (
            f"Panel({str(self.path)!r}, snapshot {self.snapshot}: {n_bars:,} bars {first} .. {last}, "
            f"{n_assets:,} assets, fields {', '.join(self.fields)})"
        )

    def _prefix_hash(self, name: str, end_bar: int) -> str:
        """Return the sha256 of a field's first `end_bar` rows; the whole field's is known from writing."""
        if end_bar == self.shape[0]:
            return _pick("field", name, self._manifest.hashes)
        key = (name, end_bar)
        if key not in self._hashes:
            self._hashes[key] = digest_bytes(self[name][:end_bar].data)
        return self._hashes[key]


def _pick(what: str, name: str, known: Mapping[str, Picked]) -> Picked:
    if name not in known:
        raise InputError(f"the panel has no {what} {name!r}: {nearest(name, known)}")
    return known[name]


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
    from backtest_farm.ingest.synthetic import synthetic_grid

    return Panel.build(synthetic_grid(n_bars, n_assets, seed), path)
