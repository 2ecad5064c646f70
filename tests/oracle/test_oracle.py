"""Tests of the oracle itself: invariants, the troubles of its books, and cases small enough for a pencil."""

from __future__ import annotations

import ast
import copy
import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.oracle.book import Case, Fill, run, valid
from tests.oracle.books import TROUBLES, format_table, generate, in_other_money, table
from tests.oracle.case import PER_ASSET, TABLES
from tests.oracle.invariants import check
from tests.oracle.state import Holding
from tests.oracle.troubles import RARE

NAN = math.nan


def column(*prices: float) -> list[list[float]]:
    """One asset's prices as rows."""
    return [[price] for price in prices]


def filled(rows: list[Fill]) -> list[tuple]:
    """Pick the parts of a ledger that the small cases look at."""
    return [(row.decision_bar, row.bar, row.asset, row.quantity, row.price, row.reason) for row in rows]


# --- many books ---------------------------------------------------------------------------------------------


def test_invariants_hold_on_generated_books():
    for seed in range(300):
        case = generate(seed)
        try:
            check(case, run(case))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_every_trouble_occurs_often_enough():
    counts = table(range(1000))
    print("\n" + format_table(counts))
    assert set(counts) == set(TROUBLES)
    few = {name: total for name, (total, _) in counts.items() if total < (1 if name in RARE else 20)}
    assert not few, f"too rare over 1,000 books: {few}"


def test_generator_repeats_itself():
    # repr, as NaN is not equal to itself
    assert repr(generate(7)) == repr(generate(7))
    assert repr(generate(7)) != repr(generate(8))


@pytest.mark.parametrize("factor", [3.0, 0.7])
def test_unit_of_money_does_not_matter(factor):
    # A factor that is no power of 2 rounds every number anew: counts must not hang on last bits.
    for seed in range(150):
        case = generate(seed)
        one, other = run(case), run(in_other_money(case, factor))
        assert one.counters == other.counters, f"seed {seed}"
        assert len(one.fills) == len(other.fills), f"seed {seed}"
        for left, right in zip(one.bars["equity"], other.bars["equity"], strict=True):
            assert right / factor == pytest.approx(left, rel=1e-9, abs=1e-9 * case.cash), f"seed {seed}"


def test_order_of_columns_does_not_matter_but_for_ties():
    for seed in range(150):
        case = generate(seed)
        one = run(case)
        if any(event.name in ("tie", "tie_in_weight") for event in one.log):
            continue
        order = Random(seed).sample(range(case.n_assets), case.n_assets)
        moved = generate(seed)
        tables: list[Any] = [
            moved.open,
            moved.close,
            moved.targets,
            *(getattr(moved, name) for name in TABLES),
        ]
        rows = [row for rows in tables if rows is not None for row in rows if row is not None]
        rows += [getattr(moved, name) for name in PER_ASSET if isinstance(getattr(moved, name), list)]
        rows += [] if moved.groups is None else [moved.groups]
        for row in rows:
            row[:] = [row[asset] for asset in order]
        moved.ends = {order.index(asset): end for asset, end in case.ends.items()}
        other = run(moved)
        assert one.counters == other.counters, f"seed {seed}"
        for left, right in zip(one.bars["equity"], other.bars["equity"], strict=True):
            assert right == pytest.approx(left, rel=1e-9, abs=1e-9 * case.cash), f"seed {seed}"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda o: o.bars["cash"].__setitem__(3, o.bars["cash"][3] * 1.0001),
        lambda o: o.bars["equity"].__setitem__(2, o.bars["equity"][2] * (1 + 1e-7)),
        lambda o: o.bars["gross"].__setitem__(3, o.bars["gross"][3] * (1 + 1e-6)),
        lambda o: o.bars["costs"].__setitem__(1, 0.0),
        lambda o: o.metrics.__setitem__("costs", o.metrics["costs"] * 1.001),
        lambda o: o.quantity[3].__setitem__(0, 0.0),
        lambda o: setattr(o.fills[0], "price", o.fills[0].price * (1 + 1e-6)),
        lambda o: setattr(o.fills[0], "quantity", o.fills[0].quantity * (1 + 1e-6)),
        lambda o: setattr(o.fills[-1], "quantity", o.fills[-1].quantity * (1 - 1e-11)),
        lambda o: setattr(o.fills[0], "base", NAN),
        lambda o: setattr(o.fills[0], "decision_bar", o.fills[0].bar),
        lambda o: setattr(o.fills[0], "commission", 0.0),
        lambda o: setattr(o.trades[0], "pnl", o.trades[0].pnl + 1.0),
        lambda o: o.fills.reverse(),
        lambda o: o.trades.pop(),
    ],
)
def test_invariants_notice_a_wrong_outcome(tamper):
    prices = column(10.0, 11.0, 12.0, 11.5, 13.0)
    case = Case(
        prices, prices, [[0.5], None, [0.9], [0.0], None], cash=1000.0, commission_bps=10, slippage_bps=5
    )
    outcome = run(case)
    check(case, outcome)
    wrong = copy.deepcopy(outcome)
    tamper(wrong)
    with pytest.raises(AssertionError):
        check(case, wrong)


