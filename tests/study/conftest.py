"""A small market and a sweep over it, shared by the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

import backtest_farm as bf

# One Ray node for all of this folder's tests: what is connected to Ray uses that connection.
from tests.farm.conftest import ray_executor, ray_home

__all__ = ["ray_executor", "ray_home"]

LOOKBACKS, SIZES, SCHEDULES, COMMISSIONS = [10, 20, 30], [2, 3, 5, 8], [1, 5, 21], [0, 10, 25]
N_TRIALS = len(LOOKBACKS) * len(SIZES) * len(SCHEDULES) * len(COMMISSIONS)


@pytest.fixture(scope="session")
def small_panel(tmp_path_factory) -> bf.Panel:
    return bf.synthetic_panel(tmp_path_factory.mktemp("market") / "panel", n_bars=150, n_assets=30, seed=4)


def sweep_over(panel: bf.Panel | str | Path, **changes) -> bf.Sweep:
    parts = {
        "strategy": bf.TopN(
            signal=bf.factor.momentum(bf.axis(LOOKBACKS), skip=2),
            n=bf.axis(SIZES),
            rebalance=bf.axis(SCHEDULES),
        ),
        "costs": bf.Costs(commission_bps=bf.axis(COMMISSIONS)),
        **changes,
    }
    return bf.Sweep(panel=panel, **parts)


@pytest.fixture(scope="session")
def finished(small_panel, tmp_path_factory) -> Path:
    """A study that was run inline; for reading only."""
    place = tmp_path_factory.mktemp("study") / "momentum"
    sweep_over(small_panel).run(place, executor="inline", progress=False)
    return place
