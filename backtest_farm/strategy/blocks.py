"""Declarative strategies: what to hold, and when to decide again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backtest_farm.factors.spec import AnyFactor, EmaRatio, FieldFactor, SmaRatio
from backtest_farm.spec import Axis, ByTag, Spec, Stage, fault, values_of

Period = Literal["week_end", "month_end", "quarter_end"]
Rebalance = Annotated[int, Field(ge=1, le=1_000_000_000)] | Period
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Positive = Annotated[float, Field(gt=0)]


class ContextFilter(Spec):
    """Decide by a market-wide series whether to decide at all.

    The filter is *on* at a bar when the series is above `above` or below `below` there; a bar at which the
    series has no value does not switch it on.

    Attributes
    ----------
    context : str
        Name of a context series of the panel, such as ``vix``.
    above, below : float or None
        At least one of them. Of both, `above` is not the smaller one: then the filter would always be on.
    action : str
        ``skip``: what the schedule asks for on such a bar is not decided, positions stay. ``flat``: the first
        such bar closes everything (and so does a scheduled decision on the following ones); the next
        scheduled decision after them invests again.
    """

    spec_stage: ClassVar[Stage] = "filter"

    context: Annotated[str, Field(min_length=1)]
    above: float | None = None
    below: float | None = None
    action: Literal["skip", "flat"] = "skip"

    @model_validator(mode="after")
    def _has_levels(self) -> Self:
        above, below = self.above, self.below
        if above is None and below is None:
            raise fault("a filter needs a level: give above or below")
        if isinstance(above, float) and isinstance(below, float) and above < below:
            raise fault(
                f"above {above:g} < below {below:g}: every value is on one of these sides, so the filter is "
                "always on; to be on outside of a range, give the larger level to above"
            )
        return self


class Block(Spec):
    """What all strategies share: a signal, and a filter by a series of the market.

    Attributes
    ----------
    filter : ContextFilter or None
        Bars on which nothing is decided, or everything is closed.

    Class attributes
    ----------------
    spec_signal : tuple of str
        The parameters that say what the signal is. Only what `Strategy.portfolio` returns goes without them.
    """

    spec_stage: ClassVar[Stage] = "portfolio"
    spec_fixed: ClassVar[frozenset[str]] = frozenset({"kind"})
    spec_signal: ClassVar[tuple[str, ...]] = ("signal",)

    filter: ContextFilter | None = None

    if TYPE_CHECKING:
        # A field of some strategies, a property of others.
        @property
        def signal(self) -> Any: ...

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the panel's fields that the strategy reads, without those that orders fill and mark at."""
        return tuple(sorted({name for each in self._signals() for name in each.fields}))

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the panel's context series that the strategy reads."""
        found = {name for each in self._signals() for name in each.contexts}
        return tuple(sorted(found | self._filtered_by()))

    def _signals(self) -> list[Any]:
        return [each for each in values_of(self.signal) if each is not None]

    def _filtered_by(self) -> set[str]:
        filters = [each for each in values_of(self.filter) if each is not None]
        return {name for each in filters for name in values_of(each.context)}

    @property
    def warmup(self) -> int:
        """Bars before the first bar on which the strategy can choose anything, by its longest signal."""
        return max((each.warmup for each in self._signals()), default=0)

    @property
    def most_names(self) -> int | None:
        """The most names that are ever held at a time; None when the strategy sets no number."""
        return None


class TopN(Block):
    """Hold the `n` assets with the highest signal.

    Assets without a signal on the decision bar (NaN) are never chosen; ties go to the lower asset id. Names
    that are no longer chosen are closed.

    Attributes
    ----------
    signal : factor
        By which assets are ranked, high to low.
    n : int
        How many names to hold, >= 1.
    weight : "equal" or float
        ``equal`` gives each name 1/n of equity, also when fewer than n names have a signal: the rest stays in
        cash. A number, > 0, is the weight of each name.
    rebalance : int, "week_end", "month_end" or "quarter_end"
        Bars between decisions, >= 1, counted from the first bar of the window; or the last session of each
        period.
    filter : ContextFilter, optional
        See `ContextFilter`.
    """

    kind: Literal["TopN"] = "TopN"
    signal: Annotated[AnyFactor | None, ByTag("factor")] = None
    n: Count
    weight: Literal["equal"] | Positive = "equal"
    rebalance: Rebalance = 1

    @property
    def most_names(self) -> int:
        return max(values_of(self.n))