@pytest.mark.parametrize(("rest", "is_noticed"), [(1e-14, False), (-1e-14, False), (1e-10, True)])
def test_rounding_may_be_larger_than_a_tiny_closing_fill_allows(rest, is_noticed):
    prices = column(10.0, 10.1, 9.7, 10.3, 9.9)
    case = Case(prices, prices, [[0.9], [1e-6], [0.0], None, None], cash=1000.0)
    outcome = run(case)
    check(case, outcome)
    closing = outcome.fills[-1]
    assert outcome.quantity[closing.bar] == [0.0]
    assert abs(closing.quantity) < 1e-3, "the last of a position of 90 units"
    closing.quantity += rest
    with pytest.raises(AssertionError) if is_noticed else nullcontext():
        check(case, outcome)


def test_dust_is_measured_by_the_largest_position_since_flat():
    shrunk = Holding().after(-1e6).after(1e6 - 1e-3)
    assert shrunk.after(1e-3 - 1e-7) == Holding() == shrunk.after(1e-3 + 1e-7)
    assert shrunk.after(1e-3 - 1e-5).units != 0
    assert shrunk.split(1000.0).after(1.0 - 1e-4) == Holding(), "the largest one is split, too"
    again = shrunk.after(1e-3).after(1e-3)
    assert again.after(1e-7 - 1e-3).units != 0, "what was held before it was flat counts no more"


def test_invariants_notice_a_buy_beyond_cash():
    case = Case(column(10.0, 10.0), column(10.0, 10.0), [[1.0], None], cash=100.0)
    outcome = run(case)
    outcome.fills[0].quantity = outcome.quantity[1][0] = 10.1
    outcome.bars["cash"][1] = -1.0
    outcome.bars["gross"][1] = outcome.bars["net"][1] = 1.01
    outcome.bars["turnover"][1] = 0.505
    with pytest.raises(AssertionError, match="takes cash to"):
        check(case, outcome)


ROUND = [[10.0, 20.0]] * 6


@pytest.mark.parametrize(
    ("settings", "tamper", "message"),
    [
        ({}, lambda o: setattr(o.fills[0], "decision_bar", 1), "decided at 1"),
        ({"fill": "next_close"}, lambda o: setattr(o.fills[0], "decision_bar", 1), "decided at 1"),
        ({"fill": "same_close", "max_wait": 1}, lambda o: setattr(o.fills[2], "decision_bar", 0), "too long"),
        ({"lot": 3.0}, lambda o: None, "lots"),
        ({"member": [[True, False]] * 6}, lambda o: None, "outside membership"),
        ({"member": [[t != 2, True] for t in range(6)]}, lambda o: None, "lost membership"),
        ({"keep": [[True, False]] * 6}, lambda o: None, "KEEP there"),
        ({"min_commission": 1.0}, lambda o: None, "commission"),
        ({"commission_bps": 100.0}, lambda o: None, "commission"),
    ],
)
def test_invariants_notice_a_broken_setting(settings, tamper, message):
    targets = [[0.5, 0.2], [0.4, 0.3], [0.3, 0.4], None, [0.0, 0.0], None]
    fill = settings.get("fill", "next_open")
    case = Case(ROUND, ROUND, targets, cash=1000.0, fill=fill)
    outcome = run(case)
    check(case, outcome)
    tamper(outcome)
    with pytest.raises(AssertionError, match=message):
        check(replace(case, **settings), outcome)


