"""What one backtest starts from: prices, targets and settings.

"R<n>" in a comment of the oracle is reading n of the first readings that belong to the contract, "S<n>" of
the second and "T<n>" of the third.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass, field

NAN = math.nan

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
    "stop_loss",
    "atr_stop",
    "trailing",
    "take_profit",
    "time_exit",
    "drawdown_halt",
    "cooldown",
    "capped",
    "over_limit",
    "no_volume",
)  # R1, S8, and the third readings
REASONS = (
    "target",
    "delisting",
    "bust",
    "membership",
    "stop_loss",
    "atr_stop",
    "trailing",
    "take_profit",
    "time_exit",
    "drawdown_halt",
)  # R16, S8, and the third readings
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
    "rules_on": ("intrabar", "close"),
    "over": ("scale", "reject"),
}
TABLES = ("keep", "member", "high", "low", "volume", "sigma", "adv", "atr", "split", "dividend")
PER_ASSET = (
    "commission_bps",
    "per_share",
    "min_commission",
    "max_commission_frac",
    "half_spread_bps",
    "slippage_bps",
    "impact",
    "borrow_rate",
)
CONSTRAINTS = ("max_weight", "group_cap", "gross", "net", "turnover", "positions")

Table = list[list[float]]


@dataclass
class Case:
    """One backtest: prices, targets, settings.

    A table has one list of ``n_assets`` numbers per bar. What is "off" by default changes nothing.

    Attributes
    ----------
    open, close : list of list of float
        Prices, money per unit. A price that is not finite and > 0 (NaN as a rule) means "no bar".
    targets : list
        One item per bar: None (the schedule says nothing) or ``n_assets`` numbers of the given `kind`. NaN is
        0; a row without any finite number is no decision.
    cash : float
        Starting cash, money.
    sizing : str
        "decision" or "fill".
    commission_bps, half_spread_bps, slippage_bps : float or list of float
        Costs in basis points (1e-4) of notional (commission) or of the base price (the other two); a list has
        one number per asset, here and wherever a list is allowed.
    max_wait : int
        Bars on which an order is tried, in all.
    ends : dict
        ``{asset index: (end bar, payout)}``; a NaN payout means "at the mark".
    bars_per_year : float
        A of the metrics and of the rates.
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
    per_share, min_commission : float or list of float
        Commission per unit and the least of one fill, money.
    max_commission_frac : float or list of float
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
        True in `keep`: KEEP instead of a target, where the schedule says something. False in `member`: no
        member on that bar. None: nothing is kept, everything is a member.
    high, low : list of list of float or None
        Extremes of each bar, money per unit; where one is no valid price (or None), the close.
    volume, adv : list of list of float or None
        Units traded in the bar, and per bar on average as known at its close; NaN or None: missing.
    sigma : list of list of float or None
        Volatility for the impact, fraction; NaN or None: missing.
    atr : list of list of float or None
        Average true range, money per unit; NaN or None: missing.
    split : list of list of float or None
        Units that one unit becomes before the bar; NaN, 1 or None: no split.
    dividend : list of list of float or None
        Money per unit (after a split of the same bar), paid before the bar; NaN, 0 or None: none.
    stop_loss, take_profit, trailing : float
        Distances from entry, entry and water, fraction; 0 is off.
    atr_stop : float
        Distance from entry in units of `atr`; 0 is off.
    trailing_step, trailing_floor : float
        By how much `trailing` shrinks per bar, and not below what, fraction.
    max_bars : int
        Bars after the entry bar on which the time exit is due; 0 is off.
    cooldown : int
        Bars after a rule exit on which the asset's target stays 0; 0 is off.
    halt_drawdown : float
        Fall from the peak that halts, fraction; 0 is off.
    halt_bars : int or None
        Bars after the halt whose decisions are dropped too; None: all.
    rules_on : str
        "intrabar" or "close".
    max_weight, group_cap, gross, net, turnover : float or None
        Caps on weights, fractions of equity; None is off.
    groups : list of int or None
        Group of each asset, -1 is none.
    positions : int or None
        The most weights other than 0; None is off.
    over : str
        What happens to a decision beyond a cap: "scale" or "reject".
    participation : float
        Part of a bar's volume that an order may be; 0 is off.
    carry : bool
        Whether the rest of an order cut by `participation` waits on.
    impact : float or list of float
        k of ``k * sigma * sqrt(|q| / ADV)``.
    borrow_rate : float or list of float
        What shorts cost, annual fraction of their value.
    interest_rate : float
        What cash above 0 earns, annual fraction.
    debit_rate : float or None
        What cash below 0 costs, annual fraction; None: `interest_rate`.
    """

    open: Table
    close: Table
    targets: list[list[float] | None]
    cash: float = 1_000_000.0
    sizing: str = "decision"
    commission_bps: float | list[float] = 0.0
    half_spread_bps: float | list[float] = 0.0
    slippage_bps: float | list[float] = 0.0
    max_wait: int = 5
    ends: dict[int, tuple[int, float]] = field(default_factory=dict)
    bars_per_year: float = 252.0
    risk_free: float = 0.0
    fill: str = "next_open"
    kind: str = "weights"
    afford: str = "scale"
    margin: float = 0.0
    per_share: float | list[float] = 0.0
    min_commission: float | list[float] = 0.0
    max_commission_frac: float | list[float] = 0.0
    lot: float = 0.0
    lot_rounding: str = "nearest"
    band: float = 0.0
    band_rel: float = 0.0
    min_notional: float = 0.0
    keep: list[list[bool]] | None = None
    member: list[list[bool]] | None = None
    high: Table | None = None
    low: Table | None = None
    volume: Table | None = None
    sigma: Table | None = None
    adv: Table | None = None
    atr: Table | None = None
    split: Table | None = None
    dividend: Table | None = None
    stop_loss: float = 0.0
    take_profit: float = 0.0
    trailing: float = 0.0
    atr_stop: float = 0.0
    trailing_step: float = 0.0
    trailing_floor: float = 0.0
    max_bars: int = 0
    cooldown: int = 0
    halt_drawdown: float = 0.0
    halt_bars: int | None = None
    rules_on: str = "intrabar"
    max_weight: float | None = None
    group_cap: float | None = None
    groups: list[int] | None = None
    gross: float | None = None
    net: float | None = None
    turnover: float | None = None
    positions: int | None = None
    over: str = "scale"
    participation: float = 0.0
    carry: bool = False
    impact: float | list[float] = 0.0
    borrow_rate: float | list[float] = 0.0
    interest_rate: float = 0.0
    debit_rate: float | None = None

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
        for name in TABLES:
            table = getattr(self, name)
            if table is not None and len(table) != self.n_bars:
                raise ValueError(f"{name} needs {self.n_bars} bars")
            rows += table or []
        rows += [getattr(self, name) for name in PER_ASSET if isinstance(getattr(self, name), list)]
        rows += [] if self.groups is None else [self.groups]
        if any(len(row) != self.n_assets for row in rows):
            raise ValueError(f"every row needs {self.n_assets} assets")
        if self.is_constrained and self.kind != "weights":
            raise ValueError("constraints need kind 'weights'")
        if self.group_cap is not None and self.groups is None:
            raise ValueError("group_cap needs groups")

    @property
    def n_bars(self) -> int:
        """Number of bars of the window."""
        return len(self.open)

    @property
    def n_assets(self) -> int:
        """Number of assets, in panel order."""
        return len(self.open[0])

    @property
    def prices(self) -> Table:
        """The prices at which orders fill: opens or closes."""
        return self.open if self.fill == "next_open" else self.close

    @property
    def fills_at_close(self) -> bool:
        """Whether orders fill at the close of a bar, after its high and low."""
        return self.fill != "next_open"

    @property
    def first_try(self) -> int:
        """Bars from a decision to the first try: "tried from t+1 (same_close: t) on"."""
        return 0 if self.fill == "same_close" else 1

    @property
    def is_constrained(self) -> bool:
        """Whether any constraint on weights is set."""
        return any(getattr(self, name) is not None for name in CONSTRAINTS)

    @property
    def has_levels(self) -> bool:
        """Whether any stop or target is set."""
        return any(x > 0 for x in (self.stop_loss, self.atr_stop, self.trailing, self.take_profit))

    def of(self, name: str, asset: int) -> float:
        """Setting `name` of an asset, where it may be one number for all or one per asset (T13)."""
        value = getattr(self, name)
        return value[asset] if isinstance(value, list) else value

    def cell(self, name: str, t: int, asset: int) -> float:
        """Number of table `name`; NaN where the case has no such table."""
        table = getattr(self, name)
        return NAN if table is None else table[t][asset]

    def high_or_close(self, t: int, asset: int) -> float:
        """High of a bar; "a missing high or low is the close"."""
        high = self.cell("high", t, asset)
        return high if valid(high) else self.close[t][asset]

    def low_or_close(self, t: int, asset: int) -> float:
        """Low of a bar; "a missing high or low is the close"."""
        low = self.cell("low", t, asset)
        return low if valid(low) else self.close[t][asset]

    def split_factor(self, t: int, asset: int) -> float:
        """Units that one unit becomes in step 2 of bar `t`; 1 where nothing valid is given (T2)."""
        factor = self.cell("split", t, asset)
        return factor if valid(factor) else 1.0

    def dividend_per_unit(self, t: int, asset: int) -> float:
        """Dividend of step 2 of bar `t`, money per unit after the split; 0 where there is none (T2)."""
        dividend = self.cell("dividend", t, asset)
        return dividend if math.isfinite(dividend) else 0.0

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


def valid(price: float) -> bool:
    """Whether a price is one: "a valid price is finite and > 0"."""
    return math.isfinite(price) and price > 0
