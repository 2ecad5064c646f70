"""Wide frames, one for each field with a column for each symbol, as one long frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import PRICE_FIELDS
from backtest_farm.ingest.table import KEYS, canonical_name

NAME_OF_WIDE = "<wide>"


def is_wide_pandas(source: Any) -> bool:
    """Return whether this is a pandas frame with columns of two levels, such as (field, symbol)."""
    is_pandas = type(source).__module__.partition(".")[0] == "pandas"
    return is_pandas and getattr(getattr(source, "columns", None), "nlevels", 1) == 2


def wide_of_pandas(source: Any) -> dict[str, pl.DataFrame]:
    """Return a pandas frame with columns (field, symbol) or (symbol, field) as one wide frame per field.

    Raises
    ------
    InputError
        If neither level holds the names of prices.
    """
    pairs = [tuple(map(str, pair)) for pair in source.columns]
    counts = [sum(canonical_name(pair[level]) in PRICE_FIELDS for pair in pairs) for level in (0, 1)]
    if not any(counts):
        names = ", ".join(sorted({pair[0] for pair in pairs})[:5])
        raise InputError(
            f"neither level of this pandas frame's columns holds open and close: {names}, ...",
            hint="name the columns (field, symbol)",
        )
    level = int(counts[1] > counts[0])
    flat = source.set_axis([str(place) for place in range(len(pairs))], axis=1).rename_axis("timestamp")
    frame = pl.from_pandas(flat, include_index=True)
    wide: dict[str, pl.DataFrame] = {}
    for field in dict.fromkeys(pair[level] for pair in pairs):
        columns = {str(place): pair[1 - level] for place, pair in enumerate(pairs) if pair[level] == field}
        wide[field] = frame.select("timestamp", *(pl.col(own).alias(name) for own, name in columns.items()))
    return wide


def long_from_wide(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return wide frames as one long frame (timestamp, symbol, and a column for each field).

    A cell without a value is no bar, and a symbol or timestamp that one frame lacks has no value there.

    Raises
    ------
    InputError
        If a frame has no timestamps, or a column that holds no numbers; all faults are listed.
    """
    faults: list[str] = []
    longs = []
    for field, frame in frames.items():
        names = {canonical_name(name): name for name in frame.columns}
        if "timestamp" not in names:
            faults.append(f"{field!r} has no column timestamp; found: {', '.join(frame.columns[:5])}")
            continue
        if "symbol" in names:
            faults.append(f"{field!r} has a column symbol: give long frames alone, and wide ones by field")
            continue
        own = names["timestamp"]
        symbols = [name for name in frame.columns if name != own]
        text = [
            name for name in symbols if not frame.schema[name].is_numeric() and frame.schema[name] != pl.Null
        ]
        faults += [f"{field!r} has no numbers in column {name!r} ({frame.schema[name]})" for name in text]
        if text:
            continue
        long = frame.select(pl.col(own).alias("timestamp"), pl.col(symbols).cast(pl.Float64)).unpivot(
            index="timestamp", variable_name="symbol", value_name=canonical_name(str(field))
        )
        longs.append(long)
    if faults:
        raise InputError(
            "these are no wide frames",
            faults=faults,
            hint="give a column of timestamps and one for each symbol",
        )
    joined = reduce(_joined, longs)
    values = [name for name in joined.columns if name not in KEYS]
    joined = joined.with_columns(pl.col(values).fill_nan(None))
    return joined.filter(~pl.all_horizontal(pl.col(values).is_null()))


def _joined(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    keys = list(KEYS)
    if left.select(keys).equals(right.select(keys)):
        return left.hstack(right.drop(keys))
    return left.join(right, on=keys, how="full", coalesce=True, maintain_order="left_right", nulls_equal=True)
