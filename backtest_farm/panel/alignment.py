"""Fitting new values to a panel's bars and assets."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.ledger import Ledger, positions, refuse
from backtest_farm.ingest.matching import match, note_columns, repeated
from backtest_farm.ingest.numbers import KEYS, read_numbers
from backtest_farm.ingest.table import canonical_name, open_table
from backtest_farm.panel.layout import tidy


def aligned(timestamps: np.ndarray, symbols: tuple[str, ...], name: str, values: Any) -> np.ndarray:
    """Return `values` as a tidy (n_bars, n_assets) array; see `Panel.with_field`."""
    if not name or name in KEYS or name != canonical_name(name):
        raise InputError(
            f"{name!r} is no name for a field: use lower case without blanks, not {' or '.join(KEYS)}"
        )
    if isinstance(values, np.ndarray):
        return _from_array(len(timestamps), len(symbols), name, values)
    what = f"field {name!r}"
    ledger = Ledger(what)
    table = open_table(values, what)
    if not note_columns(table, (*KEYS, name), ledger):
        refuse(ledger.report(), what, mendable=False)
    cells = match(table, timestamps, symbols, ledger)
    cell = cells.bars * len(symbols) + cells.assets
    ledger.note_rows("duplicate_key", table, cells.rows[repeated(cell, len(timestamps) * len(symbols))])
    numbers = read_numbers(table, name, ledger)
    report = ledger.report()
    if report.errors:
        refuse(report, what, mendable=False)
    dense = np.full((len(timestamps), len(symbols)), np.nan)
    dense.reshape(-1)[cell] = numbers[cells.rows]
    return tidy(dense)


def _from_array(n_bars: int, n_assets: int, name: str, values: np.ndarray) -> np.ndarray:
    if values.shape != (n_bars, n_assets):
        raise InputError(
            f"field {name!r} has shape {values.shape}: the panel has {n_bars} bars x {n_assets} assets"
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"field {name!r} holds {values.dtype}: give numbers")
    dense = tidy(values)
    infinite = positions(np.isinf(dense).reshape(-1))
    if len(infinite):
        bar, asset = divmod(int(infinite[0]), n_assets)
        raise InputError(
            f"field {name!r} holds {len(infinite)} infinite values, the first at bar {bar}, asset {asset}",
            hint="write NaN where there is no value",
        )
    return dense
