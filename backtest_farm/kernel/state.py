"""The arrays that a tile of trials lives in.

Everything the kernel reads or writes is one of seven NamedTuples of plain numpy arrays. ``Book`` is the state
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

STATE_VERSION = 5
"""Raised when the arrays of a `Book` change: a state saved by another version cannot be continued."""

SEGMENTS = 16
"""Rows carry the sums of returns of so many equal parts of the window."""

NO_ORDER, WAITING = 0, 1
"""Order state of a slot: none; waiting to be tried. ``WAITING`` plus the code of a reason is a forced exit,
which never expires or is replaced."""

NEXT_OPEN, NEXT_CLOSE, SAME_CLOSE = 0, 1, 2
SIZE_AT_DECISION, SIZE_AT_FILL = 0, 1
SCALE, GREEDY, REJECT, ALLOW = 0, 1, 2, 3
WEIGHTS, VALUES, QUANTITIES = 0, 1, 2
"""What the numbers of listed targets are: fractions of equity, money, units."""

IDLE, DECIDE, CLOSE_ALL = 0, 1, 2
"""What a schedule says of a bar: nothing; decide; decide to hold nothing."""

JOINS, LEAVES, ENDS, DIVIDEND, SPLIT = 0, 1, 2, 3, 4
"""Events of an asset: it becomes a member of the universe; it is one no more; its life ended a bar ago; it
pays so much a unit; each unit becomes so many. A bar's events are met in falling order of these codes."""

NOTED_PRICE, NOTED_VOLUME, NOTED_CASH, SIZED = 1, 2, 4, 8
"""What is known of an order, as bits: it has counted `no_price`; `no_volume`; `no_cash`; its target is a
quantity though it was to be sized at its fill."""

NEVER = 2**62
"""The bar on which a halt for good ends."""

NO_CAP = np.finfo(np.float64).max
"""A cap on commission that never binds (an infinite one would make NaN of a notional of 0)."""

