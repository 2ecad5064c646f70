"""A generator of small books full of trouble, and a count of the troubles of one book.

Run ``python -m tests.oracle.books`` from the repository root for the table over 1,000 seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

from tests.oracle.book import Case, Outcome, run, valid
from tests.oracle.case import NAN, Table
from tests.oracle.features import draw_keep, enrich
from tests.oracle.troubles import CUTTING, STOPS, TROUBLES, troubles

__all__ = ["TROUBLES", "format_table", "generate", "in_other_money", "is_well_posed", "table", "troubles"]

# counters of what rules and limits do
LIMITS = (*STOPS, "take_profit", "time_exit", "drawdown_halt", "capped", "over_limit", "no_volume")

# --- generator ----------------------------------------------------------------------------------------------


def generate(seed: int) -> Case:
    """Draw one small book.

    Parameters
    ----------
    seed : int
        Every seed gives the same book on every machine (only `random.Random` is used). Those divisible by 3
        give a plain book, those that leave 1 get what `mix` adds, those that leave 2 what `enrich` adds to
        one or the other.

    Returns
    -------
    Case
        1 to 8 assets, 5 to 40 bars; missing bars are NaN, now and then 0, negative or infinite.
    """
    rng = Random(seed)
    while True:
        case = draw(rng, shortest=5 if seed % 3 != 2 else 25)
        if seed % 3 == 1 or (seed % 3 == 2 and rng.random() < 0.5):
            case = mix(rng, case)
        if seed % 3 == 2:
            case = enrich(rng, case)
        outcome = run(case)
        if (seed % 3 == 0 or is_lively(case, outcome)) and is_well_posed(case, outcome):
            return case


def is_lively(case: Case, outcome: Outcome) -> bool:
    """Whether enough happens in a book: settings take a lot of it away, and a dull book shows nothing."""
    if outcome.counters["bust"] > 0:
        return True
    is_limited = case.has_levels or case.halt_drawdown > 0 or case.is_constrained or case.participation > 0
    events = sum(outcome.counters[name] for name in LIMITS)
    return len(outcome.fills) >= case.n_bars / 4 and (not is_limited or events >= 6)


def is_well_posed(case: Case, outcome: Outcome) -> bool:
    """Whether no count or sign of the result hangs on the last bits of a float.

    Thrown away are books whose equity all but vanishes without being lost by a margin (everything in one
    asset that pays out 0: then rounding dust decides between bust and not), those with a closed trade whose
    P&L is nothing but rounding (then dust decides on `win_rate`), and those that go another way in another
    currency, in which every number is rounded anew.
    """
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

    def scaled(rows: Table) -> Table:
        return [[number * factor for number in row] for row in rows]

    def scaled_if_any(rows: Table | None) -> Table | None:
        return None if rows is None else scaled(rows)

    def scaled_cost(cost: float | list[float]) -> float | list[float]:
        return [number * factor for number in cost] if isinstance(cost, list) else cost * factor

    is_money = case.kind == "values"
    return replace(
        case,
        open=scaled(case.open),
        close=scaled(case.close),
        high=scaled_if_any(case.high),
        low=scaled_if_any(case.low),
        atr=scaled_if_any(case.atr),
        dividend=scaled_if_any(case.dividend),
        targets=[scaled([row])[0] if row is not None and is_money else row for row in case.targets],
        cash=case.cash * factor,
        ends={asset: (end, payout * factor) for asset, (end, payout) in case.ends.items()},
        per_share=scaled_cost(case.per_share),
        min_commission=scaled_cost(case.min_commission),
        min_notional=case.min_notional * factor,
    )


def draw(rng: Random, shortest: int = 5) -> Case:
    """Draw one plain book of at least `shortest` bars, well-posed or not."""
    n_bars, n_assets = rng.randint(shortest, 40), rng.randint(1, 8)
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
    has_commission, has_lots, has_thresholds = (rng.random() < chance for chance in (0.5, 0.55, 0.8))
    lot = case.cash / price * 10 ** rng.uniform(-2.5, 0.0)
    # lots of 0.1, 1, 10, ... in one half of the books
    lot = rng.choice([lot, 10.0 ** round(math.log10(lot))]) if has_lots else 0.0
    afford = rng.choice([*CUTTING, "allow"])
    if rng.random() < 0.85:
        nudge(rng, case.targets, flips=0.15 if has_lots else 0.0)
    if afford in ("greedy", "reject") and rng.random() < 0.55:
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
        band=rng.choice([0.03, 0.0, rng.uniform(0.02, 0.4), rng.uniform(0.02, 0.4)])
        if has_thresholds
        else 0.0,
        band_rel=rng.choice([0.0, 0.2, rng.uniform(0.05, 0.5)]) if has_thresholds else 0.0,
        min_notional=case.cash * rng.choice([0.0, 0.001, rng.uniform(0.01, 0.3)]) if has_thresholds else 0.0,
    )
    if rng.random() < 0.55:
        withhold(rng, case)
    if rng.random() < 0.35:
        case.keep = draw_keep(rng, case)
    if rng.random() < 0.6:
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
            row = [number * rng.uniform(0.93, 1.07) for number in rng.choice(last)]
        targets[t] = [number * rng.uniform(-0.2, 0.2) if rng.random() < flips else number for number in row]
        last = [*last[-1:], row]


def withhold(rng: Random, case: Case) -> None:
    """Take away prices where orders would fill first, so that they wait while decisions go on."""
    for t, row in enumerate(case.targets):
        first = t + case.first_try
        if row is None or first >= case.n_bars:
            continue
        prices = case.prices[first]
        prices[:] = [NAN if rng.random() < 0.5 else price for price in prices]


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
                shorted = any(row is not None and row[asset] < 0 for row in case.targets[max(t - 3, 0) : t])
                jump = rng.choice([NAN, 0.1, *[30.0] * (8 if shorted else 2)])
                jump = jump if case.fill == "next_open" else NAN
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


# --- counting ---------------------------------------------------------------------------------------------


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
