"""The accounting contract of one backtest, step by step, in plain Python.

Written for reading: one function per step of the page, in the order of the page, with the names of the page.
"R<n>" in a comment is reading n of the first readings that belong to the contract, "S<n>" of the second.
Speed is no aim here.

Choices made where page and readings leave a gap:

* A buy of group (c) that was cut to less than ``1e-12 * E`` (quantity x base) fills nothing, like ``f = 0``
  (the page: "orders under 1e-12 x E are dropped", and ``f`` itself is only defined to 1e-12). Without this
  rounding dust in the cash of a fully invested book decides whether there is a fill, a trade and a position.
  It counts ``no_cash``, also where lots round what is left down to nothing.
* An infinite target counts like NaN: it is 0, and does not make a row a decision. The number of a KEEP cell
  is not looked at.
* A forced exit counts ``no_price`` like any other order, once. At a decision its asset is passed over. A bust
  cancels what waits but forced exits: these go on under their first reason.
* Equal weights give notionals that differ in the last bit. Who comes first for ``greedy`` and ``reject`` must
  not hang on it: the next order is the first in panel order of those within 1e-12 of the largest one left.
* Positions in lots of 0.1 carry rounding. A reduction that would leave less than 1e-9 lots leaves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass, field

from tests.oracle import metrics as formulas

NAN = math.nan
DUST = 1e-12  # orders and denominators below this count as nothing
REACHED = 1e-12  # "thresholds count as reached within 1e-12"
CASH_TOLERANCE = 1e-9  # "all fits if outlay <= free + 1e-9*E"
LOT_TOLERANCE = 1e-9  # in lots
MAX_FRACTION = 0.5  # "min(half_spread + slippage + impact, 0.5)"

COUNTERS = (
    "orders",
    "replaced",
    "no_price",
    "expired",
    "no_cash",
    "cancelled",
    "halted",
    "bust",
    "stale_bars",
    "unfilled_at_end",
    "below_lot",
    "below_minimum",
    "in_band",
)  # R1, S8
COLUMNS = (
    "equity",
    "cash",
    "gross",
    "net",
    "turnover",
    "costs",
    "financing",
    "dividends",
    "positions",
)
CHOICES = {
    "fill": ("next_open", "next_close", "same_close"),
    "sizing": ("decision", "fill"),
    "kind": ("weights", "values", "quantities"),
    "afford": ("scale", "greedy", "reject", "allow"),
    "lot_rounding": ("nearest", "down"),
}


@dataclass
class Case:
    """One backtest: prices, targets, settings.

    Attributes
    ----------
    open, close : list of list of float
        Prices, one list of ``n_assets`` floats per bar, in money per unit. A price that is not finite and > 0
        (NaN as a rule) means "no bar".
    targets : list
        One item per bar: None (the schedule says nothing) or ``n_assets`` numbers of the given `kind`. NaN is
        0; a row without any finite number is no decision.
    cash : float
        Starting cash, money.
    sizing : str
        "decision" or "fill".
    commission_bps, half_spread_bps, slippage_bps : float
        Costs in basis points (1e-4) of notional (commission) or of the base price (the other two).
    max_wait : int
        Bars on which an order is tried, in all.
    ends : dict
        ``{asset index: (end bar, payout)}``; a NaN payout means "at the mark".
    bars_per_year : float
        A of the metrics.
    risk_free : float
        Annual risk-free rate, fraction.
    fill : str
        "next_open", "next_close" or "same_close".
    kind : str
        What targets are: "weights" (fraction of equity), "values" (money) or "quantities" (units).
    afford : str
        What happens to buys beyond the cash there is: "scale", "greedy", "reject" or "allow".
    margin : float
        Fraction of equity by which buys may take cash below zero.
    per_share, min_commission : float
        Commission per unit and the least of one fill, money.
    max_commission_frac : float
        The most commission of one fill, fraction of its notional; 0 is no limit.
    lot : float
        Units; 0 switches lots off.
    lot_rounding : str
        "nearest" or "down".
    band, band_rel : float
        No order while the weight is this near its target: fraction of equity, fraction of the target weight.
    min_notional : float
        No order below this, money.
    keep, member : list of list of bool or None
        One list of ``n_assets`` per bar. True in `keep`: KEEP instead of a target, where the schedule says
        something. False in `member`: no member on that bar. None: nothing is kept, everything is a member.
    """

    open: list[list[float]]
    close: list[list[float]]
    targets: list[list[float] | None]
    cash: float = 1_000_000.0
    sizing: str = "decision"
    commission_bps: float = 0.0
    half_spread_bps: float = 0.0
    slippage_bps: float = 0.0
    max_wait: int = 5
    ends: dict[int, tuple[int, float]] = field(default_factory=dict)
    bars_per_year: float = 252.0
    risk_free: float = 0.0
    fill: str = "next_open"
    kind: str = "weights"
    afford: str = "scale"
    margin: float = 0.0
    per_share: float = 0.0
    min_commission: float = 0.0
    max_commission_frac: float = 0.0
    lot: float = 0.0
    lot_rounding: str = "nearest"
    band: float = 0.0
    band_rel: float = 0.0
    min_notional: float = 0.0
    keep: list[list[bool]] | None = None
    member: list[list[bool]] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a case."""
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {words}, not {getattr(self, name)!r}")
        if self.max_wait < 1:
            raise ValueError("max_wait must be at least 1")
        if not self.open or not len(self.open) == len(self.close) == len(self.targets):
            raise ValueError("open, close and targets need the same number of bars, at least one")
        rows: list[Sized] = [*self.open, *self.close, *(row for row in self.targets if row is not None)]
        for table in (self.keep, self.member):
            if table is not None and len(table) != self.n_bars:
                raise ValueError(f"keep and member need {self.n_bars} bars")
            rows += table or []
        if any(len(row) != self.n_assets for row in rows):
            raise ValueError(f"every row needs {self.n_assets} assets")

    @property
    def n_bars(self) -> int:
        """Number of bars of the window."""
        return len(self.open)

    @property
    def n_assets(self) -> int:
        """Number of assets, in panel order."""
        return len(self.open[0])

    @property
    def prices(self) -> list[list[float]]:
        """The prices at which orders fill: opens or closes."""
        return self.open if self.fill == "next_open" else self.close

    @property
    def first_try(self) -> int:
        """Bars from a decision to the first try: "tried from t+1 (same_close: t) on"."""
        return 0 if self.fill == "same_close" else 1

    def is_member(self, t: int, asset: int) -> bool:
        """Whether an asset is a member of the universe on bar `t`."""
        return self.member is None or bool(self.member[t][asset])

    def is_alive(self, t: int, asset: int) -> bool:
        """Whether bar `t` is not after the asset's end of life."""
        return asset not in self.ends or t <= self.ends[asset][0]

    def is_kept(self, t: int, asset: int) -> bool:
        """Whether the decision of bar `t` says KEEP for an asset."""
        return self.keep is not None and bool(self.keep[t][asset])

    def is_decision(self, t: int) -> bool:
        """Whether bar `t` has a decision.

        "A row without any finite weight is no decision", judged on the raw row (R3); KEEP alone is none (S4).
        """
        row = self.targets[t]
        return row is not None and any(
            math.isfinite(number) and not self.is_kept(t, asset) for asset, number in enumerate(row)
        )


