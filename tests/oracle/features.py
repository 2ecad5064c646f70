"""What the generator puts on top of a book: rules, constraints, volume, impact, rates, splits and dividends.

Each of these is there in a part of the books only, so that all pairs of them meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.oracle.case import CONSTRAINTS, NAN, Case, Table, valid


def enrich(rng: Random, case: Case) -> Case:
    """Put features of the third readings on top of a book, plain or mixed.

    Parameters
    ----------
    rng : Random
        Source of all draws.
    case : Case
        Not changed, but for its prices, which splits divide.

    Returns
    -------
    Case
        The book with some of the features.
    """
    case = replace(case)
    if rng.random() < 0.3:
        case.targets = [row and [-0.7 * number for number in row] for row in case.targets]
    # splits first, as they change the prices everything else is drawn from
    features = [
        split_up,
        draw_extremes,
        draw_rules,
        draw_halt,
        draw_constraints,
        draw_participation,
        draw_impact,
        draw_costs_per_asset,
        draw_rates,
        draw_dividends,
    ]
    chosen = set(rng.sample(features, rng.choice([1, 2, 3, 4, 6])))
    chosen |= {rng.choice([draw_constraints] * 4 + [draw_rules, draw_participation])}
    if draw_rules in chosen and rng.random() < 0.8:
        chosen |= {draw_extremes}
    for feature in features:
        if feature in chosen:
            feature(rng, case)
    return case


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


def table_of(case: Case, cell: Callable[[int, int], float]) -> Table:
    """Make a table from a function of bar and asset."""
    return [[cell(t, asset) for asset in range(case.n_assets)] for t in range(case.n_bars)]


def known_price(case: Case, t: int, asset: int) -> float:
    """Give the last valid close up to bar `t`, or 100: for what needs a size only."""
    return next((case.close[s][asset] for s in range(t, -1, -1) if valid(case.close[s][asset])), 100.0)


def end_some(rng: Random, case: Case) -> None:
    """Let an asset end in a book where none does, in most cases."""
    if not case.ends and case.n_bars > 2:
        for asset in rng.sample(range(case.n_assets), rng.randint(1, min(case.n_assets, 3))):
            end = rng.randrange(1, case.n_bars - 1)
            case.ends[asset] = (end, known_price(case, end, asset) * rng.uniform(0.7, 1.3))


def split_up(rng: Random, case: Case) -> None:
    """Split assets now and then, with a liking for bars on which an order waits and for delistings.

    Prices and payouts go down with every split, as they would.
    """
    end_some(rng, case)
    chance = rng.choice([0.03, 0.08, 0.2])
    factors = [[1.0] * case.n_assets for _ in range(case.n_bars)]
    for asset in range(case.n_assets):
        units = 1.0
        end, payout = case.ends.get(asset, (case.n_bars, NAN))
        for t in range(case.n_bars):
            is_waiting = not valid(case.prices[t][asset])
            if rng.random() < (0.9 if t == end + 1 else chance * (4 if is_waiting else 1)):
                factors[t][asset] = rng.choice([2.0, 3.0, 1.5, 7.0, 0.5, 0.1, rng.uniform(0.2, 5.0)])
            elif rng.random() < 0.05:
                factors[t][asset] = rng.choice([NAN, 0.0, -2.0, math.inf])  # no split
            if valid(factors[t][asset]):
                units *= factors[t][asset]
            case.open[t][asset] /= units
            case.close[t][asset] /= units
            if t == end + 1:
                case.ends[asset] = (end, payout / units)
    case.split = factors


def draw_extremes(rng: Random, case: Case) -> None:
    """Draw highs and lows around open and close; some are missing, a few do not fit."""
    reach = rng.choice([0.0, 0.01, 0.04, 0.1])
    missing = rng.choice([0.0, 0.1])

    def extreme(t: int, asset: int, side: int) -> float:
        known = [price for price in (case.open[t][asset], case.close[t][asset]) if valid(price)]
        if not known or rng.random() < missing:
            return NAN
        if rng.random() < 0.01:
            return rng.choice([0.0, known[0] * rng.uniform(0.8, 1.2)])
        price = max(known) if side > 0 else min(known)
        return price * math.exp(side * abs(rng.gauss(0.0, reach)))

    case.high = table_of(case, lambda t, asset: extreme(t, asset, 1))
    case.low = table_of(case, lambda t, asset: extreme(t, asset, -1))


def draw_rules(rng: Random, case: Case) -> None:
    """Draw position rules, one or many; tight ones in most books, as the books are short."""
    case.rules_on = rng.choice(["intrabar", "intrabar", "close"])
    tight = rng.choice([0.005, 0.02, 0.06])
    if rng.random() < 0.55:
        case.stop_loss = tight * rng.uniform(0.5, 3.0)
    if rng.random() < 0.55:
        case.take_profit = tight * rng.uniform(0.5, 4.0)
    if rng.random() < 0.55:
        case.trailing = tight * rng.uniform(0.8, 4.0)
        case.trailing_step = case.trailing * rng.choice([0.0, 0.1, 0.3, 0.5])
        case.trailing_floor = case.trailing * rng.choice([0.0, 0.5, 0.8])
    if rng.random() < 0.55:
        case.atr_stop = rng.uniform(0.5, 3.0)
        missing = rng.choice([0.0, 0.15])

        def true_range(t: int, asset: int) -> float:
            odd = rng.choice([NAN, NAN, 0.0, -1.0])
            return (
                odd if rng.random() < missing else known_price(case, t, asset) * tight * rng.uniform(0.3, 2.0)
            )

        case.atr = table_of(case, true_range)
    if case.stop_loss > 0 and case.trailing > 0 and rng.random() < 0.6:
        case.trailing = case.stop_loss  # a tie as long as the water stands at the entry
    if rng.random() < 0.4:
        case.max_bars = rng.randint(1, 6)
    if rng.random() < 0.6:  # forced exits have to wait, and levels may be reached meanwhile
        for prices in case.open:
            prices[:] = [NAN if rng.random() < 0.2 else price for price in prices]
    if rng.random() < 0.4:
        case.cooldown = rng.randint(1, 5)


def draw_halt(rng: Random, case: Case) -> None:
    """Draw a drawdown halt, for good or for some bars."""
    case.halt_drawdown = rng.choice([0.02, 0.05, rng.uniform(0.05, 0.3)])
    case.halt_bars = rng.choice([None, None, None, 0, 1, 3])


def draw_rates(rng: Random, case: Case) -> None:
    """Draw what shorts and debts cost and what cash earns."""
    case.borrow_rate = rng.choice([0.03, 0.5])
    if rng.random() < 0.4:
        case.borrow_rate = [rng.uniform(0.0, 1.0) for _ in range(case.n_assets)]
    case.interest_rate = rng.choice([0.0, 0.02, rng.uniform(0.0, 0.3)])
    case.debit_rate = rng.choice([None, 0.08, rng.uniform(0.0, 1.0)])


def draw_constraints(rng: Random, case: Case) -> None:
    """Draw some of the six constraints, each about as tight as what the decisions ask for."""
    if case.kind != "weights":
        return
    own = 1.0 if rng.random() < 0.3 else 0.0  # without it equal weights stay equal
    decisions = [row for row in case.targets if row]
    for t, row in enumerate(case.targets):
        size = rng.uniform(0.4, 1.3)
        if row is None and decisions and rng.random() < 0.5:  # the more decisions, the more to constrain
            row = rng.choice(decisions)
        case.targets[t] = row and [number * (size + own * rng.uniform(-0.3, 0.3)) for number in row]
    if case.keep is None and rng.random() < 0.7:
        case.keep = draw_keep(rng, case)
    rows = [[abs(number) for number in row if math.isfinite(number)] for row in case.targets if row]
    asked = [row for row in rows if any(row)] or [[0.5]]
    case.over = rng.choice(["scale", "scale", "reject", "reject", "reject"])
    row = rng.choice(asked) if case.over == "scale" else max(asked, key=sum)  # refuse some, not all
    limits = {
        "positions": max(0, sum(number != 0 for number in row) - rng.randint(0, 2)),
        "max_weight": max(row) * rng.uniform(0.4, 1.1),
        "group_cap": sum(row) * rng.uniform(0.3, 1.0),
        "gross": sum(row) * rng.uniform(0.4, 1.1),
        "net": sum(row)
        * (rng.choice([0.0, rng.uniform(0.0, 0.8)]) if case.over == "scale" else rng.uniform(0.4, 0.9)),
        "turnover": sum(row) * rng.uniform(0.05 if case.over == "scale" else 0.3, 0.6),
    }
    often = [*CONSTRAINTS, "max_weight", "group_cap", "gross", "net"]
    for name in rng.sample(often, rng.choice([1, 2, 3, 9] if case.over == "scale" else [1, 2])):
        setattr(case, name, limits[name])
    if case.group_cap is not None:
        case.groups = [rng.choice([-1, 0, 1, 1, 2]) for _ in range(case.n_assets)]


def draw_participation(rng: Random, case: Case) -> None:
    """Draw volumes about as large as orders are, some missing, some 0."""
    case.participation = rng.choice([0.1, 0.25, rng.uniform(0.01, 1.0)])
    case.carry = rng.random() < 0.65
    if rng.random() < 0.5:  # decisions are far between, so that something is carried for long
        decisions = [t for t in range(case.n_bars) if case.is_decision(t)][::4]
        case.targets = [row if t in decisions else None for t, row in enumerate(case.targets)]
        case.max_wait = rng.choice([1, 2, 3])
    if rng.random() < 0.5:  # more than the cash there is, so that both cut
        case.targets = [row and [2.0 * number for number in row] for row in case.targets]
    if case.carry and rng.random() < 0.5:  # what is carried meets a bar without a price
        for prices in case.prices:
            prices[:] = [NAN if rng.random() < 0.2 else price for price in prices]
    depth = 10 ** rng.uniform(-1.0, 0.7)
    missing = rng.choice([0.0, 0.1])

    def traded(t: int, asset: int) -> float:
        if rng.random() < missing:
            return rng.choice([NAN, 0.0, -5.0])
        units = case.cash / known_price(case, t, asset)
        return units * depth / case.participation * math.exp(rng.gauss(0.0, 0.7))

    case.volume = table_of(case, traded)


def draw_impact(rng: Random, case: Case) -> None:
    """Draw volatility and average volume; in some books the impact is beyond all measure."""
    case.impact = rng.choice([0.1, rng.uniform(0.1, 1.0), 30.0])
    if rng.random() < 0.3:
        case.impact = [rng.choice([0.0, 0.5, 1.0]) for _ in range(case.n_assets)]
    missing = rng.choice([0.0, 0.1])

    def volatility(t: int, asset: int) -> float:
        return rng.choice([NAN, -0.1]) if rng.random() < missing else rng.uniform(0.005, 0.08)

    def average(t: int, asset: int) -> float:
        if rng.random() < missing:
            return rng.choice([NAN, 0.0])
        return case.cash / known_price(case, t, asset) * rng.uniform(0.3, 20.0)

    case.sigma, case.adv = table_of(case, volatility), table_of(case, average)


def draw_costs_per_asset(rng: Random, case: Case) -> None:
    """Let some of the costs differ from asset to asset."""
    largest: dict[str, float] = {
        "commission_bps": 50.0,
        "per_share": 0.005 * known_price(case, 0, 0),
        "min_commission": case.cash * 0.003,
        "max_commission_frac": 0.05,
        "half_spread_bps": 100.0,
        "slippage_bps": 60.0,
    }
    for name, number in largest.items():
        if rng.random() < 0.5:
            setattr(case, name, [rng.choice([0.0, number * rng.random()]) for _ in range(case.n_assets)])


def draw_dividends(rng: Random, case: Case) -> None:
    """Draw dividends, with a liking for the bar of a delisting; the odd one is negative or no number."""
    end_some(rng, case)
    chance = rng.choice([0.03, 0.1])

    def dividend(t: int, asset: int) -> float:
        ends_now = asset in case.ends and case.ends[asset][0] + 1 == t
        if rng.random() > (0.9 if ends_now else chance):
            return rng.choice([0.0, 0.0, NAN])
        return known_price(case, t, asset) * rng.choice(
            [0.002, rng.uniform(0.001, 0.05), 0.2, -0.01, math.inf]
        )

    case.dividend = table_of(case, dividend)
