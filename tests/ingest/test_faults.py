"""Every kind of error: found, placed, refused when strict, left out and listed when asked to report."""

from __future__ import annotations

import datetime as dt
import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import NO_END, Grid, read
from backtest_farm.ingest.grid import MAX_CELLS
from backtest_farm.ingest.ledger import ALWAYS_REFUSED
from backtest_farm.ingest.report import KINDS, LISTED
from tests.ingest.bars import as_text, bars, with_cell


class Case(NamedTuple):
    kind: str
    spoil: Callable[[pl.DataFrame], pl.DataFrame]
    row: int | None
    shown: str  # what the listed line must say about the value or the place
    missing: int = 0  # empty cells of the close that `report` leaves, of the 15


CASES = [
    Case("missing_column", lambda f: f.drop("close"), None, "close"),
    Case("missing_column", lambda f: f.rename({"symbol": "name"}), None, "symbol"),
    Case("duplicate_column", lambda f: f.with_columns(Date=pl.col("timestamp")), None, "timestamp, Date"),
    Case("null_key", lambda f: with_cell(f, 4, "symbol", None), 4, "2024-01-02", 1),
    Case("null_key", lambda f: with_cell(f, 4, "symbol", "  "), 4, "2024-01-02", 1),
    Case("null_key", lambda f: with_cell(f, 4, "timestamp", None), 4, "BB", 1),
    Case("unparseable", lambda f: with_cell(as_text(f), 4, "timestamp", "02/01/2024"), 4, "02/01/2024", 1),
    Case("unparseable", lambda f: with_cell(as_text(f), 4, "close", "11,5"), 4, "close 11,5", 1),
    Case("unparseable", lambda f: with_cell(as_text(f), 4, "volume", "many"), 4, "volume many"),
    Case("mixed_zone", lambda f: with_cell(as_text(f), 4, "timestamp", "2024-01-02T00:00Z"), 4, "00:00Z", 1),
    Case(
        "naive_timestamp", lambda f: with_cell(as_text(f), 4, "timestamp", "2024-01-02T16:00"), 4, "16:00", 1
    ),
    Case("duplicate_key", lambda f: pl.concat([f, f[4:5]]), 15, "2024-01-02 BB"),
    Case("non_finite_price", lambda f: with_cell(f, 4, "close", math.nan), 4, "close nan", 1),
    Case("non_finite_price", lambda f: with_cell(f, 4, "close", math.inf), 4, "close inf", 1),
    Case("non_positive_price", lambda f: with_cell(f, 4, "close", 0.0), 4, "close 0.0", 1),
    Case("non_positive_price", lambda f: with_cell(f, 4, "open", -3.0), 4, "open -3.0"),
    Case("negative_volume", lambda f: with_cell(f, 4, "volume", -1.0), 4, "volume -1.0"),
    Case("non_finite_value", lambda f: with_cell(f, 4, "volume", math.inf), 4, "volume inf"),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.kind}" for i, case in enumerate(CASES)])
def test_each_error_is_refused_and_placed(case: Case) -> None:
    with pytest.raises(InputError) as caught:
        read(case.spoil(bars()))
    (line,) = caught.value.faults
    assert line.startswith(f"{case.kind}: <frame>")
    assert case.shown in line
    if case.row is not None:
        assert f"row {case.row} " in line
    assert KINDS[case.kind].advice.partition(":")[0] in line
    mendable = 'on_fault="report"' in (caught.value.hint or "")
    assert mendable == (case.kind not in ALWAYS_REFUSED)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.kind}" for i, case in enumerate(CASES)])
def test_each_error_is_left_out_and_listed(case: Case) -> None:
    if case.kind in ALWAYS_REFUSED:
        with pytest.raises(InputError, match=case.kind):
            read(case.spoil(bars()), "report")
        return
    grid, report = read(case.spoil(bars()), "report")
    assert report.counts[case.kind] == 1
    (finding,) = report.errors
    assert (finding.kind, finding.row) == (case.kind, case.row)
    assert grid.shape == (5, 3)
    assert np.isnan(grid.fields["close"]).sum() == case.missing
    # Nothing else changed.
    clean = read(bars())[0].fields["close"]
    kept = ~np.isnan(grid.fields["close"])
    np.testing.assert_array_equal(grid.fields["close"][kept], clean[kept])


def test_every_error_kind_has_a_case() -> None:
    elsewhere = {"unknown_symbol", "unmatched_timestamp", "bad_payout", "damaged_file"}
    elsewhere |= {"bad_spell", "overlapping_bar"}  # of universes and later bars
    elsewhere |= {
        "missing_header",
        "mixed_schema",
        "ragged_row",
        "ambiguous_date",
        "ambiguous_number",
    }  # of files
    errors = {kind for kind, (level, _) in KINDS.items() if level == "error"}
    assert {case.kind for case in CASES} == errors - elsewhere


def test_all_faults_come_at_once() -> None:
    frame = as_text(bars())
    frame = with_cell(frame, 1, "close", "oops")
    frame = with_cell(frame, 2, "high", "-1")
    frame = with_cell(frame, 3, "timestamp", "soon")
    frame = with_cell(frame, 5, "symbol", "")
    frame = pl.concat([frame, frame[7:8]]).drop("open")
    ends = pl.DataFrame({"symbol": ["ZZ"], "date": [dt.date(2024, 1, 3)]})
    with pytest.raises(InputError) as caught:
        read(frame, ends=ends)
    kinds = [line.partition(":")[0] for line in caught.value.faults]
    once = ["duplicate_key", "missing_column", "non_positive_price", "null_key", "unknown_symbol"]
    assert sorted(kinds) == [*once, "unparseable", "unparseable"]
    assert caught.value.message.startswith("<frame> has 7 faults")


