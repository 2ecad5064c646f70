"""Rows find their bar and asset: tables of days and of names say what a search says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from backtest_farm.ingest.matching import _asset_ids, _bars_at

DAY = np.timedelta64(1, "D")


@pytest.mark.parametrize("n_days", [1, 2, 60])
def test_days_find_the_bars_that_a_search_finds(n_days: int) -> None:
    draw = np.random.default_rng(n_days)
    days = np.sort(draw.choice(np.arange(-30, 200), n_days, replace=False)).astype("M8[D]")
    around = np.arange(days[0] - 3 * DAY, days[-1] + 4 * DAY).astype("M8[us]")
    moments = np.concatenate([around, around + np.timedelta64(1, "us"), around - np.timedelta64(1, "h")])
    far = np.array(["NaT", "0001-01-01", "9999-12-31", "-20000-01-01"], "M8[us]")
    moments = draw.permutation(np.concatenate([moments, far]))
    bars, on_grid = _bars_at(moments, days)
    expected, is_there = _bars_at(moments, days.astype("M8[us]"))
    np.testing.assert_array_equal(on_grid, is_there)
    np.testing.assert_array_equal(bars[on_grid], expected[on_grid])
    assert on_grid.sum() == n_days


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["B", "A", "", "x", "new", "é"])])
def test_names_find_their_assets_whatever_their_type(dtype: pl.DataType) -> None:
    names = ["B", "A", None, "new", "A", "", "x", "B", "é"]
    ids = _asset_ids(pl.Series(names, dtype=dtype), ("A", "B", "C", "é"))
    assert ids.tolist() == [1, 0, -1, -1, 0, -1, -1, 1, 3]
    assert _asset_ids(pl.Series([], dtype=dtype), ("A",)).tolist() == []
    assert _asset_ids(pl.Series([None], dtype=dtype), ("A",)).tolist() == [-1]
