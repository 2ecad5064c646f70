"""A panel as frames, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from backtest_farm.ingest import synthetic_grid
from backtest_farm.panel import Panel
from tests.ingest.bars import bars, real_file


def test_long_frames_come_back(tmp_path: Path) -> None:
    panel = Panel.build(synthetic_grid(60, 20, 3), tmp_path / "panel")
    frame = panel.to_frame()
    assert frame.columns == ["timestamp", "symbol", *panel.fields]
    assert frame.schema["timestamp"] == pl.Date and frame.schema["symbol"] == pl.String
    some = np.any([~np.isnan(panel[name]) for name in panel.fields], axis=0).sum()
    assert frame.height == some < 60 * 20 and frame.null_count().sum_horizontal()[0] == 0
    again = Panel.build(frame, tmp_path / "again")
    for name in panel.fields:
        np.testing.assert_array_equal(again[name], panel[name])


def test_wide_frames(small: Panel, tmp_path: Path) -> None:
    assert small.to_wide("close").equals(bars().pivot("symbol", index="timestamp", values="close"))
    crypto = Panel.build(real_file("crypto_5m_201801.parquet"), tmp_path / "crypto")
    wide = crypto.to_wide("close")
    assert wide.schema["timestamp"] == pl.Datetime("us", "UTC") == crypto.to_frame().schema["timestamp"]
    assert wide.columns[1:] == list(crypto.symbols)
    assert sum(wide.null_count().row(0)) == np.isnan(crypto["close"]).sum() > 0


def test_info_is_plain(small: Panel) -> None:
    frame = pl.DataFrame({"symbol": ["AA", "BB"], "sector": ["x", "x"]})
    vix = bars(5, ("V",)).select("timestamp", "close")
    panel = small.with_static("sector", frame).with_context("vix", vix)
    info = panel.info()
    json.dumps(info, default=str)
    assert info["statics"] == {"sector": {"values": 1, "missing": 1}}
    assert (info["n_bars"], info["n_assets"], info["blocks"], info["ends"]) == (5, 3, 1, 0)
    assert (str(info["first"]), str(info["last"])) == ("2024-01-01", "2024-01-05")
    assert info["contexts"] == ["vix"] and info["calendar"] is None and len(info["snapshots"]) == 3
    assert info["bytes"] == sum(file.stat().st_size for file in (panel.path / "blocks").iterdir())
