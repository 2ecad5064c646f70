"""Polars expressions as factors: kept as text, run per symbol, and refused when they look ahead."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.spec.wording import shown

# All that may carry something in a stored expression. Anything else is refused before polars reads it: some
# nodes hold pickled functions, which run when they are read back, and a list of those would have gaps.
_KNOWN = frozenset(
    """
    Agg Alias Backward BinaryExpr Boolean ByName Cast Clip Column CorrCov Correlation Count CumCount
    CumMax CumMin CumProd CumSum Diff Dyn Entropy EwmMean EwmStd EwmVar Explode FillNullWithStrategy
    Filter First Float Forward Function Implode Int Interpolate IsBetween IsIn Kurtosis Last List
    Literal Matches Max Mean MeanHorizontal Median Min NUnique Null Pow Quantile Random Rank RollingExpr
    Round Scalar Selector Skew Slice Sort Std Str String StringExpr Sum SumHorizontal Ternary
    Trigonometry Var Wildcard adjust alpha base bias by center closed corr_cov_options ddof decimals
    descending dtype expr falsy fisher fn_params function has_max has_min ignore_nulls include_nulls
    input is_corr left left_closed length limit maintain_order method min_periods mode multithreaded
    names normalize nulls_equal nulls_last offset op options predicate prob propagate_nans reverse right
    seed strict truthy weights window_size
    """.split()  # noqa: SIM905 - a list of a hundred strings would be a page
)

# The value of a factor depends on the panel alone, not on when it is asked for.
_CLOCK = re.compile(r"\b(current_(date|time|timestamp)|now)\b", re.IGNORECASE)

_FAULTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, RecursionError)

# No field can have this name.
_ASSET = "\0asset"


_AHEAD = re.compile(
    r'{"Int":-\d+}}}],"function":("Shift"|"PctChange"|{"Diff")'
    r'|"function":"Reverse"|"Backward"|"Interpolate"|"center":true|"reverse":true'
)
"""What looks ahead by its very form: where it is used on rare bars only, no cut may show it."""


def as_text(expression: Any) -> str:
    """Return SQL text as it is, and a polars expression as polars' JSON of it.

    Raises
    ------
    InputError
        If it is neither, cannot be stored, reads no field, or gives several columns.
    """
    if isinstance(expression, pl.Expr):
        try:
            expression = expression.meta.serialize(format="json")
        except _FAULTS as error:
            raise InputError(
                f"{shown(str(expression))} cannot be kept as text: {_first_line(error)}"
            ) from None
    if not isinstance(expression, str):
        raise InputError(f"{shown(expression)} is neither SQL text nor a polars expression")
    _read(expression)
    return expression


@cache
def names_read(text: str) -> frozenset[str]:
    """Return the names of what an expression reads."""
    return frozenset(_read(text).meta.root_names())


def run(
    text: str, given: Mapping[str, np.ndarray], timestamps: np.ndarray, symbols: Sequence[str]
) -> np.ndarray:
    """Return what an expression gives for each asset alone, in bar order.

    Each asset is computed twice more without its last bars: a value that changes by that was taken from the
    future.

    Parameters
    ----------
    text : str
    given : mapping of str to ndarray of float64, shape (n_bars, n_assets)
        What it reads, by name; NaN is null for it.
    timestamps, symbols
        Of the bars and assets, to name a cell.

    Returns
    -------
    ndarray of float64, shape (n_bars, n_assets)
        NaN where the expression gives null or NaN.

    Raises
    ------
    InputError
        If polars cannot compute it, if it does not give one number a bar, or if it looks ahead.
    """
    n_bars, n_assets = next(iter(given.values())).shape
    cuts = np.stack([np.full(n_assets, n_bars), *_cuts(next(iter(given.values())))])
    kept = np.arange(n_bars) < cuts[:, :, None]
    columns = {name: np.broadcast_to(values.T, kept.shape)[kept] for name, values in given.items()}
    asset = np.broadcast_to(np.arange(cuts.size).reshape(-1, n_assets, 1), kept.shape)[kept]
    found = np.full(kept.shape, np.nan)
    found[kept] = _computed(text, pl.DataFrame({**columns, _ASSET: asset}).fill_nan(None))
    whole = found[0]
    changed = kept & (found != whole) & ~(np.isnan(found) & np.isnan(whole))
    for bar, a, cut in np.argwhere(changed.T)[:1]:
        raise InputError(
            f"{_shown(text)} looks ahead: for {symbols[a]} at {timestamps[bar]} it gives {whole[a, bar]} "
            f"with all bars, but {found[cut, a, bar]} without those from {timestamps[cuts[cut, a]]} on",
            hint="use this bar and earlier ones: no negative shift, backward fill or mean over all bars",
        )
    if _AHEAD.search(text):
        raise InputError(
            f"{_shown(text)} names later bars, so it looks ahead wherever it uses them",
            hint="no negative shift or diff, no reverse, backward fill, interpolation or centred window",
        )
    return whole.T


def _cuts(values: np.ndarray) -> np.ndarray:
    """Return for each asset two bars from which on it is cut off.

    The first are spread over the second half; the second is where the asset's last gap ends, since only there
    a fill from later bars shows.
    """
    n_bars, n_assets = values.shape
    spread = n_bars - (1 + np.arange(n_assets) * 5 % 16) * n_bars // 32
    there = ~np.isnan(values)
    gap = np.where(there[1:] & ~there[:-1], np.arange(1, n_bars)[:, None], 0).max(axis=0, initial=0)
    return np.clip([spread, gap], 0, n_bars - 1)


def _computed(text: str, frame: pl.DataFrame) -> np.ndarray:
    try:
        query = frame.lazy().select(_read(text).over(_ASSET).alias("value"))
        # Asked for before anything is computed: a list for every bar could fill the memory.
        kind = query.collect_schema()["value"]
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise InputError(f"{_shown(text)} gives {kind} instead of numbers")
        # The streaming engine does not promise an order of rows.
        numbers = query.cast(pl.Float64).fill_null(np.nan).collect(engine="in-memory")
    except _FAULTS as error:
        raise InputError(f"{_shown(text)} cannot be computed: {_first_line(error)}") from None
    return numbers["value"].to_numpy()


def _read(text: str) -> pl.Expr:
    try:
        if text.startswith("{"):
            found: set[str] = set()
            json.loads(text, object_hook=found.update)
            if foreign := sorted(found - _KNOWN):
                raise InputError(
                    f"an expression with {', '.join(foreign[:3])} (a Python function, a plug-in, or else not "
                    "known to be plain) cannot be kept as text: use polars' own functions, or compute a "
                    "field and add it to the panel"
                )
            expression = pl.Expr.deserialize(io.StringIO(text), format="json")
        elif _CLOCK.search(text):
            raise InputError(f"{shown(text)} asks for the time of day: a factor depends on the panel alone")
        else:
            expression = pl.sql_expr(text)
    except _FAULTS as error:
        raise InputError(f"{shown(text)} cannot be read as an expression: {_first_line(error)}") from None
    if expression.meta.has_multiple_outputs() or not expression.meta.root_names():
        raise InputError(f"{shown(text)} must read fields by their names and give one column")
    return expression


def _shown(text: str) -> str:
    return f"expression {shown(str(_read(text)) if text.startswith('{') else text)}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
