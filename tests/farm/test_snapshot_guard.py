"""A sweep holds on to the snapshot that it was planned on, whatever happens to the panel meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import PanelError
from backtest_farm.farm import InlineExecutor, run_sweep
from backtest_farm.store import StudyStore
from backtest_farm.study import Study

LOOKBACKS = list(range(5, 17))


class Meddling(InlineExecutor):
    """Does something to the panel before the fifth shard."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        self._meddle, self._shards = meddle, 0

    def submit(self, request, tasks):
        self._shards += 1
        if self._shards == 5:
            self._meddle()
        return super().submit(request, tasks)


@pytest.fixture
def panel(tmp_path: Path) -> bf.Panel:
    return bf.synthetic_panel(tmp_path / "panel", n_bars=60, n_assets=8, seed=3)


def run(panel: bf.Panel, store: Path, meddle: Callable[[], None] = lambda: None) -> Study:
    signal = bf.factor.momentum(bf.axis(LOOKBACKS), skip=1)
    sweep = bf.Sweep(panel=bf.Panel.open(panel.path, panel.snapshot), strategy=bf.TopN(signal=signal, n=3))
    plan, opened, _ = sweep._frozen()
    how = {"executor": Meddling(meddle), "shard_seconds": 1e-6, "check_data": opened.check_files}
    run_sweep(plan, store, **how)
    return Study.open(store)


def block(panel: bf.Panel) -> Path:
    (path,) = (panel.path / "blocks").glob("*.parquet")
    return path


def test_what_is_appended_or_touched_meanwhile_changes_nothing(panel: bf.Panel, tmp_path: Path) -> None:
    want = run(panel, tmp_path / "alone").digest

    def append() -> None:
        os.utime(block(panel))
        day = panel.timestamps[-1].astype("M8[D]").astype(object)
        bars = pl.DataFrame({"timestamp": [day.replace(year=day.year + 1)], "symbol": panel.symbols[:1]})
        prices = {name: pl.lit(10.0) for name in ("open", "high", "low", "close", "volume")}
        panel.append(bars.with_columns(**prices))

    assert run(panel, tmp_path / "s", append).digest == want
    assert len(list((panel.path / "snapshots").iterdir())) == 2


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    with path.open("r+b") as file:  # in place, as it lies mapped
        file.write(content)


@pytest.mark.parametrize(
    ("meddle", "says"), [(flip, "is damaged"), (lambda path: path.rename(f"{path}.gone"), "is missing")]
)
def test_what_changes_stops_the_sweep_and_no_row_of_it_stands(
    panel: bf.Panel, tmp_path: Path, meddle: Callable[[Path], None], says: str
) -> None:
    want = run(panel, tmp_path / "alone").digest
    whole = block(panel).read_bytes()
    with pytest.raises(PanelError, match=rf"1 of 5 atoms failed, 4 trials[\s\S]*{says}"):
        run(panel, tmp_path / "s", lambda: meddle(block(panel)))
    assert len(StudyStore.open(tmp_path / "s").committed()) == 4
    with pytest.raises(PanelError):
        run(panel, tmp_path / "s")
    (panel.path / "blocks" / panel._manifest.blocks[0].path.name).write_bytes(whole)
    assert run(panel, tmp_path / "s").digest == want
