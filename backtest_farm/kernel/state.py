"""The arrays that a tile of trials lives in.

Everything the kernel reads or writes is one of six NamedTuples of plain numpy arrays. ``Book`` is the state
carried from bar to bar and from slab to slab; with the three others that describe a tile it can be saved and
continued. The functions here are the only constructors, so that every call meets the same array types
(inputs read-only and C-contiguous) and the kernel is compiled once.

Shapes: K trials in the tile, C slots a trial, A assets, T bars of the window, n bars of a slab.
A *slot* is an asset that a trial holds or has an order for; the slots of a trial are sorted by asset id, so
that walking them is walking in panel order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from backtest_farm.errors import InputError

STATE_VERSION = 1
"""Raised when the arrays of a `Book` change: a state saved by another version cannot be continued."""

SEGMENTS = 16
"""Rows carry the sums of returns of so many equal parts of the window."""

NO_ORDER, WAITING, FORCED = 0, 1, 2
"""Order state of a slot: none; waiting to be tried; a forced exit, which never expires or is replaced."""

SIZE_AT_DECISION, SIZE_AT_FILL = 0, 1

COUNTERS = (
    "orders", "fills", "trades", "replaced", "no_price", "expired", "no_cash", "cancelled", "halted",
    "bust", "stale_bars", "unfilled_at_end",
)  # fmt: skip
(
    N_ORDERS, N_FILLS, N_TRADES, N_REPLACED, N_NO_PRICE, N_EXPIRED, N_NO_CASH, N_CANCELLED, N_HALTED,
    N_BUST, N_STALE_BARS, N_UNFILLED,
) = range(len(COUNTERS))  # fmt: skip

SUMS = (
    "mean", "m2", "m3", "m4", "downside", "peak", "drawdown", "equity", "gross", "notional", "costs",
    "wins", "profit", "loss", "bars_held",
)  # fmt: skip
(
    S_MEAN, S_M2, S_M3, S_M4, S_DOWNSIDE, S_PEAK, S_DRAWDOWN, S_EQUITY, S_GROSS, S_NOTIONAL, S_COSTS,
    S_WINS, S_PROFIT, S_LOSS, S_BARS_HELD,
) = range(len(SUMS))  # fmt: skip

BAR_COLUMNS = (
    "equity", "cash", "gross", "net", "turnover", "costs", "financing", "dividends", "positions",
)  # fmt: skip

REASONS = ("target", "delisting", "bust")
R_TARGET, R_DELISTING, R_BUST = range(len(REASONS))


class Book(NamedTuple):
    """State of K trials, carried over bars."""

    # slots (K, C)
    asset: np.ndarray  # int32, ascending over the used slots
    quantity: np.ndarray  # float64
    target: np.ndarray  # float64: target quantity; the target weight while an order awaits sizing at its fill
    order: np.ndarray  # int32: NO_ORDER, WAITING or FORCED
    decided: np.ndarray  # int64: bar of the decision that made the order
    noted: np.ndarray  # int32: 1 once the order has counted `no_price`
    entry_bar: np.ndarray  # int64
    entry_base: np.ndarray  # float64: base price of the opening fill, the mark until a valid close
    flow: np.ndarray  # float64: cash flows of the open trade
    # trials (K,)
    slots: np.ndarray  # int64: used slots
    waiting: np.ndarray  # int64: orders waiting
    next_decision: np.ndarray  # int64: next bar at which the schedule fires
    bust: np.ndarray  # int64
    broken: np.ndarray  # int64: 1 once equity was not finite
    cash: np.ndarray  # float64
    equity: np.ndarray  # float64: of the last bar; starting cash before bar 0
    sums: np.ndarray  # (len(SUMS), K) float64
    segments: np.ndarray  # (2, SEGMENTS, K) float64: sum of r, sum of r*r
    counters: np.ndarray  # (len(COUNTERS), K) int64
    digest: np.ndarray  # (2, K) uint64
    # of the present bar (K,)
    bar_values: np.ndarray  # (4, K) float64: equity, cash, traded notional, costs
    bar_bits: np.ndarray  # (4, K) uint64: the same memory, read as bits for the digest
    exposure: np.ndarray  # (3, K) float64: sum |value|, sum value, number of positions
    # shared by the tile
    mark: np.ndarray  # (A,) float64: last valid close, NaN before the first
    clock: np.ndarray  # (2,) int64: next bar, next life's end


class Slab(NamedTuple):
    """Prices of consecutive bars: rows ``first ... first + n - 1`` of the window."""

    open: np.ndarray  # (n, A)
    close: np.ndarray  # (n, A)
    first: int


class Lives(NamedTuple):
    """Ends of life, in bars of the window."""

    last_bar: np.ndarray  # (A,) int64: the asset can be a target up to and including this bar
    end_bar: np.ndarray  # (E,) int64 sorted: last bar of the E lives that end
    end_asset: np.ndarray  # (E,) int64, ascending within a bar
    payout: np.ndarray  # (E,) float64, NaN = the mark


class Terms(NamedTuple):
    """What may differ between the trials of a tile, (K,) each."""

    n: np.ndarray  # int64: names to hold, of ranked targets
    weight: np.ndarray  # float64: weight per name, of ranked targets
    rebalance: np.ndarray  # int64: bars from one decision to the next
    sizing: np.ndarray  # int64
    max_wait: np.ndarray  # int64
    commission: np.ndarray  # float64 fraction of notional
    half_spread: np.ndarray  # float64 fraction of base price
    slippage: np.ndarray  # float64 fraction of base price
    starting_cash: np.ndarray  # float64


class Targets(NamedTuple):
    """Candidates of each bar: one row of asset ids a bar, best first (ranked) or listed with weights."""

    row_start: np.ndarray  # (T + 1,) int64: row t is ids[row_start[t]:row_start[t] + row_length[t]]
    row_length: np.ndarray  # (T,) int64: 0 = no decision can be made
    ids: np.ndarray  # int32
    weights: np.ndarray  # float64: as ids when listed, empty when ranked
    listed: int  # 1: weights decide; 0: the first n ids at the trial's weight


class Record(NamedTuple):
    """Where fills and per-bar values go when they are asked for.

    There is always one spare row for fills: the place of all of them while they are not recorded.
    """

    keys: np.ndarray  # (F, 5) int64: trial, decision bar, bar, asset, reason
    values: np.ndarray  # (F, 7) float64: quantity, base, price, commission, spread, slippage, impact
    used: np.ndarray  # (1,) int64
    bars: np.ndarray  # (T or 0, len(BAR_COLUMNS), K) float64
    recording: int  # 1 if fills are recorded


SLOT_FIELDS = ("asset", "quantity", "target", "order", "decided", "noted", "entry_bar", "entry_base", "flow")
FILL_KEYS = ("trial", "decision_bar", "bar", "asset", "reason")
FILL_VALUES = ("quantity", "base", "price", "commission", "spread", "slippage", "impact")


def frozen(array: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Return `array` as the kernel takes it: C order, `dtype`, read-only; not copied if it is that."""
    plain: np.ndarray = np.ascontiguousarray(np.asarray(array), dtype=dtype)
    view = plain.view()
    view.flags.writeable = False
    return view


