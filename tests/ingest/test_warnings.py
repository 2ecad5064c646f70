"""Every kind of warning: found and counted, and never a reason to refuse."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

import polars as pl
import pytest

from backtest_farm.ingest import Report, read
from backtest_farm.ingest.report import KINDS, LISTED
from tests.ingest.bars import FIRST, bars, with_cell


def without(*places: tuple[int, str]) -> pl.DataFrame:
    """Bars without these (bar, symbol)."""
    gone = {(FIRST + dt.timedelta(days=bar), symbol) for bar, symbol in places}
    return pl.DataFrame(
        [row for row in bars(8).iter_rows(named=True) if (row["timestamp"], row["symbol"]) not in gone]
    )


class Case(NamedTuple):
    kind: str
    frame: Callable[[], pl.DataFrame]
    counts: tuple[int, int, int]  # count, symbols, longest
    place: tuple[str | None, str | None, int | None]  # of the first finding: symbol, timestamp, row
    shown: str


DAY = [str(FIRST + dt.timedelta(days=t)) for t in range(8)]
CASES = [
    Case(
        "ignored_column", lambda: bars().with_columns(name=pl.lit("x")), (1, 0, 1), (None, None, None), "name"
    ),
    Case("missing_cell", lambda: with_cell(bars(), 4, "open", None), (1, 1, 1), ("BB", DAY[1], 4), "open"),
    Case(
        "non_bracketing",
        lambda: with_cell(bars(), 4, "high", 11.4),
        (1, 1, 1),
        ("BB", DAY[1], 4),
        "high 11.4",
    ),
    Case(
        "non_bracketing", lambda: with_cell(bars(), 4, "low", 12.1), (1, 1, 1), ("BB", DAY[1], 4), "low 12.1"
    ),
    Case(
        "zero_volume", lambda: with_cell(bars(), 4, "volume", 0.0), (1, 1, 1), ("BB", DAY[1], 4), "volume 0"
    ),
    Case("late_listing", lambda: without((0, "BB"), (1, "BB")), (1, 1, 1), ("BB", DAY[2], 5), "bar 2"),
    Case("early_end", lambda: without((6, "BB"), (7, "BB")), (1, 1, 1), ("BB", DAY[5], 16), "2 bars before"),
    Case(
        "gap",
        lambda: without((1, "BB"), (3, "BB"), (4, "BB"), (5, "BB"), (2, "CC")),
        (5, 2, 3),
        ("BB", DAY[3], None),
        f"4 missing, longest run 3 ({DAY[3]} .. {DAY[5]})",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.kind}" for i, case in enumerate(CASES)])
def test_each_warning_is_counted_and_placed(case: Case) -> None:
    _, report = read(case.frame())
    assert report.errors == ()
    (tally,) = report.tallies
    assert (tally.kind, tally.count, tally.symbols, tally.longest) == (case.kind, *case.counts)
    first = report.findings[0]
    assert (first.symbol, first.timestamp, first.row) == case.place
    assert case.shown in (first.value or "")
    assert first.advice and case.kind in report.lines()[0]


def test_every_warning_kind_has_a_test() -> None:
    warnings = {kind for kind, (level, _) in KINDS.items() if level == "warning"}
    elsewhere = {"decimal_shift", "bars_after_end", "ignored_file", "absent_symbol"}
    elsewhere |= {"survivorship", "symbol_not_in_panel", "missing_field"}  # of what is attached to panels
    elsewhere |= {"session_without_bars", "bar_outside_session"}  # of calendars
    assert {case.kind for case in CASES} == warnings - elsewhere


def closes(*values: float | None) -> pl.DataFrame:
    """Bars of one name with these closes, everything else close by; None leaves the bar out."""
    rows = [
        (FIRST + dt.timedelta(days=t), "AA", value, value * 1.01, value * 0.99, value, 1.0)
        for t, value in enumerate(values)
        if value is not None
    ]
    return pl.DataFrame(rows, schema=bars(1).columns, orient="row")


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        pytest.param(with_cell(closes(50, 51, 52, 53), 2, "close", 5.2), ["close 5.2"], id="a tenth"),
        pytest.param(with_cell(closes(50, 51, 52, 53), 2, "close", 5200.0), ["close 5200"], id="hundredfold"),
        pytest.param(
            with_cell(closes(50, 51, None, 52, 53), 2, "close", 0.52), ["close 0.52"], id="after a gap"
        ),
        pytest.param(with_cell(closes(50, 51, 52, 53), 1, "open", 5.1), ["open 5.1"], id="an open"),
        pytest.param(
            with_cell(with_cell(closes(50, 51, 52, 53), 1, "high", 5.1), 2, "high", 5.2),
            ["high 5.1", "high 5.2"],
            id="two highs in a row",
        ),
        pytest.param(closes(50, 51, 5.2, 5.3, 5.2), [], id="a crash that stays"),
        pytest.param(with_cell(closes(50, 51, 5.2, 5.3), 2, "open", 50.0), [], id="a crash within the day"),
        pytest.param(closes(50, 51, 125, 53, 54), [], id="+145 % and back"),
        pytest.param(closes(50, 51, 20, 53, 54), [], id="-61 % and back"),
        pytest.param(closes(50, 500), [], id="no bar after it"),
    ],
)
def test_decimal_shifts(frame: pl.DataFrame, found: list[str]) -> None:
    _, report = read(frame)
    shifts = report.of("decimal_shift")
    assert [finding.value.partition(" b")[0] for finding in shifts if finding.value] == found
    assert report.errors == ()


def test_a_known_end_is_not_proposed_again() -> None:
    frame = without((6, "BB"), (7, "BB"))
    _, unknown = read(frame)
    assert f"(BB, {DAY[5]}, null)" in unknown.of("early_end")[0].advice
    grid, report = read(frame, ends=pl.DataFrame({"symbol": ["BB"], "date": [DAY[5]]}))
    assert report == Report()
    assert grid.ends.bar[1] == 5


def test_many_warnings_are_counted_and_the_first_listed() -> None:
    _, report = read(bars(40).with_columns(volume=0.0))
    tally = report.tally("zero_volume")
    assert tally is not None and (tally.count, tally.symbols) == (120, 3)
    assert len(report.of("zero_volume")) == LISTED
    assert report.lines() == [
        "warning zero_volume: 120 in 3 symbols - nothing was traded, or the volume is not known",
        *(f"  row {3 * bar} {FIRST + dt.timedelta(days=bar)} AA: volume 0" for bar in range(5)),
        f"  ... and 115 more (--json lists the first {LISTED})",
    ]


def test_the_text_says_errors_first_and_each_advice_once() -> None:
    frame = with_cell(with_cell(without((2, "BB"), (7, "CC")), 4, "close", -1.0), 9, "volume", 0.0)
    ends = pl.DataFrame({"symbol": ["AA"], "date": [dt.date(2030, 1, 1)]})
    _, report = read(frame, "report", ends)
    assert report.lines() == [
        f"error non_positive_price: 1 in 1 symbol - {KINDS['non_positive_price'].advice}",
        "  row 4 2024-01-02 BB: close -1.0",
        "error unmatched_timestamp: 1 in 1 symbol - the panel has no bar at this time",
        "  <ends> row 0 2030-01-01 AA: the nearest is 2024-01-08",
        f"warning gap: 2 in 1 symbol, longest 2 bars - {KINDS['gap'].advice}",
        "  2024-01-02 BB: 2 missing, longest run 2 (2024-01-02 .. 2024-01-03)",
        f"warning early_end: 1 in 1 symbol - {KINDS['early_end'].advice}",
        "  row 19 2024-01-07 CC: 1 bars before the panel's last: (CC, 2024-01-07, null)",
        "warning zero_volume: 1 in 1 symbol - nothing was traded, or the volume is not known",
        "  row 9 2024-01-04 BB: volume 0",
    ]
    assert report.lines("error") == report.lines()[:4]


def test_what_the_text_leaves_out_is_counted() -> None:
    names = tuple(f"S{i:02d}" for i in range(8))
    keep = (pl.col("timestamp") != FIRST + dt.timedelta(days=2)) | (pl.col("symbol") == "S00")
    _, report = read(bars(5, names).filter(keep))
    assert report.lines()[-1] == "  ... and 2 more (--json lists them)"
    assert len(report.of("gap")) == 7


def test_a_report_survives_being_stored() -> None:
    _, report = read(without((1, "BB"), (6, "CC"), (7, "CC")))
    assert len(report.findings) == 2
    assert Report.from_dict(report.to_dict()) == report