@pytest.mark.parametrize(("margin", "is_noticed"), [(0.3, True), (0.5, False)])
def test_invariants_notice_a_buy_beyond_margin(margin, is_noticed):
    case = Case(ROUND, ROUND, [[1.0, 0.5], *[None] * 5], cash=1000.0, margin=0.5)
    outcome = run(case)
    assert outcome.bars["cash"][1] == -500.0
    with pytest.raises(AssertionError, match="takes cash to") if is_noticed else nullcontext():
        check(replace(case, margin=margin), outcome)


MOVING = [[10.0, 20.0], [11.0, 19.0], [9.5, 21.0], [12.0, 18.0], [10.0, 20.0], [11.0, 19.0]]


def table_of(number: float) -> list[list[float]]:
    """One number for every bar and asset of `MOVING`."""
    return [[number, number] for _ in MOVING]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_loss": 0.1}, "not None|without a test|not \\('stop_loss'"),
        ({"take_profit": 0.05}, "not \\('take_profit'"),
        ({"trailing": 0.1}, "not \\('trailing'"),
        ({"atr_stop": 1.0, "atr": table_of(1.0)}, "not \\('atr_stop'"),
        ({"stop_loss": 0.1, "rules_on": "close"}, "stop_loss is due since"),
        ({"max_bars": 1}, "time_exit is due since"),
        ({"halt_drawdown": 0.01}, "drawdown halts counted"),
        ({"max_weight": 0.3}, "weight"),
        ({"gross": 0.6}, "gross"),
        ({"net": 0.6}, "net"),
        ({"turnover": 0.2}, "turnover"),
        ({"positions": 1}, "positions"),
        ({"group_cap": 0.6, "groups": [1, 1]}, "group 1"),
        ({"participation": 0.1, "volume": table_of(20.0)}, "volume allows"),
        ({"impact": 1.0, "sigma": table_of(0.1), "adv": table_of(50.0)}, "impact"),
        ({"half_spread_bps": [0.0, 10.0]}, "spread"),
        ({"commission_bps": [0.0, 10.0]}, "commission"),
        ({"interest_rate": 0.1}, "financing"),
        ({"borrow_rate": 0.1}, "financing"),
        ({"dividend": table_of(0.01)}, "cash"),
        ({"split": table_of(2.0)}, "holds"),
    ],
)
def test_invariants_notice_a_missing_rule(settings, message):
    # what ran without a setting is no book of that setting
    targets = [[0.6, 0.3], None, [0.5, -0.2], None, [0.2, 0.1], None]
    case = Case(MOVING, MOVING, targets, cash=1000.0, margin=0.5)
    outcome = run(case)
    check(case, outcome)
    with pytest.raises(AssertionError, match=message):
        check(replace(case, **settings), outcome)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda o: setattr(o.fills[1], "reason", "trailing"), "exit"),
        (lambda o: setattr(o.trades[0], "mfe", o.trades[0].mfe + 1e-6), "mfe"),
        (lambda o: setattr(o.trades[0], "mae", o.trades[0].mae - 1e-6), "mae"),
        (lambda o: setattr(o.trades[0], "entry_price", 10.0), "entry_price"),
        (lambda o: setattr(o.trades[0], "quantity", 1.0), "quantity"),
        (lambda o: setattr(o.trades[0], "reason", "target"), "is not"),
        (lambda o: o.bars["dividends"].__setitem__(2, 0.0), "equity changed|dividends"),
        (lambda o: o.bars["financing"].__setitem__(2, 0.0), "cash"),
        (lambda o: o.counters.__setitem__("drawdown_halt", 1), "halts counted"),
    ],
)
def test_invariants_notice_a_wrong_exit(tamper, message):
    case = Case(
        column(10.0, 11.0, 12.0, 9.0, 9.0),
        column(10.0, 11.0, 12.0, 9.0, 9.0),
        [[0.5], None, None, None, None],
        cash=1000.0,
        stop_loss=0.1,
        interest_rate=0.1,
        dividend=column(0.0, 0.0, 0.5, 0.0, 0.0),
        slippage_bps=5,
    )
    outcome = run(case)
    check(case, outcome)
    assert [row.reason for row in outcome.fills] == ["target", "stop_loss"]
    tamper(outcome)
    with pytest.raises(AssertionError, match=message):
        check(case, outcome)


