"""Strategies that decide after each bar, in Python or compiled, on the kernel's own book.

Before each decision the kernel runs the bar with targets that never fire; what the strategy then wants is
written into the bar's row of these targets, and the kernel decides by it as by any other.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numba
import numpy as np
from filelock import FileLock
from numba import types
from numba.core.errors import NumbaError
from numba.np.unsafe.ndarray import to_fixed_tuple

from backtest_farm.engine.tile import Market, TileResult, closed
from backtest_farm.errors import InputError, nearest
from backtest_farm.factors.own import PastPanel
from backtest_farm.ingest.targets import KEEP
from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, NEED_ROWS, advance
from backtest_farm.kernel.decisions import decide
from backtest_farm.kernel.jit import jit
from backtest_farm.kernel.state import Terms, frozen
from backtest_farm.spec import shown
from backtest_farm.strategy import Strategy
from backtest_farm.strategy.own import speaking_of

PRICES = ("open", "high", "low", "close", "volume")
"""What a compiled step sees of a panel."""


class StepBar(NamedTuple):
    """What a compiled step sees after a bar."""

    t: int  # the bar, counted from the panel's first: the last row of the arrays
    start: int  # the first bar of the window
    open: np.ndarray  # (t + 1, n_assets) float64, read-only, NaN = no price; so are the next four
    high: np.ndarray  # without rows where the panel has no such field, and so `low` and `volume`
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    equity: float
    cash: float
    quantity: np.ndarray  # (n_assets,) float64: what is held
    member: np.ndarray  # (n_assets,) uint8: 1 where the asset may be bought


class Row(NamedTuple):
    """Targets of which one row at a time is filled; the arrays are those of `targets`, to be written."""

    targets: state.Targets
    fires: np.ndarray
    length: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    wanted: np.ndarray  # (n_assets,): what the strategy wants; NaN nothing, KEEP as it is
    quantity: np.ndarray  # (n_assets,)
    member: np.ndarray  # (n_assets,)


class Bar:
    """What `on_bar` is told after a bar, and takes: no later bar can be read.

    Attributes
    ----------
    bar : int
        The bar, counted from the panel's first: the last row of ``ctx["close"]``.
    start : int
        The first bar of the window.
    timestamp : numpy.datetime64
    symbols : tuple of str
    equity, cash : float
    positions, weights : ndarray of float64, shape (n_assets,)
        Quantities held, and what they are worth as parts of equity.
    members : ndarray of bool, shape (n_assets,)
        Assets that live and belong to the universe.
    signal : ndarray of float64, shape (n_assets,), or None
        The bar's row of what `signal` gave.
    state : dict
        For your own notes; empty at the first bar of a backtest.
    """

    def __init__(self, past: PastPanel, start: int, signal: np.ndarray | None) -> None:
        self.start = start
        self.symbols = past.symbols
        self.state: dict[str, Any] = {}
        self._past, self._signal = past, signal
        self._places = {name: at for at, name in enumerate(past.symbols)}
        self._fields: dict[str, np.ndarray] = {}
        self._contexts: dict[str, np.ndarray] = {}

    def _turn(self, book: state.Book, row: Row) -> Self:
        """Go on to the bar at which the book stands."""
        t = int(book.clock[0]) - 1
        self.bar = self.start + t
        self.timestamp = self._past.timestamps[self.bar]
        self.equity = float(book.bar_values[0, 0])
        self.cash = float(book.cash[0])
        self.positions = row.quantity.copy()
        n = int(book.slots[0])
        assets = book.asset[0, :n]
        mark = np.where(np.isnan(book.mark[assets]), book.slot[0, :n, state.ENTRY_BASE], book.mark[assets])
        self.weights = np.zeros(len(self.symbols))
        self.weights[assets] = book.quantity[0, :n] * np.nan_to_num(mark) / self.equity
        self.members = row.member == 1
        self.signal = None if self._signal is None else self._signal[t]
        self._wanted = row.wanted
        return self

    def __getitem__(self, field: str) -> np.ndarray:
        """Return a field up to this bar: float64 (bar + 1, n_assets), read-only."""
        if field not in self._fields:
            self._fields[field] = self._past[field]
        return self._fields[field][: self.bar + 1]

    def context(self, name: str) -> np.ndarray:
        """Return a context up to this bar: float64 (bar + 1,), read-only."""
        if name not in self._contexts:
            self._contexts[name] = self._past.context(name)
        return self._contexts[name][: self.bar + 1]

    def target(self, weights: Any) -> None:
        """Decide: hold these parts of equity from the next fill on. Without a call nothing is decided.

        Parameters
        ----------
        weights : mapping of str to float, or array of shape (n_assets,)
            ``bf.KEEP`` leaves an asset as it is. Assets that a mapping leaves out, and NaN in an array, are
            closed; an array without any finite number is no decision.

        Raises
        ------
        InputError
            If a symbol is none of the panel's, the shape is another, or a weight is infinite.
        """
        if isinstance(weights, Mapping):
            if unknown := [name for name in weights if name not in self._places]:
                close = [each for each in self.symbols if each[:1] == str(unknown[0])[:1]][:10]
                raise InputError(f"target: {unknown[0]!r} is no symbol: {nearest(str(unknown[0]), close)}")
            row = np.zeros(len(self.symbols))
            row[[self._places[name] for name in weights]] = [*weights.values()]
        else:
            row = np.asarray(weights, float)
        if row.shape != self._wanted.shape:
            raise InputError(f"target: the shape is {row.shape}, but should be {self._wanted.shape}")
        if np.isinf(row).any():
            raise InputError(f"target: the weight of {self.symbols[int(np.isinf(row).argmax())]} is infinite")
        self._wanted[:] = row


@jit
def _look(book, row):
    """Begin a decision: what is held, who may be held, and nothing wanted yet."""
    row.wanted[:] = np.nan
    row.member[:] = book.eligible
    row.quantity[:] = 0.0
    for i in range(book.slots[0]):
        row.quantity[book.asset[0, i]] = book.quantity[0, i]


@jit
def _listed(row, t):
    """Write what is wanted into the row of bar `t`, and return whether that is a decision."""
    decides = False
    n = 0
    for a in range(row.wanted.shape[0]):
        weight = row.wanted[a]
        if abs(weight) == np.inf:
            raise ValueError("a weight is infinite")
        decides |= weight == weight and weight != KEEP
        # An absent asset is 0 anyway; a kept one is NaN.
        if weight == weight and weight != 0.0:
            row.ids[n] = a
            row.values[n] = np.nan if weight == KEEP else weight
            n += 1
    if decides:
        row.length[t] = n
        row.fires[t, 0] = state.DECIDE
    return decides


@jit
def _walk(step, book, slab, terms, events, row, record, scratch, n_bars, start, prices, whole, real):
    """Run bars of a slab with a compiled step, as far as the room allows."""
    opens, highs, lows, closes, volumes = prices
    for t in range(book.clock[0], slab.first + slab.close.shape[0]):
        code = advance(book, slab, terms, events, row.targets, record, scratch, t + 1, n_bars)
        if code != DONE:
            return code
        _look(book, row)
        stop = start + t + 1
        past = opens[:stop], highs[:stop], lows[:stop], closes[:stop], volumes[:stop]
        equity, cash = book.bar_values[0, 0], book.cash[0]
        held, member = row.quantity, row.member
        # fmt: off
        bar = StepBar(
            stop - 1, start, past[0], past[1], past[2], past[3], past[4], equity, cash, held, member
        )
        # fmt: on
        step(bar, whole, real, row.wanted)
        if _listed(row, t):
            prices = slab.close[t - slab.first]
            decide(book, terms, row.targets, scratch, record, prices, slab.impact, t, t, np.int64(0))
    return DONE


_TABLE = types.Array(types.float64, 2, "C", readonly=True)
_NUMBERS = types.Array(types.float64, 1, "C")
_BAR = types.NamedTuple(
    [types.int64, types.int64, *[_TABLE] * 5, types.float64, types.float64, _NUMBERS, types.uint8[::1]],
    StepBar,
)
_STEP = types.void(_BAR, types.int64[::1], _NUMBERS, _NUMBERS)


def run_bars(
    market: Market,
    terms: Terms,
    *,
    past: PastPanel,
    start: int,
    strategy: Strategy,
    signal: np.ndarray | None,
    record_bars: bool = False,
    fill_rows: int = 0,
) -> TileResult:
    """Run one trial of a strategy that decides after each bar.

    Parameters
    ----------
    market, terms : Market, Terms
        Of one trial.
    past : PastPanel
        Up to the window's end.
    start : int
        The window's first bar.
    strategy : Strategy
        Without axes.
    signal : ndarray of float64, shape (n_bars, n_assets), optional
        On the window's bars.
    record_bars, fill_rows
        As in `run_tile`.

    Raises
    ------
    InputError
        If the strategy's own code raises, which stays the cause; cannot be compiled; or gives no weights.
    """
    n_bars, n_assets = market.n_bars, market.n_assets
    # One trial is small: room for every asset, so that slots never run out.
    book = state.new_book(terms, n_assets, n_assets)
    scratch = state.new_scratch(n_assets, n_assets)
    record = state.new_record(n_bars if record_bars else 0, 1, fill_rows)
    row = _new_row(n_bars, n_assets)
    on_slab = _stepped if type(strategy).spec_step else _told
    walk = on_slab(past, start, strategy, signal)
    for slab in market.slabs:
        while book.clock[0] < slab.first + slab.close.shape[0]:
            code = walk(book, slab, terms, market.events, row, record, scratch, n_bars)
            if code == NEED_ROWS:
                record = state.roomier(record, 2 * len(record.keys) + 3 * n_assets)
    return closed(book, market, terms, record)


def _new_row(n_bars: int, n_assets: int) -> Row:
    fires, length = np.zeros((n_bars, 1), np.uint8), np.zeros(n_bars, np.int64)
    ids, values = np.zeros(n_assets, np.uint32), np.zeros(n_assets)
    starts = frozen(np.zeros(n_bars + 1), np.int64)
    # The kernel's views are read-only, and see what is written here.
    parts = frozen(fires, np.uint8), starts, frozen(length, np.int64), frozen(ids, np.uint32), frozen(values)
    targets = state.Targets(*parts, 1, state.WEIGHTS)
    room = np.zeros(n_assets), np.zeros(n_assets), np.zeros(n_assets, np.uint8)
    return Row(targets, fires, length, ids, values, *room)


def _told(past: PastPanel, start: int, strategy: Strategy, signal: np.ndarray | None) -> Callable[..., int]:
    """Return what runs a bar and then asks `on_bar`."""
    bar = Bar(past, start, signal)

    def walk(book, slab, terms, events, row, record, scratch, n_bars) -> int:
        t = int(book.clock[0])
        code = advance(book, slab, terms, events, row.targets, record, scratch, t + 1, n_bars)
        if code != DONE:
            return code
        _look(book, row)
        with speaking_of(strategy, "on_bar"):
            given: Any = strategy.on_bar(bar._turn(book, row))  # type: ignore[func-returns-value]
        if given is not None:
            raise InputError(
                f"on_bar() of {strategy.spec_name} returns {shown(given)}, which nobody reads",
                hint="call ctx.target(weights) instead",
            )
        if _listed(row, t):
            prices = slab.close[t - slab.first]
            decide(book, terms, row.targets, scratch, record, prices, slab.impact, t, t, np.int64(0))
        return DONE

    return walk


def _stepped(past: PastPanel, start: int, strategy: Strategy, _: Any) -> Callable[..., int]:
    """Return what runs bars with a compiled step."""
    values = {name: getattr(strategy, name) for name in type(strategy).model_fields}
    whole = {name: value for name, value in values.items() if isinstance(value, int)}
    real = {name: value for name, value in values.items() if name not in whole}
    nothing = np.zeros((0, past.shape[1]))
    prices = tuple(frozen(past[name] if name in past.fields else nothing) for name in PRICES)
    numbers = np.array([*whole.values()], np.int64), np.array([*real.values()], np.float64)
    step = _compiled(type(strategy), (*whole,), (*real,))

    def walk(*given: Any) -> int:
        given = (*given, start, prices, *numbers)
        _compile_walk(tuple(map(numba.typeof, given)))
        with speaking_of(strategy, "step"):
            return _walk(step, *given)

    return walk


@cache
def _compile_walk(kinds: tuple) -> None:
    """Compile `_walk` for any step that is handed in: once on a machine, which keeps it on disk."""
    with FileLock(Path(numba.config.CACHE_DIR) / "walk.lock"):  # type: ignore[attr-defined]
        _walk.disable_compile(False)
        _walk.compile(types.int64(types.FunctionType(_STEP), *kinds))
        # From now on a step is taken as such a function, and not as a type of its own.
        _walk.disable_compile()


@cache
def _compiled(kind: type[Strategy], whole: tuple[str, ...], real: tuple[str, ...]) -> Any:
    """Compile a step; its indices are checked, since the memory behind a slice holds later bars."""
    names = [*whole, *real]
    params: Any = namedtuple("Params", names)  # type: ignore[misc]
    n_whole, n_real = len(whole), len(real)
    own = numba.njit(kind.spec_step, boundscheck=True, error_model="numpy")

    @numba.njit
    def step(bar, integers, numbers, out):
        own(bar, params(*(to_fixed_tuple(integers, n_whole) + to_fixed_tuple(numbers, n_real))), out)

    try:
        step.compile(_STEP)
    except NumbaError as error:
        text = "; ".join(line for line in str(error).splitlines() if line.strip())[:300]
        raise InputError(f"numba cannot compile {kind.spec_name}: {text}") from error
    return step
