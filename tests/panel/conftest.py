"""Panels to test with: a small one for each test that changes it, shared ones to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_farm.panel import Panel, synthetic_panel
from tests.ingest.bars import bars, real_file


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep stamps of checked files out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("BACKTEST_FARM_CACHE", str(folder))
        yield folder


@pytest.fixture
def small(tmp_path: Path) -> Panel:
    """5 bars x 3 assets."""
    return Panel.build(bars(), tmp_path / "panel")


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """300 bars x 40 assets of a synthetic market; only to be read."""
    return synthetic_panel(tmp_path_factory.mktemp("market") / "panel", 300, 40, seed=1)


@pytest.fixture(scope="session")
def real_panel(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """598 US equities over 3,202 sessions; only to be read."""
    return Panel.build(real_file("us_equities_daily.parquet"), tmp_path_factory.mktemp("real") / "panel")
