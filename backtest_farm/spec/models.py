"""The specifications that need nothing but themselves: costs, execution, window, what to keep."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from backtest_farm.spec.base import Spec, Stage
from backtest_farm.spec.wording import fault

Metric = Literal[
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "max_drawdown",
    "calmar",
    "skew",
    "kurtosis",
    "turnover",
    "exposure",
    "costs",
    "orders",
    "fills",
    "trades",
    "win_rate",
    "profit_factor",
    "avg_bars_held",
]

Fill = Literal["next_open", "next_close", "same_close"]

Sizing = Literal["decision", "fill"]

NotNegative = Annotated[float, Field(ge=0)]


def moment(value: Any) -> Any:
    """Read a point in time: ISO text and numpy times become dates or UTC times without a zone.

    Text with a time zone is converted to UTC, and so is a zoned ``datetime``; a date stays a date.
    """
    if value is not None and value != value:
        raise ValueError("no moment: NaT")
    if isinstance(value, (str, np.datetime64)):
        text = str(value)
        value = (dt.date if len(text) <= len("2017-10-31") else dt.datetime).fromisoformat(text)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return value


Moment = Annotated[dt.date | dt.datetime | None, BeforeValidator(moment)]


class Costs(Spec):
    """What trading costs; everything is 0 unless given.

    Attributes
    ----------
    commission_bps : float
        Commission in basis points of the notional at the fill price, per fill.
    per_share : float
        Commission per share, in money, added to that.
    min_commission : float
        The least commission of a fill, in money.
    max_commission_frac : float
        The most commission of a fill, as a fraction of its notional; 0 is no cap. It beats the minimum.
    half_spread_bps : float
        Half of the bid-ask spread in basis points of the base price.
    slippage_bps : float
        Slippage in basis points of the base price.
    """

    spec_stage: ClassVar[Stage] = "costs"

    commission_bps: NotNegative = 0.0
    per_share: NotNegative = 0.0
    min_commission: NotNegative = 0.0
    max_commission_frac: NotNegative = 0.0
    half_spread_bps: NotNegative = 0.0
    slippage_bps: NotNegative = 0.0


class Execution(Spec):
    """How orders are filled.

    Attributes
    ----------
    fill : str
        ``next_open`` or ``next_close``: orders decided on a bar fill at the next bar's open or close.
        ``same_close``: at the close of the bar they were decided on, which looks ahead.
    sizing : str
        ``decision``: quantities follow from equity and marks at the decision; ``fill``: at the fill.
    cash : float
        Starting cash, > 0.
    """

    fill: Fill = "next_open"
    sizing: Sizing = "decision"
    cash: Annotated[float, Field(gt=0)] = 1_000_000.0


class Limits(Spec):
    """What bounds orders.

    Attributes
    ----------
    lot : float
        Orders are whole multiples of so many shares; 0 is no lots. Closing to 0 is exempt.
    lot_rounding : str
        ``nearest`` or ``down``.
    min_notional : float
        Orders below this value, in money, are dropped; closings are exempt.
    band, band_rel : float
        No order while the weight is off its target by no more than `band`, or `band_rel` times the target.
    margin : float
        How far buys may take cash below 0, as a fraction of equity.
    max_wait : int
        On how many bars an order is tried while its price is missing, 1 to 1000.
    afford : str
        What happens to buys that cash does not cover: ``scale`` makes all smaller by one factor; ``greedy``
        fills one after another, the larger first; ``reject`` as greedy, but whole orders only; ``allow``
        fills them all.
    """

    lot: NotNegative = 0.0
    lot_rounding: Literal["nearest", "down"] = "nearest"
    min_notional: NotNegative = 0.0
    band: NotNegative = 0.0
    band_rel: NotNegative = 0.0
    margin: NotNegative = 0.0
    max_wait: Annotated[int, Field(ge=1, le=1000)] = 5
    afford: Literal["scale", "greedy", "reject", "allow"] = "scale"


class Window(Spec):
    """The span of bars that is traded; bars before it only warm factors.

    Attributes
    ----------
    start, end : date, datetime or None
        First and last point in time, both included; None is the panel's first or last bar. A date is the
        whole day, a time is UTC. ISO text is read too. `start` may also be ``auto``: the first bar on which
        all signals of the sweep have a value.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"start", "end"})

    start: Moment | Literal["auto"] = None
    end: Moment = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        # A date is the whole day: it starts at midnight and ends with the day's last moment.
        if self.start is None or self.start == "auto" or self.end is None:
            return self
        if _instant(self.start, dt.time.min) > _instant(self.end, dt.time.max):
            raise fault(f"start {self.start} lies after end {self.end}")
        return self


def _instant(value: dt.date | dt.datetime, time_of_date: dt.time) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.combine(value, time_of_date)


class Trading(Execution):
    """How a strategy trades: everything of a backtest but its panel and its targets.

    Attributes
    ----------
    fill, sizing, cash
        See `Execution`.
    costs : Costs
        What trading costs; a commission of 10 bps unless given.
    limits : Limits
        What bounds orders.
    window : Window
        The span of bars that is traded.
    profile : str
        The named set of switches of the accounting contract.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"profile", "window"})

    costs: Costs = Costs(commission_bps=10.0)
    limits: Limits = Limits()
    window: Window = Window()
    profile: Literal["default"] = "default"


class KeptCurves(Spec):
    """Whose curves are kept: those of the `top` trials by one metric."""

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"top", "by"})

    top: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    by: Metric = "sharpe"


class Keep(Spec):
    """What is stored beside the rows of a sweep; no part of any key."""

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"equity"})

    equity: KeptCurves = KeptCurves()
