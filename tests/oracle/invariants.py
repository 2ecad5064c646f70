"""What must hold for any book, checked from the ledger outwards and not with the steps of `book.run`.

Marks, positions and cash are rebuilt here from prices, events and fills, so that a slip in the bar loop
cannot hide behind itself. Anything that has the fields of a `book.Outcome` can be checked, the kernel's
results too.
Position rules and caps are in `invariants_of_rules`.
"""

from __future__ import annotations

import math

from tests.oracle.book import (
    DUST,
    LOT_TOLERANCE,
    MAX_FRACTION,
    Case,
    Fill,
    Holding,
    Outcome,
    Trade,
    rebuild,
    valid,
)
from tests.oracle.invariants_of_rules import check_caps, check_halts, check_rules, check_volume
from tests.oracle.ledger_walk import before_fills, group_of, is_inside, marks_of, step_8_costs

TOLERANCE = 1e-9  # relative, and absolute in units of starting cash


def check(case: Case, outcome: Outcome) -> None:
    """Check every invariant of the contract.

    Parameters
    ----------
    case : Case
        What was run; NaN prices are missing bars.
    outcome : Outcome
        What came out.

    Raises
    ------
    AssertionError
        With bar, asset and both numbers, where an invariant is broken.
    """
    cash, quantity = rebuild(case, outcome)
    marks = marks_of(case, outcome)
    check_rebuilt(case, outcome, cash, quantity)
    check_equity(case, outcome, quantity, marks)
    check_equity_change(case, outcome, quantity, marks)
    check_costs(case, outcome)
    check_financing(case, outcome, quantity, marks)
    check_dividends(case, outcome, quantity)
    check_turnover(case, outcome)
    check_fills(case, outcome)
    check_lots(case, outcome)
    check_membership(case, outcome)
    check_buys(case, outcome, marks)
    check_trades(case, outcome)
    check_rules(case, outcome)
    check_halts(case, outcome)
    check_caps(case, outcome, marks)
    check_volume(case, outcome)
    check_flat(case, outcome)


def close_to(case: Case, left: float, right: float, scale: float = 0.0) -> bool:
    """Equal to 1e-9: absolute in units of starting cash, relative to the numbers and to `scale` (money)."""
    return abs(left - right) <= TOLERANCE * max(case.cash, abs(left), abs(right), abs(scale))


def check_rebuilt(case: Case, outcome: Outcome, cash: list[float], quantity: list[list[float]]) -> None:
    """Check that fills rebuild the cash and the positions of every bar."""
    for t in range(case.n_bars):
        shown = outcome.bars["cash"][t]
        assert close_to(case, shown, cash[t]), f"bar {t}: cash {shown!r}, fills rebuild {cash[t]!r}"
        for asset in range(case.n_assets):
            held, rebuilt = outcome.quantity[t][asset], quantity[t][asset]
            same = math.isclose(held, rebuilt, rel_tol=TOLERANCE, abs_tol=DUST)
            assert same and (held == 0) == (rebuilt == 0), (
                f"bar {t}, asset {asset}: holds {held!r}, fills rebuild {rebuilt!r}"
            )
        count = sum(held != 0 for held in quantity[t])
        assert outcome.bars["positions"][t] == count, (
            f"bar {t}: {outcome.bars['positions'][t]} positions shown, {count} held"
        )


def values(quantity: list[float], marks: list[float]) -> list[float]:
    """Value of each held asset, money."""
    return [held * price for held, price in zip(quantity, marks, strict=True) if held != 0]


def check_equity(case: Case, outcome: Outcome, quantity: list[list[float]], marks: list[list[float]]) -> None:
    """Check equity = cash + positions; gross and net are its parts."""
    for t in range(case.n_bars):
        parts = values(quantity[t], marks[t])
        gross = math.fsum(abs(part) for part in parts)
        equity = outcome.bars["cash"][t] + math.fsum(parts)
        shown = outcome.bars["equity"][t]
        assert math.isfinite(shown), f"bar {t}: equity is {shown!r}"
        assert close_to(case, shown, equity, gross), f"bar {t}: equity {shown!r}, cash + positions {equity!r}"
        for name, part in (("gross", gross), ("net", math.fsum(parts))):
            column = outcome.bars[name][t]
            if shown > DUST:
                assert close_to(case, column * shown, part, gross), (
                    f"bar {t}: {name} {column!r} of {shown!r}, positions {part!r}"
                )
            else:
                assert math.isnan(column), f"bar {t}: {name} is {column!r} at equity {shown!r}"


