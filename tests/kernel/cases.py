"""Running a book of the oracle through the kernel, and putting what comes out into the oracle's words."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from backtest_farm.engine.tile import Market, TileResult, listed_targets, market, run_tile, terms
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS, REASONS, Slab, Targets, Terms, frozen
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
    "max_commission_frac", "margin", "lot", "band", "band_rel", "min_notional",
)  # fmt: skip


def inputs(case: Case) -> tuple[Market, Terms, Targets]:
    """Return a book as the kernel's arrays."""
    n_assets = len(case.open[0])
    end, payout = np.full(n_assets, NO_END), np.full(n_assets, np.nan)
    for asset, (bar, price) in case.ends.items():
        end[asset], payout[asset] = bar, price
    rows = np.array([row if row is not None else [np.nan] * n_assets for row in case.targets], dtype=float)
    trial = terms(
        1,
        fill=FILLS.index(case.fill),
        sizing=SIZINGS.index(case.sizing),
        afford=POLICIES.index(case.afford),
        lot_down=case.lot_rounding == "down",
        **{name: getattr(case, name) for name in AS_THEY_ARE},
    )
    blocks = [(np.array(case.open), np.array(case.close))]
    window = market(blocks, end, payout, case.bars_per_year, case.member)
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
    slabs = (
        Slab(frozen(whole.open[first:last]), frozen(whole.close[first:last]), first)
        for first, last in pairwise(edges)
    )
    return Market(tuple(slabs), window.events, window.bars_per_year)


def outcome_of(case: Case, tile: TileResult) -> Outcome:
    """Return what the kernel left as an Outcome; quantities and trades are rebuilt from the fills."""
    used = int(tile.record.used[0])
    fills = [
        Fill(*(int(x) for x in key[1:4]), *(float(x) for x in values), REASONS[key[4]])
        for key, values in zip(tile.record.keys[:used], tile.record.values[:used], strict=True)
    ]
    n_bars, n_assets = len(case.open), len(case.open[0])
    held, flow, entry = [0.0] * n_assets, [0.0] * n_assets, [0] * n_assets
    quantity: list[list[float]] = []
    trades: list[Trade] = []
    rows = iter([*fills, None])
    row = next(rows)
    for t in range(n_bars):
        while row is not None and row.bar == t:
            a = row.asset
            if held[a] == 0.0:
                entry[a], flow[a] = t, 0.0
            flow[a] -= row.quantity * row.price + row.commission
            after = held[a] + row.quantity
            # The ledger's quantities sum to a closing only up to rounding; the book itself holds exactly 0.
            held[a] = 0.0 if abs(after) < 1e-9 * abs(held[a]) else after
            if held[a] == 0.0:
                trades.append(Trade(a, entry[a], t, t - entry[a], flow[a]))
            row = next(rows)
        quantity.append(list(held))
    counters = {
        name: int(count)
        for name, count in zip(COUNTERS, tile.counters[:, 0], strict=True)
        if name not in METRICS or name == "orders"
    }
    return Outcome(
        bars={name: tile.record.bars[:, at, 0].tolist() for at, name in enumerate(BAR_COLUMNS)},
        quantity=quantity,
        fills=fills,
        trades=trades,
        counters=counters,
        metrics=dict(zip(METRICS, tile.metrics[0].tolist(), strict=True)),
        log=[],
    )
