"""Round trips and positions, rebuilt from the ledger of fills when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.engine.tile import Market

FLAT = 1e-12
"""A position of less than this part of the fill that made it is none: sums of quantities round."""


class Fill(NamedTuple):
    """One row of the ledger, as far as positions are concerned."""

    bar: int
    asset: int
    reason: int
    quantity: float
    base: float
    price: float
    commission: float


def round_trips(fills: Iterator[Fill]) -> list[dict[str, Any]]:
    """Return the closed trades of a ledger, in the order in which they ended.

    A trade runs from flat to flat; a reversal ends one and begins the next. Prices are averages of the fills
    that enlarge the position and of those that reduce it; `pnl` is the sum of all cash flows, payouts of ends
    of life included.

    Parameters
    ----------
    fills : iterator of Fill
        In the order made.

    Returns
    -------
    list of dict
        asset, side (1 or -1), quantity (all that was entered), entry_bar, exit_bar, entry_price, exit_price,
        bars_held, pnl (money, after costs), reason (code of the last fill).
    """
    ended: list[dict[str, Any]] = []
    running: dict[int, dict[str, Any]] = {}
    for fill in fills:
        trade = running.get(fill.asset)
        if trade is None:
            side = 1 if fill.quantity > 0 else -1
            trade = {
                "asset": fill.asset,
                "side": side,
                "entry_bar": fill.bar,
                "in": 0.0,
                "paid": 0.0,
                "out": 0.0,
            }
            trade |= {"got": 0.0, "pnl": 0.0, "held": 0.0}
            running[fill.asset] = trade
        enlarges = fill.quantity * trade["side"] > 0
        trade["in" if enlarges else "out"] += abs(fill.quantity)
        trade["paid" if enlarges else "got"] += abs(fill.quantity) * fill.price
        trade["pnl"] -= fill.quantity * fill.price + fill.commission
        trade["held"] += fill.quantity
        if abs(trade["held"]) <= FLAT * abs(fill.quantity):
            del running[fill.asset]
            ended.append(
                {
                    "asset": trade["asset"],
                    "side": trade["side"],
                    "quantity": trade["in"],
                    "entry_bar": trade["entry_bar"],
                    "exit_bar": fill.bar,
                    "entry_price": trade["paid"] / trade["in"],
                    "exit_price": trade["got"] / trade["out"],
                    "bars_held": fill.bar - trade["entry_bar"],
                    "pnl": trade["pnl"],
                    "reason": fill.reason,
                }
            )
    return ended


def holdings(fills: Iterator[Fill], market: Market) -> Iterator[tuple[int, int, float, float]]:
    """Yield bar, asset, quantity and value at the mark for everything held at the end of each bar.

    Parameters
    ----------
    fills : iterator of Fill
        In the order made.
    market : Market
        The prices that the backtest ran on.
    """
    held: dict[int, float] = {}
    base: dict[int, float] = {}
    mark = np.full(market.n_assets, np.nan)
    fill = next(fills, None)
    for slab in market.slabs:
        for row, close in enumerate(slab.close):
            mark = np.where((close > 0.0) & np.isfinite(close), close, mark)
            while fill is not None and fill.bar == slab.first + row:
                before = held.get(fill.asset, 0.0)
                after = before + fill.quantity
                base.setdefault(fill.asset, fill.base)
                held[fill.asset] = after
                if abs(after) <= FLAT * abs(fill.quantity):
                    del held[fill.asset], base[fill.asset]
                fill = next(fills, None)
            for asset in sorted(held):
                price = mark[asset] if np.isfinite(mark[asset]) else base[asset]
                yield slab.first + row, asset, held[asset], held[asset] * float(price)