@dataclass
class Fill:
    """One row of the ledger.

    Quantity is signed (units), base and price are money per unit, commission, spread, slippage and impact are
    money and >= 0. Reason is "target", "delisting", "bust" or "membership" (R16, S8). No field is NaN.
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
    """One closed round trip, flat to flat; pnl in money, bars_held = exit bar - entry bar."""

    asset: int
    entry_bar: int
    exit_bar: int
    bars_held: int
    pnl: float


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
        Reason counters, all names of R1 and S8.
    metrics : dict
        All metrics of the page; undefined ones are NaN.
    log : list of Event
        The diary behind the counters. No part of the contract; it helps to find the bar of a difference.
    """

    bars: dict[str, list[float]]
    quantity: list[list[float]]
    fills: list[Fill]
    trades: list[Trade]
    counters: dict[str, int]
    metrics: dict[str, float]
    log: list[Event]


@dataclass
class Order:
    """What waits for one asset; target is None until it is sized (sizing: fill)."""

    decision_bar: int
    wanted: float  # the number of the decision: a weight, a value or a quantity
    target: float | None
    reason: str = "target"
    missed: bool = False  # a try met no valid base price, `no_price` is counted

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
class Book:
    """The state carried from bar to bar."""

    cash: float
    quantity: list[float]
    last_close: list[float]  # last valid close inside the window, NaN while there is none
    opening_base: list[float]  # base price of the fill that opened the present position
    waiting: list[Order | None]  # at most one order per asset
    entry_bar: list[int]  # of the open trade
    cash_flow: list[float]  # of the open trade so far
    is_bust: bool = False
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    bars: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    quantity_by_bar: list[list[float]] = field(default_factory=list)

    def count(self, name: str, bar: int, asset: int = -1, decision_bar: int = -1) -> None:
        """Let the counter `name` go up by one; a name that is no counter is an entry in the diary only."""
        self.log.append(Event(name, bar, asset, decision_bar))

    def mark(self, asset: int) -> float:
        """Last valid close, or the first fill's base price until there is one; NaN = no mark (R5)."""
        if valid(self.last_close[asset]):
            return self.last_close[asset]
        if self.quantity[asset] != 0:
            return self.opening_base[asset]
        return NAN

    def held(self) -> list[int]:
        """Assets with a position, in panel order."""
        return [asset for asset, quantity in enumerate(self.quantity) if quantity != 0]


