"""Trades, positions and cash that follow from the ledger, where splits, dividends and rates are at work."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError
from backtest_farm.kernel.state import BAR_COLUMNS
from tests.engine.market import full_panel

RULES = {"stop_loss": 0.06, "take_profit": 0.1, "trailing": 0.08, "max_bars": 25}
COSTS = {
    "commission_bps": 3.0,
    "half_spread_bps": "static:fee",
    "impact": 0.3,
    "borrow_rate": "static:rate",
    "interest_rate": 0.05,
    "debit_rate": 0.12,
}
SETTINGS = {
    "next_open": {"rules": RULES},
    "next_close": {"rules": RULES, "limits": {"participation": 0.05, "carry": True}},
    "same_close": {"rules": {**RULES, "on": "close"}, "limits": {"margin": 0.5}},
}


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    return full_panel(tmp_path_factory.mktemp("ledgers"))


@pytest.fixture(scope="module", params=SETTINGS)
def result(request, panel) -> bf.Result:
    settings = {"costs": COSTS, "events": True, "fill": request.param, **SETTINGS[request.param]}
    made = bf.run(panel, bf.Weights(field="wanted", rebalance=8), **settings)
    for name in ("financing", "dividends", "costs"):
        assert made.equity[name].abs().sum() > 0
    return made


def units_of(panel: bf.Panel) -> np.ndarray:
    """What one unit of before the first bar is at each bar."""
    split = panel["split"]
    return np.cumprod(np.where(np.isfinite(split) & (split > 0), split, 1.0), axis=0)


def is_price(value: float) -> bool:
    return bool(np.isfinite(value) and value > 0.0)


def plain_trades(panel: bf.Panel, fills: list[dict[str, Any]], at_close: bool) -> list[dict[str, Any]]:
    """Walk each symbol's bars in units of before the first bar, where nothing is split."""
    units = units_of(panel)
    by_symbol = defaultdict(lambda: defaultdict(list))
    for number, fill in enumerate(fills):
        by_symbol[fill["symbol"]][fill["bar"]].append((number, fill))
    trades = []
    for symbol, by_bar in by_symbol.items():
        a = panel.symbols.index(symbol)
        held, trade = 0.0, None
        for t in range(panel.shape[0]):
            unit = units[t, a]
            dividend = panel["dividend"][t, a]
            if trade and np.isfinite(dividend):
                trade["pnl"] += held * unit * dividend
            for number, fill in by_bar[t]:
                quantity, price = fill["quantity"] / unit, fill["price"] * unit
                if trade is None:
                    side = 1 if quantity > 0 else -1
                    trade = {"symbol": symbol, "side": side, "entry_bar": t, "pnl": 0.0, "seen": [0.0]}
                    trade |= {"in": [], "out": []}
                trade["pnl"] -= fill["quantity"] * fill["price"] + fill["commission"]
                held += quantity
                if quantity * trade["side"] > 0:
                    trade["in"].append((quantity, price))
                    continue
                trade["out"].append((quantity, price))
                trade["seen"].append(trade["side"] * (price / average(trade["in"]) - 1.0))
                if abs(held) <= 1e-9 * abs(quantity):
                    trades.append((number, ended(trade, t, unit, fill["reason"])))
                    held, trade = 0.0, None
            close = panel["close"][t, a]
            if trade and is_price(close) and not (at_close and t == trade["entry_bar"]):
                for name in ("high", "low"):
                    price = panel[name][t, a] if is_price(panel[name][t, a]) else close
                    trade["seen"].append(trade["side"] * (price * unit / average(trade["in"]) - 1.0))
    return [trade for _, trade in sorted(trades, key=lambda pair: pair[0])]


def average(rows: list[tuple[float, float]]) -> float:
    return sum(quantity * price for quantity, price in rows) / sum(quantity for quantity, _ in rows)


def ended(trade: dict[str, Any], t: int, unit: float, reason: str) -> dict[str, Any]:
    return {
        "symbol": trade["symbol"],
        "side": trade["side"],
        "quantity": abs(sum(quantity for quantity, _ in trade["in"])) * unit,
        "entry_bar": trade["entry_bar"],
        "exit_bar": t,
        "entry_price": average(trade["in"]) / unit,
        "exit_price": average(trade["out"]) / unit,
        "bars_held": t - trade["entry_bar"],
        "pnl": trade["pnl"],
        "mfe": max(trade["seen"]),
        "mae": min(trade["seen"]),
        "reason": reason,
    }


