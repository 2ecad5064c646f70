"""Trials that read different data never share a pass: each row is what the trial alone gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf

axis = bf.axis


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    made = bf.synthetic_panel(tmp_path_factory.mktemp("shared") / "panel", n_bars=90, n_assets=12, seed=2)
    for name, factor in (("sigma", bf.factor.volatility(5)), ("adv", bf.factor.mean("volume", 5))):
        made = made.with_field(name, factor.on(made))
    for name, bars in (("atr", 5), ("slow", 15)):
        made = made.with_field(name, bf.factor.atr(bars).on(made))
    numbers = np.arange(12.0)
    for name, column in (("fee", numbers), ("cap", 40.0 - numbers), ("half", (numbers % 2).astype(str))):
        made = made.with_static(name, pl.DataFrame({"symbol": made.symbols, name: column}))
    return made


ALTERNATIVES: dict[str, dict[str, Any]] = {
    "fees": {
        "costs": axis(
            [
                bf.Costs(commission_bps=axis(["static:fee", "static:cap"]), slippage_bps=slippage)
                for slippage in (1, 2)
            ]
        )
    },
    "impact": {
        "costs": axis([bf.Costs(impact=axis([0, 1.0]), slippage_bps=slippage) for slippage in (1, 2)])
    },
    "atr": {
        "rules": axis(
            [bf.Rules(atr_stop=axis([0, 1.0]), atr=axis(["atr", "slow"]), max_bars=bars) for bars in (0, 9)]
        )
    },
    "volume": {"limits": axis([bf.Limits(participation=axis([0, 0.001]), lot=lot) for lot in (0, 1)])},
    "groups": {
        "limits": axis(
            [bf.Limits(group=axis([None, 0.3]), group_by=axis(["sector", "half"]), lot=lot) for lot in (0, 1)]
        )
    },
}


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_alternatives_with_the_same_axis(panel, name, tmp_path: Path) -> None:
    strategy = bf.TopN(signal=bf.factor.momentum(5), n=4, rebalance=3)
    sweep = bf.Sweep(panel=panel, strategy=strategy, **ALTERNATIVES[name])
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().collect()
    assert rows["key"].n_unique() == rows.height
    for number, digest in zip(rows["trial"], rows["digest"], strict=True):
        trial = study.plan.trial(number)
        alone = bf.run(panel, strategy, costs=trial.costs, limits=trial.limits, rules=trial.rules)
        assert alone.digest == digest, study.plan.parameters(number)
