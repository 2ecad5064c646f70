"""What must hold for any book, checked from the ledger outwards and not with the steps of `book.run`.

Marks, positions and cash are rebuilt here from prices and fills, so that a slip in the bar loop cannot hide
behind itself. Anything that has the fields of a `book.Outcome` can be checked, the kernel's results too.
"""

from __future__ import annotations

import math

from tests.oracle.book import DUST, LOT_TOLERANCE, MAX_FRACTION, Case, Fill, Outcome, after, rebuild, valid

TOLERANCE = 1e-9  # relative, and absolute in units of starting cash


def check(case: Case, outcome: Outcome) -> None:
    """Check every invariant of the contract that is in scope.

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
    marks = rebuild_marks(case, outcome)
    check_rebuilt(case, outcome, cash, quantity)
    check_equity(case, outcome, quantity, marks)
    check_equity_change(case, outcome, quantity, marks)
    check_costs(case, outcome)
    check_turnover(case, outcome)
    check_fills(case, outcome)
    check_lots(case, outcome)
    check_membership(case, outcome)
    check_buys(case, outcome, marks)
    check_trades(case, outcome)
    check_flat(case, outcome)


def rebuild_marks(case: Case, outcome: Outcome) -> list[list[float]]:
    """Rebuild the marks at the end of every bar; NaN where there is none.

    Parameters
    ----------
    case : Case
        Gives the closes.
    outcome : Outcome
        Gives the fills.

    Returns
    -------
    list of list of float
        Money per unit: last valid close, or the base price of the fill that opened the position until there
        is one, or NaN.
    """
    position = [0.0] * case.n_assets
    opening = [math.nan] * case.n_assets
    result = []
    for t in range(case.n_bars):
        for row in outcome.fills:
            if row.bar == t:
                if position[row.asset] == 0:
                    opening[row.asset] = row.base
                position[row.asset] = after(position[row.asset], row.quantity)
        marks = []
        for asset in range(case.n_assets):
            closes = [case.close[s][asset] for s in range(t + 1) if valid(case.close[s][asset])]
            fallback = opening[asset] if position[asset] != 0 else math.nan
            marks.append(closes[-1] if closes else fallback)
        result.append(marks)
    return result


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
    """Check change of equity = P&L of positions - costs.

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
            held = quantity[t - 1][asset] if t > 0 else 0.0
            if held == 0 and not rows:
                continue
            before = marks[t - 1][asset] if t > 0 else math.nan
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
        largest = max(abs(part) for part in [*scale, last])
        assert close_to(case, change, expected, largest), (
            f"bar {t}: equity changed by {change!r}, P&L {math.fsum(pnl)!r} - costs {math.fsum(costs)!r}"
        )


