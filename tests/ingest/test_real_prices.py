"""What is known to be odd about the real prices is found, and nothing else is."""

from __future__ import annotations

import polars as pl
import pytest

from backtest_farm.ingest import Grid, Report, read
from backtest_farm.ingest.report import LISTED
from tests.ingest.bars import real_file, survey


@pytest.fixture(scope="module")
def equities() -> tuple[Grid, Report]:
    return read(real_file("us_equities_daily.parquet"))


def test_known_oddities_are_counted(equities: tuple[Grid, Report]) -> None:
    grid, report = equities
    assert grid.shape == (3202, 598)
    assert report.errors == ()
    found = {tally.kind: (tally.count, tally.symbols) for tally in report.tallies}
    assert found["gap"] == (440, 256)
    assert found["late_listing"] == (84, 84)
    assert found["early_end"] == (1, 1)
    assert report.counts["non_bracketing"] == 26
    assert report.counts["zero_volume"] == 333
    assert set(found) == {
        "gap",
        "late_listing",
        "early_end",
        "non_bracketing",
        "zero_volume",
        "decimal_shift",
    }
    (early,) = report.of("early_end")
    assert (early.symbol, early.timestamp) == ("LVLT", "2017-10-31")
    assert report.of("gap")[0].symbol == "DYN"
    assert "longest run 62 (2012-07-06 .. 2012-10-02)" in (report.of("gap")[0].value or "")


def test_decimal_shifts_in_raw_closes_are_found_and_real_moves_are_not(equities: tuple[Grid, Report]) -> None:
    grid, _ = equities
    fixes = pl.read_csv(real_file("us_equities_fixes.csv"), try_parse_dates=True)
    closes = grid.fields["close"].copy()
    only_closes = Grid(grid.timestamps, grid.symbols, {"close": closes})
    assert survey(only_closes, "mended").of("decimal_shift") == ()  # AIG, GGP, HIG, MTG are among them
    place = {symbol: asset for asset, symbol in enumerate(grid.symbols)}
    for row in fixes.iter_rows(named=True):
        bar = int((grid.timestamps == row["timestamp"]).argmax())
        closes[bar, place[row["symbol"]]] = row["raw_close"]
    found = survey(only_closes, "raw").of("decimal_shift")
    assert {(item.symbol, item.timestamp) for item in found} == {
        (row["symbol"], str(row["timestamp"])) for row in fixes.iter_rows(named=True)
    }


def test_shifted_opens_and_extremes_are_among_the_listed_defects(equities: tuple[Grid, Report]) -> None:
    _, report = equities
    defects = pl.read_csv(real_file("us_equities_defects.csv"), try_parse_dates=True)
    known = set(zip(defects["symbol"], defects["timestamp"].cast(pl.String), strict=True))
    shifts = {(item.symbol, item.timestamp) for item in report.of("decimal_shift")}
    assert len(report.of("decimal_shift")) == LISTED
    assert len(shifts) >= 15  # one bar may have several slipped prices
    assert len(shifts & known) >= 10


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("us_etfs_daily.parquet", (3202, 35)),
        ("vix_daily.parquet", (3272, 1)),
        ("crypto_5m_201801.parquet", (5760, 9)),
        ("eurusd_1h_2017_2018.parquet", (5000, 1)),
    ],
)
def test_other_markets_are_read(name: str, shape: tuple[int, int]) -> None:
    grid, report = read(real_file(name))
    assert grid.shape == shape
    assert report.errors == ()
