"""A generator of small books full of trouble, and a count of the troubles of one book.

Run ``python -m tests.oracle.books`` from the repository root for the table over 1,000 seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from random import Random

from tests.oracle.book import Case, Event, Outcome, run, valid

NAN = math.nan
FULL = 0.98  # gross from which a book counts as fully invested

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
)


# --- generator ----------------------------------------------------------------------------------------------


def generate(seed: int) -> Case:
    """Draw one small book.

    Parameters
    ----------
    seed : int
        Every seed gives the same book on every machine (only `random.Random` is used).

    Returns
    -------
    Case
        1 to 8 assets, 5 to 40 bars; missing bars are NaN, now and then 0, negative or infinite.
    """
    rng = Random(seed)
    while True:
        case = draw(rng)
        if is_well_posed(case):
            return case


def is_well_posed(case: Case) -> bool:
    """Whether no count or sign of the result hangs on the last bits of a float.

    Two books are thrown away: one whose equity all but vanishes without being lost by a margin (everything in
    one asset that pays out 0: then rounding dust decides between bust and not), and one with a closed trade
    whose P&L is nothing but rounding (then dust decides on `win_rate`).
    """
    outcome = run(case)
    if any(abs(equity) < 1e-6 * case.cash for equity in outcome.bars["equity"]):
        return False
    return all(trade.pnl == 0 or abs(trade.pnl) > 1e-11 * case.cash for trade in outcome.trades)


def draw(rng: Random) -> Case:
    """Draw one book, well-posed or not."""
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


def draw_prices(rng: Random, n_bars: int, n_assets: int) -> tuple[list[list[float]], list[list[float]]]:
    """Random walks of very different scale with jumps, late listings and holes."""
    opens = [[NAN] * n_assets for _ in range(n_bars)]
    closes = [[NAN] * n_assets for _ in range(n_bars)]
    missing = rng.choice([0.0, 0.03, 0.1, 0.3])
    jumps = rng.choice([0.0, 0.02, 0.1])
    has_odd_prices = rng.random() < 0.05
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
    for part in (of_book, of_decisions, of_bars, of_orders, of_fills):
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


def is_decision(row: list[float] | None) -> bool:
    """Whether a row of the targets is one."""
    return row is not None and any(math.isfinite(weight) for weight in row)


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
        if not is_decision(row):
            found["row_without_weight"] += 1
            continue
        weights = [weight if math.isfinite(weight) else 0.0 for weight in row]
        holds = any(quantity != 0 for quantity in outcome.quantity[t])
        found["repeated_target"] += weights == last and any(weights) and holds
        found["weight_nan"] += any(math.isnan(weight) for weight in row)
        found["weights_above_one"] += sum(weights) > 1 + 1e-9
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
        dropped = event.bar == event.decision_bar and not has_mark(case, outcome, event.bar, event.asset)
        found["no_mark" if dropped else "nan_at_fill"] += 1
        price = NAN if dropped else case.open[event.bar][event.asset]
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
        ended = event.asset in case.ends and case.ends[event.asset][0] + 1 == event.bar
        found["cancelled_by_end"] += ended
    return found


def of_fills(case: Case, outcome: Outcome) -> dict[str, int]:
    """Troubles seen in the ledger."""
    found: Counter[str] = Counter()
    bust_bar = next((event.bar for event in named(outcome, "bust")), case.n_bars)
    for row in outcome.fills:
        if row.reason == "delisting":
            found["asset_ended"] += 1
            found["payout_zero"] += row.price == 0
            found["payout_nan"] += math.isnan(case.ends[row.asset][1])
            found["short_ended"] += row.quantity > 0
            found["payout_after_bust"] += row.bar > bust_bar
        else:
            late = row.bar > row.decision_bar + 1
            found["waited_over_missing_bar" if row.reason == "target" else "bust_exit_waited"] += late
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