def check_equity_change(
    case: Case, outcome: Outcome, quantity: list[list[float]], marks: list[list[float]]
) -> None:
    """Check change of equity = P&L of positions - costs - financing + dividends.

    The P&L of a bar has two parts per asset. What was held over night moved from the mark of t-1 to the mark
    of t. What a fill of this bar added (or took away, with the sign of its quantity) moved only from the
    fill's *base* price to the mark of t: the way from base to fill price is spread, slippage and impact, and
    these count as costs. An asset that is flat at the end of t has q[t-1] + fills = 0, so its mark of t drops
    out; where it has none (never a valid close), any number serves, and the mark of t-1 or the base is taken.
    """
    for t in range(case.n_bars):
        pnl, costs, scale = [], [], [outcome.bars["equity"][t]]
        for asset in range(case.n_assets):
            rows = [row for row in outcome.fills if row.bar == t and row.asset == asset]
            k = case.split_factor(t, asset)  # a split moves no money
            held = quantity[t - 1][asset] * k if t > 0 else 0.0
            if held == 0 and not rows:
                continue
            before = marks[t - 1][asset] / k if t > 0 else math.nan
            known = [marks[t][asset], before, *(row.base for row in rows)]
            now = next(price for price in known if not math.isnan(price))
            if held != 0:
                pnl.append(held * (now - before))
                scale.append(held * now)
            for row in rows:
                pnl.append(row.quantity * (now - row.base))
                costs.append(row.commission + row.spread + row.slippage + row.impact)
                scale.append(row.quantity * now)
        last = outcome.bars["equity"][t - 1] if t > 0 else case.cash
        change = outcome.bars["equity"][t] - last
        expected = math.fsum(pnl) - math.fsum(costs)
        expected += outcome.bars["dividends"][t] - outcome.bars["financing"][t]
        largest = max(abs(part) for part in [*scale, last])
        assert close_to(case, change, expected, largest), (
            f"bar {t}: equity changed by {change!r}, P&L {math.fsum(pnl)!r} - costs {math.fsum(costs)!r}"
        )


def check_costs(case: Case, outcome: Outcome) -> None:
    """Check that the ledger's costs sum to each bar's and to the summary's."""

    def total(rows: list[Fill]) -> float:
        return math.fsum(row.commission + row.spread + row.slippage + row.impact for row in rows)

    for t in range(case.n_bars):
        shown, ledger = outcome.bars["costs"][t], total([row for row in outcome.fills if row.bar == t])
        assert close_to(case, shown, ledger), f"bar {t}: costs {shown!r}, ledger {ledger!r}"
    shown, ledger = outcome.metrics["costs"], total(outcome.fills)
    assert close_to(case, shown, ledger), f"metric costs {shown!r}, ledger {ledger!r}"


def check_financing(
    case: Case, outcome: Outcome, quantity: list[list[float]], marks: list[list[float]]
) -> None:
    """Check financing against cash and shorts as they stood at the end of the bar before."""
    debit = case.interest_rate if case.debit_rate is None else case.debit_rate
    for t in range(case.n_bars):
        expected = 0.0
        if t > 0:
            cash = outcome.bars["cash"][t - 1]
            yearly = -cash * (case.interest_rate if cash > 0 else debit)
            for asset, held in enumerate(quantity[t - 1]):
                if held < 0:
                    yearly -= held * marks[t - 1][asset] * case.of("borrow_rate", asset)
            expected = yearly / case.bars_per_year
        shown = outcome.bars["financing"][t]
        assert close_to(case, shown, expected), f"bar {t}: financing {shown!r}, not {expected!r}"


def check_dividends(case: Case, outcome: Outcome, quantity: list[list[float]]) -> None:
    """Check dividends against what was held over night, after the splits of the bar."""
    for t in range(case.n_bars):
        paid = 0.0
        for asset, held in enumerate(quantity[t - 1] if t > 0 else []):
            paid += held * case.split_factor(t, asset) * case.dividend_per_unit(t, asset)
        shown = outcome.bars["dividends"][t]
        assert close_to(case, shown, paid), f"bar {t}: dividends {shown!r}, not {paid!r}"


