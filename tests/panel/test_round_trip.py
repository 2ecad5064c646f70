"""Whatever goes into a panel comes out of it: long rows, any order, any holes."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_farm.panel import Panel

_prices = st.floats(1e-3, 1e6, allow_subnormal=False)
_values = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
_days = st.dates(dt.date(1950, 1, 1), dt.date(2100, 1, 1))
_moments = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))
_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(
    str.strip
)


@st.composite
def _some(draw: st.DrawFn, items: st.SearchStrategy, most: int) -> list:
    # Lists of hypothesis' own choosing are mostly short: their length is drawn evenly instead.
    size = draw(st.integers(1, most))
    return draw(st.lists(items, min_size=size, max_size=size, unique=True))


@st.composite
def long_rows(draw: st.DrawFn) -> pl.DataFrame:
    intraday = draw(st.booleans())
    times = draw(_some(_moments if intraday else _days, 6))
    names = draw(_some(_names, 5))
    pairs = draw(
        _some(st.sampled_from([(time, name) for time in times for name in names]), len(times) * len(names))
    )
    price = st.lists(st.one_of(st.none(), _prices), min_size=len(pairs), max_size=len(pairs))
    score = st.lists(_values, min_size=len(pairs), max_size=len(pairs))
    return pl.DataFrame(
        {
            "timestamp": pl.Series(
                [time for time, _ in pairs], dtype=pl.Datetime("us", "UTC") if intraday else pl.Date
            ),
            "symbol": [name for _, name in pairs],
            **{name: pl.Series(draw(price), dtype=pl.Float64) for name in ("open", "high", "low", "close")},
            "score": pl.Series(draw(score), dtype=pl.Float64),
        }
    )


def from_block(panel: Panel) -> pl.DataFrame:
    (path,) = (panel.path / "blocks").glob("*.parquet")
    return pl.read_parquet(path)


def test_long_to_panel_to_long() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(long_rows())
    def check(frame: pl.DataFrame) -> None:
        with TemporaryDirectory() as folder:
            panel = Panel.build(frame, Path(folder) / "panel")
            dense = from_block(panel)
            keys = ["timestamp", "symbol"]
            assert dense.height == panel.shape[0] * panel.shape[1]
            assert dense.equals(dense.sort("timestamp", maintain_order=True))
            found = frame.select(keys).join(dense, on=keys, how="left", maintain_order="left")
            for name in ("open", "high", "low", "close", "score"):
                np.testing.assert_array_equal(
                    found[name].to_numpy(), frame[name].fill_null(float("nan")).to_numpy(), err_msg=name
                )
                values = panel[name]
                assert np.isnan(values).sum() == dense.height - frame[name].is_not_null().sum()
            again = Panel.build(
                dense.with_columns(pl.selectors.float().fill_nan(None)), Path(folder) / "again"
            )
            assert again.snapshot == panel.snapshot
        seen["intraday"] += frame.schema["timestamp"] != pl.Date
        seen["daily"] += frame.schema["timestamp"] == pl.Date
        seen["absent pairs"] += dense.height > frame.height
        seen["empty prices"] += frame["close"].null_count() > 0
        seen["several bars and assets"] += min(panel.shape) > 1
        seen["names beyond ASCII"] += not "".join(panel.symbols).isascii()

    check()
    print(dict(seen))
    assert min(seen.values()) >= 20, seen
