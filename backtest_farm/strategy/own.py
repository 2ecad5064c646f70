"""Strategies that users write as classes, and as compiled functions."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import (
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from backtest_farm.errors import FarmError, InputError
from backtest_farm.kernel.state import COUNTERS
from backtest_farm.spec import (
    Axis,
    Metric,
    Spec,
    Stage,
    Trading,
    fault,
    has_axes,
    replaced,
    shown,
    values_of,
)
from backtest_farm.strategy.blocks import AnyStrategy, Weights
from backtest_farm.strategy.code import code_digest, folder_of, names_in

if TYPE_CHECKING:
    from backtest_farm.factors.own import PastPanel

_TAKEN = """
    panel strategy strategies universes universe zip where keep reads class kind trial key sweep fold status
    error digest window_start window_end numerics bars bars_per_year segment_bars segment_sum segment_sum_sq
"""
RESERVED = frozenset((*_TAKEN.split(), *Trading.model_fields, *get_args(Metric), *COUNTERS))
"""What results and sweep files call other things, so that no parameter can have the name."""

NO_SAME_CLOSE = "on_bar and steps decide after the close: take next_open or next_close"

DEFINED: dict[str, type[Strategy]] = {}
"""The classes of this process by name, the newest of each."""


class Strategy(Spec):
    """A strategy of your own: typed parameters, and `signal` or `on_bar`.

    Parameters are numbers, texts or switches, written as ``lookback: int = 126``; each takes an axis. An
    instance is frozen.

    Examples
    --------
    >>> class Momentum(Strategy):
    ...     lookback: int = 126
    ...     n: int = 25
    ...
    ...     def signal(self, panel):
    ...         return bf.factor.momentum(self.lookback)
    ...
    ...     def portfolio(self):
    ...         return bf.TopN(n=self.n, rebalance=5)
    >>> bf.run(panel, Momentum(lookback=63))  # doctest: +SKIP
    """

    spec_stage: ClassVar[Stage] = "portfolio"
    # Of each class; set when it is made.
    spec_name: ClassVar[str] = ""
    spec_made: ClassVar[float] = 0.0
    spec_step: ClassVar[Callable[[Any, Any, Any], None] | None] = None
    spec_lost: ClassVar[tuple[str, Mapping[str, Any]] | None] = None

    def signal(self, panel: PastPanel) -> Any:
        """Return one number per bar and asset; called once for all trials whose parameters it reads.

        Parameters
        ----------
        panel : PastPanel
            All fields, contexts and static columns up to the window's end.

        Returns
        -------
        ndarray (n_bars, n_assets), frame, polars expression or factor
            NaN where there is no value. By the rules of `portfolio` assets are chosen by it; without one, it
            is target weights, and a bar without any finite number is no decision.
        """

    def portfolio(self) -> Any:
        """Return what is made of the signal: a `TopN`, `Quantiles`, `Weights` or `CrossOver` without one."""
        return Weights()

    def on_bar(self, ctx: Any) -> None:
        """Decide after each bar; see `backtest_farm.engine.bars.Bar` for what `ctx` shows and takes."""

    def warmup(self) -> int:
        """Return how many bars the signal needs before it has a value: what ``start: auto`` waits for."""
        return 0

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if cls.spec_lost is not None:
            return
        cls.spec_name = f"{cls.__module__}:{cls.__qualname__}"
        cls.spec_made = time.time()
        if taken := sorted(RESERVED & {*cls.model_fields}):
            raise InputError(
                f"{cls.spec_name}: {', '.join(taken)} cannot be the name of a parameter",
                hint="results have a column of that name, or sweep files a key: choose another one",
            )
        read = {*_reads(cls)} & {*cls.model_fields}
        # Trials of a tile differ in their portfolios at most; those of on_bar run one by one anyway.
        other: Stage = "filter" if decides_by_bar(cls) else "portfolio"
        cls.spec_stages = {name: "factor" if name in read else other for name in cls.model_fields}
        DEFINED[cls.spec_name] = cls

    @field_validator("*")
    @classmethod
    def _plain_values(cls, value: Any) -> Any:
        wrong = [each for each in values_of(value) if not isinstance(each, (int, float, str, type(None)))]
        if wrong:
            raise fault(f"{shown(wrong[0])} is no number, text or switch: a parameter takes nothing else")
        return value

    @model_serializer(mode="wrap")
    def _with_class(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"class": class_of(type(self)), **fields(self)}

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        yield "kind", self.spec_name
        yield from super().__iter__()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise InputError(
                    f"signal() of {self.spec_name} reads {name}, but does not name it, so that trials which "
                    "differ in it would share a signal",
                    hint=f"write self.{name} in signal() itself, and hand it on from there",
                )
            return super().__getattr__(name)


def step(function: Callable[[Any, Any, Any], None]) -> type[Strategy]:
    """Make a strategy of a function that numba compiles: called after each bar, it writes target weights.

    Parameters
    ----------
    function : callable
        Takes ``(bar, params, out)``. `bar` is a `backtest_farm.engine.steps.StepBar`. Every name that is read
        as ``params.NAME`` becomes a parameter: a number, an integer where it is whole. `out`, (n_assets,), is
        NaN; left so it is no decision.

    Returns
    -------
    type
        A class of strategies: ``my_step(lookback=5)``.

    Raises
    ------
    InputError
        If it takes other arguments, or its text cannot be found.
    """
    code = getattr(function, "__code__", None)
    if code is None or code.co_argcount != 3:
        raise InputError(f"{shown(function)} is no function of (bar, params, out), which bf.step takes")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        raise InputError(f"the text of {function.__name__} cannot be found: write it into a file") from None
    read = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    names = [node.attr for node in read if getattr(node.value, "id", None) == code.co_varnames[1]]
    parts = {
        **{name: getattr(function, name) for name in ("__module__", "__qualname__", "__doc__")},
        "__annotations__": dict.fromkeys(names, int | float),
        "spec_step": staticmethod(function),
    }
    return made(function.__name__, parts)


def made(name: str, parts: Mapping[str, Any]) -> type[Strategy]:
    """Return a class of strategies made of what stands in its body."""
    kind: Any = type(Strategy)
    return kind(name, (Strategy,), dict(parts))


def decides_by_bar(kind: type) -> bool:
    """Return whether a strategy's class decides after each bar, and not by a signal that is there before."""
    if not issubclass(kind, Strategy):
        return False
    return kind.spec_step is not None or kind.on_bar is not Strategy.on_bar


