"""One table of what is measured: data from a seed, a strategy, and how it trades.

Prices are geometric random walks whose opens gap away from the close before; scores are standard normal. Both
come from a seed, so that every engine and every machine gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import backtest_farm as bf

Signal = Literal["score", "momentum", "both sides", "crossover"]

LOOKBACKS = tuple(range(20, 260, 12))
SIZES = tuple(range(5, 55, 5))
SCHEDULES = (1, 5, 10, 21, 63)

CASH = 1_000_000.0
INVESTED = 0.9975
"""Of equity: the rest pays costs. Where cash binds, engines cut buys by different rules."""

COMMISSION = {"commission_bps": 10.0}
COST_PARTS = {
    "commission_bps": 8.0, "per_share": 0.002, "min_commission": 1.0,
    "half_spread_bps": 1.0, "slippage_bps": 1.0,
}  # fmt: skip
LOTS = {"lot": 1.0, "band": 0.0005, "min_notional": 100.0}
RULES = {
    "stop_loss": 0.15, "take_profit": 0.5, "trailing": 0.2, "atr_stop": 8.0, "max_bars": 120, "cooldown": 2
}  # fmt: skip

FIRST_DAY = np.datetime64("1990-01-01")
FIRST_MINUTE = np.datetime64("2018-01-01T00:00:00", "us")


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes
    ----------
    name, says : str
        What it is called, and what it is.
    n_bars, n_assets : int
    signal : str
        ``score`` takes a field of the panel; ``momentum`` ranks by the change over `lookbacks` bars; ``both
        sides`` does so long and short; ``crossover`` crosses two averages.
    lookbacks, numbers, schedules, bps : tuple
        The axes: bars of the signal, how many names, bars between decisions, commissions.
    pairs : int
        How many (fast, slow) pairs of a crossover.
    trading : mapping
        ``fill``, ``costs``, ``limits``, ``rules``, where they are not the package's defaults.
    minutes : bool
        Whether bars are minutes.
    seed : int
    """

    name: str
    says: str
    n_bars: int
    n_assets: int
    signal: Signal = "score"
    lookbacks: tuple[int, ...] = ()
    numbers: tuple[int, ...] = (10,)
    schedules: tuple[int, ...] = (1,)
    bps: tuple[float, ...] = (10.0,)
    pairs: int = 0
    trading: Mapping[str, Any] = field(default_factory=dict)
    minutes: bool = False
    seed: int = 0

    @property
    def trials(self) -> int:
        """How many backtests it means."""
        if self.signal == "crossover":
            return len(self.crossings)
        signals = max(1, len(self.lookbacks))
        return signals * len(self.numbers) * len(self.schedules) * len(self.bps)

    @property
    def asset_bars(self) -> int:
        """How many prices one backtest walks over."""
        return self.n_bars * self.n_assets

    @property
    def crossings(self) -> tuple[tuple[int, int], ...]:
        """The (fast, slow) pairs: with n slow averages, each against every faster one of a ladder."""
        if self.pairs == 0:
            return ()
        side = next(n for n in range(1, self.pairs + 2) if n * (n + 1) // 2 >= self.pairs)
        every = [(fast, slow) for slow in range(6, 6 + side) for fast in range(5, slow)]
        return tuple(every[: self.pairs])

    @property
    def kind(self) -> tuple[int, int, int, bool, bool, bool]:
        """What the data depends on: cases of one kind share it."""
        ruled = bool(self.trading.get("rules"))
        return self.n_bars, self.n_assets, self.seed, self.minutes, self.signal == "score", ruled

    @property
    def fields(self) -> dict[str, np.ndarray]:
        """Prices and, where it is used, the score: float64, (n_bars, n_assets)."""
        return _fields(*self.kind)

    @property
    def timestamps(self) -> np.ndarray:
        """Weekdays, or minutes."""
        if self.minutes:
            return FIRST_MINUTE + np.arange(self.n_bars) * np.timedelta64(60_000_000, "us")
        return np.busday_offset(FIRST_DAY, np.arange(self.n_bars))

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(f"S{a:05d}" for a in range(self.n_assets))

    def panel(self, folder: Path) -> bf.Panel:
        """Build its panel in a folder."""
        import backtest_farm as bf
        from backtest_farm.ingest import Grid

        return bf.Panel.build(Grid(self.timestamps, self.symbols, self.fields), folder)

    def forget(self) -> None:
        """Let go of all arrays: a wide case has 360 MB of them."""
        _fields.cache_clear()

    def strategy(self) -> Any:
        """The strategy, an axis wherever there is more than one value."""
        import backtest_farm as bf

        def several(values: tuple) -> Any:
            return bf.axis(list(values)) if len(values) > 1 else values[0]

        if self.signal == "crossover":
            fast, slow = zip(*self.crossings, strict=True)
            return bf.CrossOver(fast=several(fast), slow=several(slow))
        every = several(self.schedules)
        if self.signal == "score":
            signal: Any = bf.factor.field("score")
        else:
            signal = bf.factor.momentum(several(self.lookbacks))
        if self.signal == "both sides":
            parts = tuple(number / 2 / self.n_assets for number in self.numbers)
            half = INVESTED / 2
            return bf.Quantiles(
                signal=signal, quantile=several(parts), long=half, short=half, rebalance=every
            )
        weights = tuple(INVESTED / number for number in self.numbers)
        return bf.TopN(signal=signal, n=several(self.numbers), weight=several(weights), rebalance=every)

    def terms(self, **changes: Any) -> dict[str, Any]:
        """Return how it trades, as `bf.run` and `bf.Sweep` take it; with a profile, by its switches."""
        import backtest_farm as bf

        known = dict(self.trading)
        if "profile" in changes:
            known.pop("fill", None)
        costs = dict(known.pop("costs", COMMISSION))
        if len(self.bps) > 1:
            costs["commission_bps"] = bf.axis(list(self.bps))
        return {"cash": CASH, "costs": bf.Costs(**costs), **known, **changes}

    def sweep(self, panel: bf.Panel, **changes: Any) -> bf.Sweep:
        """All its trials, with some terms changed."""
        import backtest_farm as bf

        zipped = []
        if self.signal == "crossover" and self.trials > 1:
            zipped = [["fast", "slow"]]
        elif self.signal != "both sides" and len(self.numbers) > 1:
            zipped = [["n", "weight"]]
        groups: dict[str, Any] = {"zip": zipped} if zipped else {}
        kept = {"equity": {"top": 0}}
        return bf.Sweep(panel=panel, strategy=self.strategy(), keep=kept, **self.terms(**changes), **groups)

    def weights(self, lookback: int = 0, number: int = 0, every: int = 0) -> np.ndarray:
        """Return the targets of one trial as other engines take them: a row of NaN is no decision.

        Parameters
        ----------
        lookback, number, every : int
            Which trial; the first value of each axis when not given.

        Returns
        -------
        ndarray of float64, shape (n_bars, n_assets)
        """
        close = self.fields["close"]
        if self.signal == "crossover":
            fast, slow = (lookback, number) if lookback else self.crossings[0]
            return crossover_targets(close, fast, slow)
        number, every = number or self.numbers[0], every or self.schedules[0]
        values = np.full(close.shape, np.nan)
        if self.signal == "score":
            values = self.fields["score"]
        else:
            lookback = lookback or self.lookbacks[0]
            values[lookback:] = close[lookback:] / close[:-lookback] - 1.0
        targets = np.full(close.shape, np.nan)
        for t in range(0, self.n_bars, every):
            known = np.flatnonzero(np.isfinite(values[t]))
            if len(known):
                targets[t] = 0.0
                best = known[np.argsort(-values[t, known], kind="stable")[:number]]
                targets[t, best] = INVESTED / number
        return targets

    def fresh(self, turn: int) -> Case:
        """Return as much work on signals that were not computed before: other look-backs, or other prices."""
        if self.lookbacks:
            return replace(self, lookbacks=tuple(bars + turn for bars in self.lookbacks))
        return replace(self, seed=turn)

    def small(self) -> Case:
        """The same at a toy size, for tests."""
        few = replace(
            self,
            n_bars=min(self.n_bars, 80),
            n_assets=min(self.n_assets, 12),
            lookbacks=tuple(range(5, 5 + min(2, len(self.lookbacks)))),
            numbers=tuple(range(2, 2 + min(2, len(self.numbers)))),
            schedules=self.schedules[:2],
            bps=self.bps[:2],
            pairs=min(self.pairs, 6),
        )
        return few


@lru_cache(maxsize=4)
def _fields(
    n_bars: int, n_assets: int, seed: int, minutes: bool, scored: bool, ruled: bool
) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shape = n_bars, n_assets
    step = 0.001 if minutes else 0.02
    close = draw.standard_normal(shape)
    close *= step
    np.cumsum(close, axis=0, out=close)
    if n_bars > 10_000:
        # A long walk is tied down at its end, so that prices stay prices over a million bars.
        close -= np.linspace(0.0, 1.0, n_bars)[:, None] * close[-1]
    np.exp(close, out=close)
    close *= draw.uniform(20.0, 200.0, n_assets)
    opens = np.exp(draw.standard_normal(shape) * (step / 4))
    opens[1:] *= close[:-1]
    opens[0] *= close[0]
    found = {"open": opens, "close": close}
    if scored:
        found["score"] = draw.standard_normal(shape)
    if ruled:
        found["high"] = np.maximum(opens, close) * 1.005
        found["low"] = np.minimum(opens, close) * 0.995
        found["atr"] = 0.02 * close
    return found


def crossover_targets(close: np.ndarray, fast: int, slow: int) -> np.ndarray:
    """All of the money while the fast average is above the slow one; NaN where nothing changes."""
    sums = np.vstack([np.zeros(close.shape[1]), close.cumsum(axis=0)])
    quick, long = ((sums[slow:] - sums[slow - span : -span]) / span for span in (fast, slow))
    above = np.zeros(close.shape, bool)
    above[slow - 1 :] = quick > long
    changed = np.diff(above, axis=0, prepend=False)
    return np.where(changed, np.where(above, 1.0, 0.0), np.nan)


def _momentum(name: str, says: str, **changes: Any) -> Case:
    whole = Case(
        name, says, 2520, 500, "momentum", lookbacks=LOOKBACKS, numbers=SIZES, schedules=SCHEDULES
    )  # fmt: skip
    return replace(whole, **changes)


def w3_hundredfold(scale: float = 1.0) -> Case:
    """W3 with more sizes and with commissions as an axis: 100,000 trials at a scale of 1."""
    costs = tuple(float(bps) for bps in range(1, max(2, round(20 * scale) + 1)))
    sizes = tuple(range(1, 51)) if scale >= 0.02 else SIZES
    return _momentum("W3x100", "W3 with 50 sizes and more costs", numbers=sizes, bps=costs)


_AT_CLOSE = {"fill": "same_close"}
_DEALT = {"costs": COST_PARTS, "limits": LOTS}
_RULED = {**_DEALT, "rules": RULES}
_CASES = (
    Case("W1", "500 x 252, the best 25, daily", 252, 500, numbers=(25,), trading=_AT_CLOSE),
    Case("W2", "100 x 2,520, the best 10, every 5 bars", 2520, 100, schedules=(5,), trading=_AT_CLOSE),
    _momentum("W3", "500 x 2,520, top-N momentum, 1,000 trials"),
    _momentum("W3 costs", "W3 with more kinds of costs", trading={"costs": COST_PARTS}),
    _momentum("W3 lots", "and with lots, bands, least orders", trading=_DEALT),
    _momentum("W3 rules", "and with all position rules", trading=_RULED),
    _momentum("W3 shorts", "and half of the names short", signal="both sides", trading=_RULED),
    w3_hundredfold(),
    Case("W4", "1 x 10,000, 10,000 pairs of averages", 10_000, 1, "crossover", pairs=10_000),
    Case("wide", "3,000 x 5,000, the best 50, daily", 5000, 3000, numbers=(50,)),
    Case("wide momentum", "the same by momentum", 5000, 3000, "momentum", (126,), (50,)),
    Case(
        "long", "20 x 1,000,000 minutes, the best 5, every 60", 1_000_000, 20,
        numbers=(5,), schedules=(60,), minutes=True,
    ),
    Case("10 x 252", "10 x 252, the best 3, daily", 252, 10, numbers=(3,)),
    Case("50 x 1,260", "50 x 1,260, the best 10, every 5 bars", 1260, 50, schedules=(5,)),
    Case("100 x 2,520", "100 x 2,520, the best 10, every 5 bars", 2520, 100, schedules=(5,)),
    Case("trades", "50 x 1,000, the best 10, every 5 bars", 1000, 50, schedules=(5,)),
)  # fmt: skip

ALL = {case.name: case for case in _CASES}
"""All cases by name."""

LADDER = ("W3", "W3 costs", "W3 lots", "W3 rules", "W3 shorts")
"""Each with all that the one before it has, and more."""
