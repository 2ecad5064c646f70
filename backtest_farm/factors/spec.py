"""What a factor is, in words and numbers; how it is computed lives beside, in the numeric modules.

Rules that hold for all of them: bars are those of the panel's grid, counted from its first bar. NaN is a
missing value; a value that would need one is NaN, unless a factor says otherwise. The value at a bar depends
on that bar and on earlier ones, never on later ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from backtest_farm.errors import InputError, nearest
from backtest_farm.spec import Axis, Spec, Stage, fault, has_axes, values_of

if TYPE_CHECKING:
    import numpy as np

    from backtest_farm.panel import Panel

Bars = Annotated[int, Field(ge=1, le=1_000_000_000)]
Several = Annotated[int, Field(ge=2, le=1_000_000_000)]
Name = Annotated[str, Field(min_length=1)]

CONTEXT = "context:"
"""Before the name of a context series where an expression names what it reads."""


class Factor(Spec):
    """One number per bar and asset, by which assets are ranked.

    Every parameter takes an axis instead of a value; parameters may be given in order, without their names.

    Class attributes
    ----------------
    spec_pair : tuple of str or None
        Two parameters of which the first must be below the second, and the formula that needs it.
    spec_reach : tuple of str and int
        The parameter that reaches back furthest, and what to add to it for the first bar with a value.
    """

    spec_stage: ClassVar[Stage] = "factor"
    spec_fixed: ClassVar[frozenset[str]] = frozenset({"factor"})
    spec_pair: ClassVar[tuple[str, str, str] | None] = None
    spec_reach: ClassVar[tuple[str, int]] = ("lookback", 0)

    def __init__(self, /, *values: Any, **data: Any) -> None:
        names = [name for name in type(self).model_fields if name != "factor"]
        if len(values) > len(names):
            raise InputError(
                f"{type(self).__name__} takes {', '.join(names)}: {len(values)} values are too many"
            )
        super().__init__(**dict(zip(names, values, strict=False)), **data)

    # Tells pydantic that nested mappings are validated without this __init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the panel's fields that the factor reads (those of all values of its axes)."""
        return values_of(getattr(self, "field", "close"))

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the panel's context series that the factor reads (those of all values of its axes)."""
        return ()

    @property
    def warmup(self) -> int:
        """The first bar, counted from the first one of its inputs, on which the factor can have a value (the
        latest one of its axes)."""
        name, more = self.spec_reach
        return max(max(0, (bars or 0) + more) for bars in values_of(getattr(self, name, 0)))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that decide the values: part of their identity."""
        return {}

    def on(self, panel: Panel) -> np.ndarray:
        """Return the factor's values on a panel: float64 (n_bars, n_assets), read-only; NaN = no value.

        ``panel.with_field("atr", bf.factor.atr(14).on(panel))`` makes a field of them.

        Parameters
        ----------
        panel : backtest_farm.Panel

        Raises
        ------
        InputError
            If a parameter is an axis, or the panel lacks what the factor reads.
        """
        from backtest_farm.factors.fields import factor_field  # compiled kernels are loaded only for values

        if axes := has_axes(self):
            raise InputError(
                f"on() takes one value for each parameter, but {', '.join(axes)} is an axis",
                hint="give one value",
            )
        return factor_field(panel, self, panel.shape[0]).values

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.spec_pair is None:
            return self
        low, high, formula = self.spec_pair
        below, above = getattr(self, low), getattr(self, high)
        # Of axes only those pairs count that are trials: the sweep looks at them when `where` has chosen.
        if not isinstance(below, Axis) and not isinstance(above, Axis) and below >= above:
            raise fault(f"{high} {above} <= {low} {below}: {formula} needs {high} > {low}")
        return self


class Momentum(Factor):
    """Return over the past without the most recent bars: ``close[t - skip] / close[t - lookback] - 1``.

    Attributes
    ----------
    lookback : int
        Bars from the decision back to the first price, >= 1.
    skip : int
        Bars from the decision back to the last price, >= 0 and below `lookback`.
    """

    spec_pair: ClassVar = ("skip", "lookback", "momentum = close[t - skip] / close[t - lookback] - 1")

    factor: Literal["momentum"] = "momentum"
    lookback: Bars
    skip: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0


class Reversal(Factor):
    """What fell comes first: ``-(close[t] / close[t - lookback] - 1)``.

    Attributes
    ----------
    lookback : int
        Bars back to the first price, >= 1.
    """

    factor: Literal["reversal"] = "reversal"
    lookback: Bars


class Volatility(Factor):
    """Sample standard deviation (divisor ``lookback - 1``) of the last `lookback` simple returns
    ``close[t] / close[t - 1] - 1``: per bar, not annualised. NaN while one of their closes is missing.

    Attributes
    ----------
    lookback : int
        Returns, >= 2.
    """

    factor: Literal["volatility"] = "volatility"
    lookback: Several


class _Averages(Factor):
    spec_reach: ClassVar = ("slow", -1)

    fast: Bars
    slow: Bars
    field: Name = "close"


class SmaRatio(_Averages):
    """Ratio of two simple moving averages, less 1: ``SMA(fast)[t] / SMA(slow)[t] - 1``, where ``SMA(n)`` is
    the mean of the last n values. NaN while one of them is missing.

    Attributes
    ----------
    fast, slow : int
        Bars of the two averages, ``1 <= fast < slow``.
    field : str
        What is averaged.
    """

    spec_pair: ClassVar = ("fast", "slow", "sma_ratio = SMA(fast) / SMA(slow) - 1")

    factor: Literal["sma_ratio"] = "sma_ratio"


class EmaRatio(_Averages):
    """Ratio of two exponential moving averages, less 1: ``EMA(fast)[t] / EMA(slow)[t] - 1``.

    ``EMA(n)`` starts as the mean of an asset's first n values and goes on with
    ``ema += 2 / (n + 1) * (x[t] - ema)``, as TA-Lib's EMA does. A missing value leaves the averages as they
    are and gives NaN on its bar.

    Attributes
    ----------
    fast, slow : int
        Values of the two averages, ``1 <= fast < slow``.
    field : str
        What is averaged.
    """

    spec_pair: ClassVar = ("fast", "slow", "ema_ratio = EMA(fast) / EMA(slow) - 1")

    factor: Literal["ema_ratio"] = "ema_ratio"


class Rsi(Factor):
    """Relative strength index of Wilder (New Concepts in Technical Trading Systems, 1978), 0 to 100.

    ``100 * up / (up + down)``, where `up` and `down` are smoothed rises and falls of the close: they start as
    the means of an asset's first `lookback` changes and go on with ``up += (rise - up) / lookback``, as
    TA-Lib's RSI does; 0, as there, while the close has never moved. A change that lacks one of its two closes
    leaves both as they are and gives NaN: on the bar of a missing close and on the one after it.

    Attributes
    ----------
    lookback : int
        Changes, >= 2.
    """

    factor: Literal["rsi"] = "rsi"
    lookback: Several = 14


class Beta(Factor):
    """Slope of an asset's returns on those of a context series: ``cov(r, m) / var(m)`` over `lookback`
    simple returns of both. NaN while one of them is missing, and where the series does not move.

    Attributes
    ----------
    lookback : int
        Returns, >= 2.
    context : str
        Name of the context series, such as an index level.
    """

    factor: Literal["beta"] = "beta"
    lookback: Several
    context: Name

    @property
    def contexts(self) -> tuple[str, ...]:
        return values_of(self.context)


class Mean(Factor):
    """Mean of the last `lookback` values of a field, such as the units traded a bar. NaN while one of them is
    missing.

    Attributes
    ----------
    field : str
        The panel's field.
    lookback : int
        Values, this bar's included, >= 1.
    """

    spec_reach: ClassVar = ("lookback", -1)

    factor: Literal["mean"] = "mean"
    field: Name
    lookback: Bars


class Atr(Factor):
    """Average true range (Wilder 1978), in money: the true range of a bar is the largest of ``high - low``,
    ``|high - close[t - 1]|`` and ``|low - close[t - 1]|``; the first value is the mean of the first
    `lookback` ones, each later one adds ``1 / lookback`` of the distance to its bar's. A bar with a missing
    price, and the one after it, have no value and leave the average as it is.

    Attributes
    ----------
    lookback : int
        Bars, >= 1.
    """

    factor: Literal["atr"] = "atr"
    lookback: Bars

    @property
    def fields(self) -> tuple[str, ...]:
        return ("high", "low", "close")


class Zscore(Factor):
    """Distance from the mean in standard deviations (divisor n): ``(x - mean) / std``.

    Without `lookback` across all assets that have a value on the bar; with it over each asset's own last
    `lookback` values, NaN while one of them is missing. NaN where the deviation is 0.

    Attributes
    ----------
    field : str
        The panel's field.
    lookback : int or None
        Values of the asset's own past, this bar's included, >= 2; None = across the bar's assets.
    """

    spec_reach: ClassVar = ("lookback", -1)

    factor: Literal["zscore"] = "zscore"
    field: Name
    lookback: Several | None = None


class Rank(Factor):
    """Place among all assets that have a value on the bar: 0 for the lowest, 1 for the highest, equal steps
    between them: ``(rank - 1) / (n - 1)``. Equal values share the mean of their ranks; NaN for one asset
    alone.

    Attributes
    ----------
    field : str
        The panel's field.
    """

    factor: Literal["rank"] = "rank"
    field: Name


class FieldFactor(Factor):
    """A field of the panel as it is: a score that was computed elsewhere.

    Attributes
    ----------
    name : str
        The panel's field.
    """

    factor: Literal["field"] = "field"
    name: Name

    @property
    def fields(self) -> tuple[str, ...]:
        return values_of(self.name)


def _expression(value: Any) -> str:
    """Return SQL text or a polars expression as text that says the same."""
    from backtest_farm.factors.expressions import as_text  # polars is loaded only for expressions

    try:
        return as_text(value)
    except InputError as error:
        raise fault(error.message) from None


class Expr(Factor):
    """A polars expression or SQL text over fields of the panel, run for each symbol alone in bar order.

    Missing values are null for the expression, and null or NaN in its result is NaN. It must give one number
    (or truth value) a bar. An expression that looks ahead (a negative shift, a backward fill, a mean over
    all bars) is refused when it is first computed. Its identity is its text and polars' version.

    Attributes
    ----------
    sql : str
        SQL text such as ``close / open - 1``, or a polars expression in polars' JSON. Names are fields of
        the panel; ``context:vix`` is the context series ``vix`` (in double quotes within SQL).
    lookback : int
        Bars that it reaches back. Nothing but ``start: auto`` reads it.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"factor", "lookback"})

    factor: Literal["expr"] = "expr"
    sql: Annotated[str, BeforeValidator(_expression)]
    lookback: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(name for name in self._names() if not name.startswith(CONTEXT))

    @property
    def contexts(self) -> tuple[str, ...]:
        return tuple(name.removeprefix(CONTEXT) for name in self._names() if name.startswith(CONTEXT))

    @property
    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"polars": version("polars")}

    def _names(self) -> list[str]:
        from backtest_farm.factors.expressions import names_read

        return sorted({name for text in values_of(self.sql) for name in names_read(text)})


AnyFactor = (
    Momentum
    | Reversal
    | Volatility
    | SmaRatio
    | EmaRatio
    | Rsi
    | Beta
    | Mean
    | Atr
    | Zscore
    | Rank
    | FieldFactor
    | Expr
)
"""Every factor there is; the key ``factor`` tells them apart."""

FACTORS = {model.model_fields["factor"].default: model for model in get_args(AnyFactor)}
"""The factors by name: what ``bf.factor`` offers, and what a sweep file gives as ``factor``."""


def __getattr__(name: str) -> Any:
    if name in FACTORS:
        return FACTORS[name]
    raise AttributeError(f"there is no factor {name!r}: {nearest(name, FACTORS)}")