def test_trades_are_those_of_a_plain_loop(panel, result) -> None:
    want = plain_trades(panel, result.fills.to_dicts(), result._at_close)
    trades = result.trades
    assert trades.columns == [
        "symbol", "side", "quantity", "entry_bar", "exit_bar", "entry_timestamp", "exit_timestamp",
        "entry_price", "exit_price", "bars_held", "pnl", "mfe", "mae", "reason",
    ]  # fmt: skip
    assert trades.height == len(want) == result.counters["trades"] > 40
    stamps = panel.timestamps
    for have, one in zip(trades.to_dicts(), want, strict=True):
        assert np.datetime64(have.pop("entry_timestamp")) == stamps[one["entry_bar"]]
        assert np.datetime64(have.pop("exit_timestamp")) == stamps[one["exit_bar"]]
        assert [have.pop(name) for name in ("symbol", "reason")] == [one["symbol"], one["reason"]]
        assert have == pytest.approx({name: one[name] for name in have}, rel=1e-9, abs=1e-9)
    assert (trades["mfe"] >= 0).all() and (trades["mae"] <= 0).all()
    assert (trades["mfe"] > 0).sum() > 20 and (trades["mae"] < 0).sum() > 20
    units = units_of(panel)
    split = [units[one["entry_bar"], a] != units[one["exit_bar"], a] for one, a in placed(panel, want)]
    assert sum(split) >= 2, "some trades live through a split"
    assert len({one["reason"] for one in want}) >= 4
    assert result.metrics["win_rate"] == pytest.approx((trades["pnl"] > 0).mean())


