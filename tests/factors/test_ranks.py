"""The node's cache of rankings: built once, checked at every load, rebuilt when damaged."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from backtest_farm.factors import momentum, ranks
from backtest_farm.factors.ranks import Window, factor_values, rank, ranking
from backtest_farm.panel import Panel, synthetic_panel

WINDOW = Window(20, 120)


@pytest.fixture
def panel(tmp_path, monkeypatch) -> Panel:
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "cache"))
    return synthetic_panel(tmp_path / "panel", n_bars=120, n_assets=20, seed=1)


def files(tmp_path) -> list:
    return [path for path in (tmp_path / "cache" / "rankings").iterdir() if path.suffix != ".lock"]


def test_built_once_and_equal_to_a_build_without_the_cache(panel, tmp_path) -> None:
    first = ranking(panel, momentum(10, 2), WINDOW, 5)
    again = ranking(panel, momentum(10, 2), WINDOW, 5)
    assert (first.fresh, again.fresh) == (True, False)
    values = factor_values(panel, momentum(10, 2), WINDOW.stop)[WINDOW.start :]
    want = rank(values, panel.ends.bar - WINDOW.start, 5)
    for got in (first.ranking, again.ranking):
        assert got.ids.tobytes() == want.ids.tobytes()
        assert got.counts.tobytes() == want.counts.tobytes()
    assert want.counts.max() == 5
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("factor", "window", "depth"),
    [(momentum(11, 2), WINDOW, 5), (momentum(10, 3), WINDOW, 5), (momentum(10, 2), Window(20, 119), 5),
     (momentum(10, 2), Window(19, 120), 5), (momentum(10, 2), WINDOW, 6)],
)  # fmt: skip
def test_anything_else_is_another_ranking(panel, factor, window, depth) -> None:
    ranking(panel, momentum(10, 2), WINDOW, 5)
    assert ranking(panel, factor, window, depth).fresh


def test_an_unrelated_field_changes_nothing(panel) -> None:
    ranking(panel, momentum(10, 2), WINDOW, 5)
    wider = panel.with_field("noise", np.ones(panel.shape))
    assert not ranking(wider, momentum(10, 2), WINDOW, 5).fresh


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_rebuilt(panel, tmp_path, damage) -> None:
    want = ranking(panel, momentum(10, 2), WINDOW, 5).ranking
    (file,) = files(tmp_path)
    good = file.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    file.write_bytes({"flip": bytes(bad), "cut": good[:-4], "empty": b""}[damage])
    again = ranking(panel, momentum(10, 2), WINDOW, 5)
    assert again.fresh
    assert again.ranking.ids.tobytes() == want.ids.tobytes()
    assert file.read_bytes() == good


def test_the_oldest_go_when_the_cache_is_full(panel, tmp_path, monkeypatch) -> None:
    for lookback in range(5, 9):
        ranking(panel, momentum(lookback), WINDOW, 5)
    size = files(tmp_path)[0].stat().st_size
    monkeypatch.setattr(ranks, "CACHE_BYTES", 2 * size)
    ranking(panel, momentum(9), WINDOW, 5)
    assert len(files(tmp_path)) == 2
    assert not ranking(panel, momentum(9), WINDOW, 5).fresh
    assert ranking(panel, momentum(5), WINDOW, 5).fresh


def test_a_lock_that_cannot_be_taken_costs_only_the_cache(panel, tmp_path, monkeypatch) -> None:
    def refuse(path):
        raise PermissionError(13, "not yours", str(path))

    monkeypatch.setattr(ranks, "FileLock", refuse)
    assert ranking(panel, momentum(10, 2), WINDOW, 5).fresh


def test_a_folder_that_cannot_be_made_costs_only_the_cache(panel, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "file" / "below"))
    assert ranking(panel, momentum(10, 2), WINDOW, 5).fresh
    assert ranking(panel, momentum(10, 2), WINDOW, 5).fresh


_BUILD = """
import sys
from backtest_farm.factors import momentum
from backtest_farm.factors.ranks import Window, ranking
from backtest_farm.panel import Panel
panel = Panel.open(sys.argv[1])
print(sum(ranking(panel, momentum(lookback), Window(0, 120), 5).fresh for lookback in range(2, 30)))
"""


def test_of_several_processes_one_builds(panel) -> None:
    command = [sys.executable, "-c", _BUILD, str(panel.path)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    built = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sum(built) == 28
