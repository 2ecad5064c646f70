"""One market and one tile of trials that have everything in some of them, for comparisons of bytes."""

from __future__ import annotations

import numpy as np

from backtest_farm.engine.tile import Market, listed_targets, market, ranked_targets, terms
from backtest_farm.kernel import state
from backtest_farm.kernel.state import Targets, Terms, frozen

N_BARS, N_ASSETS, N_TRIALS = 200, 30, 128
SHAPE = N_BARS, N_ASSETS
KINDS = ("ranked", "weights", "values", "quantities")
END = np.full(N_ASSETS, 2**62)
END[[7, 11, 19, 23]] = [60, 120, 93, 150]
PAYOUT = np.full(N_ASSETS, np.nan)
PAYOUT[[7, 23]] = 0.0, 20.0
TAGS = np.arange(N_ASSETS) % 4 - 1
SHARED = {"costs", "group", "financed"}
"""What the trials of a tile share."""


def _splits() -> np.ndarray:
    """Splits of the market; what is no number, and 1, is none."""
    rng = np.random.default_rng(2)
    split = np.where(rng.random(SHAPE) < 0.004, rng.choice([2.0, 3.0, 0.25], SHAPE), 1.0)
    return np.where(rng.random(SHAPE) < 0.01, np.nan, split)


SPLITS = _splits()
UNITS = np.cumprod(np.where(np.isnan(SPLITS), 1.0, SPLITS), axis=0)
"""What one unit of before the first bar is at each bar."""


def mixed_market(money: float = 1.0, n_bars: int = N_BARS, *, adjusted: bool = False) -> Market:
    """A market with gaps, late listings, ends of life, a universe that changes, splits, dividends and all
    that rules, volume caps and impact read.

    Whatever is money is multiplied by `money`. `adjusted` is the same market in units of before the first
    bar, where nothing is split.
    """
    rng = np.random.default_rng(3)
    units = np.ones(SHAPE) if adjusted else UNITS
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.03, SHAPE), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, SHAPE))
    reach = np.exp(np.abs(rng.normal(0, 0.01, (2, *SHAPE))))
    high, low = np.maximum(open_, close) * reach[0], np.minimum(open_, close) / reach[1]
    gone = rng.random(SHAPE) < 0.03
    open_[gone], close[gone] = np.nan, np.nan
    close[:20, :5] = np.nan
    high[rng.random(SHAPE) < 0.05], low[rng.random(SHAPE) < 0.05] = np.nan, np.nan
    spells = np.cumsum(rng.random(SHAPE) < 0.02, axis=0) % 2
    member = spells == rng.integers(0, 2, N_ASSETS)
    payout = PAYOUT.copy()
    for asset in np.flatnonzero(END < N_BARS):
        member[END[asset] - 15 : END[asset] + 1, asset] = True
        payout[asset] /= units[END[asset] + 1, asset]

    def some(values: np.ndarray, share: float, otherwise: float) -> np.ndarray:
        return np.where(rng.random(SHAPE) < share, values, otherwise)

    prices = {"open": open_, "high": high, "low": low, "close": close}
    rows = {name: (table / units * money)[:n_bars] for name, table in prices.items()}
    rows["volume"] = (some(rng.uniform(0.0, 2e5, SHAPE), 0.9, np.nan) * units)[:n_bars]
    tables = {
        "atr": some(rng.uniform(0.3, 2.0, SHAPE), 0.9, np.nan) / units * money,
        "dividend": some(rng.uniform(-0.1, 1.0, SHAPE), 0.01, np.nan) / units * money,
        "sigma": some(rng.uniform(0.005, 0.05, SHAPE), 0.95, np.nan),
        "adv": some(rng.uniform(1e2, 1e5, SHAPE), 0.95, 0.0) * units,
    }
    if not adjusted:
        tables["split"] = SPLITS
    tables = {name: table[:n_bars] for name, table in tables.items()}
    return market([rows], END, payout * money, 252.0, member[:n_bars], **tables)


def schedules(n_bars: int = N_BARS) -> np.ndarray:
    """Three rhythms, and one that closes everything now and then."""
    fires = np.stack([np.arange(n_bars) % every == 0 for every in (1, 5, 21, 3)]).astype(np.uint8)
    fires[3, 60::40] = state.CLOSE_ALL
    return fires


def mixed_targets(kind: str, money: float = 1.0, n_bars: int = N_BARS, *, adjusted: bool = False) -> Targets:
    """Targets of one kind, some of them to be kept, on some bars none; values are money, quantities units
    of the bar."""
    rng = np.random.default_rng(5)
    score = rng.normal(size=(N_BARS, N_ASSETS))
    counts, kept = rng.choice([0, 1, 12, N_ASSETS], N_BARS), rng.random(score.shape) < 0.2
    if kind == "ranked":
        return ranked_targets(np.argsort(score, axis=1)[:n_bars], counts[:n_bars], schedules(n_bars))
    scale = {"weights": 0.1, "values": 1e5 * money, "quantities": 2e3}[kind]
    rows = np.where(np.abs(score) > 1.0, score * scale, np.nan)
    if kind == "quantities" and not adjusted:
        rows *= UNITS
    code = KINDS.index(kind) - 1
    return listed_targets(rows[:n_bars], schedules(n_bars), kept[:n_bars], code)


