"""Many files, wide frames, frames by symbol: one grid, and what was inferred is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import Grid, ReadOptions, read
from tests.ingest.bars import SYMBOLS, as_text, bars, with_cell

FIELDS = ("open", "high", "low", "close", "volume")


def assert_same(grid: Grid, expected: Grid | None = None) -> None:
    """The bars of `bars()`, wherever they came from."""
    expected = expected or read(bars())[0]
    np.testing.assert_array_equal(grid.timestamps, expected.timestamps)
    assert grid.symbols == expected.symbols and set(grid.fields) == set(expected.fields)
    for name, values in expected.fields.items():
        np.testing.assert_array_equal(grid.fields[name], values)


def wide(frame: pl.DataFrame, field: str) -> pl.DataFrame:
    """One field of a long frame with a column for each symbol."""
    return frame.pivot("symbol", index="timestamp", values=field)


def by_symbol(folder: Path) -> None:
    for symbol in SYMBOLS:
        own = bars().filter(pl.col("symbol") == symbol).drop("symbol")
        own.rename({"timestamp": "Date"}).write_csv(folder / f"{symbol}.csv")


def by_month(folder: Path) -> None:
    for name, rows in (("2024-01", bars()[:6]), ("2024-02", bars()[6:])):
        rows.write_parquet(folder / f"{name}.parquet")


def nested(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    bars()[:7].write_csv(folder / "a" / "b" / "x.csv")
    as_text(bars()[7:]).write_csv(folder / "a" / "y.csv")
    (folder / "_SUCCESS").touch()


@pytest.mark.parametrize("write", [by_symbol, by_month, nested])
@pytest.mark.parametrize("pattern", ["", "**/*.[cp]*"])
def test_folders_and_patterns(tmp_path: Path, write: Callable[[Path], None], pattern: str) -> None:
    write(tmp_path)
    grid, report = read(f"{tmp_path}/{pattern}" if pattern else tmp_path)
    assert_same(grid)
    said = [note.value for note in report.notes]
    assert said == (["symbols are the names of files or frames"] if write is by_symbol else [])


def test_a_file_per_period_without_symbols_asks_for_the_asset(tmp_path: Path) -> None:
    for year in (2023, 2024):
        frame = bars(3, ("AA",)).with_columns(pl.col("timestamp").dt.replace(year=year))
        frame.drop("symbol").write_csv(tmp_path / f"spx_{year}.csv")
    with pytest.raises(InputError, match="name a single asset: symbol="):
        read(tmp_path)
    grid, _ = read(tmp_path, options=ReadOptions(symbol="SPX"))
    assert grid.symbols == ("SPX",) and grid.shape == (6, 1)


def test_rows_count_in_their_own_file(tmp_path: Path) -> None:
    by_symbol(tmp_path)
    text = (tmp_path / "BB.csv").read_text().replace("12.5", "-12.5")
    (tmp_path / "BB.csv").write_text(text)
    bars()[:1].drop("symbol").rename({"timestamp": "Date"}).write_csv(tmp_path / "CC.csv")
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    (line,) = caught.value.faults
    assert line.startswith(f"non_positive_price: {tmp_path}/BB.csv row 3 2024-01-02 BB = close -12.5")


def test_a_row_that_another_file_has_too(tmp_path: Path) -> None:
    bars().write_csv(tmp_path / "a.csv")
    bars()[4:5].write_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"b.csv row 2 .*; the other one, row 6 of .*a.csv, is identical"):
        read(tmp_path)


def test_files_with_other_columns_are_named(tmp_path: Path) -> None:
    bars().write_csv(tmp_path / "a.csv")
    bars().drop("volume").write_csv(tmp_path / "b.csv")
    bars().with_columns(score=1.0).write_csv(tmp_path / "c.csv")
    with pytest.raises(InputError) as caught:
        read(tmp_path, "report")
    lines = [line.replace(f"{tmp_path}/", "") for line in caught.value.faults]
    assert lines[0].startswith("mixed_schema: b.csv = without volume: this file has other columns")
    assert lines[1].startswith("mixed_schema: c.csv = with score: ")


def test_files_of_two_kinds_are_refused_and_others_left_out(tmp_path: Path) -> None:
    bars().write_csv(tmp_path / "a.csv")
    (tmp_path / "notes.md").write_text("remarks")
    assert read(tmp_path)[1].counts == {"ignored_file": 1}
    bars().write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"Parquet files \(b.parquet\) and CSV files \(a.csv\)"):
        read(tmp_path)


def several_levels(fields_first: bool) -> pd.DataFrame:
    frame = pd.concat(
        {name: wide(bars(), name).to_pandas().set_index("timestamp") for name in FIELDS}, axis=1
    )
    frame.columns = frame.columns.set_levels([name.capitalize() for name in frame.columns.levels[0]], level=0)
    return frame if fields_first else frame.swaplevel(axis=1).sort_index(axis=1)


WIDE: dict[str, Callable[[], Any]] = {
    "polars": lambda: {name: wide(bars(), name) for name in FIELDS},
    "pandas": lambda: {
        name.upper(): wide(bars(), name).to_pandas().set_index("timestamp") for name in FIELDS
    },
    "arrow": lambda: {name: wide(bars(), name).to_arrow() for name in FIELDS},
    "other orders": lambda: {
        name: wide(bars(), name)
        .select("timestamp", *(SYMBOLS[::step]))
        .sort("timestamp", descending=step < 0)
        for name, step in zip(FIELDS, (1, -1, 1, -1, 1), strict=True)
    },
    "(field, symbol)": lambda: several_levels(True),
    "(symbol, field)": lambda: several_levels(False),
    "long, by symbol": lambda: {
        symbol: bars().filter(pl.col("symbol") == symbol).drop("symbol") for symbol in SYMBOLS
    },
}


@pytest.mark.parametrize("kind", WIDE)
def test_wide_frames_and_frames_by_symbol(kind: str) -> None:
    grid, report = read(WIDE[kind]())
    assert_same(grid)
    assert report.warnings == report.errors == ()


def test_holes_of_wide_frames_are_no_bars() -> None:
    gone = (pl.col("symbol") == "BB") & (pl.col("timestamp").dt.day() < 4)
    frames = {name: wide(bars().filter(~gone), name) for name in FIELDS}
    frames["close"] = frames["close"].with_columns(CC=pl.when(pl.col("timestamp").dt.day() != 2).then("CC"))
    grid, report = read(frames)
    assert np.isnan(grid.fields["open"]).sum() == 3
    assert report.counts == {"missing_cell": 1, "late_listing": 1, "gap": 1}
    assert report.of("missing_cell")[0].row is None  # its owner has no such row


def test_faults_of_wide_frames() -> None:
    frames = {name: wide(bars(), name) for name in FIELDS}
    with pytest.raises(InputError, match=r"non_positive_price: <wide> 2024-01-01 AA = close -1.0"):
        read(frames | {"close": with_cell(frames["close"], 0, "AA", -1.0)})
    with pytest.raises(InputError, match=r"duplicate_key: <wide> 2024-01-05 AA: .* is identical"):
        read({name: pl.concat([frame, frame[-1:]]) for name, frame in frames.items()})
    with pytest.raises(InputError) as caught:
        read(
            frames
            | {"open": bars(), "close": frames["close"].drop("timestamp"), "low": as_text(frames["low"])}
        )
    assert len(caught.value.faults) == 2 + len(SYMBOLS)
    with pytest.raises(InputError, match=r"no such column.*found: timestamp, symbol, close"):
        read({"close": frames["close"]})
    with pytest.raises(InputError, match="neither level"):
        read(
            several_levels(True).rename(columns=str.swapcase, level=0).rename(columns=lambda name: f"x{name}")
        )


def test_a_pandas_index_of_moments_needs_no_name() -> None:
    frame = bars(5, ("AA",)).to_pandas().set_index(pd.DatetimeIndex(bars(5, ("AA",))["timestamp"].to_list()))
    grid, _ = read(frame.drop(columns=["timestamp", "symbol"]), options=ReadOptions(symbol="AA"))
    assert_same(grid, read(bars(5, ("AA",)))[0])


def test_the_adjusted_close_is_a_field_of_its_own() -> None:
    grid, _ = read(bars().with_columns(pl.col("close").alias("Adj Close") / 2))
    np.testing.assert_array_equal(grid.fields["adj_close"], grid.fields["close"] / 2)
    columns = {"Adj Close": "close", "close": "raw"}
    swapped, _ = read(
        bars().with_columns(pl.col("close").alias("Adj Close") / 2), options=ReadOptions(columns=columns)
    )
    np.testing.assert_array_equal(swapped.fields["close"], grid.fields["adj_close"])
    np.testing.assert_array_equal(swapped.fields["raw"], grid.fields["close"])


def test_open_and_close_are_enough() -> None:
    grid, report = read(bars().select("timestamp", "symbol", "open", "close"))
    assert set(grid.fields) == {"open", "close"} and report.tallies == ()
