"""A generator of small books full of trouble, and a count of the troubles of one book.

Run ``python -m tests.oracle.books`` from the repository root for the table over 1,000 seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

from tests.oracle.book import Case, Event, Outcome, run, valid

NAN = math.nan
FULL = 0.98  # gross from which a book counts as fully invested
CUTTING = ("scale", "greedy", "reject")

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
)


# --- generator ----------------------------------------------------------------------------------------------


def generate(seed: int) -> Case:
    """Draw one small book.

    Parameters
    ----------
    seed : int
        Every seed gives the same book on every machine (only `random.Random` is used). Those divisible by 3
        give a plain book, without what `mix` adds.

    Returns
    -------
    Case
        1 to 8 assets, 5 to 40 bars; missing bars are NaN, now and then 0, negative or infinite.
    """
    rng = Random(seed)
    while True:
        case = draw(rng)
        if seed % 3 != 0:
            case = mix(rng, case)
        if is_well_posed(case):
            return case


def is_well_posed(case: Case) -> bool:
    """Whether no count or sign of the result hangs on the last bits of a float.

    Thrown away are books whose equity all but vanishes without being lost by a margin (everything in one
    asset that pays out 0: then rounding dust decides between bust and not), those with a closed trade whose
    P&L is nothing but rounding (then dust decides on `win_rate`), and those that go another way in another
    currency, in which every number is rounded anew.
    """
    outcome = run(case)
    if any(abs(equity) < 1e-6 * case.cash for equity in outcome.bars["equity"]):
        return False
    if any(trade.pnl != 0 and abs(trade.pnl) <= 1e-11 * case.cash for trade in outcome.trades):
        return False
    other = run(in_other_money(case, 1.1))

    def way(result: Outcome) -> list[object]:
        fills = [(row.bar, row.asset, row.quantity > 0, row.reason) for row in result.fills]
        return [result.counters, fills, [(trade.pnl > 0) - (trade.pnl < 0) for trade in result.trades]]

    return way(outcome) == way(other) and all(
        math.isclose(left.quantity, right.quantity, rel_tol=1e-9)
        for left, right in zip(outcome.fills, other.fills, strict=True)
    )


def in_other_money(case: Case, factor: float) -> Case:
    """Give the same book in another currency: everything in money times `factor`, units as they are."""

    def scaled(rows: list[list[float]]) -> list[list[float]]:
        return [[number * factor for number in row] for row in rows]

    is_money = case.kind == "values"
    return replace(
        case,
        open=scaled(case.open),
        close=scaled(case.close),
        targets=[scaled([row])[0] if row is not None and is_money else row for row in case.targets],
        cash=case.cash * factor,
        ends={asset: (end, payout * factor) for asset, (end, payout) in case.ends.items()},
        per_share=case.per_share * factor,
        min_commission=case.min_commission * factor,
        min_notional=case.min_notional * factor,
    )


def draw(rng: Random) -> Case:
    """Draw one plain book, well-posed or not."""
    n_bars, n_assets = rng.randint(5, 40), rng.randint(1, 8)
    opens, closes = draw_prices(rng, n_bars, n_assets)
    ends = draw_ends(rng, opens, closes)
    return Case(
        open=opens,
        close=closes,
        targets=draw_targets(rng, n_bars, n_assets),
        cash=rng.choice([1_000_000.0, 100_000.0, 10_000.0, rng.uniform(1.0, 99.0), rng.uniform(0.01, 1.0)]),
        sizing=rng.choice(["decision", "fill"]),
        commission_bps=rng.choice([0.0, 0.0, 1.0, 10.0, rng.uniform(0.0, 50.0), 500.0]),
        half_spread_bps=rng.choice(
            [0.0, 0.0, 2.0, rng.uniform(0.0, 40.0), 300.0, rng.uniform(3000.0, 9000.0)]
        ),
        slippage_bps=rng.choice([0.0, 0.0, 5.0, rng.uniform(0.0, 40.0), rng.uniform(500.0, 4000.0)]),
        max_wait=rng.choice([1, 2, 3, 4, 5, 5, 6]),
        ends=ends,
        bars_per_year=rng.choice([252.0, 365.0, 52.0]),
        risk_free=rng.choice([0.0, 0.0, 0.02]),
    )


def mix(rng: Random, case: Case) -> Case:
    """Put several settings on top of a plain book; each is there in a part of the books."""
    known = [price for row in case.close for price in row if valid(price)] or [100.0]
    price = rng.choice(known)  # of a typical asset; books with prices of all scales have assets beyond it
    has_commission, has_lots, has_thresholds = (rng.random() < chance for chance in (0.5, 0.45, 0.6))
    lot = case.cash / price * 10 ** rng.uniform(-2.5, 0.0)
    # lots of 0.1, 1, 10, ... in one half of the books
    lot = rng.choice([lot, 10.0 ** round(math.log10(lot))]) if has_lots else 0.0
    afford = rng.choice([*CUTTING, "allow"])
    if rng.random() < 0.6:
        nudge(rng, case.targets, flips=0.15 if has_lots else 0.0)
    if afford in ("greedy", "reject") and rng.random() < 0.4:
        case.sizing = "fill"
        level(rng, case.targets)
    kind = rng.choice(["weights", "weights", "weights", "values", "quantities"])
    case = replace(
        case,
        fill=rng.choice(["next_open", "next_close", "same_close"]),
        kind=kind,
        targets=[row and in_kind(rng, case, t, row, kind, lot) for t, row in enumerate(case.targets)],
        afford=afford,
        margin=rng.choice([0.0, 0.0, 0.25, rng.uniform(0.01, 1.0)]),
        per_share=rng.choice([0.0, price * rng.uniform(0.0, 0.01)]) if has_commission else 0.0,
        min_commission=case.cash * rng.choice([0.0, 1e-4, 1e-3, 0.01]) if has_commission else 0.0,
        max_commission_frac=rng.choice([0.0, 0.0, 0.002, 0.05]) if has_commission else 0.0,
        lot=lot,
        lot_rounding=rng.choice(["nearest", "down"]),
        band=rng.choice([0.02, 0.0, rng.uniform(0.02, 0.4)]) if has_thresholds else 0.0,
        band_rel=rng.choice([0.0, 0.2, rng.uniform(0.05, 0.5)]) if has_thresholds else 0.0,
        min_notional=case.cash * rng.choice([0.0, 0.001, rng.uniform(0.01, 0.3)]) if has_thresholds else 0.0,
    )
    if rng.random() < 0.3:
        withhold(rng, case)
    if rng.random() < 0.35:
        case.keep = draw_keep(rng, case)
    if rng.random() < 0.5:
        case.member = draw_membership(rng, case)
    return case


def nudge(rng: Random, targets: list[list[float] | None], flips: float) -> None:
    """Let decisions come near one of the last two, now and then, so that bands have something to hold back.

    `flips` is the chance of a weight to turn into a small one of either side, less than a lot perhaps.
    """
    last: list[list[float]] = []
    for t, row in enumerate(targets):
        if row is None:
            continue
        if last and rng.random() < 0.6:
            row = [number * rng.uniform(0.9, 1.1) for number in rng.choice(last)]
        targets[t] = [number * rng.uniform(-0.2, 0.2) if rng.random() < flips else number for number in row]
        last = [*last[-1:], row]


def withhold(rng: Random, case: Case) -> None:
    """Take away prices where orders would fill first, so that they wait while decisions go on."""
    for t, row in enumerate(case.targets):
        first = t + case.first_try
        if row is None or first >= case.n_bars:
            continue
        prices = case.prices[first]
        prices[:] = [NAN if rng.random() < 0.4 else price for price in prices]


def level(rng: Random, targets: list[list[float] | None]) -> None:
    """Give all longs of the book one weight; whose turn it is to buy is then a matter of ties."""
    weight = rng.uniform(0.3, 0.6)
    for t, row in enumerate(targets):
        if row is not None:
            targets[t] = [weight if number > 0 else number for number in row]


def in_kind(rng: Random, case: Case, t: int, weights: list[float], kind: str, lot: float) -> list[float]:
    """Turn a row of weights into values or quantities of about the same size."""
    if kind == "weights":
        return weights
    row = []
    for asset, weight in enumerate(weights):
        number = weight * case.cash * rng.uniform(0.6, 1.2)
        if kind == "quantities":
            known = [prices[asset] for prices in case.close[: t + 1] if valid(prices[asset])]
            number /= known[-1] if known else 100.0
            if lot > 0 and math.isfinite(number) and rng.random() < 0.3:
                number = (
                    round(2 * number / lot) / 2 * lot
                )  # whole and half lots, where rounding has to choose
        row.append(number)
    return row


def draw_keep(rng: Random, case: Case) -> list[list[bool]]:
    """Draw KEEP for single assets of decision rows, now and then for a whole row; its numbers become NaN."""
    chance = rng.choice([0.2, 0.4, 0.6])
    keep = [[False] * case.n_assets for _ in range(case.n_bars)]
    for t, row in enumerate(case.targets):
        if row is None:
            continue
        everything = rng.random() < 0.05
        keep[t] = [everything or rng.random() < chance for _ in row]
        case.targets[t] = [NAN if kept else number for kept, number in zip(keep[t], row, strict=True)]
    return keep


def draw_membership(rng: Random, case: Case) -> list[list[bool]]:
    """Draw spells of membership, each end now and then followed by missing bars, so that the exit waits."""
    leaves, joins = rng.choice([0.06, 0.15]), rng.choice([0.1, 0.4])
    member = [[True] * case.n_assets for _ in range(case.n_bars)]
    for asset in range(case.n_assets):
        is_member = rng.random() < 0.9
        quiet = 0  # bars without a price still to come
        for t in range(case.n_bars):
            end = case.ends[asset][0] if asset in case.ends else -1
            near_end = t < end <= t + 3 and rng.random() < 0.3
            if is_member and (near_end or rng.random() < leaves):
                is_member = False
                quiet = rng.choice([0, 3, 4, 6]) if not near_end else case.n_bars
            elif not is_member and rng.random() < joins:
                is_member = True
            member[t][asset] = is_member
            if quiet > 0:
                # where fills are at the open, the close alone may go on and bust a book that cannot get out
                case.open[t][asset] = NAN
                jump = rng.choice([NAN, 0.1, 30.0, 30.0]) if case.fill == "next_open" else NAN
                case.close[t][asset] *= NAN if near_end else jump
                quiet -= 1
    return member


def draw_prices(rng: Random, n_bars: int, n_assets: int) -> tuple[list[list[float]], list[list[float]]]:
    """Random walks of very different scale with jumps, late listings and holes."""
    opens = [[NAN] * n_assets for _ in range(n_bars)]
    closes = [[NAN] * n_assets for _ in range(n_bars)]
    missing = rng.choice([0.0, 0.03, 0.1, 0.3])
    jumps = rng.choice([0.0, 0.02, 0.1])
    has_odd_prices = rng.random() < 0.08
    for asset in range(n_assets):
        price = 10 ** rng.uniform(-4.0, 5.0) if rng.random() < 0.4 else rng.uniform(5.0, 500.0)
        spread = rng.choice([0.005, 0.02, 0.06])
        first = rng.randint(1, max(1, n_bars // 2)) if rng.random() < 0.2 else 0
        # a listing whose first bars have an open alone: held there, it is marked at its first fill's base
        first_close = first + rng.randint(1, 3) if first > 0 and rng.random() < 0.4 else first
        hole = draw_hole(rng, n_bars)
        for t in range(n_bars):
            price *= math.exp(rng.gauss(0.0, spread))
            if rng.random() < jumps:
                price *= rng.choice([0.3, 0.6, 1.5, 3.0])
            opening = price
            price *= math.exp(rng.gauss(0.0, spread))
            if t < first or t in hole:
                continue
            if rng.random() < missing:
                opening, closing = rng.choice([(NAN, NAN), (NAN, price), (opening, NAN)])
            else:
                closing = price
            if has_odd_prices and rng.random() < 0.05:
                opening, closing = rng.choice([(0.0, closing), (opening, -1.0), (math.inf, closing)])
            opens[t][asset] = opening
            closes[t][asset] = closing if t >= first_close else NAN
    return opens, closes


def draw_hole(rng: Random, n_bars: int) -> range:
    """Draw a long stretch without bars, in one asset of five."""
    if rng.random() >= 0.2:
        return range(0)
    start = rng.randrange(n_bars)
    return range(start, start + rng.randint(3, 10))


def draw_ends(
    rng: Random, opens: list[list[float]], closes: list[list[float]]
) -> dict[int, tuple[int, float]]:
    """Draw ends of life with payout; the prices after the end mostly go, some stay as a trap."""
    n_bars = len(opens)
    chance = rng.choice([0.0, 0.15, 0.4])
    ends = {}
    for asset in range(len(opens[0])):
        if rng.random() >= chance:
            continue
        end_bar = rng.randrange(n_bars)  # the last bar: the delisting lies outside the window
        known = [row[asset] for row in closes[: end_bar + 1] if valid(row[asset])]
        last = known[-1] if known else 100.0
        ends[asset] = (end_bar, rng.choice([last, last * rng.uniform(0.2, 1.8), 0.0, NAN]))
        if rng.random() < 0.8:
            for t in range(end_bar + 1, n_bars):
                opens[t][asset] = closes[t][asset] = NAN
    return ends


def draw_targets(rng: Random, n_bars: int, n_assets: int) -> list[list[float] | None]:
    """Decisions, daily or sparse, of one strategy per book or of a mixture."""
    every = rng.choice([1, 1, 2, 3, 5])
    strategies = [draw_rotation, draw_same, draw_long, draw_long_short, draw_heavy_short]
    if rng.random() < 0.6:
        strategies = [rng.choice(strategies)]
    nan_weights = rng.choice([0.0, 0.0, 0.1])
    empty_rows = rng.choice([0.0, 0.0, 0.1])
    targets: list[list[float] | None] = []
    before = [0.0] * n_assets
    start = rng.choice([0, 0, 0, 2])
    for t in range(n_bars):
        if t < start or (t - start) % every != 0:
            targets.append(None)
            continue
        if rng.random() < empty_rows:
            targets.append([NAN] * n_assets)
            continue
        before = rng.choice(strategies)(rng, before)
        targets.append([NAN if rng.random() < nan_weights else weight for weight in before])
    return targets


def draw_rotation(rng: Random, before: list[float]) -> list[float]:
    """Equal-weight top N, everything held replaced where there are enough others."""
    others = [asset for asset, weight in enumerate(before) if weight == 0]
    pool = others or list(range(len(before)))
    count = rng.randint(1, max(1, min(3, len(pool))))
    chosen = rng.sample(pool, count)
    return [1.0 / count if asset in chosen else 0.0 for asset in range(len(before))]


def draw_same(rng: Random, before: list[float]) -> list[float]:
    """Give the same target again; a new one only at the start and now and then."""
    if any(weight != 0 for weight in before) and rng.random() < 0.9:
        return before
    return draw_long(rng, before)


def draw_long(rng: Random, before: list[float]) -> list[float]:
    """Random longs; their weights sum to 1, below or above."""
    raw = [rng.random() if rng.random() < 0.7 else 0.0 for _ in before]
    scale = rng.choice([0.5, 1.0, 1.0, 1.6]) / (sum(raw) or 1.0)
    return [weight * scale for weight in raw]


def draw_long_short(rng: Random, before: list[float]) -> list[float]:
    """Longs and shorts, with a liking for the other side of the row before."""
    if any(weight != 0 for weight in before) and rng.random() < 0.3:
        return [-weight for weight in before]
    return [rng.choice([0.0, 1.0, -1.0]) * rng.uniform(0.05, 0.9) for _ in before]


def draw_heavy_short(rng: Random, before: list[float]) -> list[float]:
    """One short of several times equity, which a rise busts, beside a long."""
    weights = [0.0] * len(before)
    weights[rng.randrange(len(before))] = -rng.uniform(0.8, 5.0)
    if rng.random() < 0.3:
        weights[rng.randrange(len(before))] = rng.uniform(0.1, 1.5)
    return weights


# --- troubles -----------------------------------------------------------------------------------------------


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
    for part in (of_book, of_decisions, of_bars, of_orders, of_fills, of_settings, of_membership, of_cuts):
        found.update(part(case, outcome))
    return found


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
        "spread_capped": int(case.half_spread_bps + case.slippage_bps > 5000 and bool(traded)),
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
        variable = case.per_share * size + case.commission_bps / 1e4 * notional
        is_capped = 0 < case.max_commission_frac * notional < max(variable, case.min_commission)
        found["commission_cap"] += is_capped
        floors[row.bar, row.asset] += case.min_commission > variable and not is_capped
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
        found[f"cut_{case.afford}_floor"] = len(cut) * (case.min_commission > 0)
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


def table(seeds: range) -> dict[str, tuple[int, int]]:
    """Count the troubles of many books.

    Parameters
    ----------
    seeds : range
        Seeds to draw.

    Returns
    -------
    dict of tuple
        Per trouble: occurrences in all, books with at least one.
    """
    occurrences: Counter[str] = Counter()
    books: Counter[str] = Counter()
    for seed in seeds:
        case = generate(seed)
        found = troubles(case, run(case))
        occurrences.update(found)
        books.update(name for name, count in found.items() if count)
    return {name: (occurrences[name], books[name]) for name in TROUBLES}


def format_table(counts: dict[str, tuple[int, int]]) -> str:
    """Lay out what `table` counted, one trouble per line."""
    lines = [f"{'trouble':<26}{'occurrences':>12}{'books':>8}"]
    lines += [f"{name:<26}{total:>12}{books:>8}" for name, (total, books) in counts.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(format_table(table(range(1000))))