def mixed_terms(kind: str, n_trials: int = N_TRIALS, money: float = 1.0) -> Terms:
    """Trials that have everything in some of them, and each thing in about half of them or fewer."""
    rng = np.random.default_rng(4)

    def some(*values, share: float = 0.5, off: float = 0.0):
        return np.where(rng.random(n_trials) < share, rng.choice(values, n_trials), off)

    def by_asset(*values, share: float = 0.3):
        """Numbers that differ between the assets of some trials, and are one number in the others."""
        each = rng.choice(values, (n_trials, N_ASSETS)) * (rng.random((n_trials, N_ASSETS)) < 0.7)
        return np.where(rng.random((n_trials, 1)) < share, each, some(*values)[:, None])

    inf = np.inf
    rules = {
        "stop_loss": some(0.02, 0.08, share=0.3),
        "take_profit": some(0.02, 0.1, share=0.3),
        "trailing": some(0.02, 0.06, share=0.3),
        "trailing_step": some(0.002),
        "trailing_floor": some(0.01),
        "atr_stop": some(0.5, 2.0, share=0.3),
        "max_bars": some(1, 4, 30, share=0.3),
        "cooldown": some(1, 7, share=0.3),
        "halt_drawdown": some(0.03, 0.2, share=0.3),
        "halt_bars": some(0, 10, off=inf),
        "on_close": some(1),
    }
    caps = {
        "positions": some(0, 3, 8, share=0.2, off=inf),
        "max_weight": some(0.05, 0.2, share=0.3, off=inf),
        "group": some(0.1, 0.5, share=0.3, off=inf),
        "gross": some(0.3, 1.0, share=0.3, off=inf),
        "net": some(0.05, 0.3, share=0.3, off=inf),
        "turnover": some(0.05, 0.4, share=0.3, off=inf),
        "reject": some(1, share=0.2),
    }
    bounded = kind in ("ranked", "weights")  # constraints are about weights alone
    return terms(
        n_trials,
        n=some(1, 3, 12, share=0.6),
        quantile=rng.uniform(0.05, 0.4, n_trials),
        weight=rng.uniform(0.05, 1.2, n_trials),
        short_weight=some(0.3, 0.8, 6.0),
        schedule=rng.integers(0, 4, n_trials),
        fill=rng.integers(0, 3, n_trials),
        sizing=rng.integers(0, 2, n_trials),
        max_wait=rng.integers(1, 7, n_trials),
        commission_bps=by_asset(5.0, 10.0),
        per_share=by_asset(0.01, 0.1) * money,
        min_commission=by_asset(1.0, 50.0) * money,
        max_commission_frac=by_asset(0.01),
        half_spread_bps=by_asset(3.0, 40.0),
        slippage_bps=by_asset(2.0),
        impact=by_asset(0.2, 2.0),
        borrow_rate=by_asset(0.03, 0.4),
        interest_rate=some(0.02, 0.2),
        debit_rate=some(0.1),
        afford=rng.integers(0, 4, n_trials),
        margin=some(0.5),
        lot=some(0.1, 1.0, 100.0),
        lot_down=rng.integers(0, 2, n_trials),
        band=some(0.01, 0.1),
        band_rel=some(0.2),
        min_notional=some(10.0, 5000.0) * money,
        participation=some(0.002, 0.05, share=0.4),
        carry=rng.integers(0, 2, n_trials),
        rules=rules,
        caps=caps if bounded else None,
        group=TAGS,
        cash=rng.choice([5e3, 1e6], n_trials) * money,
    )


def only(trials: Terms, *which: int) -> Terms:
    """Return some trials of a tile as a tile of their own; tables that none of them needs are left out."""
    rows = list(which)
    columns = {
        name: column if name in SHARED or not len(column) else frozen(column[rows], column.dtype)
        for name, column in trials._asdict().items()
    }
    modes = {"rules": ("on_close", "halt_bars"), "caps": ("reject",)}
    for table, (names, off) in {"rules": (state.RULES, 0.0), "caps": (state.CAPS, np.inf)}.items():
        counts = [at for at, name in enumerate(names) if name not in modes[table]]
        if len(columns[table]) and (columns[table][:, counts] == off).all():
            columns[table] = frozen(np.zeros((0, len(names))))
    borrows = trials.costs[columns["cost_row"], :, state.BORROW]
    columns["financed"] = int(borrows.any() or columns["interest"].any())
    return Terms(**columns)