COUNTERS = (
    "orders", "fills", "trades", "replaced", "no_price", "expired", "no_cash", "cancelled", "halted",
    "bust", "stale_bars", "unfilled_at_end", "below_lot", "below_minimum", "in_band", "stop_loss", "atr_stop",
    "trailing", "take_profit", "time_exit", "drawdown_halt", "cooldown", "capped", "over_limit", "no_volume",
)  # fmt: skip
(
    N_ORDERS, N_FILLS, N_TRADES, N_REPLACED, N_NO_PRICE, N_EXPIRED, N_NO_CASH, N_CANCELLED, N_HALTED,
    N_BUST, N_STALE_BARS, N_UNFILLED, N_BELOW_LOT, N_BELOW_MINIMUM, N_IN_BAND, N_STOP_LOSS, N_ATR_STOP,
    N_TRAILING, N_TAKE_PROFIT, N_TIME_EXIT, N_HALT, N_COOLDOWN, N_CAPPED, N_OVER_LIMIT, N_NO_VOLUME,
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

REASONS = (
    "target", "delisting", "bust", "membership", "stop_loss", "atr_stop", "trailing", "take_profit",
    "time_exit", "drawdown_halt",
)  # fmt: skip
(
    R_TARGET, R_DELISTING, R_BUST, R_MEMBERSHIP, R_STOP_LOSS, R_ATR_STOP, R_TRAILING, R_TAKE_PROFIT,
    R_TIME_EXIT, R_HALT,
) = range(len(REASONS))  # fmt: skip
RULE_COUNTER = N_STOP_LOSS - R_STOP_LOSS
"""What leads from the reason of a rule's exit to its counter."""

SLOT = ("target", "order", "decided", "noted", "entry_bar", "entry_base", "flow", "order_atr")
TARGET, ORDER, DECIDED, NOTED, ENTRY_BAR, ENTRY_BASE, FLOW, ORDER_ATR = range(len(SLOT))
"""Of a slot's order: the target quantity, or what is wanted while it awaits sizing at its fill; NO_ORDER,
WAITING or WAITING + reason; the bar of its decision; bits of what is known of it. Of its position: the bar of
the opening fill; its base price, the mark until a valid close; cash flows of the open trade. And the ATR at
the decision. Whole numbers are exact as floats."""

NOTES = ("entry", "water", "atr", "entered")
ENTRY, WATER, ATR, ENTERED = range(len(NOTES))
"""What position rules note of a slot: average price of its increases, the best price since, the ATR of the
decision that opened the position, and the summed size of the increases."""

RULES = (
    "stop_loss", "take_profit", "trailing", "trailing_step", "trailing_floor", "atr_stop", "max_bars",
    "cooldown", "halt_drawdown", "halt_bars", "on_close",
)  # fmt: skip
(
    STOP_LOSS, TAKE_PROFIT, TRAILING, TRAILING_STEP, TRAILING_FLOOR, ATR_STOP, MAX_BARS, COOLDOWN,
    HALT_DRAWDOWN, HALT_BARS, ON_CLOSE,
) = range(len(RULES))  # fmt: skip

CAPS = ("positions", "max_weight", "group", "gross", "net", "turnover", "reject")
CAP_POSITIONS, CAP_WEIGHT, CAP_GROUP, CAP_GROSS, CAP_NET, CAP_TURNOVER, REJECTS = range(len(CAPS))

COSTS = (
    "rate", "per_share", "least", "most", "half_spread", "slippage", "impact", "borrow_rate",
)  # fmt: skip
RATE, PER_SHARE, LEAST, MOST, HALF_SPREAD, SLIPPAGE, IMPACT, BORROW = range(len(COSTS))

LEG = ("quantity", "after", "price", "notional", "paid", "cost")
QUANTITY, AFTER, PRICE, NOTIONAL, PAID, COST = range(len(LEG))
"""Of one fill: units, the position it leaves, money per unit, and in money: what was traded, what leaves the
cash, and what it cost beside the base price."""

NOWHERE = 2**31 - 1
"""In ``Scratch.place``: an asset that is not in the bar's row."""
WIDE, WORK_ROWS = 128, 10
"""Slots that a trial may have to be filled at once, the length of a row of ``Scratch.work``; and its rows."""


class Book(NamedTuple):
    """State of K trials, carried over bars."""

    # slots (K, C)
    asset: np.ndarray  # uint32, ascending over the used slots; unsigned, so that no index counts from behind
    quantity: np.ndarray  # float64
    slot: np.ndarray  # (K, C, len(SLOT)) float64, a cache line each: see SLOT
    notes: np.ndarray  # (K, C, len(NOTES)) float64; (K, C, 0) in a tile without position rules
    # trials (K,)
    slots: np.ndarray  # int64: used slots
    waiting: np.ndarray  # int64: orders waiting
    due: np.ndarray  # int64: bar of a decision whose orders are made when they meet the open, -1 without one
    bust: np.ndarray  # int64
    broken: np.ndarray  # int64: 1 once equity was not finite
    halt_peak: np.ndarray  # float64: best equity since the start or the last halt
    halt_end: np.ndarray  # int64: last bar whose decisions a halt drops, -1 without one
    cooled: np.ndarray  # (K, A) int64: last bar of an asset's cool-down, -1 at first; (K, 0) without rules
    cash: np.ndarray  # float64
    equity: np.ndarray  # float64: of the last bar; starting cash before bar 0
    sums: np.ndarray  # (len(SUMS), K) float64
    segments: np.ndarray  # (2, SEGMENTS, K) float64: sum of r, sum of r*r
    counters: np.ndarray  # (len(COUNTERS), K) int64
    digest: np.ndarray  # (2, K) uint64
    # of the present bar (K,)
    bar_values: np.ndarray  # (6, K) float64: equity, cash, traded notional, costs, financing, dividends
    bar_bits: np.ndarray  # (6, K) uint64: the same memory, read as bits for the digest
    exposure: np.ndarray  # (2, K) float64: sum |value|, sum value
    # shared by the tile
    mark: np.ndarray  # (A,) float64: last valid close, NaN before the first
    atr: np.ndarray  # (A,) float64: of the present bar; (0,) where no rule asks for it
    eligible: np.ndarray  # (A,) uint8: 1 while the asset lives and is a member
    clock: np.ndarray  # (2,) int64: next bar, next event


class Slab(NamedTuple):
    """What is known of consecutive bars: rows ``first ... first + n - 1`` of the window.

    Of what no trial asks for there are no rows.
    """

    open: np.ndarray  # (n, A)
    close: np.ndarray  # (n, A)
    high: np.ndarray  # (n or 0, A)
    low: np.ndarray  # (n or 0, A)
    volume: np.ndarray  # (n or 0, A): units
    atr: np.ndarray  # (n or 0, A): money
    impact: np.ndarray  # (n or 0, A): sigma / sqrt(adv) of the bar before, 0 where one is missing
    first: int
    bars_per_year: float


class Events(NamedTuple):
    """What happens to assets, (E,) each, in the order in which the kernel meets it."""

    bar: np.ndarray  # int64, of the window
    kind: np.ndarray  # int64: JOINS, LEAVES, ENDS, DIVIDEND or SPLIT
    asset: np.ndarray  # int64
    amount: np.ndarray  # float64: payout at the end of a life (NaN = the mark); money or units per unit


class Terms(NamedTuple):
    """What may differ between the trials of a tile, (K,) each.

    Tables that no trial needs have no rows.
    """

    # the portfolio
    n: np.ndarray  # int64: names to hold, of ranked targets; 0 = by quantile
    quantile: np.ndarray  # float64: part of the ranked names on each side
    weight: np.ndarray  # float64: per name; of a quantile's whole long side; factor of listed targets
    short_weight: np.ndarray  # float64: of a quantile's whole short side; 0 = none
    schedule: np.ndarray  # int64: column of the targets' ``fires``
    # orders
    fill: np.ndarray  # int64: NEXT_OPEN, NEXT_CLOSE or SAME_CLOSE
    sizing: np.ndarray  # int64
    max_wait: np.ndarray  # int64
    limits: np.ndarray  # (K, 5) float64: band, relative band, minimum notional, lot, 1/2 where lots round
    # money
    starting_cash: np.ndarray  # float64
    afford: np.ndarray  # int64: SCALE, GREEDY, REJECT or ALLOW
    margin: np.ndarray  # float64 fraction of equity
    cost_row: np.ndarray  # int64: row of `costs`
    costs: np.ndarray  # (rows, A or 1, len(COSTS)) float64: fractions, money; by asset or one for all
    interest: np.ndarray  # (K, 2) float64: annual rate on cash above and below 0
    financed: int  # 1 if any trial pays or earns over night; shared
    volume: np.ndarray  # (K, 2) float64: part of a bar's volume (0 = no cap), 1 if the rest waits on
    # what bounds targets and ends positions
    rules: np.ndarray  # (K or 0, len(RULES)) float64
    caps: np.ndarray  # (K or 0, len(CAPS)) float64, infinite where there is none
    group: np.ndarray  # (A or 0,) int64: group of an asset for the group cap, -1 = none; shared


class Targets(NamedTuple):
    """Candidates of each bar: a row of asset ids, best first (ranked) or each with a number (listed)."""

    fires: np.ndarray  # (T, S) uint8: IDLE, DECIDE (only where a decision can be made) or CLOSE_ALL
    row_start: np.ndarray  # (T + 1,) int64: row t is ids[row_start[t]:row_start[t] + row_length[t]]
    row_length: np.ndarray  # (T,) int64
    ids: np.ndarray  # uint32
    values: np.ndarray  # float64: as ids when listed, NaN = keep; empty when ranked
    listed: int  # 1: values decide; 0: the terms do
    kind: int  # WEIGHTS, VALUES or QUANTITIES


class Scratch(NamedTuple):
    """Working memory without meaning between bars."""

    todo: np.ndarray  # (4, C) uint32: slots whose order has a fill in group (a), (b), (c); (c)'s cost column
    buys: np.ndarray  # (4, C) float64: quantity, notional, base price, impact of each order of group (c)
    legs: np.ndarray  # (2 C, len(LEG)) float64: of a slot's fill, and of a reversal's second one
    work: np.ndarray  # (WORK_ROWS * WIDE,) float64: rows of what is filled at once; see ``at_once``
    goal: np.ndarray  # (C,) float64: where a slot's order leads in this pass
    weights: np.ndarray  # (2, C) float64: a slot's weight as wanted and as it is
    bound: np.ndarray  # (C,) int64: what constraints may do with it
    wanted: np.ndarray  # (C,) float64: what a decision wants of a slot, as given; NaN = keep
    place: np.ndarray  # (A,) int32: where an asset stands in the bar's row, or NOWHERE
    fresh: np.ndarray  # (A,) uint32: new names of a decision, from the last asset to the first
    asked: np.ndarray  # (A,) float64: what is wanted of each of them
    spots: np.ndarray  # (A,) uint32: the slot that each of them gets
    moves: np.ndarray  # (C,) uint32: the slot that a slot moves up to; 0 = it does not
    known: np.ndarray  # (A,) float64: the bar's closes, NaN where one is not valid
    seen: np.ndarray  # (A + 1,) int64: by place, the last decision that found it among its slots


class Record(NamedTuple):
    """Where fills and per-bar values go when they are asked for.

    There is always one spare row for fills: the place of all of them while they are not recorded.
    """

    keys: np.ndarray  # (F, 6) int64: trial, decision bar, bar, asset, reason, 1 if it closed the position
    values: np.ndarray  # (F, 7) float64: quantity, base, price, commission, spread, slippage, impact
    used: np.ndarray  # (1,) int64
    bars: np.ndarray  # (T or 0, len(BAR_COLUMNS), K) float64
    recording: int  # 1 if fills are recorded


SLOT_FIELDS = ("asset", "quantity", "slot", "notes")
SLAB_FIELDS = ("open", "close", "high", "low", "volume")
FILL_KEYS = ("trial", "decision_bar", "bar", "asset", "reason", "flat")
FILL_VALUES = ("quantity", "base", "price", "commission", "spread", "slippage", "impact")


def frozen(array: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Return `array` as the kernel takes it: C order, `dtype`, read-only; not copied if it is that."""
    plain: np.ndarray = np.ascontiguousarray(np.asarray(array), dtype=dtype)
    view = plain.view()
    view.flags.writeable = False
    return view


def new_scratch(n_assets: int, capacity: int) -> Scratch:
    """Return working memory for trials of `capacity` slots."""
    return Scratch(
        todo=np.zeros((4, capacity), np.uint32),
        buys=np.zeros((4, capacity)),
        legs=np.zeros((2 * capacity, len(LEG))),
        work=np.zeros(WORK_ROWS * WIDE),
        goal=np.zeros(capacity),
        weights=np.zeros((2, capacity)),
        bound=np.zeros(capacity, np.int64),
        wanted=np.zeros(capacity),
        place=np.full(n_assets, NOWHERE, np.int32),
        fresh=np.zeros(n_assets, np.uint32),
        asked=np.zeros(n_assets),
        spots=np.zeros(n_assets, np.uint32),
        moves=np.zeros(capacity, np.uint32),
        known=np.zeros(n_assets),
        seen=np.zeros(n_assets + 1, np.int64),
    )


def new_book(terms: Terms, n_assets: int, capacity: int) -> Book:
    """Return the state before bar 0: cash alone.

    Parameters
    ----------
    terms : Terms
    n_assets : int
    capacity : int
        Slots per trial; `grown` makes more when they run out.
    """
    cash = terms.starting_cash
    k = len(cash)
    ruled = len(terms.rules) > 0
    cools = ruled and terms.rules[:, COOLDOWN].any()
    bar_values = np.zeros((6, k))
    sums = np.zeros((len(SUMS), k))
    sums[S_PEAK] = cash
    return Book(
        asset=np.zeros((k, capacity), np.uint32),
        quantity=np.zeros((k, capacity)),
        slot=np.zeros((k, capacity, len(SLOT))),
        notes=np.zeros((k, capacity, len(NOTES) if ruled else 0)),
        slots=np.zeros(k, np.int64),
        waiting=np.zeros(k, np.int64),
        due=np.full(k, -1, np.int64),
        bust=np.zeros(k, np.int64),
        broken=np.zeros(k, np.int64),
        halt_peak=np.array(cash, dtype=np.float64),
        halt_end=np.full(k, -1, np.int64),
        cooled=np.full((k, n_assets if cools else 0), -1, np.int64),
        cash=np.array(cash, dtype=np.float64),
        equity=np.array(cash, dtype=np.float64),
        sums=sums,
        segments=np.zeros((2, SEGMENTS, k)),
        counters=np.zeros((len(COUNTERS), k), np.int64),
        digest=np.repeat(np.array([[1], [2]], np.uint64), k, axis=1),
        bar_values=bar_values,
        bar_bits=bar_values.view(np.uint64),
        exposure=np.zeros((2, k)),
        mark=np.full(n_assets, np.nan),
        atr=np.full(n_assets if ruled and terms.rules[:, ATR_STOP].any() else 0, np.nan),
        eligible=np.zeros(n_assets, np.uint8),
        clock=np.zeros(2, np.int64),
    )


def grown(book: Book, capacity: int) -> Book:
    """Return `book` with room for `capacity` slots a trial; nothing else changes."""
    wider = {}
    for name in SLOT_FIELDS:
        old = getattr(book, name)
        new = np.zeros((old.shape[0], capacity, *old.shape[2:]), old.dtype)
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


def new_events(
    end_bar: np.ndarray,
    payout: np.ndarray,
    member: np.ndarray | None = None,
    split: np.ndarray | None = None,
    dividend: np.ndarray | None = None,
) -> Events:
    """Return what happens to assets, in window bars, ordered as the kernel meets it.

    Parameters
    ----------
    end_bar : ndarray of int64, shape (A,)
        Last bar of each asset's life, counted from the window's first bar; may be negative (dead before the
        window) or beyond the window (no end).
    payout : ndarray of float64, shape (A,)
        Price paid at the end; NaN = the mark.
    member : ndarray of uint8, shape (T, A), optional
        1 where the asset can be a target; without it all assets always can.
    split : ndarray of float64, shape (T, A), optional
        Units that one unit becomes; what is not finite and > 0, and 1, is none.
    dividend : ndarray of float64, shape (T, A), optional
        Money per unit; NaN is none.
    """
    rows = np.ones((1, len(end_bar)), bool) if member is None else np.asarray(member, bool)
    bar, asset = np.nonzero(np.diff(rows, axis=0, prepend=False))
    alive = bar <= end_bar[asset]
    bar, asset = bar[alive], asset[alive]
    ends = np.flatnonzero((end_bar >= 0) & (end_bar < NEVER // 2))
    found = [
        (bar, np.where(rows[bar, asset], JOINS, LEAVES), asset, np.zeros(len(bar))),
        (end_bar[ends] + 1, np.full(len(ends), ENDS), ends, payout[ends]),
    ]
    for code, table, nothing in ((SPLIT, split, 1.0), (DIVIDEND, dividend, 0.0)):
        if table is not None:
            happens = np.isfinite(table) & (table != nothing) & ((code != SPLIT) | (table > 0.0))
            bar, asset = np.nonzero(happens)
            found.append((bar, np.full(len(bar), code), asset, table[bar, asset]))
    bars, kinds, assets, amounts = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((assets, -kinds, bars))
    return Events(
        frozen(bars[order], np.int64),
        frozen(kinds[order], np.int64),
        frozen(assets[order], np.int64),
        frozen(amounts[order]),
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
