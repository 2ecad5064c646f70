"""The whole path on real prices: 598 US stocks over 3,202 sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from tests.oracle.book import Case
from tests.oracle.book import run as oracle

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "us_equities_daily.parquet"
pytestmark = pytest.mark.skipif(
    not REAL.exists(),
    reason="put us_equities_daily.parquet into ../shared/data beside the repository to run this",
)


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    ends = pl.DataFrame({"symbol": ["LVLT"], "date": ["2017-10-31"], "payout": [53.6]})
    return bf.Panel.build(REAL, tmp_path_factory.mktemp("real") / "us", ends=ends)


def test_a_sweep_of_two_thousand_trials_is_replayed(panel, tmp_path) -> None:
    sweep = bf.Sweep(
        panel=panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(bf.axis([63, 126, 189, 252]), skip=21),
            n=bf.axis([5, 10, 20, 30, 50]),
            rebalance=bf.axis([5, 10, 21, 63, 126]),
        ),
        costs=bf.Costs(commission_bps=bf.axis([0, 2, 5, 10, 20]), half_spread_bps=bf.axis([0, 1, 2, 5])),
    )
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    summary = study.summary()
    assert summary["trials"] == summary["ok"] == 2000
    assert (summary["factor_builds"], summary["rank_builds"] + summary["rank_reuses"]) == (
        summary["rank_builds"],
        8,
    )
    for trial in (0, 777, 1999, study.best(1)["trial"][0]):
        result = study.replay(trial)
        result.check_ledger()
        assert result.fills.height > 100


def test_a_year_of_real_momentum_equals_the_oracle(panel) -> None:
    """Daily rotation of the best 25 over two years with gaps, a halt of months and a day of lost bars."""
    start, stop = panel.bar_of("2011-01-03"), panel.bar_of("2012-12-31", "right")
    rows = slice(start, stop)
    lookback, skip, n = 126, 5, 25
    close = panel["close"]
    with np.errstate(invalid="ignore"):
        score = close[start - skip : stop - skip] / close[start - lookback : stop - lookback] - 1.0
    targets: list[list[float] | None] = []
    for row in score:
        there = [a for a in range(len(row)) if np.isfinite(row[a])]
        best = sorted(there, key=lambda a: (-row[a], a))[:n]
        weights = [0.0] * len(row)
        for a in best:
            weights[a] = 1.0 / n
        targets.append(weights)
    case = Case(
        open=panel["open"][rows].tolist(),
        close=close[rows].tolist(),
        targets=targets,
        commission_bps=5.0,
        half_spread_bps=2.0,
    )
    want = oracle(case)
    strategy = bf.TopN(signal=bf.factor.momentum(lookback, skip), n=n, rebalance=1)
    costs = bf.Costs(commission_bps=5.0, half_spread_bps=2.0)
    got = bf.run(panel, strategy, start="2011-01-03", end="2012-12-31", costs=costs)
    np.testing.assert_allclose(got.equity["equity"].to_numpy(), want.bars["equity"], rtol=1e-9)
    assert got.fills.height == len(want.fills) > 5000
    assert got.counters["no_price"] == want.counters["no_price"] > 0
    assert got.counters["stale_bars"] == want.counters["stale_bars"]
