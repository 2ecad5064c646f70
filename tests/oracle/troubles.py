"""A count of the troubles of one book: what tests want to have seen, and how often it occurred."""

from __future__ import annotations

import math
from collections import Counter

from tests.oracle.book import Case, Event, Fill, Outcome, valid
from tests.oracle.case import CONSTRAINTS, NAN, PER_ASSET

FULL = 0.98  # gross from which a book counts as fully invested
CUTTING = ("scale", "greedy", "reject")
STOPS = ("stop_loss", "atr_stop", "trailing")
RULES = (*STOPS, "take_profit", "time_exit")
SIDES = ("long", "short")

# What `troubles` counts; the tests ask for each of these often enough over 1,000 seeds.
TROUBLES = (
    "full_rotation",
    "repeated_target",
    "waited_over_missing_bar",
    "nan_at_decision",
    "nan_at_fill",
    "asset_ended",
    "gap_up_fully_invested",
    "tiny_cash",
    "reversal",
    "expired",
    "replaced",
    "bust",
    "cancelled_by_end",
    "cut_to_zero",
    "late_first_price",
    "cut_in_part",
    "no_mark",
    "marked_at_base",
    "stale_mark",
    "weight_nan",
    "row_without_weight",
    "weights_above_one",
    "short",
    "reversal_cut",
    "odd_price",
    "spread_capped",
    "payout_zero",
    "payout_nan",
    "short_ended",
    "bust_exit_waited",
    "payout_after_bust",
    "halted",
    "unfilled_at_end",
    "next_close_fill",
    "same_close_fill",
    "expired_next_open",
    "expired_next_close",
    "expired_same_close",
    "bust_next_close",
    "bust_same_close",
    "commission_floor",
    "commission_cap",
    "floor_on_both_legs",
    "lots_up",
    "lots_down",
    "below_lot",
    "below_minimum",
    "in_band",
    "in_band_takes_back",
    "reversal_closed_by_lots",
    "reduction_closed_by_lots",
    "membership_exit",
    "membership_cancelled",
    "forced_exit_waited",
    "rejoined_while_leaving",
    "ended_while_leaving",
    "bust_while_leaving",
    "cut_scale",
    "cut_greedy",
    "cut_reject",
    "cut_scale_floor",
    "cut_greedy_floor",
    "cut_reject_floor",
    "cut_scale_lots",
    "cut_greedy_lots",
    "cut_reject_lots",
    "tie_in_notional",
    "bought_after_refusal",
    "allow_below_zero",
    "margin_used",
    "kept_position",
    "kept_order",
    "value_target",
    "quantity_target",
    *(f"{rule}_{side}" for rule in (*STOPS, "take_profit", "time_exit", "drawdown_halt") for side in SIDES),
    *(f"close_{rule}" for rule in (*STOPS, "take_profit")),
    "gap_through_stop",
    "stop_at_level",
    "target_at_open",
    "target_at_level",
    "stop_and_target",
    "entry_bar_exit",
    "entry_bar_skipped",
    "tightest_of_several",
    "tie_of_stops",
    "trailing_tightened",
    "floor_reached",
    "no_atr",
    "extreme_missing",
    "rule_exit_cancelled_order",
    "rule_exit_of_forced",
    "rule_exit_in_halt",
    "rule_exit_after_bust",
    "rule_exit_waited",
    "time_exit_waited",
    "ended_while_rule_exit_waited",
    "cooldown_zeroed",
    "halt_cancelled",
    "halt_for_good",
    "halt_ended",
    "halted_again",
    "bust_after_halt",
    *(f"{what}_{name}" for what in ("bound", "rejected", "kept_under") for name in CONSTRAINTS),
    "two_bound",
    "tie_in_weight",
    "closing_kept_by_turnover",
    "volume_drop",
    "volume_carry",
    "volume_none",
    "volume_lots",
    "volume_reversal",
    "volume_short",
    "carried_over_bars",
    "carried_beyond_wait",
    "carried_expired",
    "carried_replaced",
    "carried_cut_by_cash",
    "carried_over_split",
    "impact_paid",
    "impact_capped",
    "impact_with_scale_cut",
    "impact_over_split",
    "costs_per_asset",
    "borrow_paid",
    "interest_earned",
    "debit_paid",
    "split_long",
    "split_short",
    "reverse_split",
    "split_waiting",
    "split_at_delisting",
    "split_before_rule_exit",
    "dividend_long",
    "dividend_short",
    "dividend_at_delisting",
    "dividend_at_split",
)

