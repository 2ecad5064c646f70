"""Round trips, positions and profits, rebuilt from the ledger of fills when somebody asks for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.engine.tile import Market
from backtest_farm.kernel.slots import extremes
from backtest_farm.kernel.state import DIVIDEND, SPLIT


class Fill(NamedTuple):
    """One row of the ledger, as far as positions are concerned; `flat` is 1 where it closed the position."""

    bar: int
    asset: int
    reason: int
    flat: int
    quantity: float
    base: float
    price: float
    commission: float


@dataclass
class _Trade:
    """A round trip under way; all units are those of the present bar, whatever was split."""

    side: int
    entry_bar: int
    seen: int  # the first bar whose high and low have not been looked at
    entered: float = 0.0
    paid: float = 0.0
    left: float = 0.0
    got: float = 0.0
    pnl: float = 0.0
    held: float = 0.0
    mfe: float = 0.0
    mae: float = 0.0

    def observe(self, prices: Iterable[float]) -> None:
        """Take in prices: how far the position was ahead and behind at them."""
        for price in prices:
            ahead = self.side * (price * self.entered / self.paid - 1.0)
            self.mfe, self.mae = max(self.mfe, ahead), min(self.mae, ahead)


def round_trips(fills: Iterable[Fill], market: Market, at_close: bool) -> list[dict[str, Any]]:
    """Return the closed trades of a ledger, in the order in which they ended.

    A trade runs from flat to flat; a reversal ends one and begins the next. Prices are averages of the fills
    that enlarge the position and of those that reduce it, a payout among them; units and prices are those of
    the exit bar, where splits lie between.

    Parameters
    ----------
    fills : iterable of Fill
        In the order made.
    market : Market
        What the backtest ran on.
    at_close : bool
        Whether orders filled at the close, so that a position has not seen the prices of its entry bar.

    Returns
    -------
    list of dict
        asset, side (1 or -1), quantity (all that was entered), entry_bar, exit_bar, entry_price, exit_price,
        bars_held, pnl (money: all cash flows and dividends, after costs), mfe and mae (best and worst of
        ``side * (price / entry - 1)``, 0 included, over the prices of reductions and the high and low of each
        bar that ended with the position held), reason (code of the last fill).
    """
    ended: list[dict[str, Any]] = []
    running: dict[int, _Trade] = {}
    happens = _happenings(market)
    for fill in fills:
        trade = running.get(fill.asset)
        while happens[fill.asset] and happens[fill.asset][0][0] <= fill.bar:
            bar, kind, amount = happens[fill.asset].pop(0)
            if trade is None:
                continue
            if kind == DIVIDEND:
                trade.pnl += trade.held * amount
                continue
            _look(trade, fill.asset, bar, market)
            trade.entered *= amount
            trade.left *= amount
            trade.held *= amount
        if trade is None:
            side = 1 if fill.quantity > 0 else -1
            trade = running[fill.asset] = _Trade(side, fill.bar, fill.bar + at_close)
        _look(trade, fill.asset, fill.bar, market)
        size = abs(fill.quantity)
        trade.pnl -= fill.quantity * fill.price + fill.commission
        trade.held += fill.quantity
        if fill.quantity * trade.side > 0:
            trade.entered += size
            trade.paid += size * fill.price
            continue
        trade.left += size
        trade.got += size * fill.price
        trade.observe([fill.price])
        if fill.flat:
            del running[fill.asset]
            ended.append(
                {
                    "asset": fill.asset,
                    "side": trade.side,
                    "quantity": trade.entered,
                    "entry_bar": trade.entry_bar,
                    "exit_bar": fill.bar,
                    "entry_price": trade.paid / trade.entered,
                    "exit_price": trade.got / trade.left,
                    "bars_held": fill.bar - trade.entry_bar,
                    "pnl": trade.pnl,
                    "mfe": trade.mfe,
                    "mae": trade.mae,
                    "reason": fill.reason,
                }
            )
    return ended


def _happenings(market: Market) -> dict[int, list[tuple[int, int, float]]]:
    """Return for each asset its splits and dividends as (bar, kind, amount), in the order they happen."""
    found: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    bars, kinds, assets, amounts = (column.tolist() for column in market.events)
    for bar, kind, asset, amount in zip(bars, kinds, assets, amounts, strict=True):
        if kind in (SPLIT, DIVIDEND):
            found[asset].append((bar, kind, amount))
    return found


def _look(trade: _Trade, asset: int, stop: int, market: Market) -> None:
    """Let a trade take in the extremes of the bars before `stop` that it has not seen."""
    for slab in market.slabs if trade.seen < stop else ():
        first, last = max(trade.seen - slab.first, 0), min(stop - slab.first, len(slab.close))
        if first < last:
            best, worst = extremes(slab.high, slab.low, slab.close, asset, first, last)
            # Without any bar there is nothing between infinities to take in.
            trade.observe(price for price in (best, worst) if abs(price) != np.inf)
    trade.seen = max(trade.seen, stop)


def _valid(prices: np.ndarray) -> np.ndarray:
    return (prices > 0.0) & np.isfinite(prices)


def holdings(fills: Iterator[Fill], market: Market) -> Iterator[tuple[int, int, float, float]]:
    """Yield bar, asset, quantity and value at the mark for everything held at the end of each bar.

    Parameters
    ----------
    fills : iterator of Fill
        In the order made.
    market : Market
        What the backtest ran on.
    """
    held: dict[int, float] = {}
    base: dict[int, float] = {}
    mark = np.full(market.n_assets, np.nan)
    splits = [
        (bar, asset, amount)
        for asset, events in _happenings(market).items()
        for bar, kind, amount in events
        if kind == SPLIT
    ]
    splits.sort(reverse=True)
    fill = next(fills, None)
    for slab in market.slabs:
        for row, close in enumerate(slab.close):
            while splits and splits[-1][0] <= slab.first + row:
                _, asset, amount = splits.pop()
                mark[asset] /= amount
                if asset in held:
                    held[asset] *= amount
                    base[asset] /= amount
            mark = np.where(_valid(close), close, mark)
            while fill is not None and fill.bar == slab.first + row:
                before = held.get(fill.asset, 0.0)
                after = before + fill.quantity
                base.setdefault(fill.asset, fill.base)
                held[fill.asset] = after
                if fill.flat:
                    del held[fill.asset], base[fill.asset]
                fill = next(fills, None)
            for asset in sorted(held):
                price = mark[asset] if np.isfinite(mark[asset]) else base[asset]
                yield slab.first + row, asset, held[asset], held[asset] * float(price)


class Profit(NamedTuple):
    """What one asset added to equity, money: what it cost is negative.

    Attributes
    ----------
    realised : float
        Of what was sold or bought back: the fill price against the average price that was paid for it.
    open : float
        Of what is held at the end: its value at the mark against the average price that was paid for it.
    commission, borrow, dividends : float
        Commissions of its fills; what borrowing it cost over nights; dividends, which a short pays.
    """

    realised: float = 0.0
    open: float = 0.0
    commission: float = 0.0
    borrow: float = 0.0
    dividends: float = 0.0


def profits(fills: Iterable[Fill], market: Market, nightly: np.ndarray) -> dict[int, Profit]:
    """Return what each asset that was ever held added to equity, in panel order.

    Parameters
    ----------
    fills : iterable of Fill
        In the order made.
    market : Market
        What the backtest ran on.
    nightly : ndarray of float64, shape (n_assets,)
        What borrowing costs for a night, as a fraction of the short's value.
    """
    made = list(fills)
    value: dict[int, float] = {}
    borrowed: dict[int, float] = defaultdict(float)
    for bar, asset, _, worth in holdings(iter(made), market):
        if bar == market.n_bars - 1:
            value[asset] = worth
        elif worth < 0.0:
            borrowed[asset] += worth * float(nightly[asset])
    happens, by_asset = _happenings(market), defaultdict(list)
    for fill in made:
        by_asset[fill.asset].append(fill)
    return {
        asset: _profit(by_asset[asset], happens[asset], value.get(asset, 0.0), borrowed[asset])
        for asset in sorted(by_asset)
    }


def _profit(
    fills: list[Fill], happens: list[tuple[int, int, float]], value: float, borrowed: float
) -> Profit:
    """Return what one asset added to equity, from its fills and its splits and dividends, in their order."""
    held = paid = realised = dividends = 0.0  # paid: what the units held were bought or sold for

    def until(bar: int) -> None:
        nonlocal held, dividends
        while happens and happens[0][0] <= bar:
            _, kind, amount = happens.pop(0)
            if kind == SPLIT:
                held *= amount
            else:
                dividends += held * amount

    for fill in fills:
        until(fill.bar)
        if fill.quantity * held >= 0.0:
            paid += fill.quantity * fill.price
        else:
            part = 1.0 if fill.flat else -fill.quantity / held
            realised += -fill.quantity * fill.price - paid * part
            paid -= paid * part
        held = 0.0 if fill.flat else held + fill.quantity
    until(2**62)
    commission = -sum(fill.commission for fill in fills)
    return Profit(realised, value - paid, commission, borrowed, dividends)