def check_turnover(case: Case, outcome: Outcome) -> None:
    """Check each bar's turnover against the ledger, in units of the equity shown for the bar before."""
    for t in range(case.n_bars):
        rows = [row for row in outcome.fills if row.bar == t and row.reason != "delisting"]
        traded = math.fsum(abs(row.quantity) * row.price for row in rows)
        before = outcome.bars["equity"][t - 1] if t > 0 else case.cash
        shown = outcome.bars["turnover"][t]
        if before > DUST:
            assert close_to(case, shown * before * 2, traded), (
                f"bar {t}: turnover {shown!r}, traded {traded!r}"
            )
        else:
            assert math.isnan(shown), f"bar {t}: turnover {shown!r} at equity {before!r} before"


def check_fills(case: Case, outcome: Outcome) -> None:
    """Check: no fill (but a delisting) without a valid base, before decision + 1 or after the wait."""
    last: tuple[float, ...] = (-1, -1, -1)
    for row, held in zip(outcome.fills, before_fills(case, outcome), strict=True):
        position, rest = held.units, held.after(row.quantity).units
        where = f"fill of asset {row.asset} at bar {row.bar} ({row.reason})"
        assert math.isfinite(row.quantity) and row.quantity != 0, f"{where}: quantity {row.quantity!r}"
        # only decisions of the bar itself may fill on it
        is_early = is_inside(case, row) or row.reason in ("delisting", "membership")
        earliest = 1 if is_early else case.first_try
        assert row.bar - earliest >= row.decision_bar >= 0, f"{where}: decided at {row.decision_bar}"
        if row.reason == "delisting":
            assert case.ends[row.asset][0] + 1 == row.bar, f"{where}: ends at {case.ends[row.asset][0]}"
            assert row.decision_bar == row.bar - 1, f"{where}: decided at {row.decision_bar}"
            assert row.price == row.base and rest == 0, f"{where}: {row}"
            assert row.commission == row.spread == row.slippage == row.impact == 0, f"{where}: costs"
        else:
            assert valid(row.base), f"{where}: base {row.base!r}"
            assert row.asset not in case.ends or row.bar <= case.ends[row.asset][0], f"{where}: dead"
            check_price(case, row)
            check_commission(case, row)
            if is_inside(case, row):
                assert row.decision_bar == row.bar - 1, f"{where}: decided at {row.decision_bar}"
            else:
                base = case.prices[row.bar][row.asset]
                assert row.base == base, f"{where}: base {row.base!r} is not {case.fill}"
            if row.reason == "target":
                last_try = row.decision_bar + case.first_try + case.max_wait - 1
                is_carried = case.carry and case.participation > 0
                assert row.bar <= last_try or is_carried, f"{where}: waited too long"
                assert case.is_decision(row.decision_bar), f"{where}: no decision there"
                assert not case.is_kept(row.decision_bar, row.asset), f"{where}: KEEP there"
            else:
                assert position * row.quantity < 0 and rest == 0, f"{where}: no exit"
            if row.reason == "bust":
                equity = outcome.bars["equity"][row.decision_bar]
                equity += step_8_costs(case, outcome, row.decision_bar)
                assert equity <= 0, f"{where}: equity is above 0"
        # R17: by bar, then delistings, (a), (b), (c), and rule exits inside the bar before or after these
        rank: float = 0 if row.reason == "delisting" else group_of(row, position)
        if is_inside(case, row):
            rank = 0.5 if case.fills_at_close else 4
        now = (row.bar, rank, row.asset)
        assert now > last, f"{where}: out of order"
        last = now


def check_price(case: Case, row: Fill) -> None:
    """Check that price and cost columns are those of the formula."""
    where = f"fill of asset {row.asset} at bar {row.bar} ({row.reason})"
    size = abs(row.quantity)
    spread = case.of("half_spread_bps", row.asset) / 1e4
    slippage = case.of("slippage_bps", row.asset) / 1e4
    impact = 0.0
    if row.bar > 0:
        sigma = case.cell("sigma", row.bar - 1, row.asset)
        adv = case.cell("adv", row.bar - 1, row.asset) * case.split_factor(row.bar, row.asset)
        if sigma >= 0 and math.isfinite(sigma) and valid(adv):
            impact = case.of("impact", row.asset) * sigma * math.sqrt(size / adv)
    total = spread + slippage + impact
    shrink = min(1.0, MAX_FRACTION / total) if total > 0 else 1.0
    scale = size * row.base
    for name, fraction in (("spread", spread), ("slippage", slippage), ("impact", impact)):
        shown, expected = getattr(row, name), fraction * shrink * scale
        assert close_to(case, shown, expected, scale), f"{where}: {name} {shown!r}, not {expected!r}"
    away = (row.price - row.base) * math.copysign(1.0, row.quantity)
    assert close_to(case, away * size, total * shrink * scale, scale), (
        f"{where}: price is {away!r} off its base"
    )
    assert 0 <= away <= MAX_FRACTION * row.base * (1 + TOLERANCE), f"{where}: price {row.price!r}"


