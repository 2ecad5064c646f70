"""Factor fields: a factor on all bars and assets of a panel, computed piece by piece in bounded memory.

What runs along time takes some assets on all bars; what compares the assets of a bar takes all assets on some
bars. Either way no value depends on the pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest_farm.factors import spec
from backtest_farm.factors.kernels import momentum, rolling, smoothed
from backtest_farm.factors.stored import built_once
from backtest_farm.identity import digest
from backtest_farm.kernel import RESULT_EPOCH
from backtest_farm.kernel.state import frozen
from backtest_farm.panel import Panel

if TYPE_CHECKING:
    from backtest_farm.factors.own import OwnFactor

PIECE_BYTES = 4 * 2**20
"""Of one array; computing a factor takes up to a dozen of them, and polars up to three dozen."""


class FactorField(NamedTuple):
    """A factor's values and whether this call had to compute them.

    Attributes
    ----------
    values : ndarray of float64, shape (stop, n_assets)
        Read-only; NaN where the factor has no value.
    fresh : bool
    """

    values: np.ndarray
    fresh: bool


def factor_field(panel: Panel, factor: spec.Factor | OwnFactor, stop: int) -> FactorField:
    """Return a factor on the panel's bars before `stop`, from the node's cache or computed now.

    Parameters
    ----------
    panel : Panel
    factor : AnyFactor or OwnFactor
        Without axes.
    stop : int
        The first bar that is left out; nothing from there on is read.

    Raises
    ------
    InputError
        If the panel lacks what the factor reads, or an expression cannot be computed or looks ahead.
    """
    key = digest(identity(panel, factor, stop)) if is_kept(factor) else None
    build = partial(_fill, panel, factor)
    # What a user's code gives may be a factor, which is another kind.
    kind = "field" if isinstance(factor, spec.Factor) else "own"
    return FactorField(*built_once(kind, key, (stop, panel.shape[1]), np.float64, build))


LIGHT = spec.FieldFactor, spec.Momentum
"""Factors whose rows are computed from the panel in less time than it takes to write them down."""


def light_rows(
    panel: Panel, factor: spec.FieldFactor | spec.Momentum, start: int, stop: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield a light factor on the panel's bars from `start` to `stop`, some bars at a time.

    Yields
    ------
    rows : slice
        Counted from `start`.
    values : ndarray of float64, shape (len(rows), n_assets)
        Valid until the next are asked for.
    """
    (name,) = factor.fields
    room = np.empty(0)
    for rows in _pieces(stop - start, panel.shape[1]):
        first, last = start + rows.start, start + rows.stop
        if isinstance(factor, spec.FieldFactor):
            yield rows, panel.read(name, first, last)
            continue
        x = frozen(panel.read(name, max(0, first - factor.lookback), last))
        room = room if room.size else np.empty((last - first, panel.shape[1]))
        momentum(x, factor.lookback, factor.skip, room[: last - first])
        yield rows, room[: last - first]


def is_kept(factor: spec.Factor | OwnFactor) -> bool:
    """Return whether the node's cache keeps the values of a factor, and rankings by it."""
    return isinstance(factor, spec.Factor) or factor.kept


def everything(panel: Panel, stop: int) -> str:
    """Return the hash of all that a user's code can see of the bars before `stop`."""
    bars = panel.digest(panel.fields, stop, panel.contexts, panel.statics)
    return digest({"bars": bars, "symbols": panel.symbols, "bars_per_year": panel.bars_per_year})


def identity(panel: Panel, factor: spec.Factor | OwnFactor, stop: int) -> dict[str, Any]:
    """Return all that decides the values of a factor on the bars before `stop`."""
    if isinstance(factor, spec.Factor):
        data = panel.digest(factor.fields, stop, factor.contexts)
    else:
        data = everything(panel, stop)
    return {
        "data": data,
        "symbols": panel.symbols,  # what an asset's id means
        "factor": factor.model_dump(),
        "versions": factor.versions,
        "code": _code_digest(),
        "epoch": RESULT_EPOCH,
    }


@cache
def _code_digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _fill(panel: Panel, factor: spec.Factor | OwnFactor, out: np.ndarray) -> None:
    _compute(panel, factor, out)
    # All later runs trust what is kept: it must come from the data that its key names.
    panel.check_files()