def test_many_faults_are_counted_and_the_first_listed() -> None:
    frame = bars(40).with_columns(close=pl.lit(-1.0))
    with pytest.raises(InputError) as caught:
        read(frame)
    assert "non_positive_price: 120" in caught.value.message
    assert len(caught.value.faults) == LISTED + 1
    assert caught.value.faults[-1] == "non_positive_price: 100 more in 3 symbols"


def test_naive_intraday_bars_are_refused_even_when_reporting() -> None:
    # Their midnights would pass for daily sessions.
    hours = pl.datetime_range(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 3), "6h", eager=True)
    frame = bars(len(hours), ("AA",)).with_columns(timestamp=hours)
    with pytest.raises(InputError, match="naive_timestamp: 6"):
        read(frame, "report")


def test_of_repeated_rows_the_first_stays() -> None:
    frame = pl.concat([bars(), with_cell(bars(), 4, "close", 99.0)[4:5]])
    frame = frame.sample(fraction=1.0, shuffle=True, seed=3)
    first = frame.filter((pl.col("timestamp") == dt.date(2024, 1, 2)) & (pl.col("symbol") == "BB"))["close"][
        0
    ]
    grid, _ = read(frame, "report")
    assert grid.fields["close"][1, 1] == first


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.csv", None, "does not exist"),
        ("bars.xlsx", b"PK\x03\x04..", "is a workbook or an archive"),
        ("bars.csv", b"PK\x03\x04..", "is a workbook or an archive"),
        ("page.csv", b"\xef\xbb\xbf <!DOCTYPE html>", "is a web page"),
        ("bars.dat", b"timestamp,symbol", "neither a Parquet file nor named .csv"),
        ("cut.parquet", b"PAR1 and no more", "cannot be read"),
        ("fake.parquet", b"not parquet", "neither a Parquet file"),
        ("empty.csv", b"", "cannot be read: it is empty"),
        ("blank.csv", b"\n \n", "cannot be read: it is empty"),
        ("cut.csv.gz", gzip.compress(bytes(range(256)))[:-20], "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_an_empty_folder_and_an_unknown_object_are_no_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no CSV or Parquet file"):
        read(tmp_path)
    with pytest.raises(InputError, match="matches no file"):
        read(tmp_path / "*.csv")
    with pytest.raises(InputError, match="list is no source of bars"):
        read({"close": [1.0]})
    with pytest.raises(InputError, match="int is no source of bars"):
        read(5)
    with pytest.raises(InputError, match="did you mean 'report'"):
        read(bars(), "reports")  # type: ignore[arg-type]


def test_nothing_usable_is_refused() -> None:
    with pytest.raises(InputError, match="no usable row"):
        read(bars()[:0])
    with pytest.raises(InputError, match="no usable row") as caught:
        read(bars().with_columns(symbol=pl.lit(None, pl.String)), "report")
    assert len(caught.value.faults) == 15


def test_too_large_a_grid_is_refused_before_it_is_made() -> None:
    # Each row has a bar and a symbol of its own: 9,000 rows need 81 million cells.
    n = int(MAX_CELLS**0.5) + 900
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series(np.arange(n)).cast(pl.Date),
            "symbol": [f"S{i:05d}" for i in range(n)],
            **dict.fromkeys(("open", "high", "low", "close"), np.ones(n)),
        }
    )
    with pytest.raises(InputError, match="too large for one panel") as caught:
        read(frame)
    assert "split the data" in caught.value.faults[0]


ENDS = {
    "unknown_symbol": {"symbol": ["BC"], "date": [dt.date(2024, 1, 3)], "payout": [1.0]},
    "unmatched_timestamp": {"symbol": ["BB"], "date": [dt.date(2024, 2, 3)], "payout": [1.0]},
    "bad_payout": {"symbol": ["BB"], "date": [dt.date(2024, 1, 3)], "payout": [-1.0]},
    "non_finite_value": {"symbol": ["BB"], "date": [dt.date(2024, 1, 3)], "payout": [math.inf]},
    "null_key": {"symbol": [None], "date": [dt.date(2024, 1, 3)], "payout": [1.0]},
    "missing_column": {"symbol": ["BB"], "day": [dt.date(2024, 1, 3)]},
}


@pytest.mark.parametrize("kind", ENDS)
def test_faulty_ends_are_refused(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        read(bars(), ends=pl.DataFrame(ENDS[kind]))
    (line,) = caught.value.faults
    assert line.startswith(f"{kind}: <ends>")
    if kind == "unmatched_timestamp":
        assert "the nearest is 2024-01-05" in line


def test_an_end_given_twice_is_refused() -> None:
    ends = pl.DataFrame({"symbol": ["BB", "BB"], "date": [dt.date(2024, 1, 3), dt.date(2024, 1, 4)]})
    with pytest.raises(InputError, match="duplicate_key: <ends> row 1"):
        read(bars(), ends=ends)


def test_ends_are_kept_by_asset_id() -> None:
    ends = pl.DataFrame(
        {"Ticker": ["CC", "AA"], "date": ["2024-01-05", "2024-01-04"], "payout": [None, 12.5]}
    )
    grid, report = read(bars(), ends=ends)
    assert grid.ends.bar.tolist() == [3, NO_END, 4]
    np.testing.assert_array_equal(grid.ends.payout, [12.5, np.nan, np.nan])
    assert report.counts == {"bars_after_end": 1}
    assert report.findings[0].symbol == "AA"


def test_arrays_that_do_not_fit_are_no_grid() -> None:
    times = np.array(["2024-01-02", "2024-01-01"], "M8[D]")
    with pytest.raises(InputError) as caught:
        Grid(times, ("B", "A"), {"close": np.ones((3, 2))}, {"sector": ("x",)})
    assert len(caught.value.faults) == 4