class Quantiles(Block):
    """Hold the top quantile of the signal long and the bottom quantile short, equally weighted.

    Of m assets with a signal on the decision bar, ``floor(m * quantile)`` are held on each side, at least
    one; with shorts never more than half of them. Ties go to the lower asset id on the long side.

    Attributes
    ----------
    signal : factor
        By which assets are ranked, high to low.
    quantile : float
        Part of the ranked assets on each side, 0 < quantile <= 1 (0.5 with shorts); 0.1 are deciles.
    long, short : float
        Summed weight of each side, > 0 and >= 0; 0 for `short` holds longs alone.
    rebalance : int, "week_end", "month_end" or "quarter_end"
        As in `TopN`.
    filter : ContextFilter, optional
        See `ContextFilter`.
    """

    kind: Literal["Quantiles"] = "Quantiles"
    signal: Annotated[AnyFactor | None, ByTag("factor")] = None
    quantile: Annotated[float, Field(gt=0, le=1)]
    long: Positive = 1.0
    short: Annotated[float, Field(ge=0)] = 1.0
    rebalance: Rebalance = 1

    @model_validator(mode="after")
    def _sides_do_not_meet(self) -> Self:
        values = self.quantile, self.short
        if not any(isinstance(each, Axis) for each in values) and self.short > 0 and self.quantile > 0.5:
            raise fault(
                f"quantile {self.quantile} with shorts: the two sides would share assets, take up to 0.5"
            )
        return self


class CrossOver(Block):
    """Hold each asset while its fast average is above its slow one.

    An order is made on the bar on which the averages cross, and the position is left alone until they cross
    back; an asset whose fast average is above already when the window begins (or when it joins the universe)
    is bought then. A missing bar keeps the state of the bar before.

    Attributes
    ----------
    fast, slow : int
        Bars of the two averages, fast < slow.
    field : str
        What is averaged.
    average : str
        ``sma`` or ``ema``.
    slots : int
        Each position gets 1/slots of equity when it is opened: 1 puts all of the account into one asset (one
        account per symbol), the number of assets gives each its equal share.
    allow_short : bool
        Whether assets are held short while the fast average is below the slow one.
    filter : ContextFilter, optional
        See `ContextFilter`; with ``flat`` positions are opened again when the filter is off.
    """

    # Averages are cheap, and trials with others can share a tile: so a pair of them is no group of its own. A
    # filter-stage parameter decides what all trials of a group may hold, but no value of the signal.
    spec_stages: ClassVar[Mapping[str, Stage]] = {
        **dict.fromkeys(("field", "average"), "factor"),
        "allow_short": "filter",
    }
    spec_signal: ClassVar[tuple[str, ...]] = ("fast", "slow")

    kind: Literal["CrossOver"] = "CrossOver"
    fast: Count | None = None
    slow: Count | None = None
    field: Annotated[str, Field(min_length=1)] = "close"
    average: Literal["sma", "ema"] = "sma"
    slots: Count = 1
    allow_short: bool = False

    @model_validator(mode="after")
    def _fast_is_faster(self) -> Self:
        if isinstance(self.fast, int) and isinstance(self.slow, int) and self.fast >= self.slow:
            raise fault(f"fast {self.fast} >= slow {self.slow}: the fast average needs fewer bars")
        return self

    @property
    def signal(self) -> SmaRatio | EmaRatio | None:
        """The ratio of the two averages less 1: above 0 while the fast one is above."""
        if self.fast is None or self.slow is None:
            return None
        kind = SmaRatio if self.average == "sma" else EmaRatio
        return kind(fast=self.fast, slow=self.slow, field=self.field)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(sorted(values_of(self.field)))

    @property
    def contexts(self) -> tuple[str, ...]:
        return tuple(sorted(self._filtered_by()))

    @property
    def warmup(self) -> int:
        return max(bars or 1 for bars in values_of(self.slow)) - 1


class Weights(Block):
    """Hold what a field of the panel says: targets that were computed elsewhere.

    A bar on which no asset has a finite value is no decision; on any other, assets without one are closed.

    Attributes
    ----------
    field : str
        The panel's field with the targets.
    unit : str
        ``weight`` (part of equity), ``value`` (money) or ``quantity``.
    rebalance : int, "week_end", "month_end" or "quarter_end"
        As in `TopN`: rows on other bars are not looked at.
    filter : ContextFilter, optional
        See `ContextFilter`.
    """

    spec_stages: ClassVar[Mapping[str, Stage]] = {"field": "factor", "unit": "filter"}
    spec_signal: ClassVar[tuple[str, ...]] = ("field",)

    kind: Literal["Weights"] = "Weights"
    field: Annotated[str, Field(min_length=1)] | None = None
    unit: Literal["weight", "value", "quantity"] = "weight"
    rebalance: Rebalance = 1

    @property
    def signal(self) -> FieldFactor | None:
        """The field itself."""
        return None if self.field is None else FieldFactor(name=self.field)


AnyStrategy = TopN | Quantiles | CrossOver | Weights
