"""Compaction of a panel: fewer blocks, the same bars and digests, and older snapshots as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest_farm.errors import PanelError
from backtest_farm.panel import Panel, writing
from tests.ingest.bars import bars
from tests.panel.test_append import later
from tests.panel.test_snapshots import files


@pytest.fixture
def grown(tmp_path: Path) -> Panel:
    """Eleven bars in seven blocks: a later listing, a field that only some of the bars have, a context."""
    panel = Panel.build(bars(), tmp_path / "panel", bars_per_year=252)
    panel = panel.with_context("vix", bars(5, ("V",)).select("timestamp", "close"))
    panel = panel.append(later(5, 6))
    scores = np.arange(18.0).reshape(6, 3)
    panel = panel.with_field("score", scores)
    for first in range(6, 11):
        panel = panel.append(later(first, first + 1, ("AA", "BB", "CC", "DD")))
    return panel


def digests(panel: Panel) -> list[str]:
    return [panel.digest(["close", "score"], stop, ["vix"]) for stop in range(1, panel.shape[0] + 1)]


def test_few_blocks_hold_the_same_bars_under_the_same_digests(grown: Panel) -> None:
    one = grown.compact()
    assert (len(grown.slabs()), len(one.slabs())) == (7, 1)
    assert (one.snapshot[:7], one.snapshot[7:]) == ("000010-", grown.snapshot[7:])
    assert Panel.open(grown.path).snapshot == one.snapshot
    assert digests(one) == digests(grown) and len({*digests(one)}) == 11
    for name in grown.fields:
        np.testing.assert_array_equal(one[name], grown[name])
        assert not one[name].flags.owndata, "mapped, not copied"
    np.testing.assert_array_equal(one.context("vix"), grown.context("vix"))
    assert (one.symbols, one.ends.bar.tolist()) == (grown.symbols, grown.ends.bar.tolist())
    assert not one.check().errors and one.report == grown.report


def test_a_second_one_finds_nothing_to_do(grown: Panel) -> None:
    one = grown.compact()
    before = files(grown.path)
    assert one.compact().snapshot == Panel.open(grown.path).compact().snapshot == one.snapshot
    assert files(grown.path) == before


def test_older_snapshots_and_their_files_stay(grown: Panel) -> None:
    before = files(grown.path)
    grown.compact()
    after = files(grown.path)
    assert {name: after[name] for name in before if name != "lock"} == {
        name: state for name, state in before.items() if name != "lock"
    }
    assert sorted(name.partition("/")[0] for name in after.keys() - before.keys()) == ["blocks", "snapshots"]
    assert Panel.open(grown.path, 1).shape == (5, 3)
    assert len(Panel.open(grown.path, 9).slabs()) == 7


def test_appends_go_on_from_it(grown: Panel) -> None:
    longer = grown.compact().append(later(11, 12, ("AA", "BB", "CC", "DD")))
    assert len(longer.slabs()) == 2
    with pytest.raises(PanelError, match="only the newest snapshot, 000011-") as caught:
        grown.compact()
    assert "open the panel again" in str(caught.value)
    assert digests(longer)[:11] == digests(grown)


def test_blocks_keep_to_their_size(grown: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = 8 * len(grown.fields) * len(grown.symbols)
    monkeypatch.setattr(writing, "block_bytes", lambda: 4 * bar)
    some = grown.compact()
    assert [slab.n_bars for slab in some.slabs()] == [4, 4, 3]
    assert digests(some) == digests(grown)
    monkeypatch.setattr(writing, "block_bytes", lambda: 2 * bar)
    assert some.compact().snapshot == some.snapshot, "never cut into smaller ones"
    monkeypatch.undo()
    assert len(some.compact().slabs()) == 1


def test_a_damaged_block_is_noticed_and_nothing_published(grown: Panel) -> None:
    block = grown._manifest.fields["close"].pieces[3].block
    content = bytearray(block.path.read_bytes())
    content[block.bodies["close"].offset + 3] ^= 1
    block.path.write_bytes(content)
    with pytest.raises(PanelError, match="damaged"):
        Panel.open(grown.path).compact()
    assert Panel.open(grown.path).snapshot == grown.snapshot
    assert not list((grown.path / "blocks").glob("writing-*"))


def test_bars_that_are_not_those_that_were_written_are_never_published(
    grown: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = writing.tidy
    monkeypatch.setattr(writing, "tidy", lambda values: real(values) * 1.0000001)
    with pytest.raises(PanelError, match="are not those that were written"):
        grown.compact()
    assert Panel.open(grown.path).snapshot == grown.snapshot