def new_book(cash: np.ndarray, n_assets: int, capacity: int) -> Book:
    """Return the state before bar 0: cash alone.

    Parameters
    ----------
    cash : ndarray of float64, shape (K,)
        Starting cash of each trial.
    n_assets : int
    capacity : int
        Slots per trial; `grown` makes more when they run out.
    """
    k = len(cash)
    bar_values = np.zeros((4, k))
    sums = np.zeros((len(SUMS), k))
    sums[S_PEAK] = cash
    return Book(
        asset=np.zeros((k, capacity), np.int32),
        quantity=np.zeros((k, capacity)),
        target=np.zeros((k, capacity)),
        order=np.zeros((k, capacity), np.int32),
        decided=np.zeros((k, capacity), np.int64),
        noted=np.zeros((k, capacity), np.int32),
        entry_bar=np.zeros((k, capacity), np.int64),
        entry_base=np.zeros((k, capacity)),
        flow=np.zeros((k, capacity)),
        slots=np.zeros(k, np.int64),
        waiting=np.zeros(k, np.int64),
        next_decision=np.zeros(k, np.int64),
        bust=np.zeros(k, np.int64),
        broken=np.zeros(k, np.int64),
        cash=np.array(cash, dtype=np.float64),
        equity=np.array(cash, dtype=np.float64),
        sums=sums,
        segments=np.zeros((2, SEGMENTS, k)),
        counters=np.zeros((len(COUNTERS), k), np.int64),
        digest=np.repeat(np.array([[1], [2]], np.uint64), k, axis=1),
        bar_values=bar_values,
        bar_bits=bar_values.view(np.uint64),
        exposure=np.zeros((3, k)),
        mark=np.full(n_assets, np.nan),
        clock=np.zeros(2, np.int64),
    )


