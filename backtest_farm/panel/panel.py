"""Panel: fields on the same bars and assets, opened from disk in milliseconds and mapped, not loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import digest
from backtest_farm.ingest.grid import BAR_FIELDS, Ends
from backtest_farm.ingest.report import Report
from backtest_farm.panel.body import check_once, map_body
from backtest_farm.panel.clock import Side, find_bar
from backtest_farm.panel.folder import PanelFolder
from backtest_farm.panel.manifest import BlockFile, Manifest


class Panel:
    """One snapshot of a panel on disk; use `Panel.build` or `Panel.open`.

    A panel never changes: adding to it gives a new `Panel` of a new snapshot that shares files with the old
    one. It pickles as its path and snapshot, so it can be sent anywhere the path exists.
    """

    def __init__(self, folder: PanelFolder, snapshot: str, manifest: Manifest) -> None:
        self._folder = folder
        self._snapshot = snapshot
        self._manifest = manifest
        self._mapped: dict[str, np.ndarray] = {}
        self._hashes: dict[tuple[str, int], str] = {}
        for values in (manifest.timestamps, *manifest.ends):
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
        from backtest_farm.panel.publishing import publish

        folder = PanelFolder(path)
        folder.refuse_foreign()
        grid, report = read(source, on_fault, ends)
        return cls.open(folder.path, publish(folder, grid, report, bars_per_year))

    @classmethod
    def open(cls, path: str | os.PathLike[str], snapshot: str | int | None = None) -> Panel:
        """Open the newest snapshot of a panel, or the one with this name or number.

        Raises
        ------
        PanelError
            If there is no panel, no such snapshot, or a file is missing or cut.
        """
        folder = PanelFolder(path)
        name = folder.find(snapshot)
        return cls(folder, name, folder.load(name))

    @property
    def path(self) -> Path:
        """The panel's folder."""
        return self._folder.path

    @property
    def snapshot(self) -> str:
        """Number and content digest of the snapshot, ``000001-…``."""
        return self._snapshot

    @property
    def timestamps(self) -> np.ndarray:
        """datetime64[D] for daily sessions, datetime64[us] in UTC for intraday bars; (n_bars,), read-only."""
        return self._manifest.timestamps

    @property
    def symbols(self) -> tuple[str, ...]:
        """One name per asset id."""
        return self._manifest.symbols

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields, sorted."""
        return tuple(self._manifest.fields)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_bars, n_assets)."""
        return self._manifest.shape

    @property
    def bars_per_year(self) -> float:
        """Bars in a year, for annualising."""
        return self._manifest.bars_per_year

    @property
    def ends(self) -> Ends:
        """Ends of life, as given when building."""
        return self._manifest.ends

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
        statics = self._manifest.statics
        if name not in statics:
            raise InputError(f"the panel has no static column {name!r}: {nearest(name, statics)}")
        return statics[name]

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
            file = self._file(name)
            path = self._folder.block(file.name)
            check_once(path, file.bodies)
            self._mapped[name] = map_body(path, file.bodies[name], self.shape)
        return self._mapped[name]

    def __contains__(self, name: object) -> bool:
        return name in self._manifest.fields

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

    def digest(self, fields: Iterable[str], start_bar: int, end_bar: int) -> str:
        """Return the content hash of what a run up to `end_bar` can read.

        Parameters
        ----------
        fields : iterable of str
            The fields read; their order does not matter.
        start_bar : int
            Not part of the hash: factors read bars before the start of a window.
        end_bar : int
            The first bar that is not read.

        Returns
        -------
        str
            32 hexadecimal digits over these fields' rows, the timestamps, the symbols and the ends of life
            before `end_bar`; equal for equal content, whatever the path or the snapshot.
        """
        n_bars = self.shape[0]
        if not 0 <= start_bar < end_bar <= n_bars:
            raise InputError(f"bars {start_bar} to {end_bar} are no window of a panel of {n_bars} bars")
        ends = self.ends
        known = np.flatnonzero(ends.bar < end_bar)
        content = {
            "ends": [[self.symbols[a], int(ends.bar[a]), repr(float(ends.payout[a]))] for a in known],
            "fields": {name: self._prefix_hash(name, end_bar) for name in sorted(set(fields))},
            "symbols": self.symbols,
            "timestamps": hashlib.sha256(self.timestamps[:end_bar].astype("M8[us]").tobytes()).hexdigest(),
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
        array = self.align(name, values)
        file = self._folder.add_block(self.timestamps, self.symbols, {name: array})
        manifest = replace(self._manifest, fields={**self._manifest.fields, name: file})
        snapshot = self._folder.commit(manifest)
        return Panel.open(self.path, snapshot)

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
        from backtest_farm.panel.alignment import aligned  # polars is loaded only when a frame comes in

        return aligned(self.timestamps, self.symbols, name, values)

    def check(self) -> Report:
        """Read every file of the snapshot in full and check its bytes and its bars.

        Returns
        -------
        Report
            Damaged files as errors; the warnings of `build` for the bars as they are now.
        """
        from backtest_farm.panel.inspection import inspect

        return inspect(self._folder, self._manifest)

    def __reduce__(self) -> tuple:
        return Panel.open, (self.path, self._snapshot)

    def __repr__(self) -> str:
        n_bars, n_assets = self.shape
        first, last = self.timestamps[0], self.timestamps[-1]
        return (
            f"Panel({str(self.path)!r}, snapshot {self._snapshot}: {n_bars:,} bars {first} .. {last}, "
            f"{n_assets:,} assets, fields {', '.join(self.fields)})"
        )

    def _file(self, name: str) -> BlockFile:
        if name not in self:
            raise InputError(f"the panel has no field {name!r}: {nearest(name, self.fields)}")
        return self._manifest.fields[name]

    def _prefix_hash(self, name: str, end_bar: int) -> str:
        """Return the sha256 of a field's first `end_bar` rows; the whole field's is known from writing."""
        if end_bar == self.shape[0]:
            return self._file(name).bodies[name].sha256
        key = (name, end_bar)
        if key not in self._hashes:
            self._hashes[key] = hashlib.sha256(self[name][:end_bar].data).hexdigest()
        return self._hashes[key]


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
