"""What the oracle carries from bar to bar, and what comes out: book, open position, order, ledger, trades."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.oracle.case import COLUMNS, NAN, valid

DUST = 1e-12  # orders and denominators below this count as nothing
REACHED = 1e-12  # "thresholds count as reached within 1e-12"
CASH_TOLERANCE = 1e-9  # "all fits if outlay <= free + 1e-9*E"
LOT_TOLERANCE = 1e-9  # in lots
MAX_FRACTION = 0.5  # "min(half_spread + slippage + impact, 0.5)"


@dataclass(frozen=True)
class Holding:
    """Position of one asset, for those who only have the ledger.

    Summing fills leaves rounding in units of the largest sum on the way, however small the last fill is; so
    a rest counts as flat by what was held at most.

    Attributes
    ----------
    units : float
        Signed, units of the bar.
    most : float
        Largest size since it was last flat, units of the bar.
    """

    units: float = 0.0
    most: float = 0.0

    def split(self, factor: float) -> Holding:
        """Return it in units of a later bar."""
        return Holding(self.units * factor, self.most * factor)

    def after(self, quantity: float) -> Holding:
        """Return it after a fill; rounding dust is nothing."""
        units = self.units + quantity
        most = max(self.most, abs(units))
        return Holding() if abs(units) <= DUST * most else Holding(units, most)


@dataclass
class Fill:
    """One row of the ledger.

    Quantity is signed (units), base and price are money per unit, commission, spread, slippage and impact are
    money and >= 0. Reason is one of `case.REASONS`. No field is NaN.
    """

    decision_bar: int
    bar: int
    asset: int
    quantity: float
    base: float
    price: float
    commission: float
    spread: float
    slippage: float
    impact: float
    reason: str


@dataclass
class Trade:
    """One closed round trip, flat to flat (T14).

    bars_held = exit bar - entry bar; pnl (money) = flows of its fills + dividends; side is 1 or -1; quantity
    (units) is all that was entered; entry_price and exit_price are averages over increases and reductions,
    money per unit; all units and prices are those of the exit bar, where splits lie between. mfe >= 0 and
    mae <= 0 are the best and the worst of ``side * (price / entry - 1)``. reason is that of the last fill.
    """

    asset: int
    entry_bar: int
    exit_bar: int
    bars_held: int
    pnl: float
    side: int = 0
    quantity: float = NAN
    entry_price: float = NAN
    exit_price: float = NAN
    mfe: float = NAN
    mae: float = NAN
    reason: str = ""


@dataclass
class Event:
    """One step of a counter: what, when, for which asset (-1: the whole book), decided when (-1: not)."""

    name: str
    bar: int
    asset: int = -1
    decision_bar: int = -1


@dataclass
class Outcome:
    """What comes out of a case.

    Attributes
    ----------
    bars : dict of list
        Per bar: equity, cash, costs, financing, dividends (money), gross, net, turnover (fractions, NaN where
        the denominator is <= 1e-12), positions (count).
    quantity : list of list of float
        Units held at the end of the bar (after step 6 or, for same_close, step 8), ``n_assets`` per bar.
    fills, trades : list
        The ledger in the order made; closed round trips in the order closed.
    counters : dict of int
        Reason counters, all names of `case.COUNTERS`.
    metrics : dict
        All metrics of the page; undefined ones are NaN.
    log : list of Event
        The diary behind the counters. No part of the contract; it helps to find the bar of a difference.
    decided : dict of int to list of float
        Target weights of every decision that went to the orders, after constraints; a kept asset has its
        current weight, one with a forced exit NaN. No part of the contract; only for weights.
    """

    bars: dict[str, list[float]]
    quantity: list[list[float]]
    fills: list[Fill]
    trades: list[Trade]
    counters: dict[str, int]
    metrics: dict[str, float]
    log: list[Event]
    decided: dict[int, list[float]] = field(default_factory=dict)


@dataclass
class Order:
    """What waits for one asset; target is None until it is sized (sizing: fill)."""

    decision_bar: int
    wanted: float  # the number of the decision: a weight, a value or a quantity
    target: float | None
    atr: float  # of the decision bar; what it opens has its ATR stop from it
    reason: str = "target"
    counted: set[str] = field(default_factory=set)  # "an order counts once per reason"

    @property
    def forced(self) -> bool:
        """Forced exits are not replaced, capped or expired."""
        return self.reason != "target"


@dataclass
class Leg:
    """One fill to be made of an order; an order has one leg, a reversal two."""

    asset: int
    quantity: float
    order: Order


@dataclass
class Position:
    """What is known of the position an asset has now, from flat to flat (T3, T14)."""

    side: int  # 1 long, -1 short
    entry_bar: int
    base: float  # base price of the opening fill: the mark while there is no close
    water: float  # best price since entry, for the trailing stop; starts at the opening fill's price
    atr: float  # of the decision bar of the opening order
    entered: float = 0.0  # units of all increases
    entered_value: float = 0.0  # at their fill prices, money
    left: float = 0.0  # units of all reductions
    left_value: float = 0.0
    flow: float = 0.0  # cash flows of fills, and dividends, money
    best: float = 0.0  # of side * (price / entry - 1)
    worst: float = 0.0

    @property
    def entry(self) -> float:
        """Average fill price of the increases; "reductions leave it" (T3)."""
        return self.entered_value / self.entered

    def observe(self, price: float) -> None:
        """Let a price count for MFE and MAE."""
        gain = self.side * (price / self.entry - 1)
        self.best, self.worst = max(self.best, gain), min(self.worst, gain)


@dataclass
class Book:
    """The state carried from bar to bar."""

    cash: float
    quantity: list[float]
    last_close: list[float]  # last valid close inside the window, NaN while there is none
    waiting: list[Order | None]  # at most one order per asset
    position: list[Position | None]  # None where the quantity is 0
    cooling: list[int]  # last bar on which the asset's target is 0 after a rule exit
    peak: float  # of the drawdown halt; starts at the starting cash
    halt_end: float | None = None  # last bar whose decisions are dropped; None: not halted
    is_bust: bool = False
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    decided: dict[int, list[float]] = field(default_factory=dict)
    bars: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    quantity_by_bar: list[list[float]] = field(default_factory=list)

    def count(self, name: str, bar: int, asset: int = -1, decision_bar: int = -1) -> None:
        """Let the counter `name` go up by one; a name that is no counter is an entry in the diary only."""
        self.log.append(Event(name, bar, asset, decision_bar))

    def count_once(self, name: str, bar: int, asset: int, order: Order) -> None:
        """Let a counter go up for an order that it has not counted yet."""
        if name not in order.counted:
            order.counted.add(name)
            self.count(name, bar, asset, order.decision_bar)

    def mark(self, asset: int) -> float:
        """Last valid close, or the first fill's base price until there is one; NaN = no mark (R5)."""
        position = self.position[asset]
        if valid(self.last_close[asset]) or position is None:
            return self.last_close[asset]
        return position.base

    def held(self) -> list[int]:
        """Assets with a position, in panel order."""
        return [asset for asset, quantity in enumerate(self.quantity) if quantity != 0]

    def has_forced_exit(self, asset: int) -> bool:
        """Whether a forced exit waits for an asset."""
        order = self.waiting[asset]
        return order is not None and order.forced

    def cancel(self, bar: int, asset: int) -> None:
        """Take back what waits for an asset, forced exits too."""
        order = self.waiting[asset]
        if order is not None:
            self.count("cancelled", bar, asset, order.decision_bar)
            self.waiting[asset] = None

    def force_out(self, bar: int, asset: int, reason: str, decision_bar: int) -> None:
        """Queue the forced exit of a held asset in place of what waits for it.

        "Something with a forced exit already keeps it, with its first reason, and is not counted again." (T6)
        """
        if self.has_forced_exit(asset):
            return
        self.cancel(bar, asset)
        self.count("orders", bar, asset, decision_bar)
        self.waiting[asset] = Order(decision_bar, wanted=0.0, target=0.0, atr=NAN, reason=reason)

    def record(self, row: Fill, atr: float = NAN) -> None:
        """Enter one fill into ledger, cash, position and trades; `atr` counts where it opens a position."""
        asset, size = row.asset, abs(row.quantity)
        self.fills.append(row)
        # "Cash moves by exactly quantity x fill price + commission, and nothing is charged twice."
        flow = -(row.quantity * row.price + row.commission)
        self.cash += flow
        position = self.position[asset]
        if position is None:
            side = 1 if row.quantity > 0 else -1
            position = Position(side, row.bar, row.base, water=row.price, atr=atr)
            self.position[asset] = position
        position.flow += flow
        if position.side * row.quantity > 0:
            position.entered += size
            position.entered_value += size * row.price
        else:
            position.left += size
            position.left_value += size * row.price
            position.observe(row.price)
        self.quantity[asset] += row.quantity
        if self.quantity[asset] == 0:  # "round trips, flat to flat, a reversal ends one" (R15)
            self.position[asset] = None
            self.trades.append(trade_of(row, position))


def trade_of(row: Fill, position: Position) -> Trade:
    """Round trip that a fill has ended (T14)."""
    return Trade(
        asset=row.asset,
        entry_bar=position.entry_bar,
        exit_bar=row.bar,
        bars_held=row.bar - position.entry_bar,
        pnl=position.flow,
        side=position.side,
        quantity=position.entered,
        entry_price=position.entry,
        exit_price=position.left_value / position.left,
        mfe=position.best,
        mae=position.worst,
        reason=row.reason,
    )


def is_dust(money: float, equity: float) -> bool:
    """Whether an amount of money is nothing: "orders under 1e-12 x E are dropped"."""
    return money < DUST * equity


def round_down(quantity: float, lot: float) -> float:
    """Whole lots in a quantity >= 0; without lots the quantity itself."""
    return math.floor(quantity / lot + LOT_TOLERANCE) * lot if lot > 0 else quantity
