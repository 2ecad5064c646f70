"""Changes of a book that must change nothing, or exactly one thing, on the kernel alone.

All but one are compared byte by byte; a market without splits has prices of its own rounding, and is compared
to 1e-9.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from backtest_farm.engine.tile import TileResult, listed_targets, ranked_targets, run_tile, with_portfolio
from backtest_farm.kernel import state
from backtest_farm.kernel.book import advance, finish
from backtest_farm.kernel.state import CAPS, RULES, Terms, frozen
from tests.kernel.cases import inputs, outcome_of, run_case, split
from tests.kernel.mixed import only
from tests.kernel.test_against_oracle import differences
from tests.oracle.book import Case, run
from tests.oracle.books import generate, in_other_money, is_well_posed
from tests.oracle.case import CHOICES, PER_ASSET, TABLES, valid
from tests.soak.report import Report, Suite

NAN = math.nan
MONEY = ("equity", "cash", "costs", "financing", "dividends")
FILL_MONEY = ("base", "price", "commission", "spread", "slippage", "impact")
FLAGS = ("keep", "member")
BY_ROW = ("open", "close", "targets", *TABLES)
"""What has a row for each bar."""


def same_bytes(left: TileResult, right: TileResult, n_bars: int) -> Iterator[str]:
    """Say what differs between the first `n_bars` bars of two runs, NaN equal to NaN."""
    bars = [tile.record.bars[:n_bars].tobytes() for tile in (left, right)]
    if bars[0] != bars[1]:
        yield "bars"
    ledgers = []
    for tile in (left, right):
        used = int(tile.record.used[0])
        early = tile.record.keys[:used, 2] < n_bars
        ledgers.append(tile.record.keys[:used][early].tobytes() + tile.record.values[:used][early].tobytes())
    if ledgers[0] != ledgers[1]:
        yield "fills"


def same_run(left: TileResult, right: TileResult) -> Iterator[str]:
    """Say what differs between two whole runs."""
    yield from same_bytes(left, right, len(left.record.bars))
    if left.digests != right.digests:
        yield "digest"
    if left.metrics.tobytes() != right.metrics.tobytes():
        yield "metrics"


# --- the relations: what is wrong with a book, and None where the relation says nothing about it ------------


def twice_the_money(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    two = run_case(in_other_money(case, 2.0))
    for at, name in enumerate(state.BAR_COLUMNS):
        factor = 2.0 if name in MONEY else 1.0
        if not np.array_equal(two.record.bars[:, at], factor * base.record.bars[:, at], equal_nan=True):
            yield name
    used = int(base.record.used[0])
    if used != two.record.used[0] or not np.array_equal(two.record.keys[:used], base.record.keys[:used]):
        yield "fills"
        return
    for at, name in enumerate(state.FILL_VALUES):
        factor = 2.0 if name in FILL_MONEY else 1.0
        if not np.array_equal(two.record.values[:used, at], factor * base.record.values[:used, at]):
            yield f"{name} of fills"
    if not np.array_equal(two.counters, base.counters):
        yield "counters"


def an_asset_that_nobody_wants(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    at = rng.randint(0, case.n_assets)
    own: dict[str, Callable[[], Any]] = {
        "targets": lambda: NAN,  # not 0: a number would make a decision of a row without any
        "keep": lambda: False,
        "member": lambda: rng.random() < 0.7,
        "split": lambda: rng.choice([1.0, 2.0, NAN]),
        "dividend": lambda: rng.choice([0.0, 5.0, NAN]),
    }

    def wider(row: list[Any] | None, cell: Callable[[], Any]) -> list[Any] | None:
        return None if row is None else [*row[:at], cell(), *row[at:]]

    changed: dict[str, Any] = {}
    for name in BY_ROW:
        table = getattr(case, name)
        cell = own.get(name, lambda: rng.choice([NAN, rng.uniform(1.0, 100.0)]))
        changed[name] = None if table is None else [wider(row, cell) for row in table]
    for name in PER_ASSET:
        value = getattr(case, name)
        changed[name] = wider(value, rng.random) if isinstance(value, list) else value
    changed["groups"] = wider(case.groups, lambda: rng.randint(-1, 2))
    changed["ends"] = {asset + (asset >= at): end for asset, end in case.ends.items()}
    if rng.random() < 0.5:
        changed["ends"][at] = (rng.randrange(case.n_bars), 3.0)
    wide = run_case(replace(case, **changed))
    if wide.digests != base.digests:
        yield "digest"
    if wide.metrics.tobytes() != base.metrics.tobytes():
        yield "metrics"


def what_comes_later(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    """All tables after a bar are made up anew, and then cut off: what was before it stays."""
    cut = rng.randint(1, case.n_bars - 1)

    def other(name: str, cell: Any) -> Any:
        if name in FLAGS:
            return rng.random() < 0.5
        return rng.choice([NAN, cell * rng.uniform(0.1, 10.0)])

    noise, shorter = {}, {}
    for name in BY_ROW:
        table = getattr(case, name)
        if table is None:
            continue
        late = [row and [other(name, cell) for cell in row] for row in table[cut:]]
        noise[name], shorter[name] = [*table[:cut], *late], table[:cut]
    for changed in (noise, shorter):
        for what in same_bytes(base, run_case(replace(case, **changed)), cut):
            yield f"{what} before bar {cut}"


def slabs(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    window, trial, targets = inputs(case)
    cuts = sorted(rng.sample(range(1, case.n_bars), rng.randint(1, min(4, case.n_bars - 1))))
    parts = run_tile(
        split(window, *cuts), trial, targets, record_bars=True, fill_rows=4, risk_free=case.risk_free
    )
    for what in same_run(base, parts):
        yield f"{what} with slabs at {cuts}"


def two_sittings(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    """Saved before a bar, and continued from the copy."""
    window, trial, targets = inputs(case)
    stop = rng.randint(1, case.n_bars - 1)
    book = state.new_book(trial, case.n_assets, case.n_assets)
    for until in (stop, case.n_bars):
        record = state.new_record(0, 1, 0)
        scratch = state.new_scratch(case.n_assets, case.n_assets)
        advance(book, window.slabs[0], trial, window.events, targets, record, scratch, until, case.n_bars)
        book = state.restored(state.saved(book))
    finish(book)
    high, low = book.digest[:, 0].tolist()
    if base.digests != [f"{high:016x}{low:016x}"]:
        yield f"digest after a stop at bar {stop}"


def neighbours(rng: Random, case: Case, base: TileResult) -> Iterator[str]:
    """The book in a tile with trials of other modes, schedules and money, and without rules and caps."""
    modes: dict[str, Any] = {
        name: rng.choice(CHOICES[name]) for name in ("fill", "sizing", "afford", "lot_rounding")
    }
    cash = case.cash * rng.choice([0.5, 3.0])
    dearer = replace(case, cash=cash, slippage_bps=rng.choice([0.0, 30.0]))
    trials = [inputs(each)[1] for each in (case, replace(case, **modes), dearer)]
    often = frozen(np.array([rng.randint(0, 1)]), np.int64)
    trials.append(
        trials[rng.randint(0, 2)]._replace(
            rules=_without(trials[0].rules, RULES.index("halt_bars"), 0.0, np.inf),
            caps=_without(trials[0].caps, CAPS.index("reject"), np.inf, 0.0),
        )
    )
    trials = [trials[0], *(trial._replace(schedule=often) for trial in trials[1:])]
    order = rng.sample(range(len(trials)), len(trials))
    tile = _together([trials[at] for at in order])
    window, _, targets = inputs(case)
    other = rng.choices([state.IDLE, state.DECIDE, state.CLOSE_ALL], [2, 5, 1], k=case.n_bars)
    both = np.column_stack([targets.fires, np.where(targets.fires[:, 0] == state.DECIDE, other, state.IDLE)])
    targets = targets._replace(fires=frozen(both, np.uint8))
    together = run_tile(window, tile, targets, record_bars=True, fill_rows=4)
    own = order.index(0)
    if together.digests[own] != base.digests[0]:
        yield "digest"
    if together.record.bars[:, :, own].tobytes() != base.record.bars[:, :, 0].tobytes():
        yield "bars"
    for place in range(len(trials)):
        alone = run_tile(window, only(tile, place), targets)
        if together.digests[place] != alone.digests[0]:
            yield f"digest of trial {place} alone"


def _without(table: np.ndarray, mode: int, off: float, otherwise: float) -> np.ndarray:
    """Return a table of rules or caps with all of them off."""
    plain = np.full(table.shape, off)
    plain[:, mode] = otherwise
    return frozen(plain)


def _together(trials: list[Terms]) -> Terms:
    """Return trials of one market as a tile; each has one row of costs."""
    wide = max(trial.costs.shape[1] for trial in trials)
    columns: dict[str, Any] = {}
    for name, first in trials[0]._asdict().items():
        parts = [getattr(trial, name) for trial in trials]
        if name == "cost_row":
            columns[name] = frozen(np.arange(len(trials)), np.int64)
        elif name == "costs":
            shape = 1, wide, first.shape[2]
            columns[name] = frozen(np.concatenate([np.broadcast_to(part, shape) for part in parts]))
        elif name == "financed":
            columns[name] = max(parts)
        else:
            columns[name] = first if name == "group" else frozen(np.concatenate(parts), first.dtype)
    return Terms(**columns)


def no_splits(rng: Random, case: Case, base: TileResult) -> Iterator[str] | None:
    """In units of before the first bar there is nothing to split; lots and fees by unit hang on units."""
    if case.split is None:
        return None
    plain = replace(case, lot=0.0, per_share=0.0)
    units = [1.0] * case.n_assets
    rows = []
    for row in case.split:
        units = [unit * (k if valid(k) else 1.0) for unit, k in zip(units, row, strict=True)]
        rows.append(units)
    prices = ("open", "close", "high", "low", "atr", "dividend")
    changed: dict[str, Any] = {"split": None}
    for name in (*prices, "volume", "adv"):
        table = getattr(case, name)
        if table is not None:
            power = 1.0 if name in prices else -1.0
            changed[name] = _rescaled(table, rows, power)
    if case.kind == "quantities":
        changed["targets"] = _rescaled(case.targets, rows, -1.0)
    last = case.n_bars - 1
    changed["ends"] = {
        asset: (end, payout * rows[min(end + 1, last)][asset]) for asset, (end, payout) in case.ends.items()
    }
    adjusted = replace(plain, **changed)
    outcome = run(adjusted)
    if not is_well_posed(adjusted, outcome) or not is_well_posed(plain, run(plain)):
        return None
    have = outcome_of(plain, run_case(plain))
    for trade in have.trades:
        unit = rows[trade.exit_bar][trade.asset]
        trade.quantity /= unit
        trade.entry_price *= unit
        trade.exit_price *= unit
    for fill in have.fills:
        unit = rows[fill.bar][fill.asset]
        fill.quantity /= unit
        fill.base *= unit
        fill.price *= unit
    return differences(adjusted, outcome_of(adjusted, run_case(adjusted)), have)


def _rescaled(table: list[Any], units: list[list[float]], power: float) -> list[Any]:
    """Return a table in other units, bar by bar and asset by asset."""
    return [
        row and [cell * unit**power for cell, unit in zip(row, of_bar, strict=True)]
        for row, of_bar in zip(table, units, strict=True)
    ]


def a_ranking(rng: Random, case: Case, base: TileResult) -> Iterator[str] | None:
    """The best few of a ranking, and the table that says the same: only the one is ever filled at once."""
    if case.kind != "weights":
        return None
    window, trial, _ = inputs(case)
    n_bars, n_assets = case.n_bars, case.n_assets
    n, whole, keeps = rng.randint(1, n_assets), rng.choice([0.5, 0.9975, 1.0, 1.4]), rng.random()
    order, orders = [*range(n_assets)], []
    for _ in range(n_bars):
        order = order if rng.random() < keeps else rng.sample(order, n_assets)
        orders.append(order)
    counts = np.array(rng.choices([0, rng.randint(1, n_assets), n_assets], [1, 2, 7], k=n_bars))
    codes = rng.choices([state.IDLE, state.DECIDE, state.CLOSE_ALL], [4, 8, 1], k=n_bars)
    weights = np.full((n_bars, n_assets), NAN)
    for t in range(n_bars):
        weights[t, orders[t][: min(n, counts[t])]] = whole / n
    fires = np.array([codes], np.uint8)
    runs = []
    for portfolio, targets in (
        ({"n": n, "weight": whole / n}, ranked_targets(np.array(orders, np.int32), counts, fires)),
        ({"weight": 1.0}, listed_targets(weights, fires)),
    ):
        trades = with_portfolio(trial, **portfolio)
        runs.append(
            run_tile(window, trades, targets, record_bars=True, fill_rows=4, risk_free=case.risk_free)
        )
    return same_run(*runs)


RELATIONS: tuple[Callable[[Random, Case, TileResult], Iterator[str] | None], ...] = (
    twice_the_money,
    an_asset_that_nobody_wants,
    what_comes_later,
    slabs,
    two_sittings,
    neighbours,
    no_splits,
    a_ranking,
)


def examine(seeds: range) -> Report:
    """Hold the books of these seeds against every relation."""
    report = Report()
    for seed in seeds:
        case = generate(seed)
        base = run_case(case)
        held: Counter[str] = Counter()
        for relation in RELATIONS:
            found = relation(Random(seed), case, base)
            if found is None:
                continue
            held[relation.__name__] += 1
            wrong = list(found)
            if wrong:
                report.failures.append((seed, f"{relation.__name__}: {'; '.join(wrong[:3])}"))
        report.count(held)
    return report


NAMES = tuple(relation.__name__ for relation in RELATIONS)
SUITE = Suite("relations", "changes that change nothing, or one thing", examine, NAMES)
