"""Run a tile of trials over a window: build the kernel's arrays, give it room, collect what it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from filelock import FileLock

from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, NEED_SLOTS, advance, finish
from backtest_farm.kernel.lanes import LANES, advance_lanes, fits_lanes, new_lanes, went_well
from backtest_farm.kernel.state import Book, Events, Record, Slab, Targets, Terms, frozen, new_scratch
from backtest_farm.kernel.summary import METRICS, summarise

SPARE_SLOTS = 8
LEAST_LANES = 16
"""Trials from which on lanes are quicker: a block takes the same time, full or not."""
LANE_BARS_PER_CALL = 50_000
TRIAL_BARS_PER_CALL = 400_000
"""Bars x trials of one kernel call: well under half a second, so that signals and deadlines get a turn."""
MODES = {"on_close": 0.0, "halt_bars": np.inf, "reject": 0.0}
"""What says how a rule or cap works, and is no rule or cap alone, with its default."""


@dataclass(frozen=True)
class Market:
    """What all trials of a window share.

    Attributes
    ----------
    slabs : tuple of Slab
        Consecutive prices; their rows together are the window's bars.
    events : Events
        Splits, dividends, members that join and leave, and ends of life, in window bars.
    """

    slabs: tuple[Slab, ...]
    events: Events

    @property
    def bars_per_year(self) -> float:
        return self.slabs[0].bars_per_year

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
    blocks: Sequence[Mapping[str, np.ndarray]],
    end_bar: np.ndarray,
    payout: np.ndarray,
    bars_per_year: float,
    member: np.ndarray | None = None,
    *,
    split: np.ndarray | None = None,
    dividend: np.ndarray | None = None,
    sigma: np.ndarray | None = None,
    adv: np.ndarray | None = None,
    atr: np.ndarray | None = None,
) -> Market:
    """Return the market of one window.

    Parameters
    ----------
    blocks : sequence of mapping of str to ndarray of float64, shape (n, n_assets)
        ``open``, ``close`` and, where they are asked for, ``high``, ``low`` and ``volume`` of consecutive
        runs of the window's bars; NaN = no bar.
    end_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, counted from the window's first bar; ``2**62`` = no end.
    payout : ndarray of float64, shape (n_assets,)
        Price paid at the end of life; NaN = the mark.
    bars_per_year : float
    member : ndarray of uint8, shape (n_bars, n_assets), optional
        1 where the asset belongs to the universe; without it all always do.
    split, dividend : ndarray of float64, shape (n_bars, n_assets), optional
        See `backtest_farm.kernel.state.new_events`.
    sigma, adv : ndarray of float64, shape (n_bars, n_assets), optional
        Volatility of a bar and units traded a bar, for the price impact; both or none.
    atr : ndarray of float64, shape (n_bars, n_assets), optional
        Average true range, money.
    """
    ends = np.asarray(end_bar, np.int64), np.asarray(payout, float)
    events = state.new_events(*ends, member, split, dividend)
    impact = None if sigma is None or adv is None else _impact(sigma, adv, split)
    slabs, first = [], 0
    for block in blocks:
        stop = first + len(block["close"])
        nothing = frozen(np.zeros((0, block["close"].shape[1])))
        rows = {name: frozen(block[name]) if name in block else nothing for name in state.SLAB_FIELDS}
        for name, table in (("atr", atr), ("impact", impact)):
            rows[name] = nothing if table is None else frozen(table[first:stop])
        slabs.append(Slab(**rows, first=first, bars_per_year=float(bars_per_year)))
        first = stop
    return Market(tuple(slabs), events)


def _impact(sigma: np.ndarray, adv: np.ndarray, split: np.ndarray | None) -> np.ndarray:
    """Return the impact of one unit at each bar by what was known a bar before; 0 where that is missing."""
    known = np.isfinite(sigma) & np.isfinite(adv) & (sigma >= 0.0) & (adv > 0.0)
    unit = np.where(known, sigma, 0.0) / np.sqrt(np.where(known, adv, 1.0))
    shifted = np.vstack([np.zeros((1, unit.shape[1])), unit[:-1]])
    if split is not None:
        # As many units more are traded after a split.
        shifted /= np.sqrt(np.where(np.isfinite(split) & (split > 0.0), split, 1.0))
    return shifted


def terms(
    n_trials: int,
    *,
    fill=state.NEXT_OPEN,
    sizing=state.SIZE_AT_DECISION,
    max_wait=5,
    commission_bps=0.0,
    per_share=0.0,
    min_commission=0.0,
    max_commission_frac=0.0,
    half_spread_bps=0.0,
    slippage_bps=0.0,
    impact=0.0,
    borrow_rate=0.0,
    interest_rate=0.0,
    debit_rate=None,
    afford=state.SCALE,
    margin=0.0,
    lot=0.0,
    lot_down=0,
    band=0.0,
    band_rel=0.0,
    min_notional=0.0,
    participation=0.0,
    carry=0,
    rules: Mapping[str, Any] | None = None,
    caps: Mapping[str, Any] | None = None,
    group: np.ndarray | None = None,
    cash=1_000_000.0,
    **portfolio: Any,
) -> Terms:
    """Return the parameters of a tile; every argument is one value for all trials or one value per trial.

    Codes are those of ``kernel.state``; what they mean is in ``docs/accounting.md``. `portfolio` is what
    `with_portfolio` takes. Of the costs from `commission_bps` to `borrow_rate` each may also be one value per
    trial and asset, (n_trials or 1, n_assets). `rules` and `caps` are by the names of ``RULES`` and ``CAPS``;
    what they leave out is off. `group` is the group of each asset, (n_assets,), -1 for none.
    """

    def column(values, dtype=np.float64) -> np.ndarray:
        return _column(n_trials, values, dtype)

    def table(*columns) -> np.ndarray:
        made = np.empty((n_trials, len(columns)))
        for at, values in enumerate(columns):
            made[:, at] = values
        return frozen(made)

    def named(given: Mapping[str, Any] | None, names: Sequence[str], off: float) -> np.ndarray:
        given = given or {}
        if all(np.all(np.equal(values, off)) for name, values in given.items() if name not in MODES):
            return frozen(np.zeros((0, len(names))))
        return table(*(given.get(name, MODES.get(name, off)) for name in names))

    most = np.where(np.asarray(max_commission_frac) > 0.0, max_commission_frac, state.NO_CAP)
    bps = [np.asarray(each) / 1e4 for each in (commission_bps, half_spread_bps, slippage_bps)]
    parts = bps[0], per_share, min_commission, most, bps[1], bps[2], impact, borrow_rate
    cost_row, costs = _cost_rows(n_trials, [np.asarray(each, float) for each in parts])
    debit = interest_rate if debit_rate is None else debit_rate
    made = Terms(
        n=column(0, np.int64),
        quantile=column(0.0),
        weight=column(1.0),
        short_weight=column(0.0),
        schedule=column(0, np.int64),
        fill=column(fill, np.int64),
        sizing=column(sizing, np.int64),
        max_wait=column(max_wait, np.int64),
        limits=table(band, band_rel, min_notional, lot, np.where(lot_down, 0.0, 0.5)),
        starting_cash=column(cash),
        afford=column(afford, np.int64),
        margin=column(margin),
        cost_row=frozen(cost_row, np.int64),
        costs=frozen(costs),
        interest=table(interest_rate, debit),
        financed=int(costs[:, :, state.BORROW].any() or np.any(interest_rate) or np.any(debit)),
        volume=table(participation, carry),
        rules=named(rules, state.RULES, 0.0),
        caps=named(caps, state.CAPS, np.inf),
        group=frozen(np.zeros(0) if group is None else group, np.int64),
    )
    return with_portfolio(made, **portfolio)


def with_portfolio(trials: Terms, **columns: Any) -> Terms:
    """Return terms with what portfolios do with their targets, one value for all trials or one per trial.

    Ranked targets take the first `n` names at `weight` each, or with ``n == 0`` the best and worst `quantile`
    of the ranked names, at `weight` and -`short_weight` for a whole side. Listed targets are multiplied by
    `weight`. `schedule` is the row of their ``fires`` by which trials decide. What is not given stays.
    """
    kinds = {"n": np.int64, "schedule": np.int64}
    made: dict[str, Any] = {
        name: _column(len(trials.n), each, kinds.get(name, float)) for name, each in columns.items()
    }
    return trials._replace(**made)


def _column(n_trials: int, values: Any, dtype: type) -> np.ndarray:
    made: np.ndarray = np.empty(n_trials, dtype)
    made[:] = values
    return frozen(made, dtype)


def _cost_rows(n_trials: int, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each trial its row of a table of distinct costs, and that table, (rows, assets or 1, part).

    A part of two dimensions is by asset; trials share a row when all their parts are equal.
    """
    wide = max((part.shape[1] for part in parts if part.ndim == 2), default=1)
    columns = [part if part.ndim else part[None] for part in parts]
    texts = [[each.tobytes() for each in part] for part in columns]
    rows: dict[tuple[bytes, ...], int] = {}
    found = [
        rows.setdefault(tuple(each[k if len(each) > 1 else 0] for each in texts), len(rows))
        for k in range(n_trials)
    ]
    table = np.empty((len(rows), wide, len(parts)))
    for row in range(len(rows)):
        first = found.index(row)
        for at, part in enumerate(columns):
            table[row, :, at] = part[first if len(part) > 1 else 0]
    return np.array(found), table


