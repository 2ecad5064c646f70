"""The specifications that need nothing but themselves: costs, execution, window, what to keep."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, model_validator

from backtest_farm.spec.axes import values_of
from backtest_farm.spec.base import Spec, Stage
from backtest_farm.spec.inputs import STATIC, asked, shared
from backtest_farm.spec.profiles import ProfileName, with_switches
from backtest_farm.spec.wording import fault

Metric = Literal[
    "total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "skew", "kurtosis",
    "turnover", "exposure", "costs", "orders", "fills", "trades", "win_rate", "profit_factor",
    "avg_bars_held",
]  # fmt: skip


class Reads(NamedTuple):
    """Names of what is read of a panel: fields, fields that are used where there are any, static columns."""

    fields: tuple[str, ...]
    offered: tuple[str, ...]
    statics: tuple[str, ...]


Fill = Literal["next_open", "next_close", "same_close"]

Sizing = Literal["decision", "fill"]

NotNegative = Annotated[float, Field(ge=0)]

Name = Annotated[str, Field(min_length=1)]

# The constant is what messages say may stand there.
Cost = (
    NotNegative | Annotated[str, Field(pattern=f"^{STATIC}.+", json_schema_extra={"const": f"{STATIC}NAME"})]
)
"""One number for all assets, or the static column that has one for each."""


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


S = TypeVar("S", bound=Spec)


def _useful(spec: S, given: Any, needs: Mapping[str, tuple[str, ...]]) -> S:
    """Return a specification that was read; refuse parameters that do nothing without one of some others."""
    if spec is given:  # it was read before; a trial of a grid may do without what the grid has
        return spec
    for name, others in needs.items():
        given, useful = (
            any(each for one in names for each in values_of(getattr(spec, one)))
            for names in ((name,), others)
        )
        if given and not useful:
            one = " or ".join(others)
            raise fault(f"{name} without {one} does nothing: give {one} too, or leave {name} out")
    return spec


class Costs(Spec):
    """What trading and holding cost; everything is 0 unless given.

    Each of the first seven, and `borrow_rate`, may also be ``static:NAME``: the numbers that the panel's
    static column NAME has for each asset.

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
    impact : float
        k of the square-root law: the price moves by ``k * sigma * sqrt(quantity / adv)`` against the order,
        sigma and adv of the bar before.
    sigma, adv : str
        Names of the panel's fields that hold an asset's volatility per bar and the units traded a bar, such
        as ``bf.factor.volatility(21)`` and ``bf.factor.mean("volume", 21)`` give. Read when there is impact.
    borrow_rate : float
        Annual cost of being short, as a fraction of the short's value.
    interest_rate : float
        What cash earns a year, as a fraction of it.
    debit_rate : float or None
        What negative cash costs a year; None is `interest_rate`.
    """

    spec_stage: ClassVar[Stage] = "costs"
    spec_stages: ClassVar[Mapping[str, Stage]] = shared("costs")

    commission_bps: Cost = 0.0
    per_share: Cost = 0.0
    min_commission: Cost = 0.0
    max_commission_frac: Cost = 0.0
    half_spread_bps: Cost = 0.0
    slippage_bps: Cost = 0.0
    impact: Cost = 0.0
    sigma: Name = "sigma"
    adv: Name = "adv"
    borrow_rate: Cost = 0.0
    interest_rate: float = 0.0
    debit_rate: float | None = None


class Rules(Spec):
    """What ends positions without a target, and what ends decisions; 0 switches a rule off.

    Levels of a short mirror those of a long. Of several stops the tightest holds.

    Attributes
    ----------
    stop_loss, take_profit : float
        Distance from the average entry price, as a fraction of it.
    trailing : float
        Distance from the best price since the entry, as a fraction of it, < 1.
    trailing_step : float
        By how much the trailing distance shrinks with each bar.
    trailing_floor : float
        The least trailing distance.
    atr_stop : float
        Distance from the average entry price in ATRs of the bar on which the position was decided. Without
        an ATR there (NaN) the position has no such stop.
    atr : str
        Name of the panel's field with the ATR, in money, such as ``bf.factor.atr(14)`` gives.
    max_bars : int
        Bars after its entry on which a position is sold.
    cooldown : int
        Bars, after a rule has ended a position, on which the asset is not bought again.
    halt_drawdown : float
        Drawdown from the best equity, as a fraction, at which everything is sold and decisions are dropped.
    halt_bars : int or None
        For so many bars more; None is for good.
    on : str
        ``intrabar``: high and low of a bar are compared with the levels, and the position ends at the level,
        or at the open beyond it. ``close``: the close is, and the exit is an order.
    """

    stop_loss: NotNegative = 0.0
    take_profit: NotNegative = 0.0
    trailing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    trailing_step: NotNegative = 0.0
    trailing_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    atr_stop: NotNegative = 0.0
    atr: Name = "atr"
    max_bars: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    cooldown: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    halt_drawdown: Annotated[float, Field(ge=0, lt=1)] = 0.0
    halt_bars: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    on: Literal["intrabar", "close"] = "intrabar"

    spec_stages: ClassVar[Mapping[str, Stage]] = shared("rules")

    # Asked of what a user wrote, not of each trial: a grid may switch a rule off in some of its trials.
    @model_validator(mode="wrap")
    @classmethod
    def _does_something(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        exits = ("stop_loss", "take_profit", "trailing", "atr_stop", "max_bars")
        needs = dict.fromkeys(("trailing_step", "trailing_floor"), ("trailing",))
        return _useful(read(given), given, {**needs, "halt_bars": ("halt_drawdown",), "cooldown": exits})


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
    events : bool
        Whether the panel's fields ``split`` (units that one unit becomes on the bar) and ``dividend`` (money
        per unit, after a split) happen: for prices that are not adjusted for them.
    """

    spec_stages: ClassVar[Mapping[str, Stage]] = shared("")

    fill: Fill = "next_open"
    sizing: Sizing = "decision"
    cash: Annotated[float, Field(gt=0)] = 1_000_000.0
    events: bool = False


