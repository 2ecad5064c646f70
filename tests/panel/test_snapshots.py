"""Snapshots are immutable, share files, and appear whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backtest_farm import storage
from backtest_farm.errors import InputError, PanelError, StoreError
from backtest_farm.ingest import NO_END, synthetic_grid
from backtest_farm.panel import Panel, synthetic_panel
from tests.ingest.bars import bars, with_cell


def files(path: Path) -> dict[str, tuple[int, int]]:
    """Every file below `path` with its inode and time of change."""
    return {
        str(file.relative_to(path)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    }


def test_what_was_built_is_opened(tmp_path: Path) -> None:
    grid = synthetic_grid(60, 30, 4)
    panel = Panel.open(Panel.build(grid, tmp_path / "panel").path)
    assert panel.shape == (60, 30)
    np.testing.assert_array_equal(panel.timestamps, grid.timestamps)
    assert panel.symbols == grid.symbols
    assert panel.fields == ("close", "high", "low", "open", "score", "volume")
    for name in panel.fields:
        np.testing.assert_array_equal(panel[name], grid.fields[name])
    assert panel.static("sector") == grid.statics["sector"]
    np.testing.assert_array_equal(panel.ends.bar, grid.ends.bar)
    np.testing.assert_array_equal(panel.ends.payout, grid.ends.payout)
    assert (panel.ends.bar < NO_END).sum() > 0
    assert panel.report == Panel.build(grid, tmp_path / "other").report
    assert "60 bars" in repr(panel) and panel.snapshot in repr(panel)


def test_metadata_cannot_be_changed(small: Panel) -> None:
    for values in (small.timestamps, *small.ends):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = values[1]


def test_building_the_same_again_changes_nothing(small: Panel) -> None:
    before = files(small.path)
    again = Panel.build(bars().sample(fraction=1.0, shuffle=True, seed=1), small.path)
    assert again.snapshot == small.snapshot
    assert files(small.path) == before
    small.with_field("x", np.ones(small.shape))
    assert Panel.build(bars(), small.path).snapshot == small.snapshot


@pytest.mark.parametrize("changed", ["cell", "ends", "year"])
def test_building_something_else_over_a_panel_is_refused(small: Panel, changed: str) -> None:
    frame = with_cell(bars(), 4, "close", 11.75) if changed == "cell" else bars()
    ends = bars()[:1].select("symbol", date="timestamp") if changed == "ends" else None
    before = files(small.path)
    with pytest.raises(PanelError, match="other content") as caught:
        Panel.build(frame, small.path, ends=ends, bars_per_year=260 if changed == "year" else None)
    assert caught.value.hint
    assert files(small.path) == before


def test_building_over_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PanelError, match=r"holds something else: notes\.txt"):
        Panel.build(bars(), tmp_path)
    with pytest.raises(PanelError, match="is a file"):
        Panel.build(bars(), tmp_path / "notes.txt")
    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]


def test_refused_data_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Panel.build(bars().drop("close"), tmp_path / "panel")
    assert not (tmp_path / "panel").exists()


def test_an_added_field_is_a_new_snapshot_that_shares_files(small: Panel) -> None:
    before = files(small.path)
    more = small.with_field("score", np.arange(15.0).reshape(5, 3))
    assert before.items() <= files(small.path).items()
    assert len(list((small.path / "blocks").iterdir())) == 2
    assert more.fields == (*small.fields[:4], "score", "volume")
    np.testing.assert_array_equal(more["score"], np.arange(15.0).reshape(5, 3))
    np.testing.assert_array_equal(more["close"], small["close"])
    assert "score" not in small and "score" not in Panel.open(small.path, small.snapshot)
    assert Panel.open(small.path).snapshot == more.snapshot
    assert more.snapshot.startswith("000002-")
    assert more.report == small.report


def test_adding_the_same_again_is_the_same_snapshot(small: Panel) -> None:
    first = small.with_field("score", np.ones(small.shape))
    assert small.with_field("score", np.ones(small.shape)).snapshot == first.snapshot
    other = first.with_field("score", np.zeros(small.shape))
    assert other.snapshot.startswith("000003-")
    assert first["score"][0, 0] == 1.0 and other["score"][0, 0] == 0.0


def test_snapshots_are_opened_by_name_or_number(small: Panel) -> None:
    second = small.with_field("score", np.ones(small.shape))
    assert Panel.open(small.path, second.snapshot).snapshot == second.snapshot
    for number in (1, "1", "000001"):
        assert Panel.open(small.path, number).snapshot == small.snapshot
    with pytest.raises(PanelError, match="did you mean '000002-"):
        Panel.open(small.path, second.snapshot + "x")
    with pytest.raises(PanelError, match="no snapshot '7'"):
        Panel.open(small.path, 7)


def test_no_panel_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match="does not exist"):
        Panel.open(tmp_path / "nowhere")
    with pytest.raises(PanelError, match="holds no snapshot"):
        Panel.open(tmp_path)


@pytest.mark.parametrize("at", ["reports", "snapshots"])
def test_a_build_that_dies_leaves_no_snapshot_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    link = os.link

    def die(draft: Path, target: Path) -> None:
        if target.parent.name == at:
            raise OSError("no space left")
        link(draft, target)

    with monkeypatch.context() as patch:
        patch.setattr(storage.local.os, "link", die)
        with pytest.raises(StoreError, match="no space"):
            Panel.build(bars(), tmp_path / "panel")
    assert list((tmp_path / "panel" / "blocks").glob("*.parquet"))  # it died after the block was written
    with pytest.raises(PanelError, match="holds no snapshot"):
        Panel.open(tmp_path / "panel")
    assert list((tmp_path / "panel" / "reports").glob("*.json")) or at == "reports"
    assert Panel.build(bars(), tmp_path / "panel").shape == (5, 3)


def test_two_writers_get_two_numbers(small: Panel) -> None:
    code = (
        "import sys, numpy as np\nfrom backtest_farm.panel import Panel\n"
        "panel = Panel.open(sys.argv[1], 1)\n"
        "for i in range(4): panel.with_field(f'{sys.argv[2]}{i}', np.full(panel.shape, float(i)))\n"
    )
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(small.path), who], cwd=root, env=os.environ)
        for who in ("x", "y")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    names = sorted(file.stem for file in (small.path / "snapshots").iterdir())
    assert [int(name[:6]) for name in names] == list(range(1, 10))


def test_a_panel_travels_as_path_and_snapshot(small: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.path.parent)
    panel = Panel.open(small.path.name)
    panel.with_field("later", np.ones(panel.shape))
    parcel = pickle.dumps(panel)
    assert len(parcel) < 500
    monkeypatch.chdir("/")
    arrived = pickle.loads(parcel)
    assert (arrived.path, arrived.snapshot, arrived.fields) == (small.path, small.snapshot, small.fields)


def test_irregular_and_single_timestamps_are_kept(tmp_path: Path) -> None:
    for n_bars in (1, 2, 3):
        panel = Panel.build(bars(n_bars), tmp_path / str(n_bars))
        np.testing.assert_array_equal(panel.timestamps, np.arange("2024-01-01", n_bars, dtype="M8[D]"))
    frame = bars(8)[[0, 1, 2, 9, 10, 11, 12, 13, 14, 21, 22, 23]]
    panel = Panel.build(frame, tmp_path / "irregular")
    assert [str(day) for day in panel.timestamps] == ["2024-01-01", "2024-01-04", "2024-01-05", "2024-01-08"]


def test_a_snapshot_is_readable_json(small: Panel) -> None:
    text = (small.path / "snapshots" / f"{small.snapshot}.json").read_text()
    content = json.loads(text)["content"]
    assert content["symbols"] == ["AA", "BB", "CC"]
    assert content["timestamps"] == {"first": 19723, "steps": [[1, 4]]}
    assert set(content["fields"]) == set(small.fields)


def test_synthetic_panels_are_the_same_everywhere(tmp_path: Path) -> None:
    one = synthetic_panel(tmp_path / "one", 40, 20, seed=3)
    two = synthetic_panel(tmp_path / "two", 40, 20, seed=3)
    assert one.snapshot == two.snapshot
    assert synthetic_panel(tmp_path / "one", 40, 20, seed=3).snapshot == one.snapshot