def is_importable(kind: type[Strategy]) -> bool:
    """Return whether another process can import a class."""
    return folder_of(kind.__module__) is not None and "<locals>" not in kind.__qualname__


def usable(strategy: AnyStrategy | Strategy) -> None:
    """Refuse a strategy that cannot run by itself.

    Raises
    ------
    InputError
        If a block lacks its signal, or a class is lost, or defines too little or too much.
    """
    if not isinstance(strategy, Strategy):
        kind: type = type(strategy)
        if lacking := lacks(strategy):
            raise InputError(
                f"{kind.__name__} has no {' and no '.join(lacking)}",
                hint="only what portfolio() of a bf.Strategy returns goes without a signal of its own",
            )
        return
    name, lost = strategy.spec_name, strategy.spec_lost
    if lost is not None:
        raise InputError(
            f"{name} cannot run again: {lost[0]}",
            hint="what is stored can be read; to run, bring back the code as it was, or run the sweep anew",
        )
    own = type(strategy)
    by_bar, by_signal = decides_by_bar(own), own.signal is not Strategy.signal
    if not (by_bar or by_signal):
        raise InputError(f"{name} defines neither signal nor on_bar", hint="define one of them")
    if by_bar and own.portfolio is not Strategy.portfolio:
        raise InputError(f"{name} defines on_bar and portfolio, but only one can decide: leave one out")


def lacks(block: Any) -> list[str]:
    """Return the parameters that a block needs for a signal of its own, and has not."""
    return [name for name in block.spec_signal if None in values_of(getattr(block, name))]


