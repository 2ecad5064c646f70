"""The kernel against the slow reference, over a thousand books full of trouble."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from backtest_farm.kernel.state import BAR_COLUMNS
from tests.kernel.cases import outcome_of, run_case
from tests.oracle.book import Case, Outcome, run
from tests.oracle.books import TROUBLES, format_table, generate, table
from tests.oracle.invariants import check
from tests.oracle.troubles import RARE

BOOKS = range(1000)
EXACT = 1e-9
"""Relative, and absolute in units of starting cash: equity, quantity, price."""
METRIC = 1e-6
MONEY = {"equity", "cash", "costs", "financing", "dividends"}


def differ(want: float, have: float, tolerance: float, unit: float) -> bool:
    if math.isnan(want) or math.isnan(have):
        return math.isnan(want) != math.isnan(have)
    return abs(want - have) > tolerance * max(abs(want), abs(have), unit)


def differences(case: Case, want: Outcome, have: Outcome):
    for name in BAR_COLUMNS:
        unit = case.cash if name in MONEY else 1.0
        for t, (left, right) in enumerate(zip(want.bars[name], have.bars[name], strict=True)):
            if differ(left, right, EXACT, unit):
                yield f"{name} of bar {t}: {left!r}, kernel {right!r}"
    if len(want.fills) != len(have.fills):
        yield f"{len(want.fills)} fills, kernel {len(have.fills)}"
    for at, (left, right) in enumerate(zip(want.fills, have.fills, strict=False)):
        places = [(row.decision_bar, row.bar, row.asset, row.reason) for row in (left, right)]
        if places[0] != places[1]:
            yield f"fill {at}: {places[0]}, kernel {places[1]}"
        # A quantity's absolute tolerance is that of the money it stands for.
        if differ(left.quantity, right.quantity, EXACT, case.cash / left.price if left.price else 1.0):
            yield f"quantity of fill {at}: {left.quantity!r}, kernel {right.quantity!r}"
        for name in ("base", "price"):
            if differ(getattr(left, name), getattr(right, name), EXACT, 0.0):
                yield f"{name} of fill {at}: {getattr(left, name)!r}, kernel {getattr(right, name)!r}"
        for name in ("commission", "spread", "slippage", "impact"):
            if differ(getattr(left, name), getattr(right, name), EXACT, case.cash):
                yield f"{name} of fill {at}: {getattr(left, name)!r}, kernel {getattr(right, name)!r}"
    if len(want.trades) != len(have.trades):
        yield f"{len(want.trades)} trades, kernel {len(have.trades)}"
    for at, (left, right) in enumerate(zip(want.trades, have.trades, strict=False)):
        for name, value in asdict(left).items():
            other = getattr(right, name)
            if isinstance(value, float):
                unit = {"pnl": case.cash, "quantity": case.cash / left.entry_price}.get(name, 1.0)
                if differ(value, other, EXACT, unit):
                    yield f"{name} of trade {at}: {value!r}, kernel {other!r}"
            elif value != other:
                yield f"{name} of trade {at}: {value!r}, kernel {other!r}"
    if want.counters != have.counters:
        yield f"counters {want.counters}, kernel {have.counters}"
    for name, value in want.metrics.items():
        if differ(value, have.metrics[name], METRIC, case.cash if name == "costs" else 1e-6):
            yield f"{name}: {value!r}, kernel {have.metrics[name]!r}"


def test_a_thousand_books_agree(capsys) -> None:
    counts = table(BOOKS)
    with capsys.disabled():
        print(f"\n{len(BOOKS):,} generated books, kernel against oracle:\n{format_table(counts)}")
    rare = {name: counts[name][0] for name in {*TROUBLES} - {*RARE} if counts[name][0] < 20}
    assert not rare, f"these books prove nothing about {rare}"
    for seed in BOOKS:
        case = generate(seed)
        found = list(differences(case, run(case), outcome_of(case, run_case(case))))
        assert not found, f"book {seed}: {found[:5]}"


def test_the_comparison_notices_a_small_difference() -> None:
    case = generate(1)
    want, have = run(case), outcome_of(case, run_case(case))
    assert not list(differences(case, want, have))
    have.bars["equity"][-1] += 1e-8 * case.cash
    assert len(list(differences(case, want, have))) == 1


def test_invariants_hold_on_the_kernels_own_books() -> None:
    for seed in range(0, 1000, 5):
        case = generate(seed)
        check(case, outcome_of(case, run_case(case)))


def test_flat_strategy_changes_nothing() -> None:
    rows, assets = 30, 4
    case = Case(
        open=[[100.0] * assets] * rows,
        close=[[100.0] * assets] * rows,
        targets=[[0.0] * assets if t % 3 == 0 else None for t in range(rows)],
    )
    tile = run_case(case)
    assert int(tile.record.used[0]) == 0
    assert np.all(tile.record.bars[:, 0, 0] == case.cash)
    assert not tile.counters.any()
