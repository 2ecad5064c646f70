"""Finding bars, and the length of a year."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest.clock import bars_in_a_year, find_bar
from backtest_farm.panel import Panel
from tests.ingest.bars import bars, real_file

DAYS = np.array(["2024-01-02", "2024-01-03", "2024-01-05"], "M8[D]")
HOURS = np.array(["2024-01-02T08", "2024-01-02T09", "2024-01-03T08"], "M8[us]")


@pytest.mark.parametrize(
    "moment",
    [
        "2024-01-03",
        "2024-01-03T00:00:00Z",
        dt.date(2024, 1, 3),
        dt.datetime(2024, 1, 3),
        dt.datetime(2024, 1, 3, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        np.datetime64("2024-01-03"),
        np.datetime64("2024-01-03", "ns"),
    ],
)
def test_moments_of_any_kind(moment: Any) -> None:
    assert find_bar(DAYS, moment) == 1


@pytest.mark.parametrize(
    ("grid", "moment", "left", "right"),
    [
        (DAYS, "2024-01-01", 0, 0),
        (DAYS, "2024-01-02", 0, 1),
        (DAYS, "2024-01-04", 2, 2),
        (DAYS, "2024-01-05", 2, 3),
        (DAYS, "2025-01-01", 3, 3),
        (HOURS, "2024-01-02", 0, 2),  # a plain date is that whole day
        (HOURS, "2024-01-02T08:00", 0, 1),
        (HOURS, "2024-01-03", 2, 3),
    ],
)
def test_sides(grid: np.ndarray, moment: str, left: int, right: int) -> None:
    assert (find_bar(grid, moment, "left"), find_bar(grid, moment, "right")) == (left, right)


@pytest.mark.parametrize(
    ("grid", "moment", "close"),
    [
        (DAYS, "2024-01-04", "2024-01-03"),
        (DAYS, "2023-01-04", "2024-01-02"),
        (DAYS, "2030-01-04", "2024-01-05"),
        (HOURS, "2024-01-02T08:31", "2024-01-02T09:00:00Z"),
    ],
)
def test_no_bar_names_the_nearest(grid: np.ndarray, moment: str, close: str) -> None:
    with pytest.raises(InputError, match=f"the nearest is {close}"):
        find_bar(grid, moment)


@pytest.mark.parametrize("moment", ["soon", 5, None, np.datetime64("NaT"), "2024-13-01"])
def test_what_is_no_moment(moment: Any) -> None:
    with pytest.raises(InputError, match="is not a moment"):
        find_bar(DAYS, moment)


def test_sides_have_names(small: Panel) -> None:
    with pytest.raises(InputError, match="did you mean 'left'"):
        small.bar_of("2024-01-01", "lefty")  # type: ignore[arg-type]
    assert small.bar_of("2024-01-02", side="left") == 1


def test_a_year_of_bars() -> None:
    everyday = np.arange("2024-01-01", 60, dtype="M8[D]")
    assert bars_in_a_year(everyday) == 365.0
    assert bars_in_a_year(everyday[np.is_busday(everyday)]) == 252.0
    one_saturday = np.sort(
        np.append(np.busday_offset("2024-01-01", np.arange(200)), np.datetime64("2024-01-06"))
    )
    assert bars_in_a_year(one_saturday) == 252.0
    five_minutes = np.arange("2024-01-01", "2024-02-01", np.timedelta64(5, "m"), dtype="M8[us]")
    assert bars_in_a_year(five_minutes) == pytest.approx(365.25 * 288)
    assert bars_in_a_year(five_minutes[:1]) == 252.0


def test_the_year_is_stored_and_can_be_given(tmp_path: Path) -> None:
    frame = bars().with_columns(pl.col("timestamp").dt.offset_by("7d"))
    panel = Panel.build(frame, tmp_path / "given", bars_per_year=260)
    assert Panel.open(panel.path).bars_per_year == 260.0
    assert Panel.build(frame, tmp_path / "usual").bars_per_year == 252.0
    with pytest.raises(InputError, match="bars_per_year is 0"):
        Panel.build(frame, tmp_path / "zero", bars_per_year=0)


def test_real_intraday_years(tmp_path: Path) -> None:
    crypto = Panel.build(real_file("crypto_5m_201801.parquet"), tmp_path / "crypto")
    assert crypto.bars_per_year == pytest.approx(365.25 * 288, rel=0.001)
    euro = Panel.build(real_file("eurusd_1h_2017_2018.parquet"), tmp_path / "euro")
    assert 6000 < euro.bars_per_year < 6500  # 24 hours, 5 days a week
    assert euro.bar_of("2017-04-19", "left") == 0