# --- by pencil ----------------------------------------------------------------------------------------------


def test_contract_example():
    # "100,000 x 4 % / 200 = 20 shares; with 20 held the order is 0"
    prices = column(200.0, 200.0, 200.0, 200.0)
    outcome = run(Case(prices, prices, [[0.04]] * 4, cash=100_000.0))
    assert filled(outcome.fills) == [(0, 1, 0, 20.0, 200.0, "target")]
    assert [row[0] for row in outcome.quantity] == [0.0, 20.0, 20.0, 20.0]
    assert outcome.counters["orders"] == 1


@pytest.mark.parametrize("sizing", ["decision", "fill"])
def test_flat_strategy_changes_nothing(sizing):
    prices = column(10.0, NAN, 12.0, 9.0)
    outcome = run(
        Case(prices, prices, [[0.0], [NAN], None, [0.0]], cash=777.0, sizing=sizing, commission_bps=9)
    )
    assert outcome.bars["equity"] == outcome.bars["cash"] == [777.0] * 4
    assert not outcome.fills and not any(outcome.counters.values())
    assert (
        outcome.metrics["total_return"] == outcome.metrics["volatility"] == outcome.metrics["exposure"] == 0
    )
    assert all(
        math.isnan(outcome.metrics[name]) for name in ("sharpe", "sortino", "calmar", "skew", "win_rate")
    )


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_buy_and_hold_is_its_closed_form(weight):
    rng = Random(1)
    opens = [[100 * math.exp(rng.gauss(0, 0.02))] for _ in range(30)]
    closes = [[row[0] * math.exp(rng.gauss(0, 0.02))] for row in opens]
    case = Case(
        opens,
        closes,
        [[weight], *[None] * 29],
        cash=5000.0,
        sizing="fill",
        commission_bps=10,
        half_spread_bps=4,
        slippage_bps=6,
    )
    outcome = run(case)
    price = opens[1][0] * 1.001
    # what a share takes with commission, and how many are wanted and affordable
    quantity = min(weight * 5000.0 / opens[1][0], 5000.0 / (price * 1.001))
    cash = 5000.0 - quantity * price * 1.001
    expected = [5000.0] + [cash + quantity * close for (close,) in closes[1:]]
    assert outcome.bars["equity"] == pytest.approx(expected, rel=1e-12)
    assert outcome.metrics["total_return"] == pytest.approx(expected[-1] / 5000 - 1)
    assert outcome.metrics["costs"] == pytest.approx(quantity * (opens[1][0] * 0.001 + price * 0.001))
    assert outcome.counters["no_cash"] == (1 if weight == 1.0 else 0)


def test_rotation_sells_before_it_buys():
    opens = [[10.0, 20.0], [10.0, 20.0], [10.0, 20.0], [12.0, 20.0]]
    outcome = run(Case(opens, opens, [[0.0, 1.0], None, [1.0, 0.0], None], cash=100.0))
    # 10 of the first asset were sized at its mark 10, at 12 the cash of 100 buys 100/12
    assert filled(outcome.fills) == [
        (0, 1, 1, 5.0, 20.0, "target"),
        (2, 3, 1, -5.0, 20.0, "target"),
        (2, 3, 0, pytest.approx(100 / 12), 12.0, "target"),
    ]
    assert outcome.counters["no_cash"] == 1
    assert outcome.metrics["trades"] == 1 and outcome.metrics["avg_bars_held"] == 2


def test_all_buys_share_one_cut():
    opens = [[10.0, 10.0], [20.0, 10.0]]
    outcome = run(Case(opens, opens, [[0.8, 0.4], None], cash=100.0))
    # 8 x 20 + 4 x 10 = 200 are wanted, 100 are there: f = 1/2
    assert [row.quantity for row in outcome.fills] == [pytest.approx(4.0), pytest.approx(2.0)]
    assert outcome.counters["no_cash"] == 2
    assert outcome.bars["cash"][1] == pytest.approx(0.0, abs=1e-12)