def grown(book: Book, capacity: int) -> Book:
    """Return `book` with room for `capacity` slots a trial; nothing else changes."""
    wider = {}
    for name in SLOT_FIELDS:
        old = getattr(book, name)
        new = np.zeros((old.shape[0], capacity), old.dtype)
        new[:, : old.shape[1]] = old
        wider[name] = new
    return book._replace(**wider)


def saved(book: Book) -> dict[str, np.ndarray]:
    """Return a copy of the whole state as plain arrays by name, fit for ``numpy.savez``."""
    return {
        "version": np.array(STATE_VERSION),
        **{name: array.copy() for name, array in book._asdict().items()},
    }


def restored(arrays: Mapping[str, np.ndarray]) -> Book:
    """Return the state that `saved` took, ready to be continued.

    Raises
    ------
    InputError
        If another version wrote it.
    """
    version = int(arrays["version"])
    if version != STATE_VERSION:
        raise InputError(f"a state of version {version} cannot be continued by version {STATE_VERSION}")
    book = Book(**{name: np.array(arrays[name]) for name in Book._fields})
    # In a live book the bits are the values' own memory.
    return book._replace(bar_bits=book.bar_values.view(np.uint64))


def new_lives(end_bar: np.ndarray, payout: np.ndarray) -> Lives:
    """Return ends of life in window bars, ordered as the kernel meets them.

    Parameters
    ----------
    end_bar : ndarray of int64, shape (A,)
        Last bar of each asset's life, counted from the window's first bar; may be negative (dead before the
        window) or beyond the window (no end).
    payout : ndarray of float64, shape (A,)
        Price paid at the end; NaN = the mark.
    """
    ends = np.flatnonzero(end_bar < 2**61)
    order = ends[np.lexsort((ends, end_bar[ends]))]
    return Lives(
        frozen(end_bar, np.int64),
        frozen(end_bar[order], np.int64),
        frozen(order, np.int64),
        frozen(payout[order]),
    )


def new_record(n_bars: int, n_trials: int, fill_rows: int) -> Record:
    """Return room for per-bar values of `n_bars` bars and for `fill_rows` fills (0 = do not record)."""
    return Record(
        np.zeros((fill_rows + 1, len(FILL_KEYS)), np.int64),
        np.zeros((fill_rows + 1, len(FILL_VALUES))),
        np.zeros(1, np.int64),
        np.zeros((n_bars, len(BAR_COLUMNS), n_trials)),
        int(fill_rows > 0),
    )


def roomier(record: Record, fill_rows: int) -> Record:
    """Return `record` with room for `fill_rows` fills; what is written stays."""
    keys = np.zeros((fill_rows + 1, len(FILL_KEYS)), np.int64)
    values = np.zeros((fill_rows + 1, len(FILL_VALUES)))
    used = int(record.used[0])
    keys[:used] = record.keys[:used]
    values[:used] = record.values[:used]
    return record._replace(keys=keys, values=values)