def valid(price: float) -> bool:
    """Whether a price is one: "a valid price is finite and > 0"."""
    return math.isfinite(price) and price > 0


def run(case: Case) -> Outcome:
    """Run one backtest by the contract.

    Parameters
    ----------
    case : Case
        Prices, targets and settings; NaN prices are missing bars.

    Returns
    -------
    Outcome
        Bars, ledger, trades, counters and metrics; money in the units of `case.cash`.
    """
    n = case.n_assets
    book = Book(
        cash=case.cash,
        quantity=[0.0] * n,
        last_close=[NAN] * n,
        opening_base=[NAN] * n,
        waiting=[None] * n,
        entry_bar=[-1] * n,
        cash_flow=[0.0] * n,
    )
    # "One bar is one slice: each step for all assets, then the next step."
    for t in range(case.n_bars):
        delistings(case, book, t)  # step 2
        lost_membership(case, book, t)
        if case.fill == "next_open":  # step 3
            fill_pass(case, book, t)
        if case.fill == "next_close":  # step 5
            fill_pass(case, book, t)
        equity = mark(case, book, t)  # step 6
        # "Decisions use the equity of step 6; the result shows that of step 8."
        decide(case, book, t, equity)  # step 7
        if case.fill == "same_close":  # step 8
            fill_pass(case, book, t)
        show(case, book, t)
    # "Orders left after the last bar count as `unfilled_at_end`; positions stay open." (R12)
    for asset, order in enumerate(book.waiting):
        if order is not None:
            book.count("unfilled_at_end", case.n_bars - 1, asset, order.decision_bar)
    return outcome_of(case, book)


# --- step 2: events -----------------------------------------------------------------------------------------