def test_reversal_is_one_order_with_two_fills():
    prices = column(10.0, 10.0, 10.0, 10.0)
    outcome = run(Case(prices, prices, [[0.5], [-0.5], [0.5], None], cash=100.0))
    assert filled(outcome.fills) == [
        (0, 1, 0, 5.0, 10.0, "target"),
        (1, 2, 0, -5.0, 10.0, "target"),
        (1, 2, 0, -5.0, 10.0, "target"),
        (2, 3, 0, 5.0, 10.0, "target"),
        (2, 3, 0, 5.0, 10.0, "target"),
    ]
    assert outcome.counters["orders"] == 3 and outcome.metrics["fills"] == 5
    assert [trade.bars_held for trade in outcome.trades] == [1, 1]
    assert outcome.bars["net"][1:] == [0.5, -0.5, 0.5]


def test_cover_of_a_reversal_is_never_cut():
    # 10 short from 10, then the price triples: the cover takes cash below zero, leg (c) gets nothing
    case = Case(column(10.0, 10.0, 30.0), column(10.0, 10.0, 30.0), [[-1.0], [0.5], None], cash=100.0)
    outcome = run(case)
    check(case, outcome)
    assert filled(outcome.fills)[1:] == [(1, 2, 0, 10.0, 30.0, "target")]
    assert outcome.bars["cash"][2] == -100.0
    assert outcome.counters["no_cash"] == 1


@pytest.mark.parametrize("sizing", ["decision", "fill"])
def test_order_waits_and_expires(sizing):
    def outcome_of(bar: int):
        opens = column(10.0, *[NAN] * 6)
        opens[bar] = [10.0]
        closes = column(*[10.0] * 7)
        return run(Case(opens, closes, [[0.5], *[None] * 6], cash=100.0, sizing=sizing, max_wait=3))

    assert filled(outcome_of(3).fills) == [(0, 3, 0, 5.0, 10.0, "target")]
    late = outcome_of(4)
    assert not late.fills
    assert (late.counters["no_price"], late.counters["expired"]) == (1, 1)
    assert late.counters["orders"] == (1 if sizing == "decision" else 0)


def test_new_decision_replaces_what_waits():
    opens, closes = column(10.0, NAN, NAN, 20.0), column(10.0, 10.0, 10.0, 20.0)
    outcome = run(Case(opens, closes, [[0.5], [NAN], [0.2], None], cash=100.0))
    # the row of NaN is no decision and replaces nothing; the second order meets its price at once
    assert filled(outcome.fills) == [(2, 3, 0, 2.0, 20.0, "target")]
    assert outcome.counters["replaced"] == 1 and outcome.counters["no_price"] == 1


def test_without_a_mark_decision_drops_and_fill_waits():
    opens, closes = column(NAN, NAN, 10.0, NAN), column(NAN, NAN, NAN, NAN)
    dropped = run(Case(opens, closes, [[0.5], *[None] * 3], cash=100.0, sizing="decision"))
    assert not dropped.fills
    assert (dropped.counters["no_price"], dropped.counters["orders"]) == (1, 0)
    waits = run(Case(opens, closes, [[0.5], *[None] * 3], cash=100.0, sizing="fill"))
    assert filled(waits.fills) == [(0, 2, 0, 5.0, 10.0, "target")]
    # no valid close yet: marked at the base of the fill
    assert waits.bars["equity"] == [100.0] * 4 and waits.counters["stale_bars"] == 2


@pytest.mark.parametrize(("payout", "price"), [(4.0, 4.0), (0.0, 0.0), (NAN, 12.0)])
def test_end_of_life_pays_out_without_costs(payout, price):
    opens, closes = column(10.0, 10.0, 11.0, NAN, NAN), column(10.0, 10.0, 12.0, NAN, NAN)
    targets = [[0.5], None, [0.2], [0.3], None]
    case = Case(opens, closes, targets, cash=100.0, commission_bps=100, ends={0: (2, payout)})
    outcome = run(case)
    check(case, outcome)
    assert filled(outcome.fills)[1:] == [(2, 3, 0, -5.0, price, "delisting")]
    # the sale decided on its last bar is cancelled; the decision after its end is weight 0 on nothing
    assert outcome.counters["cancelled"] == 1 and outcome.counters["orders"] == 2
    assert outcome.bars["turnover"][3] == 0 and outcome.bars["costs"][3] == 0
    assert outcome.metrics["fills"] == 1 and outcome.metrics["trades"] == 1
    assert outcome.trades[0].pnl == pytest.approx(5 * price - 50 - 0.5)