def ranked_targets(ids: np.ndarray, counts: np.ndarray, fires: np.ndarray) -> Targets:
    """Return targets that come from each bar's ranking; how many, and at what weight, say the terms.

    Parameters
    ----------
    ids : ndarray of int32, shape (n_bars, depth)
        Asset ids, best first. Quantiles count from both ends, so they need all that can be ranked.
    counts : ndarray of int64, shape (n_bars,)
        How many of a row are ranked; a row of 0 is no decision.
    fires : ndarray of uint8, shape (n_schedules, n_bars)
        What each schedule says of a bar: 0 nothing, 1 decide, 2 decide to hold nothing.
    """
    n_bars, depth = ids.shape
    starts = np.arange(n_bars + 1, dtype=np.int64) * depth
    return _targets(fires, counts > 0, starts, counts, ids.reshape(-1), np.zeros(0), 0, state.WEIGHTS)


def listed_targets(
    values: np.ndarray,
    fires: np.ndarray,
    keep: np.ndarray | None = None,
    kind: int = state.WEIGHTS,
    assets: np.ndarray | None = None,
) -> Targets:
    """Return targets from a table.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
        Weights, values in money or quantities. A row without any finite number is no decision; NaN in a
        decision row is 0.
    fires : ndarray of uint8, shape (n_schedules, n_bars)
        As for `ranked_targets`.
    keep : ndarray of bool, shape (n_bars, n_assets), optional
        Assets whose position and waiting order a decision leaves as they are, whatever their value.
    kind : int
        What `values` are: ``WEIGHTS``, ``VALUES`` or ``QUANTITIES`` of ``kernel.state``.
    assets : ndarray of int64, ascending, optional
        The asset ids of the columns, where they are not all of the panel's.
    """
    kept = np.zeros(values.shape, bool) if keep is None else np.asarray(keep, bool)
    finite = np.isfinite(values) & ~kept
    decides = finite.any(axis=1)
    # An absent asset is 0 anyway, so zeros need no place; a kept one is NaN.
    listed = ((finite & (values != 0.0)) | kept) & decides[:, None]
    lengths = listed.sum(axis=1)
    rows, ids = np.nonzero(listed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    wanted = np.where(kept[rows, ids], np.nan, values[rows, ids])
    ids = ids if assets is None else assets[ids]
    return _targets(fires, decides, starts, lengths, ids, wanted, 1, kind)


def _targets(fires, decides, starts, lengths, ids, values, listed, kind) -> Targets:
    fires = np.where((fires == state.DECIDE) & ~decides, state.IDLE, fires)
    rows = frozen(fires.T, np.uint8), frozen(starts, np.int64), frozen(lengths, np.int64)
    return Targets(*rows, frozen(ids, np.uint32), frozen(values), listed, kind)


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
    recorded = record_bars or fill_rows
    if len(trials.n) >= LEAST_LANES and not recorded and fits_lanes(trials, window.events, targets):
        book = _in_lanes(window, trials, targets)
        if went_well(book, trials):
            return closed(book, window, trials, state.new_record(0, 0, 0), risk_free)
    n_trials, n_bars, n_assets = len(trials.n), window.n_bars, window.n_assets
    # Enough to hold one set of names and wait for another; quantiles take what they need as they go.
    most = int(targets.row_length.max(initial=0)) if targets.listed else int(trials.n.max(initial=0))
    capacity = max(1, min(n_assets, 2 * most + SPARE_SLOTS))
    book = state.new_book(trials, n_assets, capacity)
    record = state.new_record(n_bars if record_bars else 0, n_trials, fill_rows)
    scratch = state.new_scratch(n_assets, capacity)
    bars_per_call = max(1, TRIAL_BARS_PER_CALL // n_trials)
    for slab in window.slabs:
        stop = slab.first + slab.close.shape[0]
        while book.clock[0] < stop:
            until = min(stop, int(book.clock[0]) + bars_per_call)
            code = advance(book, slab, trials, window.events, targets, record, scratch, until, n_bars)
            if code == DONE:
                continue
            if code == NEED_SLOTS:
                capacity = min(n_assets, 2 * capacity)
                book = state.grown(book, capacity)
                scratch = state.new_scratch(n_assets, capacity)
            else:
                record = state.roomier(record, 2 * len(record.keys) + 3 * int(book.slots.sum()))
    return closed(book, window, trials, record, risk_free)


def _in_lanes(window: Market, trials: Terms, targets: Targets) -> Book:
    """Advance a tile that `fits_lanes` over its whole window."""
    _compile_lanes()
    # One asset at most is held, one wanted; more room than there are assets is never needed.
    capacity = min(window.n_assets, 2)
    book, scratch = state.new_book(trials, window.n_assets, capacity), new_scratch(window.n_assets, capacity)
    n_bars, events, record = window.n_bars, window.events, state.new_record(0, len(trials.n), 0)
    room = targets.fires.view(np.uint64), new_lanes(), np.zeros(LANES, np.int64)
    asset = targets.ids[0]
    prices = np.concatenate([[slab.open[:, asset], slab.close[:, asset]] for slab in window.slabs], axis=1)
    odd = np.full(n_bars, True)
    odd[((prices > 0.0) & (prices < np.inf)).all(axis=0)] = False
    # Before its first price and after its end nobody can hold the asset, unless somebody tries.
    first = int(odd.argmin())
    odd[:first] = targets.fires[:first].any()
    for bar, kind in zip(
        *(each[events.asset == asset].tolist() for each in (events.bar, events.kind)), strict=True
    ):
        odd[bar + 1 :] &= kind != state.ENDS
        odd[bar : bar + 1] = True
    turns = np.flatnonzero(odd[1:] != odd[:-1]) + 1
    for slab in window.slabs:
        stop = slab.first + slab.close.shape[0]
        cuts = {*turns.tolist(), *range(slab.first, stop, LANE_BARS_PER_CALL), stop}
        for until in sorted(cut for cut in cuts if slab.first < cut <= stop):
            if odd[until - 1]:
                advance(book, slab, trials, events, targets, record, scratch, until, n_bars)
            else:
                advance_lanes(book, slab, trials, targets, *room, until, n_bars)
    return book


@cache
def _compile_lanes() -> None:
    """Compile lanes once on a machine, when they are first used: few sweeps need them."""
    price = np.ones((1, 1))
    window = market([{"open": price, "close": price}], np.full(1, 2**62), price[0], 1.0)
    trials, targets = terms(1), listed_targets(price, np.zeros((8, 1)))
    book = state.new_book(trials, 1, 1)
    room = targets.fires.view(np.uint64), new_lanes(), np.zeros(LANES, np.int64)
    folder = Path(numba.config.CACHE_DIR)  # type: ignore[attr-defined]
    # A folder that cannot be written still lets them compile, for this process alone.
    with contextlib.suppress(OSError), FileLock(folder / "lanes.lock"):
        advance_lanes(book, window.slabs[0], trials, targets, *room, 1, 1)


def closed(book: Book, window: Market, trials: Terms, record: Record, risk_free: float = 0.0) -> TileResult:
    """Close the books of a tile that has walked its whole window, and return what it leaves."""
    finish(book)
    metrics = np.empty((len(trials.n), len(METRICS)))
    summarise(book, trials.starting_cash, window.n_bars, window.bars_per_year, risk_free, metrics)
    digests = [f"{high:016x}{low:016x}" for high, low in book.digest.T.tolist()]
    return TileResult(metrics, book.counters, book.segments, digests, book.broken.astype(bool), record)
