"""The node's cache of rankings: built once, checked before use, rebuilt when damaged; universes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backtest_farm import factor
from backtest_farm.errors import PanelError
from backtest_farm.factors import fields
from backtest_farm.factors.fields import factor_field
from backtest_farm.factors.ranks import Window, rank, ranking
from backtest_farm.panel import Panel, synthetic_panel
from backtest_farm.spec import Universe
from tests.factors.held import HeldPanel, market
from tests.factors.test_fields import files, finished

WINDOW = Window(20, 120)
VOLATILITY = factor.volatility(10)
HALF = Universe(of="half")


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    return synthetic_panel(tmp_path / "panel", n_bars=120, n_assets=20, seed=1)


def test_built_once_and_equal_to_a_build_without_the_cache(panel: Panel, cache: Path) -> None:
    first = ranking(panel, VOLATILITY, WINDOW, 5)
    again = ranking(panel, VOLATILITY, WINDOW, 5)
    assert (first.fresh, again.fresh) == (True, False)
    assert (first.fresh_factor, again.fresh_factor) == (True, False)
    values = factor_field(panel, VOLATILITY, WINDOW.stop).values[WINDOW.start :]
    want = rank(values, panel.ends.bar - WINDOW.start, 5)
    for got in (first.ranking, again.ranking):
        assert got.ids.tobytes() == want.ids.tobytes()
        assert got.counts.tobytes() == want.counts.tobytes()
        assert (got.ids.dtype, got.counts.dtype) == (np.int32, np.int64)
    assert want.counts.max() == 5
    assert len(files(cache)) == 2  # the factor and its ranking


@pytest.mark.parametrize(
    ("chosen", "window", "depth", "fresh_factor"),
    [(factor.volatility(11), WINDOW, 5, True), (factor.volatility(12), WINDOW, 5, True),
     (VOLATILITY, Window(20, 119), 5, True), (VOLATILITY, Window(19, 120), 5, False),
     (VOLATILITY, WINDOW, 6, False)],
)  # fmt: skip
def test_anything_else_is_another_ranking(panel: Panel, chosen, window, depth, fresh_factor) -> None:
    ranking(panel, VOLATILITY, WINDOW, 5)
    other = ranking(panel, chosen, window, depth)
    assert (other.fresh, other.fresh_factor) == (True, fresh_factor)


@pytest.mark.parametrize("light", [factor.momentum(10, 2), factor.field("close")])
def test_a_light_factor_is_ranked_piece_by_piece_and_not_kept(
    panel: Panel, cache: Path, monkeypatch, light
) -> None:
    want = rank(factor_field(panel, light, 120).values[20:], panel.ends.bar - 20, 5)
    there = files(cache)
    monkeypatch.setattr(fields, "PIECE_BYTES", 8 * 20 * 7)
    built = ranking(panel, light, WINDOW, 5)
    assert (built.fresh, built.fresh_factor) == (True, True)
    assert built.ranking.ids.tobytes() == want.ids.tobytes()
    assert built.ranking.counts.tobytes() == want.counts.tobytes()
    assert len(files(cache)) == len(there) + 1
    assert not ranking(panel, light, WINDOW, 5).fresh


@pytest.mark.parametrize("chosen", [factor.momentum(10, 2), VOLATILITY])
def test_a_ranking_of_files_that_changed_meanwhile_is_not_kept(
    panel: Panel, cache: Path, monkeypatch, chosen
) -> None:
    """Nor is the field that it was made from."""

    def changed(_: Panel) -> None:
        raise PanelError("a block changed")

    with monkeypatch.context() as patch, pytest.raises(PanelError, match="a block changed"):
        patch.setattr(Panel, "check_files", changed)
        ranking(panel, chosen, WINDOW, 5)
    assert files(cache) == []
    assert ranking(panel, chosen, WINDOW, 5).fresh


def test_a_depth_beyond_all_assets_is_all_assets(panel: Panel) -> None:
    assert ranking(panel, VOLATILITY, WINDOW, 20).ranking.ids.shape == (100, 20)
    assert not ranking(panel, VOLATILITY, WINDOW, 500).fresh


def test_an_unrelated_field_changes_nothing(panel: Panel) -> None:
    ranking(panel, VOLATILITY, WINDOW, 5)
    wider = panel.with_field("noise", np.ones(panel.shape))
    assert not ranking(wider, VOLATILITY, WINDOW, 5).fresh


def halved(seed: int = 0) -> HeldPanel:
    """A market and a universe that some assets join and leave."""
    held = market(n_assets=12)
    held.masks[HALF] = (np.random.default_rng(seed).random(held.shape) < 0.5).astype(np.uint8)
    return held


@pytest.mark.parametrize("depth", [3, 12])
def test_only_members_of_the_bar_are_ranked(depth: int) -> None:
    held = halved()
    got = ranking(held, VOLATILITY, WINDOW, depth, HALF).ranking
    values, members = factor_field(held, VOLATILITY, 120).values[20:], held.masks[HALF][20:120]
    left_out = 0
    for row, mask, ids, count in zip(values, members, *got, strict=True):
        known = [a for a in np.flatnonzero(mask) if np.isfinite(row[a])]
        assert ids[:count].tolist() == sorted(known, key=lambda a: (-row[a], a))[:depth]
        left_out += np.isfinite(row).sum() - len(known)
    assert left_out > 100


def test_a_universe_is_part_of_the_key_by_its_members_in_the_window() -> None:
    held = halved()
    assert ranking(held, VOLATILITY, WINDOW, 5).fresh_factor
    mine = ranking(held, VOLATILITY, WINDOW, 5, HALF)
    assert (mine.fresh, mine.fresh_factor) == (True, False)
    held.masks[HALF][120:] = 1
    held.masks[HALF][:20] = 0
    assert not ranking(held, VOLATILITY, WINDOW, 5, HALF).fresh
    held.masks[HALF][60, 0] ^= 1
    assert ranking(held, VOLATILITY, WINDOW, 5, HALF).fresh


def test_all_assets_need_no_mask() -> None:
    held = market()
    held.members = held.members_digest = None  # type: ignore[assignment]
    assert ranking(held, VOLATILITY, WINDOW, 5, Universe()).fresh
    assert not ranking(held, VOLATILITY, WINDOW, 5).fresh


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_rebuilt(panel: Panel, cache: Path, damage: str) -> None:
    want = ranking(panel, VOLATILITY, WINDOW, 5).ranking.ids.tobytes()
    file = min(files(cache), key=lambda path: path.stat().st_size)
    good = file.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    file.write_bytes({"flip": bytes(bad), "cut": good[:-4], "empty": b""}[damage])
    again = ranking(panel, VOLATILITY, WINDOW, 5)
    assert (again.fresh, again.fresh_factor) == (True, False)
    assert again.ranking.ids.tobytes() == want
    assert file.read_bytes() == good


def test_without_a_cache_it_is_built_each_time(panel: Panel, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    want = ranking(panel, VOLATILITY, WINDOW, 5).ranking
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "file" / "below"))
    for _ in range(2):
        built = ranking(panel, VOLATILITY, WINDOW, 5)
        assert (built.fresh, built.fresh_factor) == (True, True)
        assert built.ranking.ids.tobytes() == want.ids.tobytes()


_BUILD = """
from backtest_farm import Panel, factor
from backtest_farm.factors.ranks import Window, ranking
panel = Panel.open(sys.argv[2])
built = [ranking(panel, factor.volatility(n), Window(0, 120), n % 2 + 5) for n in [*range(2, 16)] * 2]
print(sum(each.fresh for each in built), sum(each.fresh_factor for each in built))
"""


def test_of_several_processes_one_builds(panel: Panel, start: Callable) -> None:
    racers = [start(_BUILD, panel.path) for _ in range(3)]
    built = [[int(count) for count in finished(racer)[0].split()] for racer in racers]
    assert np.sum(built, axis=0).tolist() == [14, 14]


def test_ends_of_life_end_ranking(panel: Panel) -> None:
    ends = panel.ends.bar
    gone = np.flatnonzero(ends < 100)
    assert len(gone) > 0
    ids, counts = ranking(panel, factor.field("score"), Window(0, 120), 20).ranking
    for a in gone:
        last = max(t for t in range(120) if a in ids[t, : counts[t]])
        assert last <= ends[a]