def test_bust_forces_everything_out():
    # 2 x equity short, the price doubles: 100 + 200 - 20 x 20 = -100. The exit outlasts max_wait.
    prices = [10.0, 10.0, 20.0, NAN, NAN, 15.0, 15.0]
    targets = [[-2.0], None, [0.5], [NAN], [0.5], None, [0.5]]
    case = Case(column(*prices), column(*prices), targets, cash=100.0, max_wait=1)
    outcome = run(case)
    check(case, outcome)
    assert filled(outcome.fills)[1:] == [(2, 5, 0, 20.0, 15.0, "bust")]
    assert outcome.bars["equity"] == [100.0, 100.0, -100.0, -100.0, -100.0, 0.0, 0.0]
    expected = {"bust": 1, "halted": 3, "orders": 2, "no_price": 1, "expired": 0, "stale_bars": 2}
    assert {name: outcome.counters[name] for name in expected} == expected
    assert math.isnan(outcome.metrics["exposure"]) and outcome.metrics["cagr"] == -1


def test_equity_of_exactly_zero_is_bust():
    case = Case(
        column(10.0, 10.0, NAN), column(10.0, 10.0, NAN), [[1.0], None, None], cash=100.0, ends={0: (1, 0.0)}
    )
    outcome = run(case)
    assert outcome.bars["equity"] == [100.0, 100.0, 0.0]
    assert outcome.counters["bust"] == 1 and outcome.metrics["max_drawdown"] == -1


def test_spread_and_slippage_are_capped_in_proportion():
    prices = column(10.0, 10.0, 10.0)
    case = Case(prices, prices, [[0.5], [0.0], None], cash=100.0, half_spread_bps=6000, slippage_bps=2000)
    bought, sold = run(case).fills
    assert (bought.price, sold.price) == (15.0, 5.0)
    assert (bought.spread, bought.slippage) == (pytest.approx(18.75), pytest.approx(6.25))


def test_metrics_by_pencil():
    # equity 100, 110, 99, 99: r = 0, 0.1, -0.1, 0
    prices = column(10.0, 10.0, 9.0, 9.0)
    closes = column(10.0, 11.0, 9.9, 9.9)
    outcome = run(
        Case(prices, closes, [[1.0], None, None, None], cash=100.0, bars_per_year=4.0, risk_free=0.04)
    )
    m = outcome.metrics
    assert outcome.bars["equity"] == pytest.approx([100, 110, 99, 99])
    assert m["total_return"] == pytest.approx(-0.01)
    assert m["cagr"] == pytest.approx(-0.01)
    assert m["volatility"] == pytest.approx(math.sqrt(0.02 / 3) * 2)
    assert m["sharpe"] == pytest.approx(-0.01 / math.sqrt(0.02 / 3) * 2)
    assert m["sortino"] == pytest.approx(-0.01 * 2 / math.sqrt(0.01 / 4))
    assert m["max_drawdown"] == pytest.approx(-0.1)
    assert m["calmar"] == pytest.approx(-0.1)
    assert m["skew"] == pytest.approx(0.0, abs=1e-12)
    assert m["kurtosis"] == pytest.approx((2e-4 / 4) / (0.02 / 4) ** 2 - 3)
    assert m["turnover"] == pytest.approx(100 / 102 / 2)
    assert m["exposure"] == pytest.approx(0.75)
    assert (m["orders"], m["fills"], m["trades"]) == (1, 1, 0)
    assert math.isnan(m["win_rate"]) and math.isnan(m["profit_factor"])


# --- settings against each other ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"fill": "fill_on_monday"},
        {"kind": "shares"},
        {"afford": "borrow"},
        {"lot_rounding": "up"},
        {"sizing": "late"},
        {"keep": [[True]]},
        {"member": [[True]] * 6},
        {"rules_on": "monday"},
        {"over": "allow"},
        {"high": [[1.0, 1.0]]},
        {"split": [[1.0]] * 6},
        {"impact": [1.0]},
        {"groups": [0], "group_cap": 0.5},
        {"group_cap": 0.5},
        {"gross": 1.0, "kind": "values"},
    ],
)
def test_what_is_no_case_is_refused(settings):
    with pytest.raises(ValueError, match=r"must be one of|need"):
        Case(ROUND, ROUND, [None] * 6, **settings)


