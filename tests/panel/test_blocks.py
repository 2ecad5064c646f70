"""Blocks: wherever a panel is cut, it reads the same and has the same digests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import memory, synthetic_grid
from backtest_farm.panel import Panel, writing
from tests.ingest.bars import bars

Cut = Callable[[int], None]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Cut:
    """Call with the most bytes of a block."""
    return lambda most: monkeypatch.setattr(writing, "block_bytes", lambda: most)


def bytes_of(n_bars: int, n_assets: int, n_fields: int) -> int:
    return 8 * n_bars * n_assets * n_fields


def test_a_panel_of_blocks_reads_like_one(tmp_path: Path, cut: Cut) -> None:
    grid = synthetic_grid(50, 20, 1)
    whole = Panel.build(grid, tmp_path / "whole")
    cut(bytes_of(12, 20, 6))
    panel = Panel.open(Panel.build(grid, tmp_path / "cut").path)
    assert [(slab.first, slab.n_bars) for slab in panel.slabs()] == [
        (0, 12),
        (12, 12),
        (24, 12),
        (36, 12),
        (48, 2),
    ]
    assert len(whole.slabs()) == 1
    for name in panel.fields:
        np.testing.assert_array_equal(panel[name], whole[name])
        joined = np.concatenate([slab[name] for slab in panel.slabs()])
        np.testing.assert_array_equal(joined, whole[name])
        for start, stop in ((0, 0), (3, 9), (11, 13), (12, 24), (5, 50), (50, 50)):
            part = panel.read(name, start, stop)
            np.testing.assert_array_equal(part, whole[name][start:stop])
            assert not part.flags.writeable and part.flags.c_contiguous
    assert panel.check().counts == whole.check().counts


def is_mapped(values: np.ndarray) -> bool:
    """Whether an array is a view of a file."""
    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap):
            return True
        values = values.base  # type: ignore[assignment]
    return False


def test_what_lies_in_one_block_is_mapped(tmp_path: Path, cut: Cut) -> None:
    cut(bytes_of(4, 3, 5))
    panel = Panel.build(bars(10), tmp_path / "panel")
    assert [is_mapped(slab["close"]) for slab in panel.slabs()] == [True] * 3
    assert is_mapped(panel.read("close", 5, 7)) and not is_mapped(panel.read("close", 3, 5))
    held = panel["close"]
    assert not is_mapped(held) and panel["close"] is held  # the copy lives as long as somebody holds it


def test_bars_that_are_not_there_are_not_read(small: Panel) -> None:
    for start, stop in ((-1, 2), (3, 2), (0, 6)):
        with pytest.raises(InputError, match="cannot be read from a panel of 5"):
            small.read("close", start, stop)


def test_equal_content_has_one_name_whatever_the_cuts(tmp_path: Path, cut: Cut) -> None:
    draw = np.random.default_rng(3)
    grid = synthetic_grid(40, 12, 5)  # with gaps, listings and ends of life
    whole = Panel.build(grid, tmp_path / "whole")
    for rows in (1, 7, 39):
        cut(bytes_of(rows, 12, 6))
        panel = Panel.build(grid, tmp_path / str(rows))
        assert panel.snapshot == whole.snapshot
        for stop in draw.integers(1, 41, 8).tolist():
            for fields in (["close"], ["close", "open", "score"]):
                assert panel.digest(fields, stop) == whole.digest(fields, stop)


def test_an_added_field_is_cut_too(tmp_path: Path, cut: Cut, small: Panel) -> None:
    values = np.arange(15.0).reshape(5, 3)
    one = small.with_field("score", values)
    cut(bytes_of(2, 3, 1))
    other = Panel.build(bars(), tmp_path / "other").with_field("score", values)
    assert len(list((other.path / "blocks").iterdir())) == 5 + 3  # one bar of five fields, two of one
    np.testing.assert_array_equal(other["score"], values)
    assert other.digest(["score"], 5) == one.digest(["score"], 5)
    assert other.snapshot[7:] == one.snapshot[7:]


def test_a_name_that_is_listed_later_leaves_no_trace_before(tmp_path: Path) -> None:
    more = bars(5, ("AB", "BC", "CD")).filter(pl.col("timestamp") >= dt.date(2024, 1, 4))
    few, many = bars(), pl.concat([bars(), more])
    one, two = Panel.build(few, tmp_path / "few"), Panel.build(many, tmp_path / "many")
    assert two.symbols == ("AA", "AB", "BB", "BC", "CC", "CD")
    for stop in (1, 2, 3):
        assert one.digest(["close", "volume"], stop) == two.digest(["close", "volume"], stop)
    assert one.digest(["close"], 4) != two.digest(["close"], 4)


def test_the_order_of_assets_that_never_meet_matters(tmp_path: Path) -> None:
    first, last = bars(4, ("AA", "BB"))[:4], bars(4, ("AA", "BB"))[4:]
    renamed = [
        last.with_columns(symbol=pl.col("symbol").replace({"AA": x, "BB": y})) for x, y in ("ZY", "YZ")
    ]
    built = Panel.build(pl.concat([first, renamed[0]]), tmp_path / "one")
    appended = Panel.build(first, tmp_path / "two").append(renamed[0])
    assert appended.symbols == built.symbols == ("AA", "BB", "Y", "Z")
    assert appended.digest(["close"], 4) == built.digest(["close"], 4)
    assert appended.snapshot[7:] == built.snapshot[7:]
    early = [frame.with_columns(symbol="0" + pl.col("symbol")) for frame in renamed]
    built = Panel.build(pl.concat([first, early[0]]), tmp_path / "three")
    appended = Panel.build(first, tmp_path / "four").append(early[0])
    assert appended.symbols == ("AA", "BB", "0Y", "0Z") and built.symbols == ("0Y", "0Z", "AA", "BB")
    assert appended.digest(["close"], 2) == built.digest(["close"], 2)
    assert appended.digest(["close"], 4) != built.digest(["close"], 4)


def test_blocks_are_smaller_where_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        memory.resource.RLIMIT_DATA: 600 * 2**20,
        memory.resource.RLIMIT_AS: memory.resource.RLIM_INFINITY,
    }
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert memory.block_bytes() == 50 * 2**20
    limits[memory.resource.RLIMIT_DATA] = 2**60
    assert memory.block_bytes() <= memory.LARGEST_BLOCK