def delistings(case: Case, book: Book, t: int) -> None:
    """Close what ended: "delisting on the bar after the asset's end of life" (R9)."""
    for asset in range(case.n_assets):
        if asset not in case.ends:
            continue
        end_bar, payout = case.ends[asset]
        if end_bar + 1 != t:
            continue
        # "its order cancelled" - also a forced exit
        order = book.waiting[asset]
        if order is not None:
            book.count("cancelled", t, asset, order.decision_bar)
            book.waiting[asset] = None
        # "closed at the payout price [the mark], no costs"; decision bar t-1
        if book.quantity[asset] != 0:
            price = book.mark(asset) if math.isnan(payout) else payout
            quantity = -book.quantity[asset]
            record(book, Fill(t - 1, t, asset, quantity, price, price, 0.0, 0.0, 0.0, 0.0, "delisting"))


def lost_membership(case: Case, book: Book, t: int) -> None:
    """Send out what lost membership: "its order is cancelled, a held position gets a forced exit" (S3)."""
    for asset in range(case.n_assets):
        if t == 0 or not case.is_member(t - 1, asset) or case.is_member(t, asset):
            continue
        order = book.waiting[asset]
        if order is not None and not order.forced:
            book.count("cancelled", t, asset, order.decision_bar)
            book.waiting[asset] = None
        if book.quantity[asset] != 0 and book.waiting[asset] is None:
            book.count("orders", t, asset, t - 1)
            # "tried from this bar on", so it was decided on the bar before
            book.waiting[asset] = Order(t - 1, wanted=0.0, target=0.0, reason="membership")


# --- steps 3, 5 and 8: fills --------------------------------------------------------------------------------


def fill_pass(case: Case, book: Book, t: int) -> None:
    """One fill pass: all (a), then all (b), then all (c), each in panel order."""
    # "E = cash + sum(quantity * base price of this pass, else mark), before any fill of the pass"; before
    # step 6 the marks are those of the end of t-1 (R5, S1), which the book still carries.
    equity = book.cash + sum(
        book.quantity[asset] * (case.prices[t][asset] if valid(case.prices[t][asset]) else book.mark(asset))
        for asset in book.held()
    )
    reductions, shorts, buys = [], [], []
    for asset in range(case.n_assets):
        order = tried(case, book, t, asset)
        if order is None:
            continue
        position = book.quantity[asset]
        if order.target is None:
            # sizing fill: "at the fill, p = base price"
            base = case.prices[t][asset]
            order.target = sized(case, book, t, asset, order.decision_bar, order.wanted, equity, base)
            if order.target is None:
                continue
            book.count("orders", t, asset, order.decision_bar)  # R2: counts at the moment it is sized
        target = order.target
        # "A reversal is one order with two fills, (a) and then (b) or (c)." Leg (a) ends at exactly 0 (R7).
        if (position > 0 and target < position) or (position < 0 and target > position):
            between = max(target, 0.0) if position > 0 else min(target, 0.0)
            reductions.append(Leg(asset, between - position, order))
            position = between
        if target < position:
            shorts.append(Leg(asset, target - position, order))
        elif target > position:
            buys.append(Leg(asset, target - position, order))
    for leg in reductions + shorts:  # "caps, not cash, limit shorts"; covers are never cut
        fill(case, book, t, leg)
    bought = affordable(case, book, t, buys, equity)
    for leg in sorted(bought, key=lambda leg: leg.asset):  # S7: "made and written in panel order"
        fill(case, book, t, leg)


def tried(case: Case, book: Book, t: int, asset: int) -> Order | None:
    """Take the order of an asset that meets a valid base price now out of the waiting ones."""
    order = book.waiting[asset]
    if order is None:
        return None
    if valid(case.prices[t][asset]):
        # R4: "finished with its first try at a valid price, whatever was filled"
        book.waiting[asset] = None
        return order
    if not order.missed:
        order.missed = True
        book.count("no_price", t, asset, order.decision_bar)  # "no_price (once)"
    # "tried from t+1 (same_close: t) on max_wait bars in all", "forced exits are not ... expired"
    last_try = order.decision_bar + case.first_try + case.max_wait - 1
    if not order.forced and t >= last_try:
        book.waiting[asset] = None
        book.count("expired", t, asset, order.decision_bar)
    return None


