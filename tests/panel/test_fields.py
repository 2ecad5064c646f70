"""Fields by name, and values brought from outside onto the panel's bars and assets."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.panel import Panel
from tests.ingest.bars import bars


def scores(**changes: Any) -> pl.DataFrame:
    frame = bars().select("timestamp", "symbol", score=pl.col("close") * 2)
    return frame.with_columns(**changes)


def test_unknown_names_are_said_with_the_nearest(small: Panel) -> None:
    with pytest.raises(InputError, match="no field 'clsoe': did you mean 'close'"):
        small["clsoe"]
    with pytest.raises(InputError, match="no static column 'sector'"):
        small.static("sector")


@pytest.mark.parametrize(
    "frame",
    [
        scores(),
        scores().reverse(),
        scores(timestamp=pl.col("timestamp").cast(pl.Datetime("ms"))),
        scores(timestamp=pl.col("timestamp").cast(pl.Datetime("ns", "UTC"))),
        scores(timestamp=pl.col("timestamp").cast(pl.String)),
        scores().rename({"timestamp": "DATE", "symbol": "Ticker"}),
        scores().to_pandas(),
        scores().to_arrow(),
        scores().lazy(),
        scores(other=pl.lit("not looked at")),
    ],
)
def test_frames_of_any_kind_are_matched(small: Panel, frame: Any) -> None:
    np.testing.assert_array_equal(small.align("score", frame), small["close"] * 2)


def test_pairs_left_out_are_nan(small: Panel) -> None:
    found = small.with_field("score", scores()[4:6])["score"]
    assert np.isnan(found).sum() == 13
    assert found[1, 1:].tolist() == (small["close"] * 2)[1, 1:].tolist()


def test_arrays_of_any_number_type(small: Panel) -> None:
    for dtype in (np.float32, np.int64, np.bool_, np.uint8):
        values = np.asfortranarray(np.arange(15).reshape(5, 3).astype(dtype))
        found = small.align("x", values)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, values.astype(np.float64))


FAULTY: dict[str, tuple[Any, str]] = {
    "off the grid": (
        scores(timestamp=pl.col("timestamp") + pl.duration(days=3)),
        "the nearest is 2024-01-05",
    ),
    "unknown symbol": (
        scores(symbol=pl.col("symbol").replace("BB", "BC")),
        "unknown_symbol: field 'score' row 1",
    ),
    "twice": (pl.concat([scores(), scores()[3:4]]), "duplicate_key: field 'score' row 15"),
    "infinite": (scores(score=math.inf), "non_finite_value"),
    "text": (scores(score=pl.lit("high")), "unparseable"),
    "no symbol": (scores().drop("symbol"), "missing_column"),
    "another name": (scores().rename({"score": "rank"}), "found: timestamp, symbol, rank"),
    "shape": (np.ones((3, 5)), "the panel has 5 bars x 3 assets"),
    "infinite array": (np.full((5, 3), np.inf), "15 infinite values, the first at bar 0, asset 0"),
    "objects": (np.full((5, 3), None), "give numbers"),
    "no frame": (3.0, "no source of bars"),
}


@pytest.mark.parametrize("what", FAULTY)
def test_values_that_do_not_fit_are_refused(small: Panel, what: str) -> None:
    values, says = FAULTY[what]
    with pytest.raises(InputError) as caught:
        small.with_field("score", values)
    assert says in str(caught.value)
    assert Panel.open(small.path).snapshot == small.snapshot


def test_all_that_does_not_fit_is_listed_at_once(small: Panel) -> None:
    rows = [
        (dt.date(2024, 1, 1), "AA", 1.0),
        (dt.date(2024, 1, 1), "AA", 2.0),
        (dt.date(2024, 1, 9), "AA", 3.0),
        (dt.date(2024, 1, 1), "ZZ", 4.0),
        (None, "AA", 5.0),
    ]
    frame = pl.DataFrame(rows, schema=["timestamp", "symbol", "score"], orient="row")
    with pytest.raises(InputError) as caught:
        small.with_field("score", frame)
    kinds = sorted(fault.partition(":")[0] for fault in caught.value.faults)
    assert kinds == ["duplicate_key", "null_key", "unknown_symbol", "unmatched_timestamp"]


@pytest.mark.parametrize("name", ["close", "volume"])
def test_the_bars_themselves_cannot_be_replaced(small: Panel, name: str) -> None:
    with pytest.raises(InputError, match="the panel's own bars"):
        small.with_field(name, np.ones(small.shape))


@pytest.mark.parametrize("name", ["", "symbol", "Score", "my score", "date"])
def test_names_that_no_frame_could_have(small: Panel, name: str) -> None:
    with pytest.raises(InputError, match="no name for a field"):
        small.with_field(name, np.ones(small.shape))
