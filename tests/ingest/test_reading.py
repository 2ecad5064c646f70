"""The same bars from every kind of source, whatever they are called and however they are ordered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from backtest_farm.ingest import read
from tests.ingest.bars import as_text, bars, with_cell

UTC = dt.UTC
SOURCES: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "lazy": lambda frame: frame.lazy(),
    "arrow": lambda frame: frame.to_arrow(),
    "pandas": lambda frame: frame.to_pandas(),
    "pandas index": lambda frame: frame.to_pandas().set_index(["timestamp", "symbol"]),
    "text": as_text,
    "shuffled": lambda frame: frame.sample(fraction=1.0, shuffle=True, seed=1),
    "capitals": lambda frame: frame.rename(str.upper),
    "aliases": lambda frame: frame.rename({"timestamp": "Date", "symbol": "Ticker", "close": " Close "}),
    "naive midnight": lambda frame: frame.with_columns(pl.col("timestamp").cast(pl.Datetime("ns"))),
    "midnight text": lambda frame: frame.with_columns(pl.col("timestamp").cast(pl.String) + "T00:00:00"),
    "categories": lambda frame: frame.with_columns(pl.col("symbol").cast(pl.Categorical)),
    "integers": lambda frame: frame.with_columns(pl.col("volume").cast(pl.Int64)),
    "decimals": lambda frame: frame.with_columns(pl.col("close").cast(pl.Decimal(10, 2))),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_grid(kind: str) -> None:
    expected, _ = read(bars())
    grid, report = read(SOURCES[kind](bars()))
    assert report.tallies == ()
    assert grid.timestamps.dtype == np.dtype("M8[D]")
    np.testing.assert_array_equal(grid.timestamps, expected.timestamps)
    assert grid.symbols == expected.symbols == ("AA", "BB", "CC")
    assert set(grid.fields) == {"open", "high", "low", "close", "volume"}
    for name, values in expected.fields.items():
        np.testing.assert_array_equal(grid.fields[name], values)
    assert grid.fields["close"][1, 2] == 10.5 + 1 + 2


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bars{suffix}"
    frame = bars().with_columns(score=pl.col("close") * 1.1, note=pl.lit("text"))
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path, row_group_size=4)
    grid, report = read(path)
    assert report.counts == {"ignored_column": 1}
    np.testing.assert_array_equal(grid.fields["score"], grid.fields["close"] * 1.1)


def test_row_numbers_are_lines_in_a_csv_file_and_positions_elsewhere(tmp_path: Path) -> None:
    frame = with_cell(bars(), 4, "volume", 0.0)
    (tmp_path / "bars.csv").write_text(
        "\ufeff" + frame.write_csv(), encoding="utf-8"
    )  # with a byte order mark
    frame.write_parquet(tmp_path / "bars.parquet")
    assert read(tmp_path / "bars.csv")[1].findings[0].row == 6
    assert (tmp_path / "bars.csv").read_text(encoding="utf-8").splitlines()[5].endswith(",0.0")
    assert read(tmp_path / "bars.parquet")[1].findings[0].row == 4
    assert read(frame)[1].findings[0].row == 4


def test_symbols_that_look_like_nothing_are_symbols(tmp_path: Path) -> None:
    names = ("NA", "NULL", "NaN", "TRUE", "1E5", "é/ü")
    bars(3, names).write_csv(tmp_path / "bars.csv")
    grid, report = read(tmp_path / "bars.csv")
    assert set(grid.symbols) == set(names)
    assert report.tallies == ()


def test_an_empty_price_is_a_missing_value(tmp_path: Path) -> None:
    frame = with_cell(bars(), 4, "close", None)
    frame.write_csv(tmp_path / "bars.csv")
    for source in (frame, frame.to_pandas(), tmp_path / "bars.csv"):
        grid, report = read(source)
        assert np.isnan(grid.fields["close"][1, 1]) and grid.fields["open"][1, 1] == 12.0
        assert report.counts == {"missing_cell": 1, "gap": 1}


def test_volume_may_be_absent_and_fields_may_have_holes() -> None:
    frame = bars().drop("volume").with_columns(score=pl.when(pl.col("symbol") == "AA").then(1.0))
    grid, report = read(frame)
    assert "volume" not in grid.fields
    assert np.isnan(grid.fields["score"]).sum() == 10
    assert report.tallies == ()


@pytest.mark.parametrize(
    "times",
    [
        lambda s: s.dt.replace_time_zone("UTC"),
        lambda s: s.dt.replace_time_zone("UTC").dt.cast_time_unit("ms"),
        lambda s: s.dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York"),
        lambda s: s.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda s: (s + dt.timedelta(hours=2)).dt.strftime("%Y-%m-%d %H:%M:%S+02:00"),
        lambda s: s.dt.replace_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f%z"),
    ],
)
def test_zoned_timestamps_are_utc_microseconds(times: Callable[[pl.Series], pl.Series]) -> None:
    moments = pl.Series([dt.datetime(2024, 1, 1, hour) for hour in range(5)])
    grid, _ = read(bars(5, ("AA",)).with_columns(timestamp=times(moments)))
    assert grid.timestamps.dtype == np.dtype("M8[us]")
    np.testing.assert_array_equal(grid.timestamps, moments.to_numpy().astype("M8[us]"))


def test_python_moments_of_several_zones_in_pandas_are_understood_or_refused() -> None:
    frame = bars(2, ("AA",)).to_pandas()
    frame["timestamp"] = pd.Series(
        [pd.Timestamp("2024-01-01T12:00Z"), pd.Timestamp("2024-01-01T15:00+02:00")], dtype=object
    )
    grid, _ = read(frame)
    np.testing.assert_array_equal(
        grid.timestamps, np.array(["2024-01-01T12:00", "2024-01-01T13:00"], "M8[us]")
    )
