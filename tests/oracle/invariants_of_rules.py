"""Invariants of position rules, halts, caps and volume, from the ledger outwards.

Levels, waters and peaks are computed again here, from fills and prices alone, so that a missed exit is
noticed as well as one too many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.oracle.case import Case, valid
from tests.oracle.ledger_walk import (
    INSIDE,
    before_fills,
    decided_equity,
    decided_quantity,
    group_of,
    is_inside,
    split_between,
)
from tests.oracle.state import LOT_TOLERANCE, REACHED, Fill, Holding, Outcome

TOLERANCE = 1e-9


@dataclass
class Held:
    """An open position of one asset, as the ledger shows it; units are those of the bar."""

    side: int
    entry_bar: int
    atr: float
    water: float
    position: Holding = field(default_factory=Holding)
    entered: float = 0.0
    money: float = 0.0

    @property
    def entry(self) -> float:
        return self.money / self.entered


# --- position rules -----------------------------------------------------------------------------------------


def check_rules(case: Case, outcome: Outcome) -> None:
    """Check every rule exit, and that none was missed; nothing is bought in a cool-down."""
    for asset in range(case.n_assets):
        rows = [row for row in outcome.fills if row.asset == asset]
        check_asset(case, asset, rows)
        for row in rows:
            if case.cooldown == 0 or row.reason not in (*INSIDE, "time_exit"):
                continue
            t = row.bar if is_inside(case, row) else row.decision_bar
            early = [other for other in rows if t <= other.decision_bar <= t + case.cooldown]
            assert all(other.reason != "target" for other in early), f"asset {asset}: cools down from bar {t}"


def check_asset(case: Case, asset: int, rows: list[Fill]) -> None:
    """Walk through the bars of one asset and compare each test of its levels with the ledger."""
    held: Held | None = None
    due: tuple[int, str] | None = None  # bar and reason of a forced exit that a rule has asked for
    for t in range(case.n_bars):
        k = case.split_factor(t, asset)
        if held is not None:
            held.position, held.entered = held.position.split(k), held.entered * k
            held.water, held.atr = held.water / k, held.atr / k
        now = [row for row in rows if row.bar == t]
        inside = [row for row in now if is_inside(case, row)]
        early = [row for row in now if row.reason == "delisting" or not case.fills_at_close]
        early = [row for row in early if row not in inside]
        late = [row for row in now if row not in inside and row not in early]
        for row in early:
            held, due = applied(case, held, row, due)
        close = case.close[t][asset]
        if case.rules_on == "intrabar" and held is not None and valid(close):
            wants = exit_of(case, asset, held, t)
            shown = [(row.reason, row.base) for row in inside]
            assert len(shown) == (wants is not None), f"bar {t}, asset {asset}: {shown}, not {wants}"
            if wants is not None:
                reason, base = shown[0]
                same = reason == wants[0] and math.isclose(base, wants[1], rel_tol=TOLERANCE)
                assert same, f"bar {t}, asset {asset}: exit {shown}, not {wants}"
            else:
                take_in(held, case.high_or_close(t, asset), case.low_or_close(t, asset))
        else:
            assert not inside, f"bar {t}, asset {asset}: exit without a test"
        for row in inside:
            held, due = applied(case, held, row, due)
        if case.fill != "same_close":
            for row in late:
                held, due = applied(case, held, row, due)
        if held is not None and due is None and case.max_bars > 0:
            if t >= held.entry_bar + case.max_bars - case.first_try:
                due = t, "time_exit"
        is_new = held is not None and case.fills_at_close and held.entry_bar == t
        if case.rules_on == "close" and held is not None and due is None and valid(close) and not is_new:
            reached = level_reached(case, held, t, close, close, close)
            due = None if reached is None else (t, reached[0])
            take_in(held, close, close)
        if case.fill == "same_close":
            for row in late:
                held, due = applied(case, held, row, due)


def applied(
    case: Case, held: Held | None, row: Fill, due: tuple[int, str] | None
) -> tuple[Held | None, tuple[int, str] | None]:
    """Position after a fill; what a rule has asked for must come first, and nothing it has not asked for."""
    where = f"fill of asset {row.asset} at bar {row.bar} ({row.reason})"
    if due is not None:
        assert row.reason != "target", f"{where}: {due[1]} is due since bar {due[0]}"
    if row.reason == "time_exit" or (row.reason in INSIDE and not is_inside(case, row)):
        assert due == (row.decision_bar, row.reason), f"{where}: due is {due}"
    if held is None:
        atr = case.cell("atr", row.decision_bar, row.asset)
        atr /= split_between(case, row.asset, row.decision_bar, row.bar)
        held = Held(1 if row.quantity > 0 else -1, row.bar, atr, water=row.price)
    if held.side * row.quantity > 0:
        held.entered += abs(row.quantity)
        held.money += abs(row.quantity) * row.price
    held.position = held.position.after(row.quantity)
    return (None, None) if held.position.units == 0 else (held, due)


def take_in(held: Held, high: float, low: float) -> None:
    """Let the water mark follow."""
    held.water = max(held.water, high) if held.side > 0 else min(held.water, low)


def exit_of(case: Case, asset: int, held: Held, t: int) -> tuple[str, float] | None:
    """Reason and base price of the exit that the tests inside bar `t` ask for."""
    opening = case.open[t][asset]
    if valid(opening):
        reached = level_reached(case, held, t, opening, opening, opening)
        if reached is not None:
            return reached[0], opening
    close = case.close[t][asset]
    return level_reached(case, held, t, close, case.high_or_close(t, asset), case.low_or_close(t, asset))


def level_reached(
    case: Case, held: Held, t: int, close: float, high: float, low: float
) -> tuple[str, float] | None:
    """Name and level of what a bar's extremes reach, the stop before the target."""
    away = case.trailing - case.trailing_step * (t - held.entry_bar)
    away = max(away, case.trailing_floor)
    distances = [
        ("stop_loss", case.stop_loss * held.entry, held.entry, case.stop_loss > 0),
        ("atr_stop", case.atr_stop * held.atr, held.entry, case.atr_stop > 0 and valid(held.atr)),
        ("trailing", away * held.water, held.water, case.trailing > 0),
    ]
    # for a short everything is mirrored at 0: -price falls where the price rises
    stops = [(held.side * start - distance, name) for name, distance, start, is_on in distances if is_on]
    worst, best = (low, high) if held.side > 0 else (-high, -low)
    if stops:
        tightest = max(level for level, _ in stops)
        near = REACHED * abs(tightest)
        name = next(name for level, name in stops if level >= tightest - near)
        level = next(level for level, found in stops if found == name)
        if worst <= level + REACHED * abs(level):
            return name, abs(level)
    goal = held.side * held.entry + case.take_profit * held.entry
    if case.take_profit > 0 and best >= goal - REACHED * abs(goal):
        return "take_profit", abs(goal)
    return None


