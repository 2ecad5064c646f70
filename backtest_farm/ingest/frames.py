"""Arrays as frames, the way back from a grid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl


def long_frame(
    timestamps: np.ndarray, symbols: tuple[str, ...], fields: Mapping[str, np.ndarray]
) -> pl.DataFrame:
    """Return timestamp, symbol and the fields, (n_bars, n_assets) each, where any of them has a value."""
    n_bars, n_assets = len(timestamps), len(symbols)
    columns = {
        "timestamp": np.repeat(timestamps, n_assets),
        "symbol": pl.Series(symbols, dtype=pl.String).gather(np.tile(np.arange(n_assets), n_bars)),
        **{name: values.reshape(-1) for name, values in fields.items()},
    }
    frame = _zoned(pl.DataFrame(columns)).with_columns(pl.col(*fields).fill_nan(None))
    return frame.filter(pl.any_horizontal(pl.col(*fields).is_not_null()))


def wide_frame(timestamps: np.ndarray, symbols: tuple[str, ...], values: np.ndarray) -> pl.DataFrame:
    """Return timestamp and one column per symbol of `values`, (n_bars, n_assets)."""
    frame = pl.DataFrame(values, schema=list(symbols)).fill_nan(None)
    return _zoned(frame.insert_column(0, pl.Series("timestamp", timestamps)))


def _zoned(frame: pl.DataFrame) -> pl.DataFrame:
    daily = frame.schema["timestamp"] == pl.Date
    return frame if daily else frame.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