def plain_books(count: int) -> list[Case]:
    """Draw books without further settings."""
    return [generate(3 * number) for number in range(count)]


def test_settings_that_ask_for_nothing_change_nothing():
    for number, case in enumerate(plain_books(60)):
        everything = [[True] * case.n_assets for _ in range(case.n_bars)]
        nothing = [[False] * case.n_assets for _ in range(case.n_bars)]
        same = replace(
            case,
            member=everything,
            keep=nothing,
            lot_rounding="down",
            band=0.0,
            min_notional=0.0,
            max_commission_frac=1e9,
            split=[[1.0] * case.n_assets] * case.n_bars,
            dividend=[[NAN] * case.n_assets] * case.n_bars,
            atr=case.close,
            trailing_step=0.1,
            cooldown=3,
            rules_on="close",
            halt_bars=2,
            max_bars=case.n_bars,
            max_weight=1e9,
            groups=[0] * case.n_assets,
            group_cap=1e9,
            gross=1e9,
            net=1e9,
            turnover=1e9,
            positions=case.n_assets,
            over="reject",
            participation=1e9,
            carry=True,
            volume=[[1e99] * case.n_assets] * case.n_bars,
            impact=[1.0] * case.n_assets,
            slippage_bps=[case.of("slippage_bps", 0)] * case.n_assets,
            borrow_rate=0.0,
            debit_rate=0.0,
        )
        assert repr(run(case)) == repr(run(same)), f"book {number}"


def split_by(case: Case, rng: Random) -> Case:
    """Split assets by powers of 2, with prices and money per unit divided by what one unit has become."""
    factors = [[rng.choice([1.0] * 9 + [0.5, 2.0, 4.0]) for _ in range(case.n_assets)] for _ in case.open]
    units = [[1.0] * case.n_assets]
    for row in factors:
        units.append([before * k for before, k in zip(units[-1], row, strict=True)])

    def moved(name: str, power: int) -> list[list[float]] | None:
        rows = getattr(case, name)
        both = zip(rows or [], units[1:], strict=rows is not None)
        return rows and [[x * u**power for x, u in zip(row, now, strict=True)] for row, now in both]

    money = {name: moved(name, -1) for name in ("open", "close", "high", "low", "atr", "dividend")}
    shares = {name: moved(name, 1) for name in ("volume", "adv")}
    ends = {
        asset: (end, payout / units[min(end + 2, case.n_bars)][asset])
        for asset, (end, payout) in case.ends.items()
    }
    return replace(case, split=factors, ends=ends, **money, **shares)  # type: ignore[arg-type]


def test_a_split_changes_nothing():
    # Factors of 2 are exact, so everything in money is the same to the bit; quantities are other units.
    compared = 0
    for seed in range(200):
        case = generate(seed)
        if case.kind == "quantities" or case.lot > 0 or case.split is not None:
            continue
        case = replace(case, per_share=0.0)
        one, other = run(case), run(split_by(case, Random(seed)))
        assert one.counters == other.counters, f"seed {seed}"
        assert repr(one.bars) == repr(other.bars), f"seed {seed}"
        trades = [[(trade.pnl, trade.mfe, trade.mae) for trade in outcome.trades] for outcome in (one, other)]
        assert trades[0] == trades[1], f"seed {seed}"
        compared += bool(one.fills)
    assert compared > 80


def test_opens_alone_make_no_difference_between_levels_and_bars():
    # where open, high, low and close are one price, a stop inside the bar is always a gap at that price
    exits = 0
    for seed in range(2, 300, 3):
        case = generate(seed)
        case = replace(case, open=case.close, high=None, low=None, rules_on="intrabar")
        for row in (row for row in run(case).fills if row.reason in ("stop_loss", "atr_stop", "trailing")):
            exits += 1
            assert row.base == case.close[row.bar][row.asset], f"seed {seed}"
    assert exits > 30


def test_interest_on_a_flat_book():
    prices = column(*[10.0] * 6)
    case = Case(prices, prices, [[0.0]] * 6, cash=100.0, interest_rate=0.252, halt_drawdown=0.1)
    outcome = run(case)
    check(case, outcome)
    assert outcome.bars["equity"] == pytest.approx([100.0 * 1.001**t for t in range(6)], rel=1e-14)


