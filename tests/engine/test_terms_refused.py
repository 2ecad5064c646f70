"""Terms of trading that a panel or targets cannot serve: what is said, all at once, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError

HEAD = "the terms of trading do not fit the panel or the targets"
LACKS = "and the panel has no such field: (valid: close, open); "


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> bf.Panel:
    """A panel of opens and closes alone, with a column of tags and one of costs that has gaps."""
    symbols, days = ["A", "B", "C", "D", "E"], np.datetime64("2020-01-01") + np.arange(10)
    bars = {"timestamp": np.repeat(days, 5), "symbol": symbols * 10, "open": 10.0, "close": 10.0}
    made = bf.Panel.build(pl.DataFrame(bars), tmp_path_factory.mktemp("terms") / "panel")
    made = made.with_static("sector", pl.DataFrame({"symbol": symbols, "sector": ["x", "y", "x", "y", None]}))
    return made.with_static("fee", pl.DataFrame({"symbol": ["A", "C"], "fee": [5.0, -1.5]}))


def faults_of(panel: bf.Panel, **terms: Any) -> tuple[str, ...]:
    with pytest.raises(bf.FarmError) as caught:
        bf.run(panel, np.full(panel.shape, 0.1), **terms)
    assert caught.value.message == HEAD
    return caught.value.faults


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (
            {"rules": {"atr_stop": 2}},
            f"rules.atr_stop reads the field 'atr', {LACKS}"
            "panel.with_field('atr', bf.factor.atr(14).on(panel)) makes one",
        ),
        (
            {"costs": {"impact": 1, "adv": "close"}},
            f"costs.impact reads the field 'sigma', {LACKS}"
            "panel.with_field('sigma', bf.factor.volatility(21).on(panel)) makes one",
        ),
        (
            {"limits": {"participation": 0.1}},
            f"limits.participation reads the field 'volume', {LACKS}"
            "build the panel from bars with volume, or leave it out",
        ),
        (
            {"limits": {"group": 0.3, "group_by": "sectr"}},
            "limits.group: the panel has no static column 'sectr': did you mean 'sector'? "
            "(valid: fee, sector); add it with panel.with_static, or on the command line with "
            "backtest-farm panel attach --static sectr=FILE",
        ),
        (
            {"costs": {"slippage_bps": "static:fee"}},
            "costs.slippage_bps: the static column fee has no number >= 0 for B (None), C (-1.5), D (None) "
            "and 1 more; give each asset one: panel.with_static('fee', frame), with symbol and fee",
        ),
        (
            {"costs": {"borrow_rate": "static:sector"}},
            "costs.borrow_rate: the static column sector has no number >= 0 for A ('x'), B ('y'), C ('x') "
            "and 2 more; give each asset one: panel.with_static('sector', frame), with symbol and sector",
        ),
        (
            {"events": True},
            "events: the panel has neither a field split nor a field dividend: add one with "
            "panel.with_field, or leave events out",
        ),
        (
            {"unit": "quantity", "limits": {"turnover": 1}},
            "limits.turnover bounds weights, but the targets are of the unit 'quantity': leave it out",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(panel: bf.Panel, terms: dict[str, Any], says: str) -> None:
    assert faults_of(panel, **terms) == (says,)


def test_everything_that_is_missing_is_said_at_once(panel: bf.Panel) -> None:
    faults = faults_of(
        panel,
        unit="value",
        costs={"impact": 1, "per_share": "static:fee"},
        limits={"participation": 0.1, "group": 0.3, "group_by": "land"},
        rules={"atr_stop": 1},
        events=True,
    )
    named = ["'sigma'", "'adv'", "'atr'", "'volume'", "events", "'land'", "per_share", "bounds weights"]
    assert len(faults) == len(named)
    assert [name for name, fault in zip(named, faults, strict=True) if name not in fault] == []


@pytest.mark.parametrize(
    "terms",
    [
        {"rules": {"atr": "nowhere", "stop_loss": 0.1}},
        {"costs": {"sigma": "nowhere"}},
        {"limits": {"group_by": "nowhere"}},
        {"unit": "quantity", "limits": {"lot": 1, "over": "reject"}},
    ],
)
def test_what_no_term_asks_for_may_be_missing(panel: bf.Panel, terms: dict[str, Any]) -> None:
    assert bf.run(panel, np.full(panel.shape, 0.1), **terms).status == "ok"


def test_a_sweep_is_refused_before_it_runs(panel: bf.Panel, tmp_path: Path) -> None:
    sweep = bf.Sweep(
        panel=panel,
        strategy=bf.TopN(signal=bf.factor.momentum(2), n=2),
        rules=bf.Rules(atr_stop=bf.axis([0, 2]), atr=bf.axis(["atr14", "atr21"])),
    )
    with pytest.raises(bf.FarmError, match=HEAD) as caught:
        sweep.run(store=tmp_path / "study", executor="inline")
    first, second = caught.value.faults
    assert ("'atr14'" in first, "'atr21'" in second) == (True, True)
    assert not (tmp_path / "study").exists()


def test_a_later_listing_needs_no_number(tmp_path) -> None:
    """Data after the window changes nothing: not even whether a backtest is refused."""
    rows = pl.DataFrame(
        {
            "timestamp": [f"2020-01-{day:02}" for day in range(1, 9) for _ in "AB"],
            "symbol": ["A", "B"] * 8,
            "open": [10.0] * 16,
            "close": [10.0, 11.0] * 8,
        }
    )
    panel = bf.Panel.build(rows, tmp_path / "panel")
    panel = panel.with_static("fee", pl.DataFrame({"symbol": ["A", "B"], "fee": [1.0, 2.0]}))
    costs = bf.Costs(commission_bps="static:fee")
    weights = np.full((8, 2), 0.4)
    before = bf.run(panel, weights, costs=costs)
    listed = rows.head(3).with_columns(timestamp=pl.lit("2020-01-09"), symbol=pl.Series(["A", "B", "C"]))
    later = panel.append(listed)
    assert later.static("fee")[2] is None
    wide = np.hstack([weights, np.full((8, 1), np.nan)])
    assert bf.run(later, wide, end="2020-01-08", costs=costs).digest == before.digest
    with pytest.raises(InputError, match="no number >= 0 for C"):
        bf.run(later, np.full((9, 3), 0.3), costs=costs)
