"""Bars read in blocks: the same bars and the same report, in little memory, and later bars for a panel."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import Grid, Reading, Report, read, read_later, reading, stream, synthetic_grid
from backtest_farm.ingest.frames import long_frame
from tests.ingest.bars import bars, real_file, with_cell

ROW_OF_5 = 8 * 5 * 3  # bytes of a bar of three assets and five fields


def drawn(reading: Reading) -> tuple[dict[str, np.ndarray], list[int], Report]:
    """All blocks as one, where they began, and the report."""
    blocks = list(reading.blocks())
    fields = {name: np.concatenate([fields[name] for _, fields in blocks]) for name in reading.fields}
    return fields, [first for first, _ in blocks], reading.report


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    """A market with gaps, late listings and ends, some slipped points and one bar without bracketing."""
    grid = synthetic_grid(400, 12, seed=5)
    frame = long_frame(grid.timestamps, grid.symbols, grid.fields).sort("symbol", "timestamp")
    last = pl.lit(grid.timestamps[-30])
    frame = frame.filter((pl.col("symbol") != grid.symbols[1]) | (pl.col("timestamp") < last))
    slipped = pl.int_range(pl.len()) % 97 == 13
    return frame.with_columns(
        close=pl.when(slipped).then(pl.col("close") / 100).otherwise("close"),
        high=pl.when(pl.int_range(pl.len()) % 211 == 3).then(pl.col("low") / 2).otherwise("high"),
    )


@pytest.mark.parametrize("bars_in_block", [1, 7, 64, 399, 400])
@pytest.mark.parametrize("order", ["by symbol", "by time", "shuffled"])
def test_blocks_do_not_change_what_is_read_or_found(
    market: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars_in_block: int, order: str
) -> None:
    monkeypatch.setattr("backtest_farm.ingest.files.CHUNK_ROWS", 501)
    monkeypatch.setattr("backtest_farm.ingest.checks._SLAB_CELLS", 900)
    if order != "by symbol":
        market = (
            market.sort("timestamp", "symbol")
            if order == "by time"
            else market.sample(fraction=1, shuffle=True, seed=1)
        )
    market.write_parquet(tmp_path / "bars.parquet", row_group_size=777)
    grid, report = read(tmp_path / "bars.parquet")
    assert {"gap", "decimal_shift", "non_bracketing", "late_listing", "early_end"} <= set(report.counts)
    reading = stream(tmp_path / "bars.parquet", max_bytes=8 * 6 * 12 * bars_in_block, scratch=tmp_path)
    assert reading.shape == grid.shape and reading.symbols == grid.symbols
    fields, starts, streamed = drawn(reading)
    assert starts == list(range(0, 400, bars_in_block))
    for name, values in grid.fields.items():
        np.testing.assert_array_equal(fields[name], values)
    assert streamed == report
    assert [file.name for file in tmp_path.iterdir()] == ["bars.parquet"]  # nothing is left behind


@pytest.mark.parametrize("write", [pl.DataFrame.write_csv, pl.DataFrame.write_parquet])
def test_faults_are_those_of_reading_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[pl.DataFrame, Path], None]
) -> None:
    monkeypatch.setattr("backtest_farm.ingest.files.CHUNK_ROWS", 4)
    monkeypatch.setattr("backtest_farm.ingest.csv_text.BLOCK_BYTES", 100)
    frame = with_cell(with_cell(bars(), 13, "close", -1.0), 4, "open", float("inf"))
    frame = pl.concat([frame, frame[0:1], with_cell(frame, 14, "low", 1.0)[14:15], frame[4:5]])
    path = tmp_path / "bars.x"
    write(frame, path.with_suffix(".csv" if write is pl.DataFrame.write_csv else ".parquet"))
    (path,) = tmp_path.iterdir()
    with pytest.raises(InputError) as whole:
        read(path)
    reading = stream(path, max_bytes=2 * ROW_OF_5)
    with pytest.raises(InputError) as parts:
        list(reading.blocks())
    assert parts.value.faults == whole.value.faults and len(whole.value.faults) == 6
    fields, _, report = drawn(stream(path, "report", max_bytes=2 * ROW_OF_5))
    grid, expected = read(path, "report")
    assert report == expected
    np.testing.assert_array_equal(fields["close"], grid.fields["close"])


def test_a_repeated_row_of_the_last_block_is_found_at_the_end() -> None:
    reading = stream(pl.concat([bars(), bars()[14:15]]), max_bytes=ROW_OF_5)
    blocks = reading.blocks()
    assert [next(blocks)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="duplicate_key: <frame> row 15"):
        next(blocks)


def test_a_grid_is_given_in_blocks_too() -> None:
    grid = synthetic_grid(50, 4, seed=1)
    fields, starts, report = drawn(stream(grid, max_bytes=8 * 6 * 4 * 20))
    assert starts == [0, 20, 40]
    np.testing.assert_array_equal(fields["score"], grid.fields["score"])
    assert report == read(grid)[1]


def test_the_real_prices_in_pieces_are_the_real_prices() -> None:
    path = real_file("us_equities_daily.parquet")
    grid, report = read(path)
    reading = stream(path, max_bytes=20 * 2**20)
    for first, fields in reading.blocks():
        for name, values in fields.items():
            np.testing.assert_array_equal(values, grid.fields[name][first : first + len(values)])
    assert reading.report == report


# ------------------------------------------------------------------------------------------ later bars
LAST = np.datetime64("2024-01-05")


def later(n_bars: int, symbols: tuple[str, ...] = ("AA", "BB", "CC")) -> pl.DataFrame:
    """Bars that follow those of `bars()`."""
    return bars(n_bars, symbols).with_columns(pl.col("timestamp") + dt.timedelta(days=5))


def test_later_bars_keep_the_places_of_known_symbols() -> None:
    frame = later(4, ("AB", "BB", "CC"))
    reading = read_later(frame, ("CC", "AA", "BB"), LAST, max_bytes=8 * 5 * 4)
    assert reading.symbols == ("CC", "AA", "BB", "AB")
    assert str(reading.timestamps[0]) == "2024-01-06"
    fields, starts, report = drawn(reading)
    assert starts == [0, 1, 2, 3]
    assert np.isnan(fields["close"][:, 1]).all()
    np.testing.assert_array_equal(fields["close"][:, 2], frame.filter(pl.col("symbol") == "BB")["close"])
    assert report.counts == {"absent_symbol": 1} and report.findings[0].symbol == "AA"


def test_moments_of_many_symbols_are_not_held_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_APART", 2_000)
    moments = np.datetime64("2024-01-01", "us") + np.arange(1_000)
    parts: list[np.ndarray] = []
    for start in range(0, 100_000, 500):
        reading._add(parts, np.roll(moments, start) if start else moments[::-3])
        assert sum(map(len, parts)) <= 4_000
    np.testing.assert_array_equal(np.unique(np.concatenate(parts)), moments)


def test_known_symbols_are_not_listed_late_and_ended_ones_are_not_missed() -> None:
    new = pl.concat([later(4, ("BB",))[2:], later(4, ("CC", "DD"))[2:]])
    reading = read_later(pl.concat([new, later(1, ("CC",))]), ("AA", "BB", "CC"), LAST, ended=("AA", "CC"))
    _, _, report = drawn(reading)
    late = report.of("late_listing")
    assert [finding.symbol for finding in late] == ["DD"]
    assert report.of("bars_after_end")[0].symbol == "CC"
    assert "before these bars" in str(report.of("bars_after_end")[0].value)
    assert "absent_symbol" not in report.counts


@pytest.mark.parametrize("on_fault", ["strict", "report"])
def test_bars_that_are_there_already_are_always_refused(on_fault: str) -> None:
    both = pl.concat([bars()[12:], later(2)])
    with pytest.raises(
        InputError, match="overlapping_bar: <frame> row 0 2024-01-05 AA: append only later bars"
    ):
        list(read_later(both, ("AA", "BB", "CC"), LAST, on_fault).blocks())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="overlapping_bar: 15"):
        read_later(bars(), ("AA", "BB", "CC"), LAST, on_fault)  # type: ignore[arg-type]


def test_sessions_do_not_follow_times_of_day() -> None:
    with pytest.raises(InputError, match="the panel holds intraday bars, <frame> daily sessions"):
        read_later(later(2), ("AA",), LAST.astype("M8[us]"))
    hours = later(2).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")) + dt.timedelta(hours=9))
    with pytest.raises(InputError, match="the panel holds daily sessions, <frame> intraday bars"):
        read_later(hours, ("AA",), LAST)


def test_later_bars_of_a_grid() -> None:
    grid = read(later(3))[0]
    fields, _, _ = drawn(read_later(grid, grid.symbols, LAST))
    np.testing.assert_array_equal(fields["close"], grid.fields["close"])
    assert isinstance(grid, Grid)
