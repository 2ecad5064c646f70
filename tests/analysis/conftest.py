"""One small sweep that was really run."""

from __future__ import annotations

from pathlib import Path

import pytest

import backtest_farm as bf


@pytest.fixture(scope="session")
def panel(tmp_path_factory: pytest.TempPathFactory) -> bf.Panel:
    return bf.synthetic_panel(tmp_path_factory.mktemp("panels") / "small", n_bars=260, n_assets=20, seed=3)


@pytest.fixture(scope="session")
def study(panel: bf.Panel, tmp_path_factory: pytest.TempPathFactory) -> bf.Study:
    sweep = bf.Sweep(
        panel=panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(bf.axis([10, 20, 40]), skip=0),
            n=bf.axis([2, 5]),
            rebalance=bf.axis([5, 21]),
        ),
        costs=bf.Costs(commission_bps=bf.axis([0, 10])),
    )
    return sweep.run(tmp_path_factory.mktemp("studies") / "small", executor="inline", progress=False)


@pytest.fixture(scope="session")
def result(study: bf.Study) -> bf.Result:
    return study.replay(int(study.best(1)["trial"][0]))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "report.html"