# These take several rare things at once; one of each will do.
RARE = (
    "payout_after_bust",
    "tie_of_stops",
    "rule_exit_of_forced",
    "rule_exit_after_bust",
    "ended_while_rule_exit_waited",
    "halt_for_good",
    "bust_after_halt",
    "tie_in_weight",
    "carried_expired",
    "carried_over_split",
    "dividend_at_split",
)


def troubles(case: Case, outcome: Outcome) -> dict[str, int]:
    """Count how often each trouble occurred in one book.

    Parameters
    ----------
    case : Case
        The book.
    outcome : Outcome
        What `book.run` made of it; its `log` is needed.

    Returns
    -------
    dict of int
        One count for every name in `TROUBLES`.
    """
    found = dict.fromkeys(TROUBLES, 0)
    parts = (
        of_book,
        of_decisions,
        of_bars,
        of_orders,
        of_fills,
        of_settings,
        of_membership,
        of_cuts,
        of_rules,
        of_exits,
        of_halts,
        of_constraints,
        of_volume,
        of_costs,
        of_splits,
        of_dividends,
    )
    for part in parts:
        found.update(part(case, outcome))
    return found


def size_of(row: Fill) -> float:
    """Size of a fill at its base price, money."""
    return abs(row.quantity) * row.base


def named(outcome: Outcome, name: str) -> list[Event]:
    """List the diary's entries of one counter."""
    return [event for event in outcome.log if event.name == name]


def before_bar(case: Case, outcome: Outcome, t: int) -> list[float]:
    """Quantities held when bar `t` begins."""
    return outcome.quantity[t - 1] if t > 0 else [0.0] * case.n_assets


def first_price(case: Case, asset: int) -> int:
    """Bar of the first valid open or close; `n_bars` where there is none."""
    bars = (t for t in range(case.n_bars) if valid(case.open[t][asset]) or valid(case.close[t][asset]))
    return next(bars, case.n_bars)


def has_mark(case: Case, outcome: Outcome, t: int, asset: int) -> bool:
    """Whether an asset has a mark in step 7 of bar `t`."""
    return outcome.quantity[t][asset] != 0 or any(valid(row[asset]) for row in case.close[: t + 1])