def affordable(case: Case, book: Book, t: int, buys: list[Leg], equity: float) -> list[Leg]:
    """Cut the buys of group (c) to the cash there is (R6, S7)."""
    free = book.cash + case.margin * equity  # "free = cash after (b) + margin x E"
    slack = CASH_TOLERANCE * equity
    if case.afford == "allow" or not buys or outlay_of_all(case, t, buys) <= free + slack:
        return buys
    bought = []
    if case.afford == "scale":
        f = largest_fraction(case, t, buys, free)
        for leg in buys:
            book.count("no_cash", t, leg.asset, leg.order.decision_bar)  # "each cut order counts no_cash"
            bought.append(cut(case, t, leg, f, equity))
    else:
        left = free
        for leg in by_notional(case, book, t, buys):
            if outlay_of_all(case, t, [leg]) > left + slack:
                book.count("no_cash", t, leg.asset, leg.order.decision_bar)
                # "greedy: the same one order after another; reject: as greedy, all or nothing"
                f = largest_fraction(case, t, [leg], left) if case.afford == "greedy" else 0.0
                leg = cut(case, t, leg, f, equity)
            left -= outlay_of_all(case, t, [leg])
            bought.append(leg)
    return [leg for leg in bought if leg.quantity > 0]


def by_notional(case: Case, book: Book, t: int, buys: list[Leg]) -> list[Leg]:
    """Sort by "larger notional first, ties in panel order"; see the module's docstring on ties."""

    def notional(leg: Leg) -> float:
        return leg.quantity * fill_price(case, leg.quantity, case.prices[t][leg.asset])

    left, result = list(buys), []
    while left:
        largest = max(notional(leg) for leg in left)
        ties = [leg for leg in left if notional(leg) >= largest * (1 - REACHED)]
        if len(ties) > 1:
            book.count("tie", t, ties[0].asset, ties[0].order.decision_bar)
        left.remove(ties[0])
        result.append(ties[0])
    return result


def largest_fraction(case: Case, t: int, buys: list[Leg], free: float) -> float:
    """Find "the largest common f in [0, 1] whose summed outlay of f*q is <= free"; 0 if there is none.

    The outlay grows with f, so halving the interval finds it, with or without minimum commissions.
    """

    def fits(f: float) -> bool:
        part = [Leg(leg.asset, f * leg.quantity, leg.order) for leg in buys]
        return outlay_of_all(case, t, part) <= free

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def cut(case: Case, t: int, leg: Leg, f: float, equity: float) -> Leg:
    """Cut one buy to `f` of its quantity; "after a cut, lots round down", and dust is nothing (S7)."""
    quantity = f * leg.quantity
    if case.lot > 0:
        quantity = math.floor(quantity / case.lot + LOT_TOLERANCE) * case.lot
    if quantity * case.prices[t][leg.asset] < DUST * equity:
        quantity = 0.0
    return Leg(leg.asset, quantity, leg.order)


def outlay_of_all(case: Case, t: int, buys: list[Leg]) -> float:
    """Cash that buys take: "outlay = quantity x fill price + commission"; nothing bought costs nothing."""
    total = 0.0
    for leg in buys:
        if leg.quantity > 0:
            price = fill_price(case, leg.quantity, case.prices[t][leg.asset])
            total += leg.quantity * price + commission_of(case, leg.quantity, price)
    return total


def cost_fractions(case: Case) -> tuple[float, float]:
    """Half spread and slippage as fractions of the base price, together at most 0.5 (R8)."""
    half_spread = case.half_spread_bps / 1e4
    slippage = case.slippage_bps / 1e4
    both = half_spread + slippage
    if both > MAX_FRACTION:  # the minimum binds: both parts shrink in proportion
        half_spread *= MAX_FRACTION / both
        slippage *= MAX_FRACTION / both
    return half_spread, slippage


