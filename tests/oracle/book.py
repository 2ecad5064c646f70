"""The accounting contract of one backtest, step by step, in plain Python.

Written for reading: one function per step of the page, in the order of the page, with the names of the page.
"R<n>" in a comment is reading n of the readings that belong to the contract. Speed is no aim here.

Choices made where page and readings leave a gap:

* A buy of group (c) that was cut to less than ``1e-12 * E`` (quantity x base) fills nothing, like ``f = 0``
  (the page: "orders under 1e-12 x E are dropped", and ``f`` itself is only defined to 1e-12). Without this
  rounding dust in the cash of a fully invested book decides whether there is a fill, a trade and a position.
* An infinite weight counts like NaN: it is 0, and does not make a row a decision.
* A forced exit counts ``no_price`` like any other order, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.oracle import metrics as formulas

NAN = math.nan
DUST = 1e-12  # orders and denominators below this count as nothing
CASH_TOLERANCE = 1e-9  # "all fits if outlay <= free + 1e-9*E"
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
)  # R1
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


@dataclass
class Case:
    """One backtest: prices, target weights, settings.

    Attributes
    ----------
    open, close : list of list of float
        Prices, one list of ``n_assets`` floats per bar, in money per unit. A price that is not finite and > 0
        (NaN as a rule) means "no bar".
    targets : list
        One item per bar: None (the schedule says nothing) or ``n_assets`` weights (fraction of equity). NaN
        is weight 0; a row without any finite weight is no decision.
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

    def __post_init__(self) -> None:
        """Refuse what cannot be a case."""
        if self.sizing not in ("decision", "fill"):
            raise ValueError(f"sizing must be 'decision' or 'fill', not {self.sizing!r}")
        if self.max_wait < 1:
            raise ValueError("max_wait must be at least 1")
        if not self.open or not len(self.open) == len(self.close) == len(self.targets):
            raise ValueError("open, close and targets need the same number of bars, at least one")
        rows = [*self.open, *self.close, *(row for row in self.targets if row is not None)]
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


@dataclass
class Fill:
    """One row of the ledger.

    Quantity is signed (units), base and price are money per unit, commission, spread, slippage and impact are
    money and >= 0. Reason is "target", "delisting" or "bust" (R16). No field is NaN.
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
    """One step of a counter: what, when, for which asset (None: the whole book), decided at which bar."""

    name: str
    bar: int
    asset: int | None = None
    decision_bar: int | None = None


@dataclass
class Outcome:
    """What comes out of a case.

    Attributes
    ----------
    bars : dict of list
        Per bar: equity, cash, costs, financing, dividends (money), gross, net, turnover (fractions, NaN where
        the denominator is <= 1e-12), positions (count).
    quantity : list of list of float
        Units held after step 6, one list of ``n_assets`` per bar.
    fills, trades : list
        The ledger in the order made; closed round trips in the order closed.
    counters : dict of int
        Reason counters, all names of R1.
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
    weight: float
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

    def count(self, name: str, bar: int, asset: int | None = None, decision_bar: int | None = None) -> None:
        """Let the counter `name` go up by one."""
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
        Prices, target weights and settings; NaN prices are missing bars.

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
        delistings(case, book, t)
        fills_at_the_open(case, book, t)
        mark(case, book, t)
        decide(case, book, t)
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


# --- step 3: fills at the open ------------------------------------------------------------------------------


def fills_at_the_open(case: Case, book: Book, t: int) -> None:
    """One fill pass: all (a), then all (b), then all (c), each in panel order."""
    # "E = cash + sum(quantity * base price of this pass, else mark), before any fill of the pass"; the marks
    # are those of the end of t-1 (R5), which the book still carries.
    equity = book.cash + sum(
        book.quantity[asset] * (case.open[t][asset] if valid(case.open[t][asset]) else book.mark(asset))
        for asset in book.held()
    )
    reductions, shorts, buys = [], [], []
    for asset in range(case.n_assets):
        order = tried(case, book, t, asset)
        if order is None:
            continue
        base = case.open[t][asset]
        position = book.quantity[asset]
        if order.target is None:
            # sizing fill: "at the fill, p = base price"
            order.target = target_quantity(order.weight, equity, base)
            if is_dropped(order.target, position, base, equity):
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
    for leg in affordable(case, book, t, buys, equity):
        fill(case, book, t, leg)


def tried(case: Case, book: Book, t: int, asset: int) -> Order | None:
    """Take the order of an asset that meets a valid base price now out of the waiting ones."""
    order = book.waiting[asset]
    if order is None:
        return None
    if valid(case.open[t][asset]):
        # R4: "finished with its first try at a valid price, whatever was filled"
        book.waiting[asset] = None
        return order
    if not order.missed:
        order.missed = True
        book.count("no_price", t, asset, order.decision_bar)  # "no_price (once)"
    # "tried from t+1 on max_wait bars in all", "forced exits are not ... expired"
    if not order.forced and t >= order.decision_bar + case.max_wait:
        book.waiting[asset] = None
        book.count("expired", t, asset, order.decision_bar)
    return None


