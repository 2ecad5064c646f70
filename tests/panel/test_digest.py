"""A digest names exactly what a run can read: equal content, equal name; any change within reach, another."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.panel import Panel, synthetic_panel
from backtest_farm.panel.chain import START, advance
from tests.ingest.bars import bars, with_cell

ENDS = pl.DataFrame({"symbol": ["BB"], "date": [dt.date(2024, 1, 3)], "payout": [2.0]})


def test_equal_content_has_one_digest(small: Panel, tmp_path: Path) -> None:
    other = Panel.build(bars().reverse(), tmp_path / "other").with_field("extra", np.ones((5, 3)))
    for stop in (2, 5):
        assert small.digest(["close", "open"], stop) == other.digest(["open", "close", "open"], stop)
    assert len(small.digest(["close"], 5)) == 32


def test_later_bars_do_not_matter(small: Panel, tmp_path: Path) -> None:
    longer = Panel.build(bars(8), tmp_path / "longer", bars_per_year=small.bars_per_year)
    assert longer.digest(["close"], 5) == small.digest(["close"], 5)
    assert longer.digest(["close"], 6) != small.digest(["close"], 5)


@pytest.mark.parametrize(("bar", "reaches"), [(2, True), (3, True), (4, False)])
def test_a_changed_cell_matters_up_to_the_end(small: Panel, tmp_path: Path, bar: int, reaches: bool) -> None:
    changed = Panel.build(with_cell(bars(), 3 * bar, "close", 10.75), tmp_path / "changed")
    assert (changed.digest(["close"], 4) != small.digest(["close"], 4)) == reaches
    assert changed.digest(["open"], 4) == small.digest(["open"], 4)


@pytest.mark.parametrize(("stop", "reaches"), [(3, False), (4, True), (5, True)])
def test_an_end_of_life_matters_once_it_is_known(
    small: Panel, tmp_path: Path, stop: int, reaches: bool
) -> None:
    ended = Panel.build(bars(), tmp_path / "ended", ends=ENDS)
    assert (ended.digest(["close"], stop) != small.digest(["close"], stop)) == reaches
    paid = Panel.build(bars(), tmp_path / "paid", ends=ENDS.with_columns(payout=3.0))
    assert (paid.digest(["close"], stop) != ended.digest(["close"], stop)) == reaches


def test_a_chain_is_what_its_module_says(market: Panel) -> None:
    values, names = market["close"], market.symbols
    state = bytes(32)
    for bar, row in enumerate(values):
        there = np.flatnonzero(~np.isnan(row))
        roster = hashlib.sha256(b"".join(hashlib.sha256(names[a].encode()).digest() for a in there)).digest()
        if len(there):
            state += bar.to_bytes(8, "little") + roster + row[there].tobytes()
            state = hashlib.sha256(state).digest()
    assert np.isnan(values).any() and advance(START, 0, values, names) == state.hex()
    half = advance(START, 0, values[:150], names)
    assert advance(half, 150, values[150:], names) == state.hex()


def test_ends_asked_for_in_any_order_have_the_same_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backtest_farm.panel.writing.block_bytes", lambda: 8 * 6 * 12 * 35)
    panel = synthetic_panel(tmp_path / "panel", 100, 12, seed=2)
    assert len(panel.slabs()) == 3
    stops = [35, 34, 36, 99, 1, 71, 70, 100, 90, 80, 35]
    fresh = {stop: Panel.open(panel.path).digest(["close", "score"], stop) for stop in stops}
    assert {stop: panel.digest(["close", "score"], stop) for stop in stops} == fresh
    assert len(set(fresh.values())) == len(fresh)


def test_symbols_and_timestamps_matter(small: Panel, tmp_path: Path) -> None:
    renamed = Panel.build(bars(symbols=("AA", "BB", "CD")), tmp_path / "renamed")
    moved = Panel.build(bars().with_columns(pl.col("timestamp") + pl.duration(days=7)), tmp_path / "moved")
    zoned = bars().with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=9))
    intraday = Panel.build(zoned, tmp_path / "intraday")
    names = {panel.digest(["close"], 5) for panel in (small, renamed, moved, intraday)}
    assert len(names) == 4


def test_what_is_not_there_has_no_digest(small: Panel) -> None:
    with pytest.raises(InputError, match="did you mean 'close'"):
        small.digest(["closed"], 5)
    for stop in (6, 0, -1):
        with pytest.raises(InputError, match="cannot be read"):
            small.digest(["close"], stop)