def check_commission(case: Case, row: Fill) -> None:
    """Check the commission of one fill: never above the cap, never below its parts but for the cap."""
    size = abs(row.quantity)
    notional = size * row.price
    limit = case.of("max_commission_frac", row.asset)
    cap = limit * notional if limit > 0 else math.inf
    variable = case.of("per_share", row.asset) * size + case.of("commission_bps", row.asset) / 1e4 * notional
    floor = max(case.of("min_commission", row.asset), variable)
    wants = min(floor, cap)
    assert close_to(case, row.commission, wants) and math.isclose(row.commission, wants, rel_tol=TOLERANCE), (
        f"fill of asset {row.asset} at bar {row.bar}: commission {row.commission!r}, not {wants!r}"
    )


def check_lots(case: Case, outcome: Outcome) -> None:
    """Check that fills are whole lots, but closings; after a split anything may be held."""
    if case.lot <= 0:
        return
    for row, position in zip(outcome.fills, before_fills(case, outcome), strict=True):
        if any(case.split_factor(t, row.asset) != 1 for t in range(row.bar + 1)):
            continue
        lots = abs(row.quantity) / case.lot
        off = abs(lots - round(lots))
        assert position.after(row.quantity).units == 0 or off <= LOT_TOLERANCE * max(1.0, lots), (
            f"fill of asset {row.asset} at bar {row.bar}: {row.quantity!r} is {lots!r} lots"
        )


def check_membership(case: Case, outcome: Outcome) -> None:
    """Check: no increase outside membership, and what lost it is closed by the next fill it has."""
    if case.member is None:
        return
    held = [Holding()] * case.n_assets
    leaving: list[int | None] = [None] * case.n_assets  # the bar on which a held asset lost membership
    rows = iter([*zip(outcome.fills, before_fills(case, outcome), strict=True), None])
    item = next(rows)
    for t in range(case.n_bars):
        for asset in range(case.n_assets):
            lost = t > 0 and case.member[t - 1][asset] and not case.member[t][asset]
            if lost and held[asset].units != 0 and leaving[asset] is None:
                leaving[asset] = t
        while item is not None and item[0].bar == t:
            row, position = item
            asset = row.asset
            where = f"fill of asset {asset} at bar {t} ({row.reason})"
            members = [case.member[s][asset] for s in range(row.decision_bar, t + 1)]
            is_increase = group_of(row, position.units) != 1
            assert not is_increase or all(members), f"{where}: an increase outside membership"
            if row.reason == "membership":
                assert leaving[asset] is not None, f"{where}: membership was not lost"
                assert row.decision_bar + 1 == leaving[asset], f"{where}: lost at {leaving[asset]}"
            elif row.reason == "target":
                assert leaving[asset] is None, f"{where}: lost membership at {leaving[asset]}"
            held[asset] = position.after(row.quantity)
            if held[asset].units == 0:
                leaving[asset] = None
            item = next(rows)


def check_buys(case: Case, outcome: Outcome, marks: list[list[float]]) -> None:
    """Check that no buy of group (c) takes cash below -margin*E - 1e-9*E, E before any fill of its pass."""
    if case.afford == "allow":
        return
    cash, held = case.cash, [Holding()] * case.n_assets
    for t in range(case.n_bars):
        cash += outcome.bars["dividends"][t] - outcome.bars["financing"][t]
        mark = []
        for asset in range(case.n_assets):
            k = case.split_factor(t, asset)
            held[asset] = held[asset].split(k)
            price = case.prices[t][asset]
            mark.append(price if valid(price) else marks[t - 1][asset] / k if t > 0 else math.nan)
        equity = None
        for row in (row for row in outcome.fills if row.bar == t):
            if equity is None and not is_inside(case, row) and row.reason != "delisting":
                equity = cash + math.fsum(values([each.units for each in held], mark))
            is_buy = row.reason == "target" and group_of(row, held[row.asset].units) == 3
            cash -= row.quantity * row.price + row.commission
            held[row.asset] = held[row.asset].after(row.quantity)
            if is_buy:
                assert equity is not None
                # Where E is negative the bound stays at 0; rounding is allowed in units of what moves.
                slack = (case.margin + TOLERANCE) * max(equity, 0.0) + 1e-12 * max(case.cash, abs(cash))
                assert cash >= -slack, (
                    f"bar {t}: buying asset {row.asset} takes cash to {cash!r} at E = {equity!r}"
                )


