"""Number columns: what was written, as float64, with every cell that is none or no possible one marked."""

from __future__ import annotations

import numpy as np
import polars as pl

from backtest_farm.ingest.grid import BAR_FIELDS, PRICE_FIELDS
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.table import KEYS, Table

_EMPTY = ("", "na", "n/a", "null", "none")


def field_columns(table: Table, ledger: Ledger) -> list[str]:
    """Return the columns that become fields; others that hold no numbers are noted and left out.

    A text column is a field when most of its cells read as numbers: the others are then faults.
    """
    fields = []
    for name in table.frame.columns:
        if name in KEYS:
            continue
        if name in BAR_FIELDS or (name and _is_numeric(table.frame[name])):
            fields.append(name)
        else:
            ledger.note("ignored_column", table.file, [{"value": f"{name} ({table.frame.schema[name]})"}])
    return fields


def read_numbers(table: Table, name: str, ledger: Ledger) -> np.ndarray:
    """Return a column as float64 with NaN for empty, unreadable and impossible cells; each is noted by its
    kind.

    An empty (null) price is a missing value and a warning; NaN or an infinity *written* as a price is a
    fault. Other fields may be NaN but not infinite.
    """
    column = table.frame[name]
    numbers, unreadable = _as_numbers(column)
    ledger.note_rows("unparseable", table, unreadable, name)
    values = numbers.fill_null(np.nan).to_numpy().astype(np.float64, copy=True)
    empty = numbers.is_null().to_numpy()
    finite = np.isfinite(values)
    if name in PRICE_FIELDS:
        ledger.note_rows("missing_cell", table, empty & ~unreadable, name)
        ledger.note_rows("non_finite_price", table, ~finite & ~empty, name)
        ledger.note_rows("non_positive_price", table, finite & (values <= 0), name)
        values[~finite | (values <= 0)] = np.nan
        return values
    ledger.note_rows("non_finite_value", table, np.isinf(values), name)
    values[~finite] = np.nan
    if name == "volume":
        ledger.note_rows("negative_volume", table, values < 0, name)
        values[values < 0] = np.nan
    return values


def _as_numbers(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Return `column` as Float64 (null where empty or unreadable), and a mask of the unreadable cells."""
    dtype = column.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64), np.zeros(len(column), bool)
    if dtype != pl.String:
        # Dates, lists and the like are no numbers in any row.
        return pl.Series(column.name, [None] * len(column), pl.Float64), column.is_not_null().to_numpy()
    text = column.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    empty = text.is_null() | text.str.to_lowercase().is_in(list(_EMPTY))
    return numbers, (numbers.is_null() & ~empty).to_numpy()


def _is_numeric(column: pl.Series) -> bool:
    numbers, unreadable = _as_numbers(column)
    return int(unreadable.sum()) <= len(numbers) - numbers.null_count() or not unreadable.any()