def signal_of(strategy: Any, kept: bool = True) -> Any:
    """Return by what a strategy without axes ranks or weighs assets, None where nothing is computed before.

    Parameters
    ----------
    strategy : AnyStrategy or Strategy
    kept : bool
        Whether the node's cache keeps what a user's class computes.
    """
    if not isinstance(strategy, Strategy):
        return strategy.signal
    kind = type(strategy)
    if kind.signal is Strategy.signal:
        return None
    from backtest_farm.factors.own import OwnFactor  # loads compiled code

    # On a copy that lacks all else, a signal cannot depend on what trials that share it differ in.
    bare = kind.model_construct()
    bare.__dict__.clear()
    bare.__dict__.update({name: getattr(strategy, name) for name in _in_signal(kind)})
    name = {"class": class_of(kind), **bare.__dict__} if kept else {}

    def compute(panel: PastPanel) -> Any:
        with speaking_of(strategy, "signal"):
            return bare.signal(panel)

    return OwnFactor(name, compute, kept)


def block_of(strategy: Strategy) -> AnyStrategy:
    """Return the block that a strategy makes of its signal.

    Raises
    ------
    InputError
        If `portfolio` raises, or gives no block, or one with a signal or axes.
    """
    with speaking_of(strategy, "portfolio"):
        block = strategy.portfolio()
    said = f"portfolio() of {strategy.spec_name} gives {shown(block)}"
    if not isinstance(block, AnyStrategy):
        raise InputError(said, hint="return bf.TopN(n=...), bf.Quantiles, bf.Weights or bf.CrossOver")
    if axes := has_axes(block):
        raise InputError(f"{said} with axes at {', '.join(axes)}", hint="axes belong to the class")
    if len(lacks(block)) < len(block.spec_signal):
        raise InputError(f"{said}, which has a signal of its own", hint="leave that out: signal() gives it")
    return block


def warmup_of(strategy: Strategy) -> int:
    """Return after how many bars the signal of a strategy, or the slowest on its axes, has values."""
    axes = {name: value.values for name, value in strategy if isinstance(value, Axis)}
    # Look-backs make a warm-up: the longest of each. Of other parameters any will do.
    slowest = {name: max(each, key=_number) for name, each in axes.items()}
    with speaking_of(strategy, "warmup"):
        return int(replaced(strategy, slowest).warmup())


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else -math.inf


@contextmanager
def speaking_of(strategy: Strategy, what: str) -> Iterator[None]:
    """Say in which of a user's functions an error came up; the error itself stays the cause."""
    try:
        yield
    except (FarmError, MemoryError):
        raise
    except Exception as error:
        own = getattr(type(strategy), what, None)
        file = getattr(getattr(own, "__code__", None), "co_filename", "")
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        place = f" at {Path(file).name}:{lines[-1]}" if lines else ""
        raise InputError(
            f"{what}() of {strategy.spec_name} raised {type(error).__name__}{place}: {error}"
        ) from error


@cache
def class_of(kind: type[Strategy]) -> Mapping[str, Any]:
    """Return what a class is, as plain values: a part of the keys of its trials."""
    if kind.spec_lost is not None:
        return kind.spec_lost[1]
    code, by_bar = code_digest(kind, kind.spec_made), decides_by_bar(kind)
    return {"name": kind.spec_name, "code": code, "signal": _in_signal(kind), "by_bar": by_bar}


def _in_signal(kind: type[Strategy]) -> list[str]:
    return sorted(name for name, stage in kind.spec_stages.items() if stage == "factor")


def _reads(kind: type[Strategy]) -> set[str]:
    """Return the names that `signal` mentions, and whatever of the class it calls."""
    found: set[str] = set()
    todo = ["signal"]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for base in kind.__mro__[: kind.__mro__.index(Strategy)]:
            part = vars(base).get(name)
            for inside in ("__func__", "fget", "func"):  # of methods and properties
                part = getattr(part, inside, part)
            todo += names_in(part.__code__) if isinstance(part, FunctionType) else []
    return found
