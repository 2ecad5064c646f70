"""Declarative strategies: what to hold, and when to decide again."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from backtest_farm.factors.spec import Momentum
from backtest_farm.spec import ByTag, Spec, Stage


class TopN(Spec):
    """Hold the `n` assets with the highest signal, and decide again every `rebalance` bars.

    Assets without a signal on the decision bar (NaN) are never chosen; ties go to the lower asset id. Names
    that are no longer chosen are closed.

    Attributes
    ----------
    signal : Momentum
        The factor by which assets are ranked, high to low.
    n : int
        How many names to hold, >= 1.
    weight : "equal" or float
        ``equal`` gives each name 1/n of equity, also when fewer than n names have a signal: the rest stays in
        cash. A number, > 0, is the weight of each name.
    rebalance : int
        Bars between decisions, >= 1, counted from the first bar of the window.
    """

    spec_stage: ClassVar[Stage] = "portfolio"
    spec_fixed: ClassVar[frozenset[str]] = frozenset({"kind"})

    kind: Literal["TopN"] = "TopN"
    signal: Annotated[Momentum, ByTag("factor")]
    n: Annotated[int, Field(ge=1, le=1_000_000_000)]
    weight: Literal["equal"] | Annotated[float, Field(gt=0)] = "equal"
    rebalance: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the panel's fields that the strategy reads, without those that orders fill and mark at."""
        return self.signal.fields

    @property
    def warmup(self) -> int:
        """Bars before the first bar on which the strategy can choose anything."""
        return self.signal.warmup