class Limits(Spec):
    """What bounds targets (the first seven, of weights alone; None is no bound) and orders.

    Attributes
    ----------
    positions : int or None
        The most names; the largest weights stay.
    max_weight : float or None
        The most weight of one asset, long or short.
    group : float or None
        The most gross weight of the assets that share a tag.
    group_by : str
        Name of the panel's static column with the tags; assets without one are not bounded.
    gross, net : float or None
        The most summed weight, counted without and with signs.
    turnover : float or None
        The most that one decision may trade: half of the sum of all changes of weights.
    over : str
        What happens to a decision beyond these: ``scale`` makes it fit, ``reject`` drops it.
    participation : float
        The part of a bar's volume (the panel's field ``volume``) that an order may be; 0 is no bound.
    carry : bool
        Whether the rest of such an order waits for the next bar, or is dropped.
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

    spec_stages: ClassVar[Mapping[str, Stage]] = shared("limits")

    positions: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    max_weight: NotNegative | None = None
    group: NotNegative | None = None
    group_by: Name = "sector"
    gross: NotNegative | None = None
    net: NotNegative | None = None
    turnover: NotNegative | None = None
    over: Literal["scale", "reject"] = "scale"
    participation: NotNegative = 0.0
    carry: bool = False
    lot: NotNegative = 0.0
    lot_rounding: Literal["nearest", "down"] = "nearest"
    min_notional: NotNegative = 0.0
    band: NotNegative = 0.0
    band_rel: NotNegative = 0.0
    margin: NotNegative = 0.0
    max_wait: Annotated[int, Field(ge=1, le=1000)] = 5
    afford: Literal["scale", "greedy", "reject", "allow"] = "scale"

    @model_validator(mode="wrap")
    @classmethod
    def _carries_something(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        return _useful(read(given), given, {"carry": ("participation",)})


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
        What bounds targets and orders.
    rules : Rules or None
        What ends positions without a target.
    window : Window
        The span of bars that is traded.
    profile : str
        The named set of switches that `fill`, `sizing` and `limits` have where they are not given.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"window"})

    costs: Costs = Costs(commission_bps=10.0)
    limits: Limits = Limits()
    rules: Rules | None = None
    window: Window = Window()
    profile: ProfileName = "default"

    @model_validator(mode="before")
    @classmethod
    def _by_profile(cls, given: Any) -> Any:
        return with_switches(given, "zip" in cls.model_fields) if isinstance(given, Mapping) else given

    @property
    def reads(self) -> Reads:
        """What trading by these terms reads of a panel beside prices and what the strategy reads.

        Where a rule may read something it counts as read, whether or not a trial has the rule: trials that
        differ in a number share their inputs.
        """
        found: dict[str, set[str]] = {"field": set(), "offered": set(), "static": set()}
        for _, kind, name, _ in asked(self):
            found[kind].add(name)
        return Reads(*(tuple(sorted(names)) for names in found.values()))


class KeptCurves(Spec):
    """Whose curves are kept: those of the `top` trials by one metric."""

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"top", "by"})

    top: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    by: Metric = "sharpe"


class Keep(Spec):
    """What is stored beside the rows of a sweep; no part of any key."""

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"equity"})

    equity: KeptCurves = KeptCurves()
