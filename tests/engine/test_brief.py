"""The example that started it all: hold the best 25 of 500 by a score, skip wild days, and protect them.

`slice_loop` says bar by bar, in plain Python, what that means; it shares no code with the kernel or the slow
reference.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf

N_BARS, N_ASSETS, N_NAMES, CASH = 252, 500, 25, 1_000_000.0
RULES = {
    "atr_stop": 2.0,
    "trailing": 0.05,
    "trailing_step": 0.001,
    "trailing_floor": 0.005,
    "max_bars": 60,
}
COSTS = {"commission_bps": 10.0, "half_spread_bps": 2.0}
SIGNAL = "CASE WHEN atr > 0 THEN ml_score END"
SWEEP = """
panel: {panel}
strategy:
  kind: TopN
  signal: {{factor: expr, sql: "CASE WHEN atr > 0 THEN ml_score END"}}
  n: 25
  weight: 0.04
  filter: {{context: vix, above: [30, 25]}}
costs: {{commission_bps: 10, half_spread_bps: 2}}
rules:
  atr_stop: [2, 3]
  trailing: 0.05
  trailing_step: 0.001
  trailing_floor: 0.005
  max_bars: [60, 20]
  on: intrabar
"""


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    """A market with crashes over night, missing bars and prices, ends of life, and bars without an ATR."""
    rng = np.random.default_rng(17)
    shape = N_BARS, N_ASSETS
    calm = rng.random(N_ASSETS) < 0.1  # names that rise so quietly that only time ends them
    daily = np.where(calm, 0.0004, rng.uniform(0.006, 0.025, N_ASSETS))
    jumps = np.where(rng.random(shape) < 0.01, rng.normal(0.0, 0.12, shape), 0.0) * ~calm
    moves = rng.normal(0.0, 1.0, (2, *shape)) * daily / np.sqrt(2.0) + calm * 0.0008
    close = np.exp(3.0 + rng.random(N_ASSETS) + np.cumsum(moves.sum(axis=0) + jumps, axis=0))
    open_ = close * np.exp(-moves[1])
    reach = np.exp(np.abs(rng.normal(0.0, 0.5, (2, *shape)) * daily))
    tables = {
        "open": open_,
        "high": np.maximum(open_, close) * reach[0],
        "low": np.minimum(open_, close) / reach[1],
        "close": close,
    }
    ended = rng.choice(np.flatnonzero(~calm), 12, replace=False)
    last = rng.integers(60, 230, len(ended))
    gone = (rng.random(shape) < 0.015) & ~calm
    vix = 22.0 + 9.5 * np.sin(np.arange(N_BARS) / 7.0) + rng.normal(size=N_BARS)
    # Wild days begin with names that do not trade for a while, so that orders wait in vain.
    for t in np.flatnonzero(np.diff(vix > 30.0, prepend=False) & (vix > 30.0)):
        gone[t : t + 9, rng.choice(np.flatnonzero(~calm), 60, replace=False)] = True
    gone[:, ended] |= np.arange(N_BARS)[:, None] > last
    gone[last, ended] = False
    without_open = (rng.random(shape) < 0.005) & ~calm
    days = np.busday_offset(np.datetime64("2022-01-03"), np.arange(N_BARS))
    symbols = np.array([f"S{number:03d}" for number in range(N_ASSETS)])
    bars = pl.DataFrame(
        {
            "timestamp": np.repeat(days, N_ASSETS),
            "symbol": np.tile(symbols, N_BARS),
            **{name: table.reshape(-1) for name, table in tables.items()},
        }
    ).with_columns(open=pl.when(pl.Series(without_open.reshape(-1))).then(None).otherwise(pl.col("open")))
    ends = pl.DataFrame(
        {
            "symbol": symbols[ended],
            "date": days[last],
            "payout": [None if at % 3 == 0 else 5.0 + at for at in range(len(ended))],
        }
    )
    made = bf.Panel.build(
        bars.filter(pl.Series(~gone.reshape(-1))), tmp_path_factory.mktemp("brief") / "panel", ends=ends
    )
    score = np.empty(shape)
    score[0] = rng.normal(size=N_ASSETS)
    for t in range(1, N_BARS):
        score[t] = 0.97 * score[t - 1] + 0.24 * rng.normal(size=N_ASSETS)
    score += 4.0 * calm * (np.arange(N_ASSETS) % 4 == 0)
    score[rng.random(shape) < 0.02] = np.nan
    score[:, ended] += 2.5  # what ends is held now and then
    atr = bf.factor.atr(14).on(made).copy()
    atr[rng.random(shape) < 0.01] = np.nan
    return (
        made.with_field("ml_score", score)
        .with_field("atr", atr)
        .with_context("vix", pl.DataFrame({"timestamp": days, "vix": vix}))
    )


class Ledger(NamedTuple):
    """What the plain loop leaves behind."""

    fills: list[dict[str, Any]]
    equity: list[float]
    targets: list[int]
    seen: dict[str, int]


def is_price(value: float) -> bool:
    return math.isfinite(value) and value > 0.0


def slice_loop(panel: bf.Panel, above: float, rules: dict[str, float]) -> Ledger:
    """Walk the example one bar at a time, each step for all assets before the next."""
    names = ("open", "high", "low", "close", "ml_score", "atr")
    opens, highs, lows, closes, scores, atrs = (panel[name].tolist() for name in names)
    vix, ends, payouts = panel.context("vix").tolist(), panel.ends.bar.tolist(), panel.ends.payout.tolist()
    spread, bps = COSTS["half_spread_bps"] / 1e4, COSTS["commission_bps"] / 1e4
    cash, held, orders, mark = CASH, {}, {}, {}
    book = Ledger([], [], [], dict.fromkeys(("gap", "expired", "skipped", "cut"), 0))

    def trade(t: int, a: int, quantity: float, base: float, decided: int, reason: str) -> None:
        nonlocal cash
        price = base * (1.0 + spread) if quantity > 0 else base * (1.0 - spread)
        cash -= quantity * price + bps * abs(quantity) * price
        book.fills.append(
            {
                "decision_bar": decided,
                "bar": t,
                "symbol": panel.symbols[a],
                "reason": reason,
                "quantity": quantity,
                "base": base,
                "price": price,
            }
        )
        if a not in held:
            held[a] = {"q": 0.0, "paid": 0.0, "bought": 0.0, "since": t, "water": price, "base": base}
            held[a]["atr"] = orders[a]["atr"]
        one = held[a]
        if quantity > 0:
            one["paid"] += quantity * price
            one["bought"] += quantity
        one["q"] += quantity

    for t in range(N_BARS):
        # 2. the bar after the end of a life: paid out at no cost
        for a in [a for a in sorted(held) if ends[a] + 1 == t]:
            price = payouts[a] if is_price(payouts[a]) else mark.get(a, held[a]["base"])
            cash += held[a]["q"] * price
            row = {"decision_bar": t - 1, "bar": t, "symbol": panel.symbols[a], "reason": "delisting"}
            book.fills.append({**row, "quantity": -held[a]["q"], "base": price, "price": price})
            del held[a]
        for a in [a for a in orders if ends[a] + 1 == t]:
            del orders[a]

        # 3. waiting orders meet the open: sales first, then purchases for the cash there is
        equity = cash + sum(
            one["q"] * (opens[t][a] if is_price(opens[t][a]) else mark.get(a, one["base"]))
            for a, one in sorted(held.items())
        )
        buys = []
        for a in sorted(orders):
            order = orders[a]
            if not is_price(opens[t][a]):
                if order["reason"] == "target" and t - order["decided"] >= 5:
                    del orders[a]
                    book.seen["expired"] += 1
                continue
            change = order["target"] - (held[a]["q"] if a in held else 0.0)
            if change > 0:
                buys.append((a, change))
                continue
            trade(t, a, change, opens[t][a], order["decided"], order["reason"])
            if order["target"] == 0.0:
                del held[a]
            del orders[a]
        outlay = sum(change * opens[t][a] * (1.0 + spread) * (1.0 + bps) for a, change in buys)
        part = 1.0
        if outlay > cash + 1e-9 * equity:
            part = max(cash, 0.0) / outlay
            book.seen["cut"] += 1
        for a, change in buys:
            if part == 1.0 or part * change * opens[t][a] >= 1e-12 * equity:
                trade(t, a, part * change, opens[t][a], orders[a]["decided"], "target")
            del orders[a]

        # 4. stops inside the bar
        for a in sorted(held):
            one = held[a]
            if not is_price(closes[t][a]):
                continue
            entry = one["paid"] / one["bought"]
            distance = max(
                rules["trailing_floor"], rules["trailing"] - rules["trailing_step"] * (t - one["since"])
            )
            level, reason = one["water"] * (1.0 - distance), "trailing"
            if is_price(one["atr"]) and entry - rules["atr_stop"] * one["atr"] >= level * (1.0 - 1e-12):
                level, reason = entry - rules["atr_stop"] * one["atr"], "atr_stop"
            low = lows[t][a] if is_price(lows[t][a]) else closes[t][a]
            high = highs[t][a] if is_price(highs[t][a]) else closes[t][a]
            if is_price(opens[t][a]) and opens[t][a] <= level * (1.0 + 1e-12):
                base = opens[t][a]
                book.seen["gap"] += 1
            elif low <= level * (1.0 + 1e-12):
                base = level
            else:
                one["water"] = max(one["water"], high)
                continue
            orders.pop(a, None)
            trade(t, a, -one["q"], base, t - 1, reason)
            del held[a]

        # 6. mark
        mark |= {a: price for a, price in enumerate(closes[t]) if is_price(price)}
        equity = cash + sum(one["q"] * mark.get(a, one["base"]) for a, one in sorted(held.items()))
        book.equity.append(equity)

        # 7. what was held long enough goes; then the best of the bar are wanted
        for a in sorted(held):
            forced = a in orders and orders[a]["reason"] != "target"
            if t + 1 - held[a]["since"] >= rules["max_bars"] and not forced:
                orders[a] = {"target": 0.0, "decided": t, "reason": "time_exit", "atr": math.nan}
        if vix[t] > above:
            book.seen["skipped"] += 1
            continue
        ranked = [
            a for a in range(N_ASSETS) if ends[a] >= t and atrs[t][a] > 0.0 and math.isfinite(scores[t][a])
        ]
        best = sorted(ranked, key=lambda a: (-scores[t][a], a))[:N_NAMES]
        if not best:
            continue
        book.targets.append(len(best))
        for a in sorted({*best, *held, *orders}):
            if a in orders and orders[a]["reason"] != "target":
                continue
            target = 0.04 * equity / mark[a] if a in best else 0.0
            now = held[a]["q"] if a in held else 0.0
            orders.pop(a, None)
            big = abs(target - now) * mark.get(a, 0.0) >= 1e-12 * equity
            if (target == 0.0 and now != 0.0) or (target != now and big):
                orders[a] = {"target": target, "decided": t, "reason": "target", "atr": atrs[t][a]}
    return book


def strategy(above: float = 30.0) -> bf.TopN:
    return bf.TopN(
        signal=bf.factor.expr(SIGNAL),
        n=N_NAMES,
        weight=0.04,
        filter=bf.ContextFilter(context="vix", above=above),
    )


def assert_same(result: bf.Result, want: Ledger) -> None:
    fills = pl.DataFrame(want.fills)
    exact = ["decision_bar", "bar", "symbol", "reason"]
    assert result.fills.select(exact).rows() == fills.select(exact).rows()
    for name in ("base", "price"):
        np.testing.assert_allclose(result.fills[name], fills[name], rtol=1e-9)
    # Purchases that cash allows a part of may be a fraction of a cent: rounding of the cash shows in them.
    atol = 1e-14 * CASH / fills["price"].min()
    np.testing.assert_allclose(result.fills["quantity"], fills["quantity"], rtol=1e-9, atol=atol)
    np.testing.assert_allclose(result.equity["equity"], want.equity, rtol=1e-9)


@pytest.fixture(scope="module")
def want(panel) -> Ledger:
    return slice_loop(panel, 30.0, RULES)


def test_the_example_is_what_a_plain_loop_makes_of_it(panel, want) -> None:
    result = bf.run(panel, strategy(), rules=RULES, costs=COSTS)
    assert_same(result, want)
    reasons = dict(result.fills.group_by("reason").len().rows())
    assert set(reasons) == {"target", "delisting", "atr_stop", "trailing", "time_exit"}
    assert all(
        reasons[name] >= least for name, least in {"atr_stop": 15, "trailing": 50, "time_exit": 5}.items()
    )
    assert all(want.seen.values()) and want.seen["gap"] >= 20, f"too little happens: {want.seen}"
    assert result.counters["expired"] == want.seen["expired"]
    assert result.counters["no_price"] > 20
    result.check_ledger()


def test_there_are_never_more_than_25_targets(panel, want) -> None:
    assert max(want.targets) == N_NAMES
    result = bf.run(panel, strategy(), rules=RULES, costs=COSTS)
    bought = result.fills.filter(pl.col("quantity") > 0).group_by("decision_bar").len()
    assert bought["len"].max() <= N_NAMES
    # What is held beyond them could not be sold: it had no price to be sold at.
    opens = panel["open"]
    stuck = [
        (stamp, symbol)
        for stamp, symbol in result.positions.select("timestamp", "symbol").rows()
        if not is_price(opens[panel.bar_of(stamp), panel.symbols.index(symbol)])
    ]
    held = dict(result.positions.group_by("timestamp").len().rows())
    missing = dict(
        pl.DataFrame(stuck, ["timestamp", "symbol"], orient="row").group_by("timestamp").len().rows()
    )
    assert max(held.values()) >= N_NAMES
    assert all(count - missing.get(stamp, 0) <= N_NAMES for stamp, count in held.items())


def test_a_sweep_file_of_the_example_has_the_same_trials(panel, want, tmp_path) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(SWEEP.format(panel=panel.path))
    study = bf.Sweep.load(path).run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().collect()
    assert rows.height == rows["digest"].n_unique() == 8
    for row in rows.iter_rows(named=True):
        rules = {**RULES, **{name: row[f"rules.{name}"] for name in ("atr_stop", "max_bars")}}
        alone = bf.run(panel, strategy(row["filter.above"]), rules=rules, costs=COSTS)
        assert alone.digest == row["digest"]
        assert_same(study.replay(row["trial"]), slice_loop(panel, row["filter.above"], rules))
