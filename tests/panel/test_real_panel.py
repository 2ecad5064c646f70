"""The real prices as a panel."""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from backtest_farm.panel import Panel
from tests.ingest.bars import real_file


def test_the_real_panel_holds_what_the_file_holds(real_panel: Panel) -> None:
    assert real_panel.shape == (3202, 598)
    assert real_panel.bars_per_year == 252.0
    assert (str(real_panel.timestamps[0]), str(real_panel.timestamps[-1])) == ("2005-02-25", "2017-11-10")
    rows = pl.scan_parquet(real_file("us_equities_daily.parquet")).select("volume", "close").sum().collect()
    assert np.nansum(real_panel["volume"]) == rows["volume"][0]
    np.testing.assert_allclose(
        np.nansum(real_panel["close"]), rows["close"][0], rtol=1e-9
    )  # another order of adding
    assert (~np.isnan(real_panel["close"])).sum() == 1_789_876
    apple = (
        pl.read_parquet(real_file("us_equities_daily.parquet"))
        .filter(pl.col("symbol") == "AAPL")
        .sort("timestamp")
    )
    asset = real_panel.symbols.index("AAPL")
    np.testing.assert_array_equal(real_panel["close"][:, asset], apple["close"].to_numpy())


def test_no_end_of_life_is_assumed(real_panel: Panel) -> None:
    assert (real_panel.ends.bar > 3202).all()
    assert real_panel.report.counts["early_end"] == 1


def test_opening_is_quick(real_panel: Panel) -> None:
    Panel.open(real_panel.path)["close"]
    took = []
    for _ in range(5):
        start = time.perf_counter()
        Panel.open(real_panel.path)["close"]
        took.append(time.perf_counter() - start)
    print(f"open and first field: {min(took) * 1000:.1f} ms")
    assert min(took) < 0.1  # a few ms when the machine is idle; loading instead of mapping would take seconds