def fill_price(case: Case, quantity: float, base: float) -> float:
    """``fill price = base * (1 +- min(half_spread + slippage, 0.5))``, + for a buy."""
    fraction = min(sum(cost_fractions(case)), MAX_FRACTION)
    return base * (1 + fraction) if quantity > 0 else base * (1 - fraction)


def commission_of(case: Case, size: float, price: float) -> float:
    """``min(max(per_share*|q| + bps*notional, minimum), cap*notional)``, notional = |q| x fill price (S6)."""
    notional = size * price
    commission = max(case.per_share * size + case.commission_bps / 1e4 * notional, case.min_commission)
    if case.max_commission_frac > 0:
        commission = min(commission, case.max_commission_frac * notional)
    return commission


def fill(case: Case, book: Book, t: int, leg: Leg) -> None:
    """Fill one leg at the base price of this pass, with costs."""
    base = case.prices[t][leg.asset]
    price = fill_price(case, leg.quantity, base)
    half_spread, slippage = cost_fractions(case)
    size = abs(leg.quantity)
    record(
        book,
        Fill(
            decision_bar=leg.order.decision_bar,
            bar=t,
            asset=leg.asset,
            quantity=leg.quantity,
            base=base,
            price=price,
            commission=commission_of(case, size, price),
            spread=half_spread * size * base,
            slippage=slippage * size * base,
            impact=0.0,
            reason=leg.order.reason,
        ),
    )


def record(book: Book, row: Fill) -> None:
    """Enter one fill into ledger, cash, position and open trade."""
    asset = row.asset
    book.fills.append(row)
    # "Cash moves by exactly quantity x fill price + commission, and nothing is charged twice."
    flow = -(row.quantity * row.price + row.commission)
    book.cash += flow
    if book.quantity[asset] == 0:
        book.opening_base[asset] = row.base
        book.entry_bar[asset] = row.bar
        book.cash_flow[asset] = 0.0
    book.quantity[asset] += row.quantity
    book.cash_flow[asset] += flow
    if book.quantity[asset] == 0:  # "round trips, flat to flat, a reversal ends one" (R15)
        entry = book.entry_bar[asset]
        book.trades.append(Trade(asset, entry, row.bar, row.bar - entry, book.cash_flow[asset]))


# --- step 6: mark -------------------------------------------------------------------------------------------


def mark(case: Case, book: Book, t: int) -> float:
    """Mark the book: "equity[t] = cash + sum(quantity * mark) over held assets"."""
    for asset in range(case.n_assets):
        if valid(case.close[t][asset]):
            book.last_close[asset] = case.close[t][asset]
        elif book.quantity[asset] != 0:
            book.count("stale_bars", t, asset)  # R11, S2; "a missing price never zeroes a position"
    return book.cash + sum(book.quantity[asset] * book.mark(asset) for asset in book.held())


def show(case: Case, book: Book, t: int) -> None:
    """Enter the bar's row: the book as it stands after step 6 or, for same_close, marked again in step 8."""
    values = [book.quantity[asset] * book.mark(asset) for asset in book.held()]
    equity = book.cash + sum(values)
    before = book.bars["equity"][-1] if t > 0 else case.cash
    rows = [row for row in book.fills if row.bar == t]
    bars = book.bars
    bars["equity"].append(equity)
    bars["cash"].append(book.cash)
    bars["gross"].append(formulas.ratio(sum(abs(value) for value in values), equity))
    bars["net"].append(formulas.ratio(sum(values), equity))
    bars["turnover"].append(formulas.ratio(sum(notional_of(row) for row in rows) / 2, before))
    bars["costs"].append(math.fsum(row.commission + row.spread + row.slippage + row.impact for row in rows))
    bars["financing"].append(0.0)
    bars["dividends"].append(0.0)
    bars["positions"].append(len(values))
    book.quantity_by_bar.append(list(book.quantity))


