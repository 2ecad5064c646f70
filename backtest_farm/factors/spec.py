"""What a factor is, in words and numbers; how it is computed lives beside, in the numeric modules."""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backtest_farm.spec import Spec, Stage, fault, values_of


class Momentum(Spec):
    """Return over the past without the most recent bars: ``close[t - skip] / close[t - lookback] - 1``.

    Attributes
    ----------
    lookback : int
        Bars from the decision back to the first price, >= 1.
    skip : int
        Bars from the decision back to the last price, >= 0 and below `lookback`.
    """

    spec_stage: ClassVar[Stage] = "factor"
    spec_fixed: ClassVar[frozenset[str]] = frozenset({"factor"})

    factor: Literal["momentum"] = "momentum"
    lookback: Annotated[int, Field(ge=1, le=1_000_000_000)]
    skip: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the panel's fields that the factor reads."""
        return ("close",)

    @property
    def warmup(self) -> int:
        """Bars before the first bar on which the factor has a value (the longest one of an axis)."""
        return max(values_of(self.lookback))

    @model_validator(mode="after")
    def _spans_something(self) -> Self:
        lookbacks, skips = values_of(self.lookback), values_of(self.skip)
        ordered = sorted(skips)
        # Counted from the sorted skips, so that long axes are not multiplied out.
        wrong = {lookback: len(ordered) - bisect_left(ordered, lookback) for lookback in lookbacks}
        if count := sum(wrong.values()):
            raise fault(_crossed(wrong, skips, count))
        return self


def _crossed(wrong: dict[int, int], skips: tuple[int, ...], count: int) -> str:
    """Say which look-backs do not reach further back than the skip, and how many of how many."""
    worst = next(lookback for lookback, many in wrong.items() if many)
    reason = "momentum = close[t - skip] / close[t - lookback] - 1 needs lookback > skip"
    total = len(wrong) * len(skips)
    if total == 1:
        return f"lookback {worst} <= skip {skips[0]}: {reason}"
    pairs = (
        (lookback, skip) for lookback, many in wrong.items() if many for skip in skips if skip >= lookback
    )
    first = [
        f"lookback {lookback} <= skip {skip}" for (lookback, skip), _ in zip(pairs, range(3), strict=False)
    ]
    more = ", ..." if count > len(first) else ""
    return f"{count:,} of {total:,} combinations have {', '.join(first)}{more}: {reason}"


def momentum(lookback: Any, skip: Any = 0) -> Momentum:
    """Return the momentum factor ``close[t - skip] / close[t - lookback] - 1``.

    Parameters
    ----------
    lookback : int or axis
        Bars back to the first price, >= 1 and above `skip`.
    skip : int or axis, default 0
        Bars back to the last price, >= 0.

    Raises
    ------
    InputError
        If a value is out of range or some look-back is not longer than the skip.
    """
    return Momentum(lookback=lookback, skip=skip)
