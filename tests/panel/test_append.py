"""Appending: what it costs, what it leaves as it was, and that it is never half done."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_farm import storage
from backtest_farm.errors import InputError, PanelError, StoreError
from backtest_farm.panel import Panel, writing
from backtest_farm.panel.block import Block
from tests.ingest.bars import bars, with_cell
from tests.panel.test_snapshots import files

ROOT = Path(__file__).parents[2]


def later(first: int, last: int, symbols: tuple[str, ...] = ("AA", "BB", "CC")) -> pl.DataFrame:
    """The bars numbered from `first` up to `last`."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in (first, last)]
    return bars(last, symbols).filter(pl.col("timestamp").is_between(*days, closed="left"))


def built(frame: pl.DataFrame, path: Path) -> Panel:
    return Panel.build(frame, path, bars_per_year=252)


def test_later_bars_are_a_new_snapshot(tmp_path: Path) -> None:
    panel = built(bars(), tmp_path / "panel")
    longer = panel.append(later(5, 8))
    whole = built(bars(8), tmp_path / "whole")
    assert longer.shape == (8, 3) and panel.shape == (5, 3)
    np.testing.assert_array_equal(longer.timestamps, whole.timestamps)
    for name in whole.fields:
        np.testing.assert_array_equal(longer[name], whole[name])
    assert longer.snapshot == f"000002-{whole.snapshot[7:]}"
    assert Panel.open(panel.path).snapshot == longer.snapshot
    assert Panel.open(panel.path, 1).shape == (5, 3)
    assert pickle.loads(pickle.dumps(longer))["close"].shape == (8, 3)
    assert longer.report.tallies == ()


def test_history_keeps_its_digests(tmp_path: Path) -> None:
    panel = built(bars(), tmp_path / "panel").with_context(
        "vix", bars(5, ("V",)).select("timestamp", "close")
    )
    before = [panel.digest(["close", "open"], stop, ["vix"]) for stop in range(1, 6)]
    for step in (later(5, 6), later(6, 8, ("AA", "BB", "CC", "DD")), later(8, 9, ("AA", "B", "DD"))):
        panel = panel.append(step)
        assert [panel.digest(["close", "open"], stop, ["vix"]) for stop in range(1, 6)] == before
    assert panel.symbols == ("AA", "BB", "CC", "DD", "B")
    assert np.isnan(panel["close"][:6, 3:]).all() and np.isfinite(panel["close"][6:8, 3]).all()
    assert len({panel.digest(["close"], stop) for stop in range(1, 10)}) == 9


def test_a_day_costs_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = tuple(f"S{i:02d}" for i in range(60))
    written, mapped = {}, []
    monkeypatch.setattr(Block, "map", lambda self, name, shape: mapped.append(name))
    for n_bars in (20, 400):
        panel = built(bars(n_bars, symbols), tmp_path / str(n_bars))
        before = files(panel.path)
        panel.append(later(n_bars, n_bars + 1, symbols))
        after = files(panel.path)
        # The lock is the one file that is opened again.
        assert {name: after[name] for name in before if name != "lock"} == {
            name: state for name, state in before.items() if name != "lock"
        }
        fresh = sorted(after.keys() - before.keys())
        assert [name.partition("/")[0] for name in fresh] == ["blocks", "reports", "snapshots"]
        written[n_bars] = sum((panel.path / name).stat().st_size for name in fresh)
    assert mapped == []  # no old value is read
    assert written[400] < written[20] + 200  # what the list of timestamps may grow by
    assert written[400] < 0.02 * sum(file.stat().st_size for file in (panel.path / "blocks").iterdir())


REVISED = with_cell(bars(7), 7, "close", 10.75)
OVERLAPPING = {
    "again": (bars(), "2024-01-01"),
    "last bar too": (bars(7)[12:], "2024-01-05"),
    "revised history": (REVISED, "2024-01-01"),
    "one symbol's history": (pl.concat([later(5, 6), bars(2, ("BB",))]), "BB"),
    "a new symbol with history": (pl.concat([later(5, 6), later(4, 6, ("DD",))]), "2024-01-05 DD"),
}


@pytest.mark.parametrize("what", OVERLAPPING)
@pytest.mark.parametrize("on_fault", ["strict", "report"])
def test_bars_that_overlap_are_refused(small: Panel, what: str, on_fault: Any) -> None:
    frame, says = OVERLAPPING[what]
    before = files(small.path)
    with pytest.raises(InputError, match="overlapping_bar") as caught:
        small.append(frame, on_fault=on_fault)
    assert says in str(caught.value)
    assert files(small.path) == before


def test_appended_bars_pass_the_same_checks(small: Panel) -> None:
    broken = with_cell(later(5, 7), 0, "close", -1.0)
    with pytest.raises(InputError, match="non_positive_price"):
        small.append(broken)
    assert small.append(broken, on_fault="report").report.counts["non_positive_price"] == 1
    zoned = later(6, 7).with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=9)
    )
    with pytest.raises(InputError, match="daily sessions"):
        Panel.open(small.path).append(zoned)