def placed(panel: bf.Panel, trades: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    return [(one, panel.symbols.index(one["symbol"])) for one in trades]


def test_positions_are_the_fills_and_the_splits(panel, result) -> None:
    units, (n_bars, n_assets) = units_of(panel), panel.shape
    moved, base = np.zeros(panel.shape), {}
    for fill in result.fills.to_dicts():
        a = panel.symbols.index(fill["symbol"])
        moved[fill["bar"], a] += fill["quantity"] / units[fill["bar"], a]
        base[a] = fill["base"]
    held = np.cumsum(moved, axis=0)
    held = np.where(np.abs(held) < 1e-9 * np.abs(held).max(axis=0), 0.0, held) * units
    mark = panel["close"] * units
    for t in range(1, n_bars):
        mark[t] = np.where(np.isfinite(mark[t]), mark[t], mark[t - 1])
    mark /= units
    want = {
        (panel.timestamps[t], panel.symbols[a]): held[t, a]
        for t in range(n_bars)
        for a in range(n_assets)
        if held[t, a] != 0.0
    }
    rows = result.positions.to_dicts()
    have = {(np.datetime64(row["timestamp"]), row["symbol"]): row["quantity"] for row in rows}
    assert have == pytest.approx(want, rel=1e-9)
    assert len(have) == len(rows) > 200
    value = np.where(held != 0.0, held * np.nan_to_num(mark), 0.0).sum(axis=1)
    np.testing.assert_allclose(result.equity["cash"] + value, result.equity["equity"], rtol=1e-9)
    np.testing.assert_array_equal(result.equity["positions"], (held != 0.0).sum(axis=1))


def test_the_change_of_equity_is_explained(panel, result) -> None:
    """It is what prices did to positions, less costs and financing, plus dividends."""
    frame, fills = result.equity, result.fills
    flows = fills["quantity"] * fills["price"] + fills["commission"]
    cash = np.zeros(len(frame))
    np.add.at(cash, fills["bar"].to_numpy(), -flows.to_numpy())
    cash += frame["dividends"].to_numpy() - frame["financing"].to_numpy()
    np.testing.assert_allclose(
        result.cash + np.cumsum(cash), frame["cash"], rtol=1e-9, atol=1e-9 * result.cash
    )
    parts = fills["commission"] + fills["spread"] + fills["slippage"] + fills["impact"]
    by_bar = np.zeros(len(frame))
    np.add.at(by_bar, fills["bar"].to_numpy(), parts.to_numpy())
    np.testing.assert_allclose(by_bar, frame["costs"], rtol=1e-9, atol=1e-9)
    distance = fills["quantity"] * (fills["price"] - fills["base"])
    parts = fills["spread"] + fills["slippage"] + fills["impact"]
    np.testing.assert_allclose(distance, parts, rtol=1e-6, atol=1e-6)


def test_what_the_panel_says_of_an_asset_reaches_its_orders(panel, result) -> None:
    """Costs by asset, impact by the bar before, and no more than a part of the volume."""
    split = np.nan_to_num(panel["split"], nan=1.0)
    seen = dict.fromkeys(("spread", "impact"), 0)
    traded = defaultdict(float)
    for fill in result.fills.filter(pl.col("reason") != "delisting").to_dicts():
        t, a, size = fill["bar"], panel.symbols.index(fill["symbol"]), abs(fill["quantity"])
        assert fill["spread"] == pytest.approx(panel.static("fee")[a] / 1e4 * size * fill["base"])
        sigma, adv = panel["sigma"][t - 1, a], panel["adv"][t - 1, a] * split[t, a]
        push = 0.3 * sigma * np.sqrt(size / adv) if t > 0 and adv > 0 and np.isfinite(sigma) else 0.0
        assert fill["impact"] == pytest.approx(push * size * fill["base"])
        seen = {name: count + (fill[name] > 0.0) for name, count in seen.items()}
        if fill["reason"] == "target":
            traded[t, a] += size
    assert min(seen.values()) > 100
    if result.counters["no_volume"]:
        parts = [size / panel["volume"][place] for place, size in traded.items()]
        assert max(parts) <= 0.05 * (1 + 1e-12)
        assert sum(part > 0.05 * (1 - 1e-9) for part in parts) > 10


def test_financing_is_that_of_each_asset(panel, result) -> None:
    """Each short by its own rate, on what it was worth the night before."""
    rates = dict(zip(panel.symbols, panel.static("rate"), strict=True))
    costs = dict.fromkeys(panel.timestamps.tolist(), 0.0)
    for stamp, symbol, value in result.positions.select("timestamp", "symbol", "value").rows():
        costs[stamp] += max(-value, 0.0) * rates[symbol] / 252.0
    cash = result.equity["cash"].to_numpy()
    want = np.array([*costs.values()]) - np.where(cash > 0.0, 0.05, 0.12) * cash / 252.0
    np.testing.assert_allclose(result.equity["financing"][1:], want[:-1], rtol=1e-9, atol=1e-9)
    assert sum(cost > 0.0 for cost in costs.values()) > 50


def test_groups_are_those_of_the_panels_column(panel) -> None:
    groups = dict(zip(panel.symbols, panel.static("region"), strict=True))
    held = {}
    for cap in (None, 0.4):
        limits = {"group": cap, "group_by": "region", "margin": 9.0}
        result = bf.run(panel, panel["wanted"], costs={}, fill="same_close", limits=limits)
        weights = result.positions.join(result.equity.select("timestamp", "equity"), on="timestamp")
        weights = weights.filter(pl.col("timestamp").is_in(panel.timestamps[::4].tolist()))
        share = (pl.col("value").abs() / pl.col("equity")).alias("share")
        region = pl.col("symbol").replace_strict(groups).alias("region")
        # A missing price keeps what it keeps: on those bars a group may hold more.
        held[cap] = weights.group_by("timestamp", region).agg(share.sum())["share"]
    assert (held[None] > 0.41).sum() > 20
    assert ((held[0.4] - 0.4).abs() < 1e-9).sum() > 20
    assert (held[0.4] > 0.4 + 1e-9).mean() < 0.1


@pytest.mark.parametrize("column", ["financing", "dividends"])
def test_a_ledger_that_does_not_rebuild_the_cash_is_noticed(panel, column) -> None:
    result = bf.run(panel, bf.Weights(field="wanted"), costs=COSTS, events=True)
    result.check_ledger()
    amounts = result._record.bars[:, BAR_COLUMNS.index(column), 0]
    t = int(np.flatnonzero(amounts)[5])
    amounts[t] += 1e-7 * result.cash
    with pytest.raises(InputError, match=f"do not rebuild the cash of bar {t} "):
        result.check_ledger()


def test_what_each_symbol_added_makes_the_last_equity(result, panel) -> None:
    pnl = result.pnl
    assert all(pnl[name].abs().sum() > 0 for name in pnl.columns[1:])
    assert result.cash + pnl["total"].sum() == pytest.approx(result.equity["equity"][-1], rel=1e-12)
    cash = pnl.filter(pl.col("symbol").is_null())
    financed = cash["total"].sum() + pnl["borrow"].sum()
    assert cash.height == 1 and financed == pytest.approx(-result.equity["financing"].sum(), rel=1e-9)
    assert pnl["dividends"].sum() == pytest.approx(result.equity["dividends"].sum(), rel=1e-9)
    assert pnl["commission"].sum() == pytest.approx(-result.fills["commission"].sum(), rel=1e-12)


def test_what_a_symbol_added_is_as_worked_out_by_hand(tmp_path) -> None:
    # 10 at 10, half of it sold at 14, the rest at 15 and 4 sold short, 2 of them bought back at 12; last 13.
    prices = [10.0, 10.0, 14.0, 15.0, 12.0, 13.0]
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 6), eager=True)
    rows = {"timestamp": days, "symbol": "A", **dict.fromkeys(("open", "high", "low", "close"), prices)}
    panel = bf.Panel.build(pl.DataFrame(rows), tmp_path / "panel")
    wanted = np.array([[10.0], [5.0], [-4.0], [-2.0], [-2.0], [-2.0]])
    costs = bf.Costs(commission_bps=0, per_share=0.1, borrow_rate=panel.bars_per_year / 100)
    made = bf.run(panel, wanted, unit="quantity", costs=costs)
    symbol, cash = made.pnl.to_dicts()
    assert symbol == pytest.approx(
        {
            "symbol": "A",
            "realised": 5 * (14 - 10) + 5 * (15 - 10) + 2 * (15 - 12),
            "open": 2 * (15 - 13),
            "commission": -0.1 * (10 + 5 + 9 + 2),
            "borrow": -(4 * 15 + 2 * 12) / 100,
            "dividends": 0.0,
            "total": 51 + 4 - 2.6 - 0.84,
        }
    )
    assert cash["symbol"] is None and cash["total"] == 0.0