def check_trades(case: Case, outcome: Outcome) -> None:
    """Check that closed trades are the round trips of the ledger, with all their numbers."""
    found = round_trips(case, outcome)
    assert len(found) == len(outcome.trades) == outcome.metrics["trades"], (
        f"{len(outcome.trades)} trades shown, {len(found)} in the ledger"
    )
    for trade, wants in zip(outcome.trades, found, strict=True):
        for name in ("asset", "side", "entry_bar", "exit_bar", "reason"):
            assert getattr(trade, name) == getattr(wants, name), f"{trade} is not {wants}"
        assert trade.bars_held == trade.exit_bar - trade.entry_bar, f"{trade}: bars held"
        assert close_to(case, trade.pnl, wants.pnl), f"{trade}: ledger says {wants.pnl!r}"
        for name in ("quantity", "entry_price", "exit_price", "mfe", "mae"):
            shown, expected = getattr(trade, name), getattr(wants, name)
            same = math.isclose(shown, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            assert same, f"{trade}: {name} {shown!r}, ledger says {expected!r}"


def round_trips(case: Case, outcome: Outcome) -> list[Trade]:
    """Make the trades from ledger, prices, splits and dividends."""
    result = []
    for asset in range(case.n_assets):
        held, entry_bar, flows = Holding(), -1, [0.0]
        ins: list[tuple[float, float]] = []  # units and money
        outs: list[tuple[float, float]] = []
        gains = [0.0]
        for t in range(case.n_bars):
            k = case.split_factor(t, asset)
            held = held.split(k)
            ins, outs = ([(units * k, money) for units, money in part] for part in (ins, outs))
            flows.append(held.units * case.dividend_per_unit(t, asset))
            for number, row in enumerate(outcome.fills):
                if row.bar != t or row.asset != asset:
                    continue
                if held.units == 0:
                    entry_bar, flows, ins, outs, gains = t, [], [], [], [0.0]
                size = abs(row.quantity)
                side = 1 if (held.units or row.quantity) > 0 else -1
                flows.append(-row.quantity * row.price - row.commission)
                (ins if row.quantity * side > 0 else outs).append((size, size * row.price))
                entry = average(ins)
                if row.quantity * side < 0:
                    gains.append(side * (row.price / entry - 1))
                held = held.after(row.quantity)
                if held.units == 0:
                    result.append(
                        (
                            number,
                            Trade(
                                asset,
                                entry_bar,
                                t,
                                t - entry_bar,
                                math.fsum(flows),
                                side,
                                math.fsum(units for units, _ in ins),
                                entry,
                                average(outs),
                                max(gains),
                                min(gains),
                                row.reason,
                            ),
                        )
                    )
            is_new = case.fills_at_close and entry_bar == t
            if held.units != 0 and valid(case.close[t][asset]) and not is_new:
                for price in (case.high_or_close(t, asset), case.low_or_close(t, asset)):
                    gains.append(math.copysign(1.0, held.units) * (price / average(ins) - 1))
    return [trade for _, trade in sorted(result, key=lambda item: item[0])]


def average(parts: list[tuple[float, float]]) -> float:
    """Average price of parts of (units, money)."""
    return math.fsum(money for _, money in parts) / math.fsum(units for units, _ in parts)


def check_flat(case: Case, outcome: Outcome) -> None:
    """Check that a flat strategy (no target but 0, NaN and KEEP) changes nothing but for interest."""
    numbers = [number for row in case.targets if row is not None for number in row]
    if any(math.isfinite(number) and number != 0 for number in numbers):
        return
    assert not outcome.fills, f"a flat strategy made {len(outcome.fills)} fills"
    assert all(count == 0 for count in outcome.counters.values()), f"counters {outcome.counters}"
    growth = 1 + case.interest_rate / case.bars_per_year
    for name in ("equity", "cash"):
        for t, money in enumerate(outcome.bars[name]):
            same = money == case.cash if growth == 1 else close_to(case, money, case.cash * growth**t)
            assert same, f"bar {t}: a flat strategy changed {name} to {money!r}"
