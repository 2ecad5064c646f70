"""Damage is said plainly, with what to do, and before anything maps the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backtest_farm.cache import cache_root
from backtest_farm.errors import PanelError
from backtest_farm.panel import Panel
from backtest_farm.panel import block as block_module
from backtest_farm.panel.block import Block
from tests.ingest.bars import bars


def block(panel: Panel) -> Path:
    (path,) = (panel.path / "blocks").glob("*.parquet")
    return path


def snapshot(panel: Panel) -> Path:
    return panel.path / "snapshots" / f"{panel.snapshot}.json"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


SPOILED: dict[str, tuple[Callable[[Panel], None], str]] = {
    "missing block": (lambda panel: block(panel).unlink(), "is missing"),
    "cut block": (lambda panel: cut(block(panel)), "it was cut or changed"),
    "cut snapshot": (lambda panel: cut(snapshot(panel)), "not readable"),
    "binary snapshot": (lambda panel: flip_high(snapshot(panel)), "not readable"),
    "empty snapshot": (lambda panel: snapshot(panel).write_text("{}") and None, "not readable"),
    "changed content": (lambda panel: swap(snapshot(panel), '"BB"', '"BX"'), "does not match its own digest"),
    "changed files": (
        lambda panel: swap(snapshot(panel), '"offset":', '"offset":1'),
        "does not match its own digest",
    ),
    "rewritten content": (lambda panel: swap(snapshot(panel), ":[", ": ["), "does not match its own digest"),
    "a part more": (lambda panel: swap(snapshot(panel), '{"content"', '{"a":1,"content"'), "not readable"),
    "a part renamed": (
        lambda panel: swap(snapshot(panel), ',"files":', ',"filed":'),
        "does not match its own digest",
    ),
    "earlier format": (lambda panel: swap(snapshot(panel), '"format":2', '"format":1'), "has format 1"),
    "later format": (lambda panel: swap(snapshot(panel), '"format":2', '"format":3'), "has format 3"),
}


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def flip_high(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" + path.read_bytes())


@pytest.mark.parametrize("what", SPOILED)
def test_a_damaged_panel_is_not_opened(small: Panel, what: str) -> None:
    spoil, says = SPOILED[what]
    spoil(small)
    with pytest.raises(PanelError, match=says) as caught:
        Panel.open(small.path)
    assert caught.value.hint


def test_a_flipped_byte_is_found_even_after_the_file_was_checked(small: Panel) -> None:
    where = file_of(small, "close").bodies["close"].offset + 17
    Panel.open(small.path)["close"]
    flip(block(small), where)
    with pytest.raises(PanelError, match="is damaged") as caught:
        Panel.open(small.path)["open"]
    (fault,) = caught.value.faults
    assert "'close'" in fault


def test_files_are_checked_once_per_node(small: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[int] = []
    crc32 = block_module.zlib.crc32
    monkeypatch.setattr(block_module.zlib, "crc32", lambda data: sums.append(len(data)) or crc32(data))
    values = 8 * 5 * 3
    Panel.open(small.path)["close"]
    assert sums.count(values) == 5  # every field of the file
    Panel.open(small.path)["close"]
    Panel.open(small.path)["open"]
    assert sums.count(values) == 5
    os.utime(block(small))  # another time of change: another state of the file
    Panel.open(small.path)["close"]
    assert sums.count(values) == 10


def test_files_in_use_are_read_again_only_when_they_changed(
    small: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = Panel.open(small.path)
    panel.check_files()
    sums: list[int] = []
    crc32 = block_module.zlib.crc32
    monkeypatch.setattr(block_module.zlib, "crc32", lambda data: sums.append(len(data)) or crc32(data))
    values = 8 * 5 * 3
    panel.check_files()
    assert sums.count(values) == 0
    os.utime(block(small))
    panel.check_files()
    panel.check_files()
    assert sums.count(values) == 5
    flip(block(small), file_of(small, "close").bodies["close"].offset + 17)
    for _ in range(2):
        with pytest.raises(PanelError, match="is damaged"):
            panel.check_files()
    flip(block(small), file_of(small, "close").bodies["close"].offset + 17)
    panel.check_files()
    cut(block(small))
    with pytest.raises(PanelError, match="it was cut or changed"):
        panel.check_files()
    block(small).unlink()
    with pytest.raises(PanelError, match="is missing"):
        panel.check_files()


def test_an_unwritable_cache_costs_time_only(
    small: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "a file"))
    assert Panel.open(small.path)["close"][0, 0] == 10.5


def test_the_cache_folder_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKTEST_FARM_CACHE")
    assert cache_root().name == "backtest_farm"


def test_check_reads_everything(small: Panel) -> None:
    panel = small.with_field("score", np.ones(small.shape))
    assert panel.check().tallies == ()
    key_byte = 40  # in the timestamps, which opening does not read
    flip(
        next(
            path
            for path in (small.path / "blocks").iterdir()
            if path.name != file_of(panel, "score").path.name
        ),
        key_byte,
    )
    report = panel.check()
    assert report.counts == {"damaged_file": 1}
    assert "its bytes changed" in report.findings[0].advice
    (small.path / "blocks" / file_of(panel, "score").path.name).unlink()
    assert panel.check().counts == {"damaged_file": 2}


def file_of(panel: Panel, name: str) -> Block:
    (piece,) = panel._manifest.fields[name].pieces
    return piece.block


def test_check_looks_at_the_bars_too(tmp_path: Path) -> None:
    panel = Panel.build(bars().with_columns(volume=0.0)[:-1], tmp_path / "panel")
    assert panel.check().counts == panel.report.counts == {"early_end": 1, "zero_volume": 14}


def test_a_lost_report_is_said_plainly(small: Panel) -> None:
    (small.path / "reports" / f"{small.snapshot}.json").unlink()
    assert Panel.open(small.path)["close"].shape == (5, 3)
    with pytest.raises(PanelError, match="the report of the build"):
        Panel.open(small.path).report  # noqa: B018
