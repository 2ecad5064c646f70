"""What all engines are asked to trade: real prices, and targets that were worked out once, in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "us_equities_daily.parquet"
FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class PeerCase:
    """One case.

    Attributes
    ----------
    days : ndarray of datetime64[D], shape (n_bars,)
    symbols : tuple of str
        In the order of their bytes.
    prices : dict of str to ndarray of float64, shape (n_bars, n_assets)
        By field; NaN is no bar.
    weights : ndarray of float64, shape (n_bars, n_assets)
        Targets; a row of NaN is no decision, and NaN elsewhere leaves a position as it is.
    cash : float
    commission_bps, slippage_bps : float
    ends : dict of str to datetime64[D]
        The last day of assets that cease to trade within the window.
    """

    days: np.ndarray
    symbols: tuple[str, ...]
    prices: dict[str, np.ndarray]
    weights: np.ndarray
    cash: float = 10_000_000.0
    commission_bps: float = 0.0
    slippage_bps: float = 0.0
    ends: dict[str, np.datetime64] = field(default_factory=dict)

    @property
    def frame(self) -> pl.DataFrame:
        """The bars as one long frame."""
        bars, assets = np.nonzero(np.isfinite(self.prices["close"]))
        columns = {"timestamp": self.days[bars], "symbol": [self.symbols[a] for a in assets]}
        return pl.DataFrame({**columns, **{name: self.prices[name][bars, assets] for name in FIELDS}})

    def save(self, path: Path, **options: object) -> None:
        """Write what a runner reads: arrays, without any library but numpy."""
        arrays = {f"price_{name}": values for name, values in self.prices.items()}
        last = [self.ends.get(symbol, self.days[-1]) for symbol in self.symbols]
        rates = {name: getattr(self, name) for name in ("cash", "commission_bps", "slippage_bps")}
        days = {"days": self.days.astype(np.int64), "last_days": np.array(last).astype(np.int64)}
        np.savez(
            path, symbols=np.array(self.symbols), weights=self.weights, **days, **arrays, **rates, **options
        )


@cache
def history(first: str, last: str, n_assets: int, also: str = "") -> tuple[np.ndarray, tuple[str, ...], dict]:
    """Return days, symbols and prices of the stocks with the most money traded and no missing bar."""
    span = pl.col("timestamp").is_between(pl.lit(first).str.to_date(), pl.lit(last).str.to_date())
    bars = pl.read_parquet(REAL).filter(span)
    days = bars["timestamp"].unique().sort()
    money = pl.col("close") * pl.col("volume")
    of = bars.group_by("symbol").agg(
        pl.len(), money.sum().alias("money"), pl.col("volume").min().alias("least")
    )
    whole = of.filter(pl.col("len") == len(days), pl.col("least") > 0)
    chosen = whole.sort("money", "symbol", descending=[True, False])["symbol"].head(n_assets).to_list()
    symbols = tuple(sorted({*chosen, *([also] if also else [])}))
    grid = pl.DataFrame({"timestamp": days}).join(pl.DataFrame({"symbol": symbols}), how="cross")
    rows = grid.join(bars, on=["timestamp", "symbol"], how="left", maintain_order="left")
    shape = len(days), len(symbols)
    prices = {name: rows[name].cast(pl.Float64).to_numpy().reshape(shape) for name in FIELDS}
    return days.to_numpy().astype("M8[D]"), symbols, prices


def month_ends(days: np.ndarray) -> np.ndarray:
    """Return the bars after which another month begins."""
    months = days.astype("M8[M]")
    return np.flatnonzero(months[1:] != months[:-1])


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the columns of the `count` highest scores, of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def monthly_momentum() -> PeerCase:
    """The 20 of 40 stocks that rose most in half a year, in equal parts, each month; with costs."""
    days, symbols, prices = history("2012-01-03", "2014-12-31", 40)
    weights = np.full(prices["close"].shape, np.nan)
    for t in month_ends(days):
        if t >= 126:
            weights[t] = 0.0
            weights[t, best(prices["close"][t - 5] / prices["close"][t - 126], 20)] = 0.95 / 20
    return PeerCase(days, symbols, prices, weights, commission_bps=10.0, slippage_bps=5.0)


def weekly_long_short() -> PeerCase:
    """Long the 8 worst stocks of a fortnight, short the 8 best, each week; with a commission."""
    days, symbols, prices = history("2012-01-03", "2014-12-31", 40)
    weights = np.full(prices["close"].shape, np.nan)
    for t in range(10, len(days), 5):
        scores = prices["close"][t] / prices["close"][t - 10]
        weights[t] = 0.0
        weights[t, best(scores, 8)] = -0.04
        weights[t, best(-scores, 8)] = 0.04
    return PeerCase(days, symbols, prices, weights, commission_bps=5.0)


def crossovers() -> PeerCase:
    """In each of 40 stocks a part while its average of 20 bars is above that of 100; with a commission."""
    days, symbols, prices = history("2012-01-03", "2014-12-31", 40)
    close = prices["close"]
    sums = np.vstack([np.zeros(close.shape[1]), close.cumsum(axis=0)])
    fast, slow = ((sums[100:] - sums[100 - span : -span]) / span for span in (20, 100))
    above = np.zeros(close.shape, bool)
    above[99:] = fast > slow
    changed = np.diff(above, axis=0, prepend=False)
    weights = np.where(changed, np.where(above, 0.8 / 40, 0.0), np.nan)
    return PeerCase(days, symbols, prices, weights, commission_bps=10.0)


def one_stock_crossover() -> PeerCase:
    """The same in one stock with nearly all of the money, for an engine that trades one at a time."""
    many = crossovers()
    a = many.symbols.index("AAPL")
    prices = {name: values[:, [a]] for name, values in many.prices.items()}
    weights = many.weights[:, [a]] * (0.95 / (0.8 / 40))
    return PeerCase(many.days, ("AAPL",), prices, weights, commission_bps=10.0)


def both_sides() -> PeerCase:
    """One stock, long while its shorter average is the higher one and short otherwise; without costs."""
    one = one_stock_crossover()
    weights = np.where(one.weights == 0.0, -0.95, one.weights)
    return replace(one, weights=weights, commission_bps=0.0)


def end_of_life() -> PeerCase:
    """Ten stocks in equal parts, one of which ceases to trade while it is held; with a commission."""
    days, symbols, prices = history("2017-03-01", "2017-11-10", 9, also="LVLT")
    a = symbols.index("LVLT")
    last = int(np.flatnonzero(np.isfinite(prices["close"][:, a]))[-1])
    weights = np.full(prices["close"].shape, np.nan)
    for t in range(3, len(days), 21):
        weights[t] = 0.095
        if t > last:
            weights[t, a] = 0.0
    return PeerCase(days, symbols, prices, weights, commission_bps=10.0, ends={"LVLT": days[last]})


def short_of_cash() -> PeerCase:
    """One stock with all of the money, so that its commission cannot be paid; now and then sold."""
    days, symbols, prices = history("2012-01-03", "2014-12-31", 40)
    a = symbols.index("AAPL")
    weights = np.full((len(days), 1), np.nan)
    weights[5::30] = 1.0
    weights[20::30] = 0.0
    alone = {name: values[:, [a]] for name, values in prices.items()}
    return PeerCase(days, ("AAPL",), alone, weights, commission_bps=10.0)


CASES: dict[str, Callable[[], PeerCase]] = {
    "monthly momentum": monthly_momentum,
    "weekly long/short": weekly_long_short,
    "crossovers": crossovers,
    "one stock": one_stock_crossover,
    "one stock, both sides": both_sides,
    "end of life": end_of_life,
    "short of cash": short_of_cash,
}
