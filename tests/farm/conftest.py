"""One local Ray node for all tests of this folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HOME that the shared node was started with."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def ray_executor(ray_home: Path) -> Iterator:
    """Two workers on a node of our own, which has room for four; HOME is private, and nothing of RAY_* comes
    in from outside."""
    from backtest_farm.cache import cache_root
    from backtest_farm.farm.ray.executor import RayExecutor

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Ray's own deprecations are not ours to mend.
        warnings.simplefilter("ignore")
        import os

        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        # The kernel need not be compiled anew for a new HOME.
        patch.setenv("BACKTEST_FARM_CACHE", str(cache_root()))
        patch.setenv("HOME", str(ray_home))
        node = RayExecutor(workers=4)
        yield RayExecutor(workers=2)
        node.close()