def check_costs(case: Case, outcome: Outcome) -> None:
    """Check that the ledger's costs sum to each bar's and to the summary's; financing and dividends are 0."""

    def total(rows: list[Fill]) -> float:
        return math.fsum(row.commission + row.spread + row.slippage + row.impact for row in rows)

    for t in range(case.n_bars):
        shown, ledger = outcome.bars["costs"][t], total([row for row in outcome.fills if row.bar == t])
        assert close_to(case, shown, ledger), f"bar {t}: costs {shown!r}, ledger {ledger!r}"
        for name in ("financing", "dividends"):
            assert outcome.bars[name][t] == 0, f"bar {t}: {name} {outcome.bars[name][t]!r} is out of scope"
    shown, ledger = outcome.metrics["costs"], total(outcome.fills)
    assert close_to(case, shown, ledger), f"metric costs {shown!r}, ledger {ledger!r}"


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
    group_before = (-1, -1)
    position = [0.0] * case.n_assets
    for row in outcome.fills:
        where = f"fill of asset {row.asset} at bar {row.bar} ({row.reason})"
        assert math.isfinite(row.quantity) and row.quantity != 0, f"{where}: quantity {row.quantity!r}"
        earliest = 0 if case.fill == "same_close" and row.reason in ("target", "bust") else 1
        assert row.bar - earliest >= row.decision_bar >= 0, f"{where}: decided at {row.decision_bar}"
        if row.reason == "delisting":
            assert case.ends[row.asset][0] + 1 == row.bar, f"{where}: ends at {case.ends[row.asset][0]}"
            assert row.decision_bar == row.bar - 1, f"{where}: decided at {row.decision_bar}"
            assert row.price == row.base and after(position[row.asset], row.quantity) == 0, f"{where}: {row}"
            assert row.commission == row.spread == row.slippage == row.impact == 0, f"{where}: costs"
            group = 0
        else:
            assert valid(row.base), f"{where}: base {row.base!r}"
            column = case.open if case.fill == "next_open" else case.close
            assert row.base == column[row.bar][row.asset], f"{where}: base {row.base!r} is not {case.fill}"
            assert row.asset not in case.ends or row.bar <= case.ends[row.asset][0], f"{where}: dead"
            away = (row.price - row.base) * math.copysign(1.0, row.quantity)
            parts = row.spread + row.slippage + row.impact
            assert close_to(case, away * abs(row.quantity), parts, abs(row.quantity) * row.base), (
                f"{where}: price is {away!r} off its base, the cost columns say {parts!r}"
            )
            assert 0 <= away <= MAX_FRACTION * row.base * (1 + TOLERANCE), f"{where}: price {row.price!r}"
            check_commission(case, row)
            group = group_of(row, position[row.asset])
            if row.reason == "target":
                last_try = row.decision_bar + case.max_wait - (1 if case.fill == "same_close" else 0)
                assert row.bar <= last_try, f"{where}: waited too long"
                assert case.targets[row.decision_bar] is not None, f"{where}: no decision there"
                assert not (case.keep and case.keep[row.decision_bar][row.asset]), f"{where}: KEEP there"
            else:
                assert row.reason in ("bust", "membership"), f"{where}: unknown reason"
                assert group == 1 and after(position[row.asset], row.quantity) == 0, f"{where}: no exit"
                assert row.reason != "bust" or decided_on(case, outcome, row.decision_bar) <= 0, (
                    f"{where}: equity is above 0"
                )
        # R17: by bar, then delistings, (a), (b), (c)
        assert (row.bar, group) >= group_before, f"{where}: out of order"
        group_before = (row.bar, group)
        position[row.asset] = after(position[row.asset], row.quantity)


def check_commission(case: Case, row: Fill) -> None:
    """Check the commission of one fill: never above the cap, never below its parts but for the cap."""
    size = abs(row.quantity)
    notional = size * row.price
    cap = case.max_commission_frac * notional if case.max_commission_frac > 0 else math.inf
    floor = max(case.min_commission, case.per_share * size + case.commission_bps / 1e4 * notional)
    wants = min(floor, cap)
    assert close_to(case, row.commission, wants) and math.isclose(row.commission, wants, rel_tol=TOLERANCE), (
        f"fill of asset {row.asset} at bar {row.bar}: commission {row.commission!r}, not {wants!r}"
    )


def decided_on(case: Case, outcome: Outcome, t: int) -> float:
    """Equity of step 6, on which bar `t` decides: fills at the bar's own close take only their costs off."""
    return outcome.bars["equity"][t] + (outcome.bars["costs"][t] if case.fill == "same_close" else 0.0)


def check_lots(case: Case, outcome: Outcome) -> None:
    """Check that fills are whole lots, but those that close a position."""
    if case.lot <= 0:
        return
    position = [0.0] * case.n_assets
    for row in outcome.fills:
        position[row.asset] = after(position[row.asset], row.quantity)
        lots = abs(row.quantity) / case.lot
        off = abs(lots - round(lots))
        assert position[row.asset] == 0 or off <= LOT_TOLERANCE * max(1.0, lots), (
            f"fill of asset {row.asset} at bar {row.bar}: {row.quantity!r} is {lots!r} lots"
        )