# --- halts --------------------------------------------------------------------------------------------------


def check_halts(case: Case, outcome: Outcome) -> None:
    """Check drawdown halts and busts against equity, and that nothing is decided in one."""
    peak, end, is_bust = case.cash, -1.0, False
    halts: list[int] = []
    dropped: set[int] = set()
    for t in range(case.n_bars):
        equity = decided_equity(case, outcome, t)
        is_bust = is_bust or equity <= 0
        if not is_bust and case.halt_drawdown > 0 and t > end:
            if halts and t == end + 1:
                peak = equity
            peak = max(peak, equity)
            if equity / peak - 1 <= -case.halt_drawdown + REACHED:
                halts.append(t)
                end = math.inf if case.halt_bars is None else t + case.halt_bars
        if is_bust or (halts and t <= end):
            dropped.add(t)
    shown = outcome.counters["drawdown_halt"]
    assert shown == len(halts), f"{shown} drawdown halts counted, equity says {halts}"
    assert outcome.counters["bust"] == is_bust, (
        f"bust counted {outcome.counters['bust']}, equity says {is_bust}"
    )
    halted = sum(case.is_decision(t) for t in dropped)
    assert outcome.counters["halted"] == halted, f"halted {outcome.counters['halted']}, not {halted}"
    for row in outcome.fills:
        where = f"fill of asset {row.asset} at bar {row.bar} ({row.reason})"
        assert row.reason != "drawdown_halt" or row.decision_bar in halts, f"{where}: halts at {halts}"
        assert row.reason != "target" or row.decision_bar not in dropped, f"{where}: decided in a halt"
    for t in halts:
        for asset, held in enumerate(decided_quantity(case, outcome, t)):
            later = [row for row in outcome.fills if row.asset == asset and row.bar >= t + case.first_try]
            later = [row for row in later if not (row.bar == t and is_inside(case, row))]
            assert held == 0 or not later or later[0].reason != "target", f"asset {asset} stays in at bar {t}"