def affordable(case: Case, book: Book, t: int, buys: list[Leg], equity: float) -> list[Leg]:
    """Cut the buys of group (c) to the cash there is (policy `scale`, margin 0; R6)."""
    free = book.cash  # "free = cash after (b)"
    outlay = sum(outlay_of(case, leg.quantity, case.open[t][leg.asset]) for leg in buys)
    if not buys or outlay <= free + CASH_TOLERANCE * equity:
        return buys
    # All costs are proportional here, so the largest common f is a plain quotient.
    f = min(max(free / outlay, 0.0), 1.0)
    kept = []
    for leg in buys:
        book.count("no_cash", t, leg.asset, leg.order.decision_bar)  # "each cut order counts no_cash"
        quantity = f * leg.quantity
        # "0 if none"; and dust is none, see the module's docstring
        if quantity > 0 and quantity * case.open[t][leg.asset] >= DUST * equity:
            kept.append(Leg(leg.asset, quantity, leg.order))
    return kept


def outlay_of(case: Case, quantity: float, base: float) -> float:
    """Cash a buy takes: "outlay = quantity x fill price + commission"."""
    notional = quantity * fill_price(case, quantity, base)
    return notional + commission_of(case, notional)


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


def commission_of(case: Case, notional: float) -> float:
    """Commission of one fill: bps of notional = |q| x fill price."""
    return case.commission_bps / 1e4 * notional


def fill(case: Case, book: Book, t: int, leg: Leg) -> None:
    """Fill one leg at the open of `t`, with costs."""
    base = case.open[t][leg.asset]
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
            commission=commission_of(case, size * price),
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


def mark(case: Case, book: Book, t: int) -> None:
    """Mark the book: "equity[t] = cash + sum(quantity * mark) over held assets"."""
    for asset in range(case.n_assets):
        if valid(case.close[t][asset]):
            book.last_close[asset] = case.close[t][asset]
        elif book.quantity[asset] != 0:
            book.count("stale_bars", t, asset)  # R11; "a missing price never zeroes a position"
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


def decide(case: Case, book: Book, t: int) -> None:
    """Bust first, then the schedule's targets, which queue orders."""
    equity = book.bars["equity"][t]
    row = case.targets[t]
    # "a row without any finite weight is no decision", judged on the raw row (R3)
    is_decision = row is not None and any(math.isfinite(weight) for weight in row)
    if equity <= 0 and not book.is_bust:
        bust(book, t)
    if book.is_bust:
        if is_decision:
            book.count("halted", t)  # "decisions of this and the next bars are dropped"
        return
    if not is_decision:
        return
    for asset in range(case.n_assets):
        # "A target is a set, never an increment, and replaces what waits for that asset" (R2: always)
        order = book.waiting[asset]
        if order is not None:
            book.count("replaced", t, asset, order.decision_bar)
            book.waiting[asset] = None
        queue(case, book, t, asset, target_weight(case, t, asset), equity)


def bust(book: Book, t: int) -> None:
    """Halt for good at equity <= 0: cancel what waits, force every position out (R10)."""
    book.is_bust = True
    book.count("bust", t)
    for asset, order in enumerate(book.waiting):
        if order is not None:
            book.count("cancelled", t, asset, order.decision_bar)
            book.waiting[asset] = None
    for asset in book.held():
        book.count("orders", t, asset, t)
        book.waiting[asset] = Order(t, weight=0.0, target=0.0, reason="bust")


def target_weight(case: Case, t: int, asset: int) -> float:
    """Weight of an asset in the decision of `t`: 0 for NaN and for an asset after its end of life."""
    weight = case.targets[t][asset]
    is_dead = asset in case.ends and t > case.ends[asset][0]
    return 0.0 if is_dead or not math.isfinite(weight) else weight


def queue(case: Case, book: Book, t: int, asset: int, weight: float, equity: float) -> None:
    """Queue the order that leads from the position to the target, if there is one (R2)."""
    position = book.quantity[asset]
    if case.sizing == "fill":
        if weight != 0 or position != 0:
            book.waiting[asset] = Order(t, weight, target=None)
        return
    price = book.mark(asset)
    if weight != 0 and not valid(price):
        book.count("no_price", t, asset, t)  # "no mark: dropped, no_price"
        return
    target = 0.0 if weight == 0 else target_quantity(weight, equity, price)
    if is_dropped(target, position, price, equity):
        return
    book.count("orders", t, asset, t)
    book.waiting[asset] = Order(t, weight, target)  # "the target quantity is kept"


def target_quantity(weight: float, equity: float, price: float) -> float:
    """Raw quantity = w*E/p; "E <= 0 gives 0"."""
    return weight * equity / price if equity > 0 else 0.0


def is_dropped(target: float, position: float, price: float, equity: float) -> bool:
    """Whether an order is under 1e-12 x E and no closing; E <= 0 leaves nothing but closings (R2)."""
    if target == 0:
        return position == 0  # a closing never is; 0 to 0 is no order
    return equity <= 0 or abs(target - position) * price < DUST * equity


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
        Money after step 6 of each bar.
    quantity : list of list of float
        Units after step 6 of each bar, ``n_assets`` per bar.
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