def check_membership(case: Case, outcome: Outcome) -> None:
    """Check: no increase outside membership, and what lost it is closed by the next fill it has."""
    if case.member is None:
        return
    position = [0.0] * case.n_assets
    leaving: list[int | None] = [None] * case.n_assets  # the bar on which a held asset lost membership
    rows = iter([*outcome.fills, None])
    row = next(rows)
    for t in range(case.n_bars):
        for asset in range(case.n_assets):
            lost = t > 0 and case.member[t - 1][asset] and not case.member[t][asset]
            if lost and position[asset] != 0 and leaving[asset] is None:
                leaving[asset] = t
        while row is not None and row.bar == t:
            asset, group = row.asset, group_of(row, position[row.asset])
            where = f"fill of asset {asset} at bar {t} ({row.reason})"
            members = [case.member[s][asset] for s in range(row.decision_bar, t + 1)]
            assert group == 1 or all(members), f"{where}: an increase outside membership"
            if row.reason == "membership":
                assert leaving[asset] is not None, f"{where}: membership was not lost"
                assert row.decision_bar + 1 == leaving[asset], f"{where}: lost at {leaving[asset]}"
            elif row.reason == "target":
                assert leaving[asset] is None, f"{where}: lost membership at {leaving[asset]}"
            position[asset] = after(position[asset], row.quantity)
            if position[asset] == 0:
                leaving[asset] = None
            row = next(rows)


def group_of(row: Fill, position: float) -> int:
    """Group of a fill, given the position before it: 1 = (a) reduction, 2 = (b) short, 3 = (c) buy."""
    if position * row.quantity < 0:
        return 1
    return 2 if row.quantity < 0 else 3


def check_buys(case: Case, outcome: Outcome, marks: list[list[float]]) -> None:
    """Check that no buy of group (c) takes cash below -margin*E - 1e-9*E, E before any fill of its pass."""
    if case.afford == "allow":
        return
    column = case.open if case.fill == "next_open" else case.close
    cash, position = case.cash, [0.0] * case.n_assets
    for t in range(case.n_bars):
        rows = [row for row in outcome.fills if row.bar == t]
        for row in (row for row in rows if row.reason == "delisting"):
            cash -= row.quantity * row.price
            position[row.asset] = 0.0
        equity = cash
        for asset in range(case.n_assets):
            if position[asset] != 0:
                base = column[t][asset]
                equity += position[asset] * (base if valid(base) else marks[t - 1][asset])
        # Where E is negative the bound stays at 0; rounding is allowed in units of what moves.
        slack = (case.margin + TOLERANCE) * max(equity, 0.0) + 1e-12 * max(case.cash, abs(cash))
        for row in (row for row in rows if row.reason != "delisting"):
            is_buy = group_of(row, position[row.asset]) == 3
            cash -= row.quantity * row.price + row.commission
            position[row.asset] = after(position[row.asset], row.quantity)
            assert not is_buy or cash >= -slack, (
                f"bar {t}: buying asset {row.asset} takes cash to {cash!r} at E = {equity!r}"
            )


def check_trades(case: Case, outcome: Outcome) -> None:
    """Check that closed trades are the round trips of the ledger, and their P&L its cash flows."""
    flow: dict[int, list[float]] = {}
    entry: dict[int, int] = {}
    position = [0.0] * case.n_assets
    found = []
    for row in outcome.fills:
        asset = row.asset
        if position[asset] == 0:
            flow[asset], entry[asset] = [], row.bar
        flow[asset].append(-row.quantity * row.price - row.commission)
        position[asset] = after(position[asset], row.quantity)
        if position[asset] == 0:
            found.append((asset, entry[asset], row.bar, math.fsum(flow[asset])))
    assert len(found) == len(outcome.trades) == outcome.metrics["trades"], (
        f"{len(outcome.trades)} trades shown, {len(found)} in the ledger"
    )
    for trade, (asset, first, last, pnl) in zip(outcome.trades, found, strict=True):
        assert (trade.asset, trade.entry_bar, trade.exit_bar) == (asset, first, last), (
            f"{trade} is not {found}"
        )
        assert trade.bars_held == last - first, f"{trade}: bars held"
        assert close_to(case, trade.pnl, pnl), f"{trade}: ledger says {pnl!r}"


def check_flat(case: Case, outcome: Outcome) -> None:
    """Check that a flat strategy (no target but 0, NaN and KEEP) changes nothing, to the bit."""
    numbers = [number for row in case.targets if row is not None for number in row]
    if any(math.isfinite(number) and number != 0 for number in numbers):
        return
    assert not outcome.fills, f"a flat strategy made {len(outcome.fills)} fills"
    assert all(count == 0 for count in outcome.counters.values()), f"counters {outcome.counters}"
    for name in ("equity", "cash"):
        assert all(money == case.cash for money in outcome.bars[name]), f"a flat strategy changed {name}"