# --- caps and volume ----------------------------------------------------------------------------------------


def check_caps(case: Case, outcome: Outcome, marks: list[list[float]]) -> None:
    """Check that caps hold for the targets: those noted by the oracle, and increases seen in the ledger."""
    if not case.is_constrained:
        return
    for t, weights in outcome.decided.items():
        kept = {a: w for a, w in enumerate(weights) if case.is_kept(t, a) and not math.isnan(w)}
        others = {a: w for a, w in enumerate(weights) if not case.is_kept(t, a) and not math.isnan(w)}
        check_targets(case, outcome, marks, t, kept, others)
    if case.max_weight is None or case.sizing != "decision":
        return
    for row, held in zip(outcome.fills, before_fills(case, outcome), strict=True):
        d = row.decision_bar
        if row.reason != "target" or group_of(row, held.units) == 1 or decided_equity(case, outcome, d) <= 0:
            continue
        units = abs(held.after(row.quantity).units) / split_between(case, row.asset, d, row.bar)
        mark = marks[d][row.asset]
        weight = (units - case.lot / 2) * mark / decided_equity(case, outcome, d)
        limit = case.max_weight + TOLERANCE + LOT_TOLERANCE * case.lot * mark
        assert weight <= limit, (
            f"fill of asset {row.asset} at bar {row.bar}: weight {weight!r} above {case.max_weight!r}"
        )


def check_targets(
    case: Case,
    outcome: Outcome,
    marks: list[list[float]],
    t: int,
    kept: dict[int, float],
    others: dict[int, float],
) -> None:
    """Check the weights of one decision; where a turnover cap is set, it alone is sure to hold at the end."""

    def within(name: str, value: float, cap: float) -> None:
        assert value <= cap + TOLERANCE, f"bar {t}: {name} {value!r} above {cap!r}"

    if case.turnover is not None:
        equity, held = decided_equity(case, outcome, t), decided_quantity(case, outcome, t)
        current = {a: held[a] * marks[t][a] / equity if held[a] != 0 else 0.0 for a in others}
        within("turnover", 0.5 * math.fsum(abs(others[a] - current[a]) for a in others), case.turnover)
        return
    if case.positions is not None:
        count = sum(w != 0 for w in kept.values())
        within("positions", sum(w != 0 for w in others.values()), max(case.positions - count, 0))
    if case.max_weight is not None:
        within("weight", max((abs(w) for w in others.values()), default=0.0), case.max_weight)
    sides = [("gross", case.gross, set(range(case.n_assets)))]
    for group in set(case.groups or []) - {-1}:
        members = {a for a in range(case.n_assets) if case.groups and case.groups[a] == group}
        sides.append((f"group {group}", case.group_cap, members))
    for name, cap, members in sides:
        if cap is not None:
            own = math.fsum(abs(w) for a, w in kept.items() if a in members)
            asked = math.fsum(abs(w) for a, w in others.items() if a in members)
            within(name, asked, max(cap - own, 0.0))
    if case.net is not None:
        net = math.fsum([*kept.values(), *others.values()])
        heavier = [w for w in others.values() if w * net > 0]
        assert abs(net) <= case.net + TOLERANCE or not any(heavier), f"bar {t}: net {net!r}"


def check_volume(case: Case, outcome: Outcome) -> None:
    """Check that no order takes more than its part of a bar's volume."""
    if case.participation <= 0:
        return
    filled: dict[tuple[int, int], float] = {}
    for row in outcome.fills:
        if row.reason == "target":
            at = (row.bar, row.asset)
            filled[at] = filled.get(at, 0.0) + abs(row.quantity)
    for (t, asset), quantity in filled.items():
        volume = case.cell("volume", t, asset)
        cap = case.participation * volume if math.isfinite(volume) and volume >= 0 else 0.0
        assert quantity <= cap * (1 + TOLERANCE) + LOT_TOLERANCE * case.lot, (
            f"bar {t}, asset {asset}: {quantity!r} filled, volume allows {cap!r}"
        )
