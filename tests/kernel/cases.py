"""Running a book of the oracle through the kernel, and putting what comes out into the oracle's words."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from backtest_farm.backtest.ledgers import Fill as Row
from backtest_farm.backtest.ledgers import holdings, round_trips
from backtest_farm.engine.tile import Market, TileResult, listed_targets, market, run_tile, terms
from backtest_farm.kernel.state import BAR_COLUMNS, CAPS, COUNTERS, REASONS, RULES, Targets, Terms, frozen
from backtest_farm.kernel.summary import METRICS
from tests.oracle.book import Case, Fill, Outcome, Trade

NO_END = 2**62
# In the order of the kernel's codes.
FILLS = ("next_open", "next_close", "same_close")
SIZINGS = ("decision", "fill")
POLICIES = ("scale", "greedy", "reject", "allow")
KINDS = ("weights", "values", "quantities")
AS_THEY_ARE = (
    "max_wait", "commission_bps", "half_spread_bps", "slippage_bps", "cash", "per_share", "min_commission",
    "max_commission_frac", "margin", "lot", "band", "band_rel", "min_notional", "impact", "borrow_rate",
    "interest_rate", "debit_rate", "participation", "carry",
)  # fmt: skip
CAP_NAMES = {name: name for name in CAPS} | {"group": "group_cap"}
TABLES = ("split", "dividend", "sigma", "adv", "atr")


def inputs(case: Case) -> tuple[Market, Terms, Targets]:
    """Return a book as the kernel's arrays."""
    shape = len(case.open), len(case.open[0])
    end, payout = np.full(shape[1], NO_END), np.full(shape[1], np.nan)
    for asset, (bar, price) in case.ends.items():
        end[asset], payout[asset] = bar, price
    rows = np.array([row if row is not None else [np.nan] * shape[1] for row in case.targets], dtype=float)
    given = {name: getattr(case, name) for name in AS_THEY_ARE}
    rules = {name: getattr(case, name) for name in RULES if name not in ("halt_bars", "on_close")}
    rules["halt_bars"] = np.inf if case.halt_bars is None else case.halt_bars
    rules["on_close"] = case.rules_on == "close"
    caps = {name: getattr(case, theirs) for name, theirs in CAP_NAMES.items() if name != "reject"}
    caps = {name: np.inf if cap is None else cap for name, cap in caps.items()}
    trial = terms(
        1,
        fill=FILLS.index(case.fill),
        sizing=SIZINGS.index(case.sizing),
        afford=POLICIES.index(case.afford),
        lot_down=case.lot_rounding == "down",
        rules=rules,
        caps={**caps, "reject": case.over == "reject"},
        group=None if case.groups is None else np.array(case.groups),
        **{name: [each] if isinstance(each, list) else each for name, each in given.items()},
    )
    prices = {name: getattr(case, name) for name in ("open", "close", "high", "low", "volume")}
    blocks = [{name: np.array(table, float) for name, table in prices.items() if table is not None}]
    if case.participation and case.volume is None:
        blocks[0]["volume"] = np.full(shape, np.nan)
    tables = {name: getattr(case, name) for name in TABLES}
    arrays = {name: np.array(table, float) for name, table in tables.items() if table is not None}
    if case.atr_stop and case.atr is None:
        arrays["atr"] = np.full(shape, np.nan)
    window = market(blocks, end, payout, case.bars_per_year, case.member, **arrays)
    fires = np.array([[row is not None for row in case.targets]], np.uint8)
    return window, trial, listed_targets(rows, fires, case.keep, KINDS.index(case.kind))


def run_case(case: Case, **changes: Any) -> TileResult:
    """Run a book through the kernel, recording everything."""
    window, trial, targets = inputs(case)
    options = {"record_bars": True, "fill_rows": 4, "risk_free": case.risk_free, **changes}
    return run_tile(window, trial, targets, **options)


def split(window: Market, *at: int) -> Market:
    """Return a market of one slab as slabs that begin at 0 and at these bars."""
    whole = window.slabs[0]
    edges = [0, *at, window.n_bars]
    tables = {name: table for name, table in whole._asdict().items() if isinstance(table, np.ndarray)}
    slabs = (
        whole._replace(first=first, **{name: frozen(table[first:last]) for name, table in tables.items()})
        for first, last in pairwise(edges)
    )
    return Market(tuple(slabs), window.events)


def outcome_of(case: Case, tile: TileResult) -> Outcome:
    """Return what the kernel left as an Outcome; quantities and trades are rebuilt from the fills."""
    used = int(tile.record.used[0])
    fills = [
        Fill(*(int(x) for x in key[1:4]), *(float(x) for x in values), REASONS[key[4]])
        for key, values in zip(tile.record.keys[:used], tile.record.values[:used], strict=True)
    ]
    window, _, _ = inputs(case)
    flat = tile.record.keys[:used, 5].tolist()
    rows = [
        Row(
            row.bar,
            row.asset,
            REASONS.index(row.reason),
            last,
            row.quantity,
            row.base,
            row.price,
            row.commission,
        )
        for row, last in zip(fills, flat, strict=True)
    ]
    quantity = np.zeros((len(case.open), len(case.open[0])))
    for bar, asset, held, _ in holdings(iter(rows), window):
        quantity[bar, asset] = held
    trips = round_trips(rows, window, case.fill != "next_open")
    counters = {
        name: int(count)
        for name, count in zip(COUNTERS, tile.counters[:, 0], strict=True)
        if name not in METRICS or name == "orders"
    }
    return Outcome(
        bars={name: tile.record.bars[:, at, 0].tolist() for at, name in enumerate(BAR_COLUMNS)},
        quantity=quantity.tolist(),
        fills=fills,
        trades=[Trade(**{**trip, "reason": REASONS[trip["reason"]]}) for trip in trips],
        counters=counters,
        metrics=dict(zip(METRICS, tile.metrics[0].tolist(), strict=True)),
        log=[],
    )