def _compute(panel: Panel, factor: spec.Factor | OwnFactor, out: np.ndarray) -> None:
    n_bars, n_assets = out.shape
    if not isinstance(factor, spec.Factor):
        out[:] = factor.values(panel, n_bars)
        return
    if isinstance(factor, LIGHT):
        for rows, values in light_rows(panel, factor, 0, n_bars):
            out[rows] = values
        return
    match factor:
        case spec.Rank() | spec.Zscore(lookback=None):
            pieces = [(rows, slice(0, n_assets)) for rows in _pieces(n_bars, n_assets)]
        case _:
            pieces = [(slice(0, n_bars), columns) for columns in _pieces(n_assets, n_bars)]
    for rows, columns in pieces:
        given = {name: _read(panel, name, rows, columns) for name in factor.fields}
        for name in factor.contexts:
            series = np.broadcast_to(panel.context(name)[rows, None], out[rows, columns].shape)
            given[spec.CONTEXT + name] = frozen(series)
        if isinstance(factor, spec.Expr):
            from backtest_farm.factors.expressions import run  # polars is loaded only for expressions

            out[:, columns] = run(factor.sql, given, panel.timestamps, panel.symbols[columns])
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                out[rows, columns] = _values(factor, *given.values())


def _pieces(count: int, other: int) -> Iterator[slice]:
    """Cut `count` rows (or columns) of `other` float64 each."""
    size = max(1, PIECE_BYTES // (8 * other))
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def _read(panel: Panel, name: str, rows: slice, columns: slice) -> np.ndarray:
    picked = np.empty((rows.stop - rows.start, columns.stop - columns.start))
    # Mapped, not read, except where a run of bars lies in two blocks: so runs may be longer than pieces.
    for some in _pieces(len(picked), -(-panel.shape[1] // 8)):
        picked[some] = panel.read(name, rows.start + some.start, rows.start + some.stop)[:, columns]
    return frozen(picked)


def _values(factor: spec.Factor, x: np.ndarray, *series: np.ndarray) -> np.ndarray:
    """Return a factor on a piece of its field and context series; the formulas are those in `spec`."""
    match factor:
        case spec.Reversal():
            return -_returns(x, factor.lookback)
        case spec.Volatility():
            _, squares = rolling(_returns(x), _returns(x), factor.lookback)
            return np.sqrt(squares / (factor.lookback - 1))
        case spec.Beta():
            market = _returns(series[0])
            _, products = rolling(_returns(x), market, factor.lookback)
            _, squares = rolling(market, market, factor.lookback)
            return products / squares
        case spec.SmaRatio():
            return averaged(x, "sma", factor.fast) / averaged(x, "sma", factor.slow) - 1.0
        case spec.EmaRatio():
            return averaged(x, "ema", factor.fast) / averaged(x, "ema", factor.slow) - 1.0
        case spec.Rsi():
            change = np.diff(x, axis=0, prepend=np.nan)
            both = (frozen(np.maximum(moved, 0.0)) for moved in (change, -change))
            up, down = (smoothed(part, factor.lookback, 1.0 / factor.lookback) for part in both)
            return np.where(up + down == 0.0, 0.0, 100.0 * (up / (up + down)))
        case spec.Mean():
            return rolling(x, x, factor.lookback)[0]
        case spec.Atr():
            low, close = series
            before = np.vstack([np.full((1, x.shape[1]), np.nan), close[:-1]])
            ranges = np.maximum(np.maximum(x - low, np.abs(x - before)), np.abs(low - before))
            return smoothed(frozen(ranges), factor.lookback, 1.0 / factor.lookback)
        case spec.Zscore(lookback=int(bars)):
            mean, squares = rolling(x, x, bars)
            return (x - mean) / np.sqrt(squares / bars)
        case spec.Zscore():
            # From the lowest value on, so that equal values deviate by exactly 0.
            apart = x - np.fmin.reduce(x, axis=1, keepdims=True)
            count = np.sum(~np.isnan(x), axis=1, keepdims=True)
            apart -= _row_sums(apart) / count
            return apart / np.sqrt(_row_sums(apart * apart) / count)
        case spec.Rank():
            import polars as pl

            places = pl.DataFrame({"x": x.reshape(-1), "bar": np.arange(len(x)).repeat(x.shape[1])})
            place = (pl.col("x").rank() - 1.0) / (pl.col("x").count() - 1.0)
            return places.fill_nan(None).select(place.over("bar"))["x"].to_numpy().reshape(x.shape)
    return x


def averaged(x: np.ndarray, average: str, bars: int) -> np.ndarray:
    """Return a moving average of each column, simple (``sma``) or exponential (``ema``)."""
    return rolling(x, x, bars)[0] if average == "sma" else smoothed(x, bars, 2.0 / (bars + 1.0))


def _row_sums(x: np.ndarray) -> np.ndarray:
    """Return the sum of each row, NaN left out, added one by one: a later listing changes no bit of it."""
    return np.nancumsum(x, axis=1)[:, -1:]


def _returns(x: np.ndarray, lookback: int = 1, skip: int = 0) -> np.ndarray:
    out = np.empty(x.shape)
    momentum(x, lookback, skip, out)
    return frozen(out)
