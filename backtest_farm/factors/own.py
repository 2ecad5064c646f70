"""Signals that a user's code computes: what it sees of a panel, and what it may give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.factors.fields import factor_field
from backtest_farm.factors.spec import Expr, Factor
from backtest_farm.ingest.targets import KEEP, target_rows
from backtest_farm.panel import Panel
from backtest_farm.spec import shown

if TYPE_CHECKING:
    import polars as pl


class PastPanel:
    """A panel as it was before a bar: what a user's code reads of one.

    It has all fields, contexts and static columns, and neither universes nor ends of life, which are for the
    book to know.

    Attributes
    ----------
    timestamps, symbols, fields, contexts, statics, shape, bars_per_year, calendar
        As those of a `Panel`, without the bars from `stop` on.
    """

    def __init__(self, panel: Panel, stop: int) -> None:
        self._panel = panel
        self.timestamps = panel.timestamps[:stop]
        self.shape = (stop, panel.shape[1])
        for name in ("symbols", "fields", "contexts", "statics", "bars_per_year", "calendar"):
            setattr(self, name, getattr(panel, name))

    if TYPE_CHECKING:
        symbols: tuple[str, ...]
        fields: tuple[str, ...]
        contexts: tuple[str, ...]
        statics: tuple[str, ...]
        bars_per_year: float
        calendar: str | None

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a field: float64 (n_bars, n_assets), read-only; NaN = no value."""
        return self._panel.read(name, 0, self.shape[0])

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def context(self, name: str) -> np.ndarray:
        """Return a context: float64 (n_bars,), read-only; NaN before its first value."""
        return self._panel.context(name)[: self.shape[0]]

    def static(self, name: str) -> tuple:
        """Return a static column: one value per asset."""
        return self._panel.static(name)

    def to_frame(self) -> pl.DataFrame:
        """Return all fields in long form: timestamp, symbol and one column each; null = no value."""
        from backtest_farm.ingest.frames import long_frame

        return long_frame(self.timestamps, self.symbols, {name: self[name] for name in self.fields})

    def to_wide(self, field: str) -> pl.DataFrame:
        """Return one field: timestamp and one column per symbol; null = no value."""
        from backtest_farm.ingest.frames import wide_frame

        return wide_frame(self.timestamps, self.symbols, self[field])


class OwnFactor:
    """What a user's code computes on a panel, where a factor could stand.

    Parameters
    ----------
    name : mapping
        All that decides its values beside the panel, as plain values.
    compute : callable
        Takes a `PastPanel`, gives what `values` takes.
    kept : bool
        Whether the node's cache keeps the values.
    """

    factor = "own"
    versions: Mapping[str, str] = {}

    def __init__(self, name: Mapping[str, Any], compute: Callable[[PastPanel], Any], kept: bool) -> None:
        self.name = name
        self.kept = kept
        self._compute = compute

    def model_dump(self) -> Mapping[str, Any]:
        """Return what it is, as factors do."""
        return self.name

    def values(self, panel: Panel, stop: int) -> np.ndarray:
        """Return its values on the bars before `stop`: float64 (stop, n_assets); `KEEP` as it was given.

        The code may give an array of that shape, a long frame (timestamp, symbol, value), a wide one
        (timestamp and one column a symbol), a polars expression or a factor.

        Raises
        ------
        InputError
            If it gives anything else, numbers that do not fit the panel, or no number at all.
        """
        past = PastPanel(panel, stop)
        found = self._compute(past)
        if type(found).__module__.partition(".")[0] == "polars" and type(found).__name__ == "Expr":
            found = Expr(sql=found)
        if isinstance(found, Factor):
            found = factor_field(panel, found, stop).values
        if not (isinstance(found, np.ndarray) or hasattr(found, "columns")):
            raise InputError(
                f"the signal is {shown(found)}",
                hint="return an array of one row a bar and one column an asset, a frame (timestamp, symbol, "
                "value), a polars expression, or a bf.factor",
            )
        if isinstance(found, np.ndarray) and found.dtype == bool:
            found = found.astype(float)
        try:
            rows = target_rows(past.timestamps, past.symbols, slice(0, stop), found)
        except InputError as error:
            raise InputError(f"the signal does not fit: {error.message}", faults=error.faults) from None
        if not np.isfinite(rows.values).any():
            raise InputError(
                "the signal is NaN on every bar of every asset",
                hint="look at what signal() returns: look-backs may be longer than the panel",
            )
        return rows.values if rows.keep is None else np.where(rows.keep, KEEP, rows.values)
