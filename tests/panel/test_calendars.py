"""Calendars: do the bars agree with the exchange, and which bar is the last of its period?"""

from __future__ import annotations

import datetime as dt
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError, PlatformError
from backtest_farm.ingest import calendars
from backtest_farm.panel import Panel
from tests.ingest.bars import bars, real_file

needs_calendars = pytest.mark.skipif(
    importlib.util.find_spec("exchange_calendars") is None,
    reason='needs exchange_calendars: pip install "backtest_farm[calendars]"',
)


def on(days: list[str], path: Path, calendar: str | None = None) -> Panel:
    """A panel with a bar on each of these days."""
    frame = bars(len(days)).with_columns(
        timestamp=pl.Series([dt.date.fromisoformat(one) for one in days]).repeat_by(3).explode()
    )
    return Panel.build(frame, path, calendar=calendar)


def closing(panel: Panel, period: Any) -> list[str]:
    return [str(day) for day in panel.timestamps[panel.closes_period(period)].astype("M8[D]")]


TURN = ["2024-03-27", "2024-03-28", "2024-04-01", "2024-04-02", "2024-04-05"]  # the 29th is Good Friday


def test_without_a_calendar_the_next_bar_decides(tmp_path: Path) -> None:
    panel = on(TURN, tmp_path / "panel")
    assert panel.calendar is None
    assert closing(panel, "month") == closing(panel, "quarter") == closing(panel, "week") == ["2024-03-28"]
    with pytest.raises(InputError, match="did you mean 'month'"):
        panel.closes_period("months")  # type: ignore[arg-type]


@needs_calendars
def test_with_a_calendar_the_last_bar_is_known(tmp_path: Path) -> None:
    panel = on(TURN, tmp_path / "panel", "XNYS")
    assert Panel.open(panel.path).calendar == "XNYS"
    assert closing(panel, "month") == ["2024-03-28"]
    assert closing(panel, "week") == ["2024-03-28", "2024-04-05"]
    assert closing(on(TURN[:2], tmp_path / "short", "XNYS"), "month") == ["2024-03-28"]
    assert closing(on(TURN[:1], tmp_path / "shorter", "XNYS"), "month") == []


@needs_calendars
def test_a_period_whose_last_session_has_no_bar_is_not_closed(tmp_path: Path) -> None:
    panel = on(["2024-01-30", "2024-02-01", "2024-02-03", "2024-02-05"], tmp_path / "panel", "XNYS")
    assert closing(panel, "month") == []
    assert panel.report.counts["session_without_bars"] == 2
    assert [item.timestamp for item in panel.report.of("session_without_bars")] == [
        "2024-01-31",
        "2024-02-02",
    ]
    assert [item.timestamp for item in panel.report.of("bar_outside_session")] == ["2024-02-03"]
    assert panel.check().counts == panel.report.counts


@needs_calendars
def test_appended_bars_are_held_against_the_calendar(tmp_path: Path) -> None:
    panel = on(TURN[:2], tmp_path / "panel", "XNYS")
    more = on(TURN[3:], tmp_path / "more").to_frame()
    longer = panel.append(more)
    assert longer.calendar == "XNYS"
    days = [item.timestamp for item in longer.report.of("session_without_bars")]
    assert days == ["2024-04-01", "2024-04-03", "2024-04-04"]
    assert longer.digest(["close"], 2) == panel.digest(["close"], 2)


@needs_calendars
def test_unknown_calendars_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calendar 'NYS': did you mean 'XNYS'"):
        on(TURN, tmp_path / "panel", "NYS")
    with pytest.raises(InputError, match="does not cover"):
        on(["1950-01-02"], tmp_path / "panel", "XKRX")
    assert not (tmp_path / "panel").exists()


def test_a_missing_package_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(calendars.importlib, "import_module", absent)
    calendars.sessions.cache_clear()
    with pytest.raises(PlatformError, match="not installed") as caught:
        on(TURN, tmp_path / "panel", "XNYS")
    assert caught.value.hint == 'pip install "backtest_farm[calendars]"'


@needs_calendars
def test_the_real_panel_agrees_with_the_exchange(tmp_path: Path) -> None:
    prices = pl.read_parquet(real_file("us_equities_daily.parquet")).filter(
        pl.col("symbol").is_in(["AAPL", "XOM"])
    )
    panel = Panel.build(prices, tmp_path / "panel", calendar="XNYS")
    assert panel.shape[0] == 3202
    assert not {"session_without_bars", "bar_outside_session"} & panel.report.counts.keys()
    plain = Panel.build(prices, tmp_path / "plain")
    for period, count in (("week", 664), ("month", 153), ("quarter", 51)):
        closes = panel.closes_period(period)
        assert closes.sum() == count
        np.testing.assert_array_equal(closes[:-1], plain.closes_period(period)[:-1])
    assert panel.closes_period("week")[-1] and not plain.closes_period("week")[-1]
    for one in (panel, plain):
        for stop in (1, 5, 17):
            np.testing.assert_array_equal(
                one.closes_period("week", stop)[:-1], one.closes_period("week")[: stop - 1]
            )
    assert not any(plain.closes_period("week", stop)[-1] for stop in range(1, 20)), (
        "what comes later is not seen"
    )
    assert panel.digest(["close"], 9) != plain.digest(["close"], 9)


@needs_calendars
def test_markets_around_the_clock(tmp_path: Path) -> None:
    crypto = Panel.build(real_file("crypto_5m_201801.parquet"), tmp_path / "crypto", calendar="24/7")
    assert not {"session_without_bars", "bar_outside_session"} & crypto.report.counts.keys()
    weeks = crypto.timestamps[crypto.closes_period("week")]
    assert [str(moment) for moment in weeks[:2].astype("M8[m]")] == ["2018-01-14T23:55", "2018-01-21T23:55"]
    euro = Panel.build(real_file("eurusd_1h_2017_2018.parquet"), tmp_path / "euro", calendar="24/5")
    # The market opens on Sunday evening, which the calendar does not know.
    assert euro.report.counts["bar_outside_session"] == 108
    assert closing(euro, "month")[:3] == ["2017-04-28", "2017-05-31", "2017-06-30"]


@needs_calendars
def test_intraday_sessions_end_with_their_last_bar(tmp_path: Path) -> None:
    times = [
        "2024-03-28T13:30",
        "2024-03-28T19:55",
        "2024-03-28T21:30",
        "2024-04-01T13:30",
        "2024-04-01T19:00",
    ]
    frame = bars(5).with_columns(
        timestamp=pl.Series([dt.datetime.fromisoformat(f"{one}Z") for one in times]).repeat_by(3).explode()
    )
    panel = Panel.build(frame, tmp_path / "panel", calendar="XNYS")
    assert panel.closes_period("quarter").tolist() == [False, True, False, False, False]
    assert panel.report.counts["bar_outside_session"] == 1
    assert Panel.build(frame, tmp_path / "plain").closes_period("month").tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
