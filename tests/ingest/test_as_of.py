"""Values placed as of when they were known, and never before."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest.matching import as_of, read_field

DAYS = np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-01-11"))
HOURS = np.arange(np.datetime64("2024-01-01T00", "h"), np.datetime64("2024-01-03T00", "h")).astype("M8[us]")
SYMBOLS = ("AA", "BB")


def reports(*rows: tuple[str, str, str | None, float | None]) -> pl.DataFrame:
    """Symbol, period, when it was known, and the value."""
    return pl.DataFrame(rows, schema=["symbol", "Date", "Known At", "eps"], orient="row")


def placed(frame: pl.DataFrame, **more: object) -> list[list[float]]:
    """Where the values begin, for each asset: bar and value, wherever it changes."""
    values = as_of(frame, DAYS, SYMBOLS, "eps", "Known At", **more)  # type: ignore[arg-type]
    return [_steps(values[:, asset]) for asset in range(2)]


def _steps(values: np.ndarray) -> list:
    changes = np.flatnonzero(~np.isnan(values) & (values != np.r_[np.nan, values[:-1]]))
    return [(int(bar) + 1, float(values[bar])) for bar in changes]  # days of January


def test_a_value_is_seen_from_the_first_bar_at_or_after_it_was_known_until_the_next() -> None:
    frame = reports(
        ("AA", "2023-12-31", "2024-01-03", 1.0),
        ("AA", "2024-01-02", "2024-01-06T16:30", 2.0),  # during a session: the next one sees it
        ("BB", "2023-12-31", "2023-12-31", 5.0),
        ("BB", "2024-01-08", "2024-02-01", 6.0),  # not within these bars
    )
    values = as_of(frame, DAYS, SYMBOLS, "eps", "known at")
    np.testing.assert_array_equal(values[:, 0], [np.nan] * 2 + [1.0] * 4 + [2.0] * 4)
    np.testing.assert_array_equal(values[:, 1], [5.0] * 10)


def test_a_revision_of_an_old_period_does_not_hide_a_newer_one() -> None:
    frame = reports(
        ("AA", "2023-12-31", "2024-01-02", 1.0),
        ("AA", "2023-12-31", "2024-01-03", 1.1),  # a revision before the next report
        ("AA", "2024-03-31", "2024-01-05", 2.0),
        ("AA", "2023-12-31", "2024-01-07", 1.2),  # and one after it
        ("AA", "2024-03-31", "2024-01-09", None),  # no value is no news
    )
    assert placed(frame)[0] == [(2, 1.0), (3, 1.1), (5, 2.0)]


@pytest.mark.parametrize(
    ("lag", "first"),
    [(None, 3), (0, 3), (2, 5), ("2d", 5), ("36h", 5), ("1w", 10), (dt.timedelta(hours=1), 4)],
)
def test_a_lag_counts_bars_or_time(lag: object, first: int) -> None:
    assert placed(reports(("AA", "2023-12-31", "2024-01-03", 1.0)), lag=lag)[0] == [(first, 1.0)]


def test_nothing_known_later_changes_what_was_seen() -> None:
    draw = np.random.default_rng(0)
    known = np.sort(draw.choice(np.arange(20 * 24), 60)) - 200
    rows = [
        (
            SYMBOLS[i % 2],
            f"2023-{1 + i % 12:02d}-01",
            str(np.datetime64("2024-01-01T00") + int(hour)) + ":00",
            float(i),
        )
        for i, hour in enumerate(known)
    ]
    frame = reports(*rows)
    values = as_of(frame, DAYS, SYMBOLS, "eps", "known_at")
    assert np.unique(values[~np.isnan(values)]).size > 5
    for bar, day in enumerate(DAYS):
        past = frame.filter(pl.col("Known At") <= str(day) + "T00:00")
        np.testing.assert_array_equal(as_of(past, DAYS, SYMBOLS, "eps", "known_at")[bar], values[bar])


def test_on_intraday_bars_a_date_counts_from_its_end() -> None:
    frame = pl.DataFrame({"timestamp": ["2024-01-01"], "vix": [13.0]})
    seen = as_of(frame, HOURS, None, "vix")
    assert seen.shape == HOURS.shape and np.flatnonzero(~np.isnan(seen))[0] == 24
    moments = pl.DataFrame({"timestamp": ["2024-01-01T10:30Z"], "vix": [13.0]})
    assert np.flatnonzero(~np.isnan(as_of(moments, HOURS, None, "vix", lag="2h")))[0] == 13


def test_higher_timeframe_bars_are_known_when_they_are_over() -> None:
    opens = pl.datetime_range(
        dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2, 20), "4h", time_zone="UTC", eager=True
    )
    frame = pl.DataFrame({"timestamp": opens, "symbol": "AA", "close_4h": np.arange(12.0)})
    values = read_field("close_4h", frame, HOURS, ("AA",), lag="4h")[:, 0]
    np.testing.assert_array_equal(values[4:], np.repeat(np.arange(11.0), 4))
    assert np.isnan(values[:4]).all()


def test_all_faults_at_once() -> None:
    frame = reports(
        ("AA", "2023-12-31", "2024-01-03", 1.0),
        ("AA", "2023-12-31", "2024-01-03", 1.1),
        ("ZZ", "2023-12-31", "2024-01-03", 1.0),
        ("AA", "never", "2024-01-04", 1.0),
        ("AA", "2023-12-31", None, 1.0),
        ("BB", "2023-12-31", "2024-01-04", float("inf")),
    )
    with pytest.raises(InputError) as caught:
        as_of(frame, DAYS, SYMBOLS, "eps", "known at")
    kinds = sorted(line.partition(":")[0] for line in caught.value.faults)
    assert kinds == ["duplicate_key", "non_finite_value", "null_key", "unknown_symbol", "unparseable"]
    with pytest.raises(InputError, match="known_on: no such column"):
        as_of(frame, DAYS, SYMBOLS, "eps", "known on")
    ambiguous = reports(("AA", "2023-12-31", "03/01/2024", 1.0))
    with pytest.raises(InputError, match="03/01/2024 is 3 January 2024"):
        as_of(ambiguous, DAYS, SYMBOLS, "eps", "known at")


@pytest.mark.parametrize("lag", [-1, True, 1.5, "soon", "5", dt.timedelta(-1)])
def test_lags_that_cannot_be_meant(lag: object) -> None:
    with pytest.raises(InputError, match="cannot be meant"):
        placed(reports(("AA", "2023-12-31", "2024-01-03", 1.0)), lag=lag)


def test_an_array_has_no_times_of_its_own() -> None:
    with pytest.raises(InputError, match="shift its rows"):
        read_field("eps", np.ones((10, 2)), DAYS, SYMBOLS, lag=1)
