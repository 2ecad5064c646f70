"""Run a tile of trials over a window: build the kernel's arrays, give it room, collect what it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, NEED_SLOTS, advance, finish
from backtest_farm.kernel.state import Lives, Record, Slab, Targets, Terms, frozen
from backtest_farm.kernel.summary import METRICS, summarise

SPARE_SLOTS = 8
TRIAL_BARS_PER_CALL = 400_000
"""Bars x trials of one kernel call: well under half a second, so that signals and deadlines get a turn."""
MAX_PRICE_FRACTION = 0.5
"""A fill price is never further from its base than this part of it."""


@dataclass(frozen=True)
class Market:
    """What all trials of a window share.

    Attributes
    ----------
    slabs : tuple of Slab
        Consecutive prices; their rows together are the window's bars.
    lives : Lives
        Ends of life in window bars.
    bars_per_year : float
    """

    slabs: tuple[Slab, ...]
    lives: Lives
    bars_per_year: float

    @property
    def n_bars(self) -> int:
        return sum(slab.close.shape[0] for slab in self.slabs)

    @property
    def n_assets(self) -> int:
        return self.slabs[0].close.shape[1]


@dataclass(frozen=True)
class TileResult:
    """What a tile leaves behind.

    Attributes
    ----------
    metrics : ndarray of float64, shape (K, len(METRICS))
    counters : ndarray of int64, shape (len(COUNTERS), K)
    segments : ndarray of float64, shape (2, SEGMENTS, K)
        Sum of returns and of squared returns over equal parts of the window.
    digests : list of str
        32 hexadecimal digits a trial.
    broken : ndarray of bool, shape (K,)
        Trials whose equity was not finite on some bar: an error, whatever the metrics say.
    record : Record
        Fills and per-bar columns, when asked for.
    """

    metrics: np.ndarray
    counters: np.ndarray
    segments: np.ndarray
    digests: list[str]
    broken: np.ndarray
    record: Record


def market(
    open_: np.ndarray, close: np.ndarray, end_bar: np.ndarray, payout: np.ndarray, bars_per_year: float
) -> Market:
    """Return the market of one window held in one slab.

    Parameters
    ----------
    open_, close : ndarray of float64, shape (n_bars, n_assets)
        Prices of the window's bars; NaN = no bar.
    end_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, counted from the window's first bar; ``2**62`` = no end.
    payout : ndarray of float64, shape (n_assets,)
        Price paid at the end of life; NaN = the mark.
    bars_per_year : float
    """
    slab = Slab(frozen(open_), frozen(close), 0)
    return Market(
        (slab,),
        state.new_lives(np.asarray(end_bar, np.int64), np.asarray(payout, float)),
        float(bars_per_year),
    )


def terms(
    n_trials: int,
    *,
    n=0,
    weight=0.0,
    rebalance=1,
    sizing=state.SIZE_AT_DECISION,
    max_wait=5,
    commission_bps=0.0,
    half_spread_bps=0.0,
    slippage_bps=0.0,
    cash=1_000_000.0,
) -> Terms:
    """Return the parameters of a tile; every argument is one value for all trials or one value per trial."""

    def column(values, dtype) -> np.ndarray:
        return frozen(np.broadcast_to(np.asarray(values, dtype), (n_trials,)), dtype)

    half_spread = column(half_spread_bps, np.float64) / 1e4
    slippage = column(slippage_bps, np.float64) / 1e4
    # Beyond the limit both parts shrink alike, so that the ledger's columns still sum to the price's
    # distance.
    total = half_spread + slippage
    over = total > MAX_PRICE_FRACTION
    shrink = np.where(over, MAX_PRICE_FRACTION / np.where(over, total, 1.0), 1.0)
    return Terms(
        n=column(n, np.int64),
        weight=column(weight, np.float64),
        rebalance=column(rebalance, np.int64),
        sizing=column(sizing, np.int64),
        max_wait=column(max_wait, np.int64),
        commission=frozen(column(commission_bps, np.float64) / 1e4),
        half_spread=frozen(half_spread * shrink),
        slippage=frozen(slippage * shrink),
        starting_cash=column(cash, np.float64),
    )


def ranked_targets(ids: np.ndarray, counts: np.ndarray) -> Targets:
    """Return targets that are the first n of each bar's ranking.

    Parameters
    ----------
    ids : ndarray of int32, shape (n_bars, depth)
        Asset ids, best first.
    counts : ndarray of int64, shape (n_bars,)
        How many of a row are ranked.
    """
    n_bars, depth = ids.shape
    starts = np.arange(n_bars + 1, dtype=np.int64) * depth
    return Targets(
        frozen(starts, np.int64),
        frozen(counts, np.int64),
        frozen(ids.reshape(-1), np.int32),
        frozen(np.zeros(0)),
        0,
    )


def listed_targets(weights: np.ndarray) -> Targets:
    """Return targets from a table of weights.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_bars, n_assets)
        A row without any finite weight is no decision; NaN in a decision row is weight 0.
    """
    finite = np.isfinite(weights)
    decides = finite.any(axis=1)
    # A decision to hold nothing must still be a row of one candidate; weight 0 is no target.
    keep = finite & (weights != 0.0)
    keep[:, 0] |= decides & ~keep.any(axis=1)
    lengths = keep.sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows, ids = np.nonzero(keep)
    values = np.nan_to_num(weights[rows, ids], nan=0.0)
    return Targets(
        frozen(starts, np.int64), frozen(lengths, np.int64), frozen(ids, np.int32), frozen(values), 1
    )


def run_tile(
    window: Market,
    trials: Terms,
    targets: Targets,
    *,
    record_bars: bool = False,
    fill_rows: int = 0,
    risk_free: float = 0.0,
) -> TileResult:
    """Advance a tile over its whole window.

    Parameters
    ----------
    window : Market
    trials : Terms
    targets : Targets
    record_bars : bool, default False
        Keep the per-bar columns of every trial.
    fill_rows : int, default 0
        Room for so many fills to start with (it grows); 0 = fills are not recorded.
    risk_free : float, default 0
        Annual rate.

    Returns
    -------
    TileResult
    """
    n_trials, n_bars, n_assets = len(trials.n), window.n_bars, window.n_assets
    most = int(targets.row_length.max(initial=0)) if targets.listed else int(trials.n.max(initial=0))
    capacity = max(1, min(n_assets, 2 * most + SPARE_SLOTS))
    book = state.new_book(trials.starting_cash, n_assets, capacity)
    record = state.new_record(n_bars if record_bars else 0, n_trials, fill_rows)
    todo = np.zeros((2, capacity), np.int64)
    wanted, owner = np.zeros(n_assets), np.zeros(n_assets, np.int64)
    bars_per_call = max(1, TRIAL_BARS_PER_CALL // n_trials)
    for slab in window.slabs:
        stop = slab.first + slab.close.shape[0]
        while book.clock[0] < stop:
            until = min(stop, int(book.clock[0]) + bars_per_call)
            code = advance(
                book, slab, trials, window.lives, targets, record, todo, wanted, owner, until, n_bars
            )
            if code == DONE:
                continue
            if code == NEED_SLOTS:
                capacity *= 2
                book = state.grown(book, capacity)
                todo = np.zeros((2, capacity), np.int64)
            else:
                record = state.roomier(record, 2 * len(record.keys) + 3 * int(book.slots.sum()))
    finish(book)
    metrics = np.empty((n_trials, len(METRICS)))
    summarise(book, trials.starting_cash, n_bars, window.bars_per_year, risk_free, metrics)
    digests = [f"{high:016x}{low:016x}" for high, low in book.digest.T.tolist()]
    return TileResult(metrics, book.counters, book.segments, digests, book.broken.astype(bool), record)