def notional_of(row: Fill) -> float:
    """Traded notional of a fill, money; a delisting is an event and trades nothing (R9, R13)."""
    return 0.0 if row.reason == "delisting" else abs(row.quantity) * row.price


# --- step 7: decide -----------------------------------------------------------------------------------------


def decide(case: Case, book: Book, t: int, equity: float) -> None:
    """Bust first, then the schedule's targets, which queue orders."""
    if equity <= 0 and not book.is_bust:
        bust(book, t)
    if not case.is_decision(t):
        return
    if book.is_bust:
        book.count("halted", t)  # "decisions of this and the next bars are dropped"
        return
    for asset in range(case.n_assets):
        order = book.waiting[asset]
        # "KEEP leaves an asset's position and waiting order as they are"; "forced exits are not replaced"
        if case.is_kept(t, asset) or (order is not None and order.forced):
            continue
        # "A target is a set, never an increment, and replaces what waits for that asset" (R2: always)
        if order is not None:
            book.count("replaced", t, asset, order.decision_bar)
            book.waiting[asset] = None
        queue(case, book, t, asset, wanted(case, t, asset), equity)


def bust(book: Book, t: int) -> None:
    """Halt for good at equity <= 0: cancel what waits, force every position out (R10)."""
    book.is_bust = True
    book.count("bust", t)
    for asset, order in enumerate(book.waiting):
        if order is not None and not order.forced:
            book.count("cancelled", t, asset, order.decision_bar)
            book.waiting[asset] = None
    for asset in book.held():
        if book.waiting[asset] is None:  # S3: "a forced exit that waits keeps its first reason"
            book.count("orders", t, asset, t)
            book.waiting[asset] = Order(t, wanted=0.0, target=0.0, reason="bust")


def wanted(case: Case, t: int, asset: int) -> float:
    """Number an asset gets in the decision of `t`: 0 for NaN, after its end of life and for non-members."""
    row = case.targets[t]
    assert row is not None
    counts = math.isfinite(row[asset]) and case.is_alive(t, asset) and case.is_member(t, asset)
    return row[asset] if counts else 0.0


def queue(case: Case, book: Book, t: int, asset: int, number: float, equity: float) -> None:
    """Queue the order that leads from the position to the target, if there is one (R2)."""
    if case.sizing == "fill":
        if number != 0 or book.quantity[asset] != 0:
            book.waiting[asset] = Order(t, number, target=None)
        return
    price = book.mark(asset)
    if number != 0 and not valid(price):
        book.count("no_price", t, asset, t)  # "no mark: dropped, no_price"
        return
    target = sized(case, book, t, asset, t, number, equity, price)
    if target is None:
        return
    book.count("orders", t, asset, t)
    book.waiting[asset] = Order(t, number, target)  # "the target quantity is kept"


# --- sizing, at the decision or at the fill -----------------------------------------------------------------


def sized(
    case: Case, book: Book, t: int, asset: int, decided: int, number: float, equity: float, price: float
) -> float | None:
    """Target quantity of an order after band, minimum notional and lots; None is no order (S5)."""
    position = book.quantity[asset]
    target = target_quantity(case, number, equity, price)
    if target == 0:  # a closing is exempt from all that follows; 0 to 0 is no order
        return 0.0 if position != 0 else None
    order = target - position
    # "Orders under 1e-12 x E are dropped, except closings."
    if order == 0 or abs(order) * price < DUST * equity:
        return None
    # "Band (position of the same sign): no order if |w - quantity*p/E| <= max(abs, rel*|w|)"
    if position * target > 0 and (case.band > 0 or case.band_rel > 0):
        weight = number if case.kind == "weights" else target * price / equity
        if abs(weight - position * price / equity) <= max(case.band, case.band_rel * abs(weight)) + REACHED:
            book.count("in_band", t, asset, decided)
            return None
    # "Minimum notional: no order if |order| x p is below it"
    if abs(order) * price < case.min_notional * (1 - REACHED):
        book.count("below_minimum", t, asset, decided)
        return None
    if case.lot > 0:
        return in_lots(case, book, t, asset, decided, target)
    return target