def test_policies_agree_while_everything_fits():
    agreed = 0
    for number, case in enumerate(plain_books(100)):
        outcome = run(replace(case, afford="allow"))
        if run(case).counters["no_cash"] > 0 or not outcome.fills:
            continue
        agreed += 1
        for afford in ("scale", "greedy", "reject"):
            assert repr(run(replace(case, afford=afford))) == repr(outcome), f"book {number}, {afford}"
    assert agreed >= 20


def test_closes_as_opens_fill_alike():
    # next_close on closes is next_open on the same prices: only the step differs, not the bar
    for number, case in enumerate(plain_books(60)):
        one = run(replace(case, open=case.close))
        other = run(replace(case, open=case.close, fill="next_close"))
        for outcome in (one, other):  # a close fill's entry bar is no part of MFE and MAE
            outcome.trades = [replace(trade, mfe=0.0, mae=0.0) for trade in outcome.trades]
        assert repr(one) == repr(other), f"book {number}"


@pytest.mark.parametrize("kind", ["values", "quantities"])
def test_kinds_of_targets_say_the_same_in_other_words(kind):
    # each decision of weights is said again, at that bar's equity and, for quantities, at the last close
    compared = 0
    for number, case in enumerate(plain_books(40)):
        case = replace(case, sizing="decision")
        outcome = run(case)
        said_again: list[list[float] | None] = []
        for t, row in enumerate(case.targets):
            if row is None:
                said_again.append(None)
                continue
            numbers = [weight * outcome.bars["equity"][t] for weight in row]
            for asset in range(case.n_assets) if kind == "quantities" else []:
                closes = [prices[asset] for prices in case.close[: t + 1] if valid(prices[asset])]
                # without a close it is dropped, or marked at the base of the fill that opened it
                bases = [fill.base for fill in outcome.fills if fill.asset == asset and fill.bar <= t]
                numbers[asset] /= (closes or bases or [1.0])[-1]
            said_again.append(numbers)
        other = run(replace(case, kind=kind, targets=said_again))
        compared += len(outcome.fills)
        assert outcome.counters == other.counters, f"book {number}"
        for left, right in zip(outcome.bars["equity"], other.bars["equity"], strict=True):
            assert right == pytest.approx(left, rel=1e-9, abs=1e-9 * case.cash), f"book {number}"
    assert compared > 100


def test_a_cut_uses_up_the_cash():
    # the largest f leaves nothing, whatever the minimum and the cap of the commission
    seen = 0
    for number, case in enumerate(plain_books(80)):
        costs: dict[str, Any] = {
            "min_commission": case.cash * 0.003,
            "per_share": 0.001,
            "max_commission_frac": 0.02,
        }
        case = replace(case, **{name: money for name, money in costs.items() if (number + len(name)) % 3})
        outcome = run(case)
        for t in range(case.n_bars):
            cut = {event.asset for event in outcome.log if (event.name, event.bar) == ("no_cash", t)}
            before = outcome.quantity[t - 1] if t > 0 else [0.0] * case.n_assets
            bought = {row.asset for row in outcome.fills if row.bar == t and before[row.asset] >= 0}
            if cut and cut <= bought:  # none refused altogether
                seen += 1
                assert outcome.bars["cash"][t] == pytest.approx(0.0, abs=1e-9 * case.cash), (number, t)
    assert seen > 50


def test_flat_strategy_changes_nothing_under_any_setting():
    for seed in range(0, 90):
        case = generate(seed)
        # interest is what a flat strategy earns, and no trade
        targets = [row and [0.0] * case.n_assets for row in case.targets]
        case = replace(case, targets=targets, interest_rate=0.0)
        outcome = run(case)
        check(case, outcome)
        assert outcome.bars["equity"] == [case.cash] * case.n_bars and not outcome.fills


# --- what the oracle may use --------------------------------------------------------------------------------


def test_oracle_imports_only_the_standard_library():
    folder = Path(__file__).parent
    # the loader of the ledger files beside them needs a YAML reader and is no part of the oracle
    others = {"ledger.py", *(path.name for path in folder.glob("test_*.py"))}
    oracle = [path for path in sorted(folder.glob("*.py")) if path.name not in others]
    assert len(oracle) >= 10
    for path in oracle:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            else:
                continue
            for name in names:
                own = name == "tests.oracle" or name.startswith("tests.oracle.")
                assert own or name.split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"
