"""What differs between trials and studies, on markets small enough to work it out by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError

DAYS = [dt.date(2024, 1, 1) + dt.timedelta(t) for t in range(6)]
PRICES = {"A": [10.0, 10.0, 10.0, 8.0, 12.0, 12.0], "B": [20.0, 20.0, 25.0, 25.0, 25.0, 20.0]}
WANTED = {"A": [0.2, None, None, None, None, None], "B": [0.4, None, 0.1, None, None, None]}
CASH = 1000.0
FREE = {"commission_bps": 0.0}


def market(folder: Path, **prices: list[float]) -> bf.Panel:
    """Prices of a bar are all its close; A opens and B enlarges, halves or leaves, as WANTED says."""
    rows = [
        {
            "timestamp": day,
            "symbol": symbol,
            **dict.fromkeys(("open", "high", "low", "close"), {**PRICES, **prices}[symbol][t]),
            "wanted": WANTED[symbol][t],
            "other": 0.3 if (symbol, t) == ("B", 2) else WANTED[symbol][t],
        }
        for t, day in enumerate(DAYS)
        for symbol in PRICES
    ]
    return bf.Panel.build(pl.DataFrame(rows), folder)


def studied(panel: bf.Panel, place: Path, field: Any = "wanted", **trading: Any) -> bf.Study:
    settings = {"costs": bf.Costs(**FREE), **trading}
    sweep = bf.Sweep(panel=panel, strategy=bf.Weights(field=field, rebalance=1), cash=CASH, **settings)
    return sweep.run(place, executor="inline", progress=False)


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    return market(tmp_path_factory.mktemp("diff") / "panel")


def adds_up(found: dict[str, Any]) -> bool:
    equity = found["equity"]
    parts = equity["starting_cash"] + found["pnl"]["total"].sum() + equity["interest"]
    return abs(equity["b"] - equity["a"] - parts) == abs(equity["rounding"]) < 1e-12 * CASH


def test_a_commission_shows_in_the_first_fill_and_in_the_decision_that_it_makes_smaller(
    panel, tmp_path
) -> None:
    study = studied(panel, tmp_path / "study", costs=bf.Costs(**FREE, per_share=bf.axis([0.0, 0.1])))
    found = study.diff(0, 1)
    assert found["inputs"].rows() == [("costs.per_share", "0.0", "0.1")]
    fill, decision = found["fill"], found["decision"]
    assert (fill["timestamp"], fill["symbol"], fill["differs"]) == (DAYS[0], "A", ["commission"])
    assert fill["a"]["filled"] == fill["b"]["filled"] == DAYS[1]
    assert (fill["a"]["quantity"], fill["a"]["commission"], fill["b"]["commission"]) == (20.0, 0.0, 2.0)
    assert found["bar"]["timestamp"] == str(DAYS[1])
    # 20 of A for 200, 20 of B for 400; then equity is 1,100, or 4 less, and B is to be a tenth of it at 25.
    assert (decision["timestamp"], decision["symbol"], decision["differs"]) == (DAYS[2], "B", ["quantity"])
    assert decision["a"]["quantity"] == pytest.approx(4.4 - 20)
    assert decision["b"]["quantity"] == pytest.approx(4.384 - 20)
    pnl = {row["symbol"]: row for row in found["pnl"].iter_rows(named=True)}
    assert pnl["A"]["commission"] == pytest.approx(-0.1 * 40) == pnl["A"]["total"]
    assert pnl["B"]["commission"] == pytest.approx(-0.1 * (20 + 15.616))
    # So much more was sold at a gain of 5; what is left stands at what it cost.
    assert (pnl["B"]["realised"], pnl["B"]["open"]) == pytest.approx((0.016 * 5, 0.0))
    assert adds_up(found)


def test_a_parameter_shows_in_the_decision_that_it_changes(panel, tmp_path) -> None:
    found = studied(panel, tmp_path / "study", bf.axis(["wanted", "other"])).diff(0, 1)
    assert [name for name, *_ in found["inputs"].rows()] == ["strategy.field", "data"]
    decision = found["decision"]
    assert (decision["timestamp"], decision["symbol"], decision["differs"]) == (DAYS[2], "B", ["quantity"])
    # 1,000 of cash and B up by a quarter on 400: 1,100; A's 200 are closed, B stood at 500.
    assert decision["a"]["quantity"] == pytest.approx(-(500 - 110) / 25)
    assert decision["b"]["quantity"] == pytest.approx(-(500 - 330) / 25)
    assert decision["b"]["position"] == pytest.approx(330 / 25)
    assert decision["b"]["weight"] == pytest.approx(330 / (1100 - 20 * 2))  # A was sold 2 lower
    # 8.8 units fewer were sold at a gain of 5, and fell back to what they cost.
    assert found["pnl"].rows() == [("B", pytest.approx(-44.0), 0.0, 0.0, 0.0, 0.0, pytest.approx(-44.0))]
    assert found["equity"]["difference"] == pytest.approx(-44.0) and adds_up(found)


def test_one_days_price_is_found_in_the_data(panel, tmp_path) -> None:
    edited = market(tmp_path / "edited", B=[20.0, 20.0, 25.0, 25.0, 25.0, 30.0])
    studies = [studied(one, tmp_path / f"study{at}") for at, one in enumerate((panel, edited))]
    found = studies[0].diff(0, other=studies[1])
    assert found["inputs"]["input"].to_list() == ["data"]
    assert found["data"].rows() == [(name, "B", str(DAYS[5]), 1, 20.0, 30.0) for name in ("close", "open")]
    # No order is decided or filled on the last day: 4.4 units are worth 10 more each.
    assert found["decision"] is None and found["fill"] is None
    assert found["bar"]["timestamp"] == str(DAYS[5]) and found["bar"]["differs"] == ["equity", "gross", "net"]
    assert found["pnl"]["open"].to_list() == pytest.approx([44.0]) and adds_up(found)


def test_a_rule_shows_as_the_exit_that_only_one_side_has(panel, tmp_path) -> None:
    falling = market(tmp_path / "falling", A=[10.0, 10.0, 8.5, 8.0, 8.0, 8.0])
    study = studied(falling, tmp_path / "study", rules=bf.axis([None, bf.Rules(stop_loss=0.1)]))
    found = study.diff(0, 1)
    assert ("rules.stop_loss", None, "0.1") in found["inputs"].rows()
    decision = found["decision"]
    assert (decision["timestamp"], decision["symbol"], decision["a"]) == (DAYS[1], "A", None)
    exit_ = decision["b"]
    assert (exit_["reason"], exit_["filled"], exit_["price"], exit_["position"]) == (
        "stop_loss",
        DAYS[2],
        8.5,
        0.0,
    )
    # The other side sold the same 20 a day later, half lower.
    assert found["pnl"].rows() == [("A", 10.0, 0.0, 0.0, 0.0, 0.0, 10.0)]
    assert found["equity"]["difference"] == pytest.approx(10.0) and adds_up(found)


def test_bars_and_symbols_of_one_side_are_told(panel, tmp_path) -> None:
    from backtest_farm.analysis.diff import changed_cells

    more = pl.DataFrame({"timestamp": [DAYS[-1] + dt.timedelta(1)], "symbol": ["C"], "close": [1.0]})
    longer = market(tmp_path / "longer").append(
        more.with_columns(open=1.0, high=1.0, low=1.0, wanted=0.0, other=0.0)
    )
    found = changed_cells((panel, ["close", "open"], 6), (longer, ["close"], 7))
    assert found == [("bars", None, None, 1, 6.0, 7.0), ("symbols", None, None, 1, 2.0, 3.0)]


def test_equal_trials_of_two_studies_are_the_same(panel, tmp_path) -> None:
    studies = [studied(panel, tmp_path / f"study{at}") for at in range(2)]
    found = studies[0].diff(0, other=tmp_path / "study1")
    assert found["same"] and not found["inputs"].height and not found["pnl"].height
    assert found["decision"] is found["fill"] is found["bar"] is None
    assert found["equity"]["difference"] == found["equity"]["rounding"] == 0.0


def test_studies_meet_by_key_and_by_parameters_where_data_changed(panel, tmp_path) -> None:
    costs = {"commission_bps": bf.axis([0.0, 10.0, 20.0])}
    first = studied(panel, tmp_path / "a", costs=bf.Costs(**costs))
    fewer = studied(panel, tmp_path / "b", costs=bf.Costs(commission_bps=bf.axis([20, 10, 50])))
    found = first.diff(other=fewer)
    assert found["counts"] == {
        "a": 3, "b": 3, "equal": 2, "different": 0, "equal by parameters": 0, "different by parameters": 0,
        "only in a": 1, "only in b": 1,
    }  # fmt: skip
    assert found["only in a"]["costs.commission_bps"].to_list() == [0.0]
    assert found["only in b"]["costs.commission_bps"].to_list() == [50.0]
    assert not found["changed"].height and not found["metrics"].height

    edited = market(tmp_path / "edited", B=[20.0, 20.0, 25.0, 25.0, 25.0, 30.0])
    found = first.diff(other=studied(edited, tmp_path / "c", costs=bf.Costs(**costs)))
    assert found["counts"]["different by parameters"] == 3 and found["counts"]["equal"] == 0
    assert found["changed"].select("trial", "trial_b").rows() == [(0, 0), (1, 1), (2, 2)]
    moved = {row["metric"]: row for row in found["metrics"].iter_rows(named=True)}
    assert moved["total_return"]["changed"] == 3
    assert moved["total_return"]["largest"] == pytest.approx(44 / CASH, rel=1e-3)
    assert "orders" not in moved


def test_equal_keys_with_other_results_are_counted_apart(panel, tmp_path, monkeypatch) -> None:
    studies = [studied(panel, tmp_path / f"study{at}") for at in range(2)]
    rows = studies[1].trials().with_columns(digest=pl.lit("0" * 32), sharpe=pl.col("sharpe") + 1)
    monkeypatch.setattr(studies[1], "trials", lambda: rows)
    found = studies[0].diff(other=studies[1])
    assert found["counts"]["different"] == 1 and found["counts"]["equal"] == 0
    assert found["metrics"].select("metric", "changed").rows() == [("sharpe", 1)]
    assert found["metrics"]["largest"].to_list() == pytest.approx([1.0])


def test_what_cannot_be_compared_is_told(panel, tmp_path) -> None:
    study = studied(panel, tmp_path / "study")
    for asked in ((), (0,)):
        with pytest.raises(InputError, match="nothing to compare with"):
            study.diff(*asked)
    with pytest.raises(InputError, match="no trial 7"):
        study.diff(0, 7)
