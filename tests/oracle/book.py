"""The accounting contract of one backtest, step by step, in plain Python.

Written for reading: one function per step of the page, with the names of the page. Here is the order of the
steps; the steps are in `events` (1, 2), `passes` (3, 5, 8), `rules` (4) and `decisions` (7, with
`constraints` and `sizing`). Where page and readings leave a gap, the choice is in the docstring of
the module it belongs to. Speed is no aim here.
"""

from __future__ import annotations

import math
from collections import Counter

from tests.oracle import metrics as formulas
from tests.oracle.case import COUNTERS, NAN, Case, valid
from tests.oracle.costs import costs_of, notional_of
from tests.oracle.decisions import decide
from tests.oracle.events import delistings, dividends, financing, lost_membership, splits
from tests.oracle.passes import fill_pass
from tests.oracle.rules import intrabar
from tests.oracle.state import (
    DUST,
    LOT_TOLERANCE,
    MAX_FRACTION,
    Book,
    Event,
    Fill,
    Holding,
    Outcome,
    Trade,
)

__all__ = [
    "DUST",
    "LOT_TOLERANCE",
    "MAX_FRACTION",
    "Case",
    "Event",
    "Fill",
    "Holding",
    "Outcome",
    "Trade",
    "rebuild",
    "run",
    "valid",
]


def run(case: Case) -> Outcome:
    """Run one backtest by the contract.

    Parameters
    ----------
    case : Case
        Prices, targets and settings; NaN prices are missing bars.

    Returns
    -------
    Outcome
        Bars, ledger, trades, counters and metrics; money in the units of `case.cash`.
    """
    n = case.n_assets
    book = Book(
        cash=case.cash,
        quantity=[0.0] * n,
        last_close=[NAN] * n,
        waiting=[None] * n,
        position=[None] * n,
        cooling=[-1] * n,
        peak=case.cash,
    )
    # "One bar is one slice: each step for all assets, then the next step."
    for t in range(case.n_bars):
        financing(case, book, t)  # step 1
        splits(case, book, t)  # step 2
        dividends(case, book, t)
        delistings(case, book, t)
        lost_membership(case, book, t)
        if case.fill == "next_open":  # step 3
            fill_pass(case, book, t)
        intrabar(case, book, t)  # step 4
        if case.fill == "next_close":  # step 5
            fill_pass(case, book, t)
        equity = mark(case, book, t)  # step 6
        # "Decisions use the equity of step 6; the result shows that of step 8."
        decide(case, book, t, equity)  # step 7
        if case.fill == "same_close":  # step 8
            fill_pass(case, book, t)
        observe(case, book, t)
        show(case, book, t)
    # "Orders left after the last bar count as `unfilled_at_end`; positions stay open." (R12)
    for asset, order in enumerate(book.waiting):
        if order is not None:
            book.count("unfilled_at_end", case.n_bars - 1, asset, order.decision_bar)
    return outcome_of(case, book)


def mark(case: Case, book: Book, t: int) -> float:
    """Step 6: "equity[t] = cash + sum(quantity * mark) over held assets"."""
    for asset in range(case.n_assets):
        if valid(case.close[t][asset]):
            book.last_close[asset] = case.close[t][asset]
        elif book.quantity[asset] != 0:
            book.count("stale_bars", t, asset)  # R11, S2; "a missing price never zeroes a position"
    return book.cash + sum(book.quantity[asset] * book.mark(asset) for asset in book.held())


def observe(case: Case, book: Book, t: int) -> None:
    """Let MFE and MAE see "the high/low of each bar that ends with the position held" (T14)."""
    for asset in book.held():
        position = book.position[asset]
        assert position is not None
        # "not the entry bar of a close fill"
        if valid(case.close[t][asset]) and not (case.fills_at_close and position.entry_bar == t):
            position.observe(case.high_or_close(t, asset))
            position.observe(case.low_or_close(t, asset))


def show(case: Case, book: Book, t: int) -> None:
    """Enter the bar's row: the book as it stands after step 6 or, for same_close, marked again in step 8."""
    values = [book.quantity[asset] * book.mark(asset) for asset in book.held()]
    equity = book.cash + sum(values)
    before = book.bars["equity"][-1] if t > 0 else case.cash
    rows = [row for row in book.fills if row.bar == t]
    bars = book.bars  # financing and dividends are entered in steps 1 and 2
    bars["equity"].append(equity)
    bars["cash"].append(book.cash)
    bars["gross"].append(formulas.ratio(sum(abs(value) for value in values), equity))
    bars["net"].append(formulas.ratio(sum(values), equity))
    bars["turnover"].append(formulas.ratio(sum(notional_of(row) for row in rows) / 2, before))
    bars["costs"].append(math.fsum(costs_of(row) for row in rows))
    bars["positions"].append(len(values))
    book.quantity_by_bar.append(list(book.quantity))


def outcome_of(case: Case, book: Book) -> Outcome:
    """Collect the results."""
    found = Counter(event.name for event in book.log)
    counters = {name: found[name] for name in COUNTERS}
    traded = [row for row in book.fills if row.reason != "delisting"]
    metrics = formulas.compute(
        equity=book.bars["equity"],
        starting_cash=case.cash,
        gross=book.bars["gross"],
        notional=[notional_of(row) for row in traded],
        costs=book.bars["costs"],
        pnl=[trade.pnl for trade in book.trades],
        bars_held=[trade.bars_held for trade in book.trades],
        orders=counters["orders"],
        fills=len(traded),
        bars_per_year=case.bars_per_year,
        risk_free=case.risk_free,
    )
    return Outcome(
        bars=book.bars,
        quantity=book.quantity_by_bar,
        fills=book.fills,
        trades=book.trades,
        counters=counters,
        metrics=metrics,
        log=book.log,
        decided=book.decided,
    )


def rebuild(case: Case, outcome: Outcome) -> tuple[list[float], list[list[float]]]:
    """Rebuild cash and quantities of every bar: "fills, splits, dividends and financing rebuild" them.

    Parameters
    ----------
    case : Case
        Gives starting cash, number of bars and of assets, splits and dividends; prices are not used.
    outcome : Outcome
        Only its ledger (`fills`) and the column `financing` are used.

    Returns
    -------
    cash : list of float
        Money at the end of each bar.
    quantity : list of list of float
        Units at the end of each bar, ``n_assets`` per bar.
    """
    cash, held = case.cash, [Holding()] * case.n_assets
    cash_by_bar, quantity_by_bar = [], []
    for t in range(case.n_bars):
        cash -= outcome.bars["financing"][t]
        for asset in range(case.n_assets):
            held[asset] = held[asset].split(case.split_factor(t, asset))
            cash += held[asset].units * case.dividend_per_unit(t, asset)
        for row in outcome.fills:
            if row.bar == t:
                cash -= row.quantity * row.price + row.commission
                held[row.asset] = held[row.asset].after(row.quantity)
        cash_by_bar.append(cash)
        quantity_by_bar.append([each.units for each in held])
    return cash_by_bar, quantity_by_bar