def test_fields_and_contexts_that_are_not_carried_are_nan_and_said(small: Panel) -> None:
    panel = small.with_field("score", np.ones((5, 3))).with_context(
        "vix", bars(5, ("V",)).select("timestamp", "close")
    )
    longer = panel.append(later(5, 7).drop("volume").with_columns(extra=1.5))
    assert longer.fields == ("close", "extra", "high", "low", "open", "score", "volume")
    assert np.isnan(longer["score"][5:]).all() and (longer["score"][:5] == 1).all()
    assert np.isnan(longer["volume"][5:]).all() and np.isnan(longer["extra"][:5]).all()
    assert np.isnan(longer.context("vix")[5:]).all()
    assert longer.report.counts["missing_field"] == 3
    assert [item.value for item in longer.report.of("missing_field")] == ["score", "volume", "context vix"]
    assert longer.digest(["score"], 5, ["vix"]) == panel.digest(["score"], 5, ["vix"])
    again = longer.with_field("score", np.ones(longer.shape))
    assert again.digest(["score"], 5) == panel.digest(["score"], 5)


def test_statics_and_ends_grow(small: Panel) -> None:
    panel = small.with_static("sector", pl.DataFrame({"symbol": ["AA", "CC"], "sector": ["x", "y"]}))
    panel = panel.with_ends(pl.DataFrame({"symbol": ["BB"], "date": [dt.date(2024, 1, 4)], "payout": [2.0]}))
    longer = panel.append(later(5, 7, ("AA", "CC", "AB")))
    assert longer.symbols == ("AA", "BB", "CC", "AB")
    assert longer.static("sector") == ("x", None, "y", None)
    assert longer.ends.bar[1] == 3 and longer.ends.payout[1] == 2.0 and (longer.ends.bar[[0, 2, 3]] > 9).all()
    for stop in (3, 5):
        assert longer.digest(["close"], stop) == panel.digest(["close"], stop)


@pytest.mark.parametrize("at", ["reports", "snapshots"])
def test_a_crash_before_the_snapshot_leaves_the_old_one(
    small: Panel, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    link = os.link

    def die(draft: Path, target: Path) -> None:
        if target.parent.name == at:
            raise OSError("no space left")
        link(draft, target)

    with monkeypatch.context() as patch:
        patch.setattr(storage.local.os, "link", die)
        with pytest.raises(StoreError, match="no space"):
            small.append(later(5, 6))
    assert len(list((small.path / "blocks").iterdir())) == 2  # it died after the block was written
    assert Panel.open(small.path).snapshot == small.snapshot
    assert small.append(later(5, 6)).shape == (6, 3)


def test_a_killed_writer_leaves_the_old_snapshot(small: Panel) -> None:
    code = (
        "import os, sys\nfrom tests.panel.test_append import Panel, later\n"
        "from backtest_farm.panel.folder import PanelFolder\n"
        "PanelFolder.commit = lambda *_, **__: os._exit(9)\n"
        "Panel.open(sys.argv[1]).append(later(5, 6))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, small.path], cwd=ROOT).returncode == 9
    assert list((small.path / "blocks").glob("writing-*/*.parquet"))  # it died after the block was written
    assert Panel.open(small.path).snapshot == small.snapshot
    assert small.append(later(5, 6)).check().tallies == ()


def test_only_the_newest_snapshot_is_continued(small: Panel) -> None:
    small.with_field("score", np.ones((5, 3)))
    with pytest.raises(PanelError, match="newest snapshot, 000002-") as caught:
        small.append(later(5, 6))
    assert "Panel.open" in str(caught.value.hint)


def test_a_snapshot_that_appears_meanwhile_is_not_hidden(
    small: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = writing.read_later

    def slow(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(writing, "read_later", read)
        Panel.open(small.path).append(later(5, 6))
        return read(*given, **named)

    monkeypatch.setattr(writing, "read_later", slow)
    with pytest.raises(PanelError, match="newest snapshot, 000002-"):
        small.append(later(5, 8))
    assert Panel.open(small.path).shape == (6, 3)
    assert len(list((small.path / "blocks").iterdir())) == 2


def test_two_appends_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom backtest_farm.errors import FarmError\n"
        "from tests.panel.test_append import Panel, later\n"
        "panel = Panel.open(sys.argv[1], 1)\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "try:\n    print(panel.append(later(5, int(sys.argv[2]))).shape[0])\n"
        "except FarmError as fault:\n    print(type(fault).__name__, fault.message)\n"
    )
    panel = built(bars(), tmp_path / "panel")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, panel.path, last], cwd=ROOT, text=True, stdin=-1, stdout=-1
        )
        for last in ("7", "9")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=60)[0].strip() for writer in writers]
    lost = [text for text in said if text.startswith("PanelError")]
    assert len(lost) == 1 and "newest snapshot" in lost[0], said
    (won,) = set(said) - set(lost)
    newest = Panel.open(panel.path)
    assert newest.shape[0] == int(won) and len(newest._folder.names()) == 2
    assert newest.check().tallies == ()