def target_quantity(case: Case, number: float, equity: float, price: float) -> float:
    """Raw quantity = w*E/p, v/p or q; "E <= 0 gives 0" (S4). Only a target other than 0 needs a price."""
    if number == 0 or equity <= 0:
        return 0.0
    if case.kind == "quantities":
        return number
    return number * equity / price if case.kind == "weights" else number / price


def in_lots(case: Case, book: Book, t: int, asset: int, decided: int, target: float) -> float | None:
    """Target quantity whose order is whole lots; "the new position, if opened or reversed" (S5)."""
    position = book.quantity[asset]
    is_same_sign = position * target > 0
    raw = target - position if is_same_sign else target
    lots = round_to_lots(case, raw)
    if lots == 0:
        book.count("below_lot", t, asset, decided)
        # a reversal whose new position is nothing goes on as a closing
        return None if is_same_sign or position == 0 else 0.0
    if abs(lots - raw) > LOT_TOLERANCE * case.lot:
        book.count("lots_up" if abs(lots) > abs(raw) else "lots_down", t, asset, decided)
    if not is_same_sign:
        return lots
    # "never more than a reduction's position", which then is closed exactly
    if position * raw < 0 and abs(lots) >= abs(position) - LOT_TOLERANCE * case.lot:
        book.count("closed_by_lots", t, asset, decided)
        return 0.0
    return position + lots


def round_to_lots(case: Case, quantity: float) -> float:
    """``floor(|q|/lot + 1/2 + 1e-9)`` lots, or without 1/2 for "down"."""
    half = 0.5 if case.lot_rounding == "nearest" else 0.0
    return math.copysign(math.floor(abs(quantity) / case.lot + half + LOT_TOLERANCE) * case.lot, quantity)


# --- what comes out -----------------------------------------------------------------------------------------


def outcome_of(case: Case, book: Book) -> Outcome:
    """Collect the results."""
    counters = {name: sum(event.name == name for event in book.log) for name in COUNTERS}
    traded = [row for row in book.fills if row.reason != "delisting"]
    metrics = formulas.compute(
        equity=book.bars["equity"],
        starting_cash=case.cash,
        gross=book.bars["gross"],
        notional=[notional_of(row) for row in traded],
        costs=book.bars["costs"],
        pnl=[trade.pnl for trade in book.trades],
        bars_held=[trade.bars_held for trade in book.trades],
        orders=counters["orders"],
        fills=len(traded),
        bars_per_year=case.bars_per_year,
        risk_free=case.risk_free,
    )
    return Outcome(book.bars, book.quantity_by_bar, book.fills, book.trades, counters, metrics, book.log)


def after(position: float, quantity: float) -> float:
    """Position after a fill, for those who only have the ledger: rounding dust of a closing fill is 0."""
    result = position + quantity
    return 0.0 if abs(result) <= DUST * abs(quantity) else result


def rebuild(case: Case, outcome: Outcome) -> tuple[list[float], list[list[float]]]:
    """Rebuild cash and quantities of every bar from the fills alone.

    Parameters
    ----------
    case : Case
        Gives starting cash, number of bars and of assets; prices are not used.
    outcome : Outcome
        Only its ledger (`fills`) is used.

    Returns
    -------
    cash : list of float
        Money at the end of each bar.
    quantity : list of list of float
        Units at the end of each bar, ``n_assets`` per bar.
    """
    cash, quantity = case.cash, [0.0] * case.n_assets
    cash_by_bar, quantity_by_bar = [], []
    for t in range(case.n_bars):
        for row in outcome.fills:
            if row.bar == t:
                cash -= row.quantity * row.price + row.commission
                quantity[row.asset] = after(quantity[row.asset], row.quantity)
        cash_by_bar.append(cash)
        quantity_by_bar.append(list(quantity))
    return cash_by_bar, quantity_by_bar