def of_book(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles that a book has or has not, and those that are counters."""
    traded = [row for row in outcome.fills if row.reason != "delisting"]
    return {
        "tiny_cash": int(case.cash < 100 and bool(traded)),
        "spread_capped": int(any(row.spread + row.slippage > 0.499 * size_of(row) for row in traded)),
        "expired": outcome.counters["expired"],
        "replaced": outcome.counters["replaced"],
        "bust": outcome.counters["bust"],
        "halted": outcome.counters["halted"],
        "unfilled_at_end": outcome.counters["unfilled_at_end"],
        "stale_mark": outcome.counters["stale_bars"],
        "late_first_price": len({row.asset for row in traded if first_price(case, row.asset) > 0}),
    }


def of_decisions(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles in a decision row, before a bust."""
    found: Counter[str] = Counter()
    last: list[float] | None = None
    halted = {event.bar for event in named(outcome, "halted")}
    for t, row in enumerate(case.targets):
        if t in halted or row is None:
            continue
        if not case.is_decision(t):
            found["row_without_weight"] += 1
            continue
        weights = [weight if math.isfinite(weight) else 0.0 for weight in row]
        holds = any(quantity != 0 for quantity in outcome.quantity[t])
        found["repeated_target"] += weights == last and any(weights) and holds
        found["weight_nan"] += any(math.isnan(weight) for weight in row)
        found["weights_above_one"] += case.kind == "weights" and sum(weights) > 1 + 1e-9
        for asset, weight in enumerate(weights):
            found["nan_at_decision"] += weight != 0 and not valid(case.close[t][asset])
        last = weights
    return found


def of_bars(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles seen in the positions from bar to bar."""
    found: Counter[str] = Counter()
    for t in range(case.n_bars):
        before, now = before_bar(case, outcome, t), outcome.quantity[t]
        held_before = {asset for asset, quantity in enumerate(before) if quantity != 0}
        held_now = {asset for asset, quantity in enumerate(now) if quantity != 0}
        was_full = t > 0 and outcome.bars["gross"][t - 1] >= FULL
        found["full_rotation"] += bool(held_before and held_now and was_full and not held_before & held_now)
        found["short"] += any(quantity < 0 for quantity in now)
        for asset in range(case.n_assets):
            found["reversal"] += before[asset] * now[asset] < 0
            seen = any(valid(row[asset]) for row in case.close[: t + 1])
            found["marked_at_base"] += now[asset] != 0 and not seen
    return found


def of_orders(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles on an order's way, from the diary."""
    found: Counter[str] = Counter()
    filled = {(row.bar, row.asset, row.quantity > 0) for row in outcome.fills}
    for event in named(outcome, "no_price"):
        at_decision = case.sizing == "decision" and event.bar == event.decision_bar
        dropped = at_decision and not has_mark(case, outcome, event.bar, event.asset)
        found["no_mark" if dropped else "nan_at_fill"] += 1
        price = NAN if dropped else case.prices[event.bar][event.asset]
        found["odd_price"] += not math.isnan(price)
    for event in named(outcome, "no_cash"):
        before = before_bar(case, outcome, event.bar)[event.asset]
        now = outcome.quantity[event.bar][event.asset]
        # the position grew by the buy, or it came from a short and ended above 0
        bought = (event.bar, event.asset, True) in filled and now > max(before, 0.0)
        found["cut_in_part" if bought else "cut_to_zero"] += 1
        found["reversal_cut"] += before < 0
        found["gap_up_fully_invested"] += outcome.bars["gross"][event.decision_bar] >= FULL
    for event in named(outcome, "cancelled"):
        found["cancelled_by_end"] += ended_before(case, event.bar, event.asset)
    return found


def ended_before(case: Case, t: int, asset: int) -> bool:
    """Whether an asset is delisted on bar `t`."""
    return asset in case.ends and case.ends[asset][0] + 1 == t


def of_fills(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles seen in the ledger."""
    found: Counter[str] = Counter()
    bust_bar = next((event.bar for event in named(outcome, "bust")), case.n_bars)
    waited = {"target": "waited_over_missing_bar", "bust": "bust_exit_waited"}
    for row in outcome.fills:
        if row.reason == "delisting":
            found["asset_ended"] += 1
            found["payout_zero"] += row.price == 0
            found["payout_nan"] += math.isnan(case.ends[row.asset][1])
            found["short_ended"] += row.quantity > 0
            found["payout_after_bust"] += row.bar > bust_bar
        elif row.reason in waited:
            found[waited[row.reason]] += row.bar > row.decision_bar + case.first_try
    return found


def of_settings(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles that need a setting beyond the plain ones: fill mode, commission, lots, thresholds, KEEP."""
    found: Counter[str] = Counter()
    traded = [row for row in outcome.fills if row.reason != "delisting"]
    found[f"{case.fill}_fill"] = len(traded)
    found[f"expired_{case.fill}"] = outcome.counters["expired"]
    found[f"bust_{case.fill}"] = outcome.counters["bust"]
    found["value_target"] = len(traded) * (case.kind == "values")
    found["quantity_target"] = len(traded) * (case.kind == "quantities")
    floors: Counter[tuple[int, int]] = Counter()
    for row in traded:
        size = abs(row.quantity)
        notional = size * row.price
        variable = case.of("per_share", row.asset) * size
        variable += case.of("commission_bps", row.asset) / 1e4 * notional
        minimum = case.of("min_commission", row.asset)
        is_capped = 0 < case.of("max_commission_frac", row.asset) * notional < max(variable, minimum)
        found["commission_cap"] += is_capped
        floors[row.bar, row.asset] += minimum > variable and not is_capped
    found["commission_floor"] = floors.total()
    found["floor_on_both_legs"] = sum(count == 2 for count in floors.values())
    for name in ("below_lot", "below_minimum", "in_band", "lots_up", "lots_down"):
        found[name] = len(named(outcome, name))

    def orders_of(name: str) -> set[tuple[int, int, int]]:
        return {(event.bar, event.asset, event.decision_bar) for event in named(outcome, name)}

    found["reversal_closed_by_lots"] = len(orders_of("below_lot") & orders_of("orders"))
    found["reduction_closed_by_lots"] = len(named(outcome, "closed_by_lots"))
    taken_back = {(event.bar, event.asset) for event in named(outcome, "replaced")}
    found["in_band_takes_back"] = sum(
        (event.bar, event.asset) in taken_back for event in named(outcome, "in_band")
    )
    for row in traded:
        # a decision after the order's own and not after its fill said KEEP, and the order is filled
        last = row.bar + 1 - case.first_try
        found["kept_order"] += any(
            case.is_decision(t) and case.is_kept(t, row.asset) for t in range(row.decision_bar + 1, last)
        )
    for t in range(case.n_bars):
        for asset in range(case.n_assets):
            held = outcome.quantity[t][asset] != 0
            found["kept_position"] += held and case.is_decision(t) and case.is_kept(t, asset)
    return {name: found[name] for name in found if name in TROUBLES}


def of_membership(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of assets that lose membership."""
    found: Counter[str] = Counter()
    if case.member is None:
        return found
    bust_bar = next((event.bar for event in named(outcome, "bust")), case.n_bars)

    def lost(t: int, asset: int) -> bool:
        return t > 0 and case.is_member(t - 1, asset) and not case.is_member(t, asset)

    for row in outcome.fills:
        if row.reason == "membership":
            found["membership_exit"] += 1
            found["forced_exit_waited"] += row.bar > row.decision_bar + 1
            found["rejoined_while_leaving"] += any(
                case.is_member(t, row.asset) for t in range(row.decision_bar + 2, row.bar + 1)
            )
            found["bust_while_leaving"] += row.decision_bar < bust_bar < row.bar
    for event in named(outcome, "cancelled"):
        if ended_before(case, event.bar, event.asset):
            # what was decided on the last bar of membership and still waits later is the forced exit
            waited = event.bar > event.decision_bar + 1
            found["ended_while_leaving"] += waited and lost(event.decision_bar + 1, event.asset)
        else:
            found["membership_cancelled"] += lost(event.bar, event.asset)
    return found


def of_cuts(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of buys beyond the cash there is."""
    found: Counter[str] = Counter()
    cut = {(event.bar, event.asset) for event in named(outcome, "no_cash")}
    found["tie_in_notional"] = len(named(outcome, "tie"))
    if case.afford in CUTTING:
        found[f"cut_{case.afford}"] = len(cut)
        has_floor = any(case.of("min_commission", asset) > 0 for asset in range(case.n_assets))
        found[f"cut_{case.afford}_floor"] = len(cut) * has_floor
        found[f"cut_{case.afford}_lots"] = len(cut) * (case.lot > 0)
    for t in range(case.n_bars):
        before = before_bar(case, outcome, t)
        buys = [row for row in outcome.fills if row.bar == t and row.quantity > 0 and before[row.asset] >= 0]
        buys = [row for row in buys if row.reason == "target"]
        if buys and outcome.bars["cash"][t] < -1e-6 * case.cash:
            found["allow_below_zero" if case.afford == "allow" else "margin_used"] += 1
        was_cut = any(bar == t for bar, _ in cut)
        whole = any((t, row.asset) not in cut for row in buys)
        found["bought_after_refusal"] += whole and was_cut and case.afford == "reject"
    return found


def where(outcome: Outcome, name: str) -> set[tuple[int, int]]:
    """Bar and asset of all entries of one name in the diary."""
    return {(event.bar, event.asset) for event in named(outcome, name)}


def of_rules(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of stops and targets: by whom, where in the bar, at what level."""
    found: Counter[str] = Counter()
    for name in ("gap_through_stop", "stop_at_level", "target_at_open", "target_at_level", "stop_and_target"):
        found[name] = len(named(outcome, name))
    for row in outcome.fills:
        if row.reason in (*RULES, "drawdown_halt"):
            found[f"{row.reason}_{'long' if row.quantity < 0 else 'short'}"] += 1
            if case.rules_on == "close" and row.reason in (*STOPS, "take_profit"):
                found[f"close_{row.reason}"] += 1
    names = ("several_stops", "trailing_tightened", "floor_reached", "tie_of_stops")
    seen = {name: where(outcome, name) for name in names}
    for reason in STOPS:
        for at in where(outcome, reason):
            found["tightest_of_several"] += at in seen["several_stops"]
            found["tie_of_stops"] += at in seen["tie_of_stops"]
            found["trailing_tightened"] += reason == "trailing" and at in seen["trailing_tightened"]
            found["floor_reached"] += reason == "trailing" and at in seen["floor_reached"]
    found["no_atr"] = len(where(outcome, "no_atr"))
    for trade in outcome.trades:
        found["entry_bar_exit"] += trade.bars_held == 0 and trade.reason in RULES
    if case.fills_at_close and case.stop_loss > 0 and case.rules_on == "intrabar":
        for row in opening_fills(outcome):
            low, high = case.low_or_close(row.bar, row.asset), case.high_or_close(row.bar, row.asset)
            loss = 1 - low / row.price if row.quantity > 0 else high / row.price - 1
            found["entry_bar_skipped"] += loss >= case.stop_loss
    found["entry_bar_skipped"] += len(named(outcome, "entry_bar_skipped"))
    if case.rules_on == "intrabar":
        for t, asset in {(row.bar, row.asset) for row in outcome.fills if row.reason in RULES}:
            found["extreme_missing"] += not valid(case.cell("low", t, asset))
            found["extreme_missing"] += not valid(case.cell("high", t, asset))
    return found


def opening_fills(outcome: Outcome) -> list[Fill]:
    """Fills that opened a position which was closed later."""
    entries = {(trade.entry_bar, trade.asset, trade.side) for trade in outcome.trades}
    return [row for row in outcome.fills if (row.bar, row.asset, 1 if row.quantity > 0 else -1) in entries]


def of_exits(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of rule exits with orders, forced exits, halts and ends of life."""
    found: Counter[str] = Counter()
    bust_bar = next((event.bar for event in named(outcome, "bust")), case.n_bars)
    halts = {event.bar for event in named(outcome, "drawdown_halt")}
    inside = {(row.bar, row.asset) for row in outcome.fills if row.reason in (*STOPS, "take_profit")}
    if case.rules_on == "close":
        inside = set()
    queued = {(event.bar, event.asset) for reason in RULES for event in named(outcome, reason)}
    forced = {
        (event.asset, event.decision_bar)
        for reason in ("time_exit", "membership")
        for event in named(outcome, "orders")
        if (event.decision_bar, event.asset) in where(outcome, reason)
    }
    for event in named(outcome, "cancelled"):
        found["rule_exit_cancelled_order"] += (event.bar, event.asset) in queued
        found["rule_exit_of_forced"] += (event.bar, event.asset) in inside and (
            (event.asset, event.decision_bar) in forced or event.decision_bar in halts
        )
        is_exit = (event.decision_bar, event.asset) in queued
        found["ended_while_rule_exit_waited"] += is_exit and ended_before(case, event.bar, event.asset)
    for row in outcome.fills:
        if row.reason not in RULES:
            continue
        is_inside = (row.bar, row.asset) in inside
        halted = any(event.bar <= row.bar for event in named(outcome, "halted"))
        found["rule_exit_in_halt"] += is_inside and halted and row.bar <= bust_bar
        found["rule_exit_after_bust"] += is_inside and row.bar > bust_bar
        waited = not is_inside and row.bar > row.decision_bar + case.first_try
        found["rule_exit_waited"] += waited and row.reason != "time_exit"
        found["time_exit_waited"] += waited and row.reason == "time_exit"
    found["cooldown_zeroed"] = outcome.counters["cooldown"]
    return found


def of_halts(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of drawdown halts."""
    bars = [event.bar for event in named(outcome, "drawdown_halt")]
    return {
        "halt_cancelled": sum(event.bar in bars for event in named(outcome, "cancelled")),
        "halt_for_good": len(bars) * (case.halt_bars is None),
        "halt_ended": len(named(outcome, "peak_restarted")),
        "halted_again": max(len(bars) - 1, 0),
        "bust_after_halt": outcome.counters["bust"] * bool(bars),
    }


def of_constraints(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of decisions beyond a cap."""
    found: Counter[str] = Counter()
    bound: Counter[int] = Counter()
    for name in CONSTRAINTS:
        for what in ("bound", "rejected", "kept_under"):
            found[f"{what}_{name}"] = len(named(outcome, f"{what}_{name}"))
        bound.update(event.bar for event in named(outcome, f"bound_{name}"))
    found["two_bound"] = sum(count > 1 for count in bound.values())
    found["tie_in_weight"] = len(named(outcome, "tie_in_weight"))
    for event in named(outcome, "bound_turnover"):
        row, decided = case.targets[event.bar], outcome.decided[event.bar]
        assert row is not None
        found["closing_kept_by_turnover"] += any(
            asked == 0 and abs(weight) > 0 for asked, weight in zip(row, decided, strict=True)
        )
    return found


def of_volume(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of orders beyond what the volume allows."""
    found: Counter[str] = Counter()
    cuts = named(outcome, "cut_by_volume")
    filled = {(row.bar, row.asset): row.quantity for row in outcome.fills if row.reason == "target"}
    no_cash = where(outcome, "no_cash")
    bars: dict[tuple[int, int], list[int]] = {}
    for event in cuts:
        at = (event.bar, event.asset)
        before = before_bar(case, outcome, event.bar)[event.asset]
        found["volume_carry" if case.carry else "volume_drop"] += 1
        found["volume_none"] += at not in filled
        found["volume_lots"] += case.lot > 0
        found["volume_reversal"] += before * outcome.quantity[event.bar][event.asset] < 0
        found["volume_short"] += filled.get(at, 0.0) < 0 and before <= 0
        found["carried_cut_by_cash"] += case.carry and at in no_cash
        bars.setdefault((event.asset, event.decision_bar), []).append(event.bar)
    if not case.carry:
        return found
    for (asset, decided), cut in bars.items():
        later = [row for row in outcome.fills if row.asset == asset and row.decision_bar == decided]
        last = max([*cut, *(row.bar for row in later)])
        found["carried_over_bars"] += last > cut[0]
        found["carried_beyond_wait"] += last > decided + case.first_try + case.max_wait - 1
        splits = [t for t in range(cut[0] + 1, last + 1) if case.split_factor(t, asset) != 1]
        found["carried_over_split"] += bool(splits)
    for name in ("expired", "replaced"):
        found[f"carried_{name}"] = sum(
            (event.asset, event.decision_bar) in bars for event in named(outcome, name)
        )
    return found


def of_costs(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of impact, of costs per asset and of financing."""
    found: Counter[str] = Counter()
    cut = where(outcome, "no_cash")
    differs = any(isinstance(getattr(case, name), list) for name in PER_ASSET)
    for row in outcome.fills:
        if row.reason == "delisting":
            continue
        found["impact_paid"] += row.impact > 0
        capped = row.spread + row.slippage + row.impact > 0.499999 * size_of(row)
        found["impact_capped"] += row.impact > 0 and capped
        was_cut = case.afford == "scale" and (row.bar, row.asset) in cut
        found["impact_with_scale_cut"] += row.impact > 0 and was_cut
        moved = row.impact > 0 and case.split_factor(row.bar, row.asset) != 1
        found["impact_over_split"] += moved
        found["costs_per_asset"] += differs
    debit = case.interest_rate if case.debit_rate is None else case.debit_rate
    for t in range(1, case.n_bars):
        cash = outcome.bars["cash"][t - 1]
        found["interest_earned"] += cash > 0 and case.interest_rate > 0
        found["debit_paid"] += cash < 0 and debit > 0
        found["borrow_paid"] += any(
            quantity < 0 and case.of("borrow_rate", asset) > 0
            for asset, quantity in enumerate(outcome.quantity[t - 1])
        )
    return found


def of_splits(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of splits."""
    found: Counter[str] = Counter()
    found["split_waiting"] = len(named(outcome, "split_waiting"))
    for t in range(1, case.n_bars):
        for asset, quantity in enumerate(outcome.quantity[t - 1]):
            k = case.split_factor(t, asset)
            if k == 1 or quantity == 0:
                continue
            found["split_long" if quantity > 0 else "split_short"] += 1
            found["reverse_split"] += k < 1
            found["split_at_delisting"] += ended_before(case, t, asset)
    for trade in outcome.trades:
        inside = range(trade.entry_bar + 1, trade.exit_bar + 1)
        was_split = any(case.split_factor(t, trade.asset) != 1 for t in inside)
        found["split_before_rule_exit"] += was_split and trade.reason in (*STOPS, "take_profit")
    return found


def of_dividends(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles of dividends."""
    found: Counter[str] = Counter()
    for t in range(1, case.n_bars):
        for asset, quantity in enumerate(outcome.quantity[t - 1]):
            if quantity == 0 or case.dividend_per_unit(t, asset) == 0:
                continue
            found["dividend_long" if quantity > 0 else "dividend_short"] += 1
            found["dividend_at_delisting"] += ended_before(case, t, asset)
            found["dividend_at_split"] += case.split_factor(t, asset) != 1
    return found
