"""Contexts, static columns and ends of life, each a new snapshot that shares files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.panel import Panel
from tests.ingest.bars import bars, real_file
from tests.panel.test_snapshots import files

NAN = float("nan")


def day(n: int) -> dt.date:
    return dt.date(2024, 1, 1) + dt.timedelta(days=n)


def series(*pairs: tuple[Any, float | None]) -> pl.DataFrame:
    return pl.DataFrame(list(pairs), schema=["timestamp", "vix"], orient="row")


@pytest.fixture
def hourly(tmp_path: Path) -> Panel:
    """Bars at 20:00, 22:00, 00:00, 02:00 and 04:00 of 1 and 2 January 2024, UTC."""
    start = dt.datetime(2024, 1, 1, 20, tzinfo=dt.UTC)
    frame = bars(5).with_columns(
        timestamp=start + (pl.col("timestamp") - dt.date(2024, 1, 1)).dt.total_days() * pl.duration(hours=2)
    )
    return Panel.build(frame, tmp_path / "hourly")


def test_a_context_is_what_was_last_known(small: Panel) -> None:
    given = series((day(-3), 1.0), (day(1), 2.0), (day(2), None), (day(3), 4.0), (day(9), 9.0))
    panel = small.with_context("vix", given)
    assert panel.contexts == ("vix",) and small.contexts == ()
    assert panel.context("vix").tolist() == [1.0, 2.0, 2.0, 4.0, 4.0]
    assert not panel.context("vix").flags.writeable
    assert panel.with_context("late", given, lag=2).context("late").tolist()[2:] == [1.0, 2.0, 2.0]
    assert np.isnan(panel.with_context("late", given, lag=2).context("late")[:2]).all()
    # A value of a time of day is not seen in that day's session, whose close it may not know.
    noon = series(
        (dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC), 1.0), (dt.datetime(2024, 1, 4, 12, tzinfo=dt.UTC), 2.0)
    )
    assert panel.with_context("noon", noon).context("noon").tolist()[2:] == [1.0, 1.0, 2.0]
    published = given.with_columns(seen=pl.col("timestamp") + pl.duration(days=2))
    late = panel.with_context("late", published, available="seen").context("late")
    assert late.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert files(small.path).items() >= {(name, state) for name, state in files(small.path).items()}
    assert Panel.open(panel.path, panel.snapshot).context("vix").tolist() == panel.context("vix").tolist()
    with pytest.raises(InputError, match="no context 'vex': did you mean 'vix'"):
        panel.context("vex")


def test_a_later_value_is_never_seen(small: Panel) -> None:
    """Changing what is stamped after a bar changes nothing up to it."""
    draw = np.random.default_rng(1)
    stamps = [day(int(n)) for n in np.unique(draw.integers(-4, 8, 9))]
    values = draw.normal(size=len(stamps))
    for bar in range(5):
        known = [stamp <= day(bar) for stamp in stamps]
        other = np.where(known, values, 99.0)
        one, two = (
            small.with_context("vix", pl.DataFrame({"timestamp": stamps, "vix": column}))
            for column in (values, other)
        )
        np.testing.assert_array_equal(one.context("vix")[: bar + 1], two.context("vix")[: bar + 1])
        assert one.digest(["close"], bar + 1, ["vix"]) == two.digest(["close"], bar + 1, ["vix"])
        if any(day(bar) < stamp <= day(4) for stamp in stamps):
            assert one.digest(["close"], 5, ["vix"]) != two.digest(["close"], 5, ["vix"])


def test_contexts_on_intraday_bars(hourly: Panel) -> None:
    moments = series(
        (dt.datetime(2024, 1, 1, 20, 1, tzinfo=dt.UTC), 1.0), (dt.datetime(2024, 1, 2, 2, tzinfo=dt.UTC), 2.0)
    )
    assert hourly.with_context("vix", moments).context("vix").tolist()[1:] == [1.0, 1.0, 2.0, 2.0]
    # A date's value is that of its close: the bars of that day must not see it.
    dates = series((day(-1), 5.0), (day(0), 6.0), (day(1), 7.0))
    assert hourly.with_context("vix", dates).context("vix").tolist() == [5.0, 5.0, 6.0, 6.0, 6.0]


FAULTY: dict[str, tuple[Any, str]] = {
    "twice": (series((day(0), 1.0), (day(1), 2.0), (day(0), 3.0)), "duplicate_key"),
    "infinite": (series((day(0), float("inf"))), "non_finite_value"),
    "no moment": (series((None, 1.0)), "null_key"),
    "which column": (bars(5, ("V",)).drop("close"), "missing_column"),
    "no timestamp": (series((day(0), 1.0)).rename({"timestamp": "when"}), "missing_column"),
}


@pytest.mark.parametrize("what", FAULTY)
def test_series_with_faults_are_refused(small: Panel, what: str) -> None:
    frame, says = FAULTY[what]
    with pytest.raises(InputError, match=says):
        small.with_context("vix", frame)
    assert Panel.open(small.path).snapshot == small.snapshot


@pytest.mark.parametrize("lag", [-1, 1.5, True, "1", "-2d"])
def test_a_lag_is_never_negative(small: Panel, lag: Any) -> None:
    with pytest.raises(InputError, match="cannot be meant"):
        small.with_context("vix", series((day(0), 1.0)), lag=lag)


@pytest.mark.parametrize("name", ["", "VIX", "my vix", "symbol"])
def test_names_that_cannot_be(small: Panel, name: str) -> None:
    frame = series((day(0), 1.0))
    for add in (small.with_context, small.with_static, small.with_universe):
        with pytest.raises(InputError, match="is no name for a"):
            add(name, frame)


def test_digests_name_the_contexts_that_are_read(small: Panel) -> None:
    panel = small.with_context("vix", series((day(0), 1.0))).with_context("rate", series((day(0), 1.0)))
    assert panel.digest(["close"], 5) == small.digest(["close"], 5)
    names = {panel.digest(["close"], 5, contexts) for contexts in ((), ("vix",), ("rate",), ("vix", "rate"))}
    assert len(names) == 4
    with pytest.raises(InputError, match="no context 'rates'"):
        panel.digest(["close"], 5, ["rates"])


def test_files_of_any_kind(small: Panel, tmp_path: Path) -> None:
    frame = series((day(0), 1.5), (day(2), 2.5))
    frame.write_csv(tmp_path / "vix.csv")
    frame.write_parquet(tmp_path / "vix.parquet")
    for source in (tmp_path / "vix.csv", tmp_path / "vix.parquet", frame.to_pandas(), frame.to_arrow()):
        assert small.with_context("vix", source).context("vix").tolist() == [1.5, 1.5, 2.5, 2.5, 2.5]


def test_static_columns(small: Panel) -> None:
    frame = pl.DataFrame({"Symbol": ["CC", "AA", "ZZ"], "name": ["c", "a", "z"], "sector": ["x", " y ", "z"]})
    before = files(small.path)
    panel = small.with_static("sector", frame)
    assert panel.statics == ("sector",) and panel.static("sector") == ("y", None, "x")
    assert before.items() <= files(panel.path).items()
    assert panel.report.counts == {"symbol_not_in_panel": 1}
    assert panel.digest(["close"], 5) == small.digest(["close"], 5)
    for column, values in (("size", (2.5, None, 1.5)), ("listed", (True, None, False))):
        given = pl.DataFrame({"symbol": ["AA", "BB", "CC"], "any": list(values)})
        assert Panel.open(panel.path, panel.with_static(column, given).snapshot).static(column) == values


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"symbol": ["AA", "AA"], "sector": ["x", "y"]}), "duplicate_key"),
        (pl.DataFrame({"symbol": ["AA", None], "sector": ["x", "y"]}), "null_key"),
        (pl.DataFrame({"symbol": ["ZZ"], "sector": ["x"]}), "no symbol of the panel"),
        (pl.DataFrame({"symbol": ["AA"], "a": ["x"], "b": ["x"]}), "missing_column"),
    ],
)
def test_static_columns_with_faults_are_refused(small: Panel, frame: pl.DataFrame, says: str) -> None:
    with pytest.raises(InputError, match=says):
        small.with_static("sector", frame)


def test_ends_of_life_can_come_later(small: Panel, tmp_path: Path) -> None:
    ends = pl.DataFrame({"symbol": ["BB", "CC"], "date": [day(2), day(4)], "payout": [2.0, None]})
    panel = small.with_ends(ends)
    built = Panel.build(bars(), tmp_path / "built", ends=ends)
    assert panel.snapshot[7:] == built.snapshot[7:]
    moved = panel.with_ends(pl.DataFrame({"symbol": ["BB"], "date": [day(3)], "payout": [None]}))
    assert moved.ends.bar[1:].tolist() == [3, 4] and np.isnan(moved.ends.payout[1])
    with pytest.raises(InputError, match="unmatched_timestamp"):
        small.with_ends(pl.DataFrame({"symbol": ["BB"], "date": [day(7)]}))


def test_the_real_vix_and_sectors(real_panel: Panel) -> None:
    vix = pl.read_parquet(real_file("vix_daily.parquet"))
    panel = real_panel.with_context("vix", vix.select("timestamp", vix="close"))
    on = panel.bar_of("2008-10-24")
    assert (
        panel.context("vix")[on] == vix.filter(pl.col("timestamp") == dt.date(2008, 10, 24))["close"][0] > 70
    )
    sectors = panel.with_static("sector", real_file("sectors.csv"))
    assert sectors.static("sector").count(None) == 38
    assert len(set(sectors.static("sector"))) == 12
