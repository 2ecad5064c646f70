"""What a user asks for: one sweep, or one backtest when no axis stands in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from backtest_farm.errors import InputError
from backtest_farm.spec import MAX_TRIALS, Keep, Trading, UniverseSpec, fault, read_yaml, values_of
from backtest_farm.strategy import AnyStrategy, Strategy
from backtest_farm.strategy.by_name import ByTagOrClass
from backtest_farm.strategy.code import hidden, search_in
from backtest_farm.strategy.own import NO_SAME_CLOSE, decides_by_bar
from backtest_farm.sweep.checks import check
from backtest_farm.sweep.space import Space


def _tuple(value: Any) -> Any:
    """Return a list as a tuple: files hold lists, and a strict field takes none."""
    return tuple(value) if isinstance(value, list) else value


def _entries(value: Any) -> Any:
    """Return the entries of universes: one may stand without a list."""
    return (value,) if isinstance(value, (str, dict, UniverseSpec)) else _tuple(value)


def _groups(value: Any) -> Any:
    """Return groups of names: one list of names is the only group."""
    given = _tuple(value)
    alone = isinstance(given, tuple) and given and all(isinstance(each, str) for each in given)
    return (given,) if alone else given


Group = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class SweepSpec(Trading):
    """A panel, a strategy and how it trades, with axes at any of the parameters.

    Attributes
    ----------
    panel : str
        Absolute path or URI of the panel; no part of any key.
    strategy : TopN, Quantiles, CrossOver, Weights or Strategy
        What to hold and when to decide.
    universes : tuple of UniverseSpec
        Which assets may be held; each universe that they stand for is a value of the axis ``universe``.
    zip : tuple of tuple of str
        Groups of axes, by their columns, that are walked together: the first values of all, then the second.
    where : str or None
        A condition over columns that every trial fulfils, such as ``n < signal.lookback``.
    keep : Keep
        What is stored beside the rows; no part of any key.
    fill, sizing, cash, costs, limits, window, profile
        See `backtest_farm.spec.Trading`.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"panel", "window", "universes", "zip", "where", "keep"})

    panel: Annotated[str, Field(min_length=1)]
    strategy: Annotated[AnyStrategy | Strategy, ByTagOrClass("kind")]
    universes: Annotated[tuple[UniverseSpec, ...], BeforeValidator(_entries), Field(min_length=1)] = (
        UniverseSpec(),
    )
    zip: Annotated[tuple[Group, ...], BeforeValidator(_groups)] = ()
    where: Annotated[str, Field(min_length=1)] | None = None
    keep: Keep = Keep()

    @model_validator(mode="after")
    def _fills_after_decisions(self) -> Self:
        if "same_close" in values_of(self.fill) and any(decides_by_bar(type(one)) for one in self.strategies):
            raise fault(f"fill: {NO_SAME_CLOSE}")
        return self

    @property
    def strategies(self) -> tuple[Any, ...]:
        """The strategy, or all of them where alternatives stand."""
        return values_of(self.strategy)

    @classmethod
    def from_python(cls, *, panel: str | os.PathLike[str], limit: int = MAX_TRIALS, **parts: Any) -> Self:
        """Build a sweep from Python values; only ``axis([...])`` makes an axis.

        Parameters
        ----------
        panel : str or path
            Path (relative to the working folder) or URI of the panel.
        limit : int
            The largest number of trials that is accepted.
        **parts
            The other fields of this class.

        Raises
        ------
        InputError
            With all faults at once, or if the grid is over the limit.
        """
        spec = cls(panel=_located(panel, Path.cwd()), **parts)
        check(Space(spec), limit, cls.__name__)
        return spec


def load_sweep(path: str | Path, *, limit: int = MAX_TRIALS) -> SweepSpec:
    """Read a sweep file (YAML).

    A list at a leaf is an axis. Relative panel paths are relative to the file. Classes of the user's are
    imported from its folder, the working folder, or wherever Python finds them.

    Parameters
    ----------
    path : str or path
        The file.
    limit : int
        The largest number of trials that is accepted; nothing is expanded to count them.

    Raises
    ------
    InputError
        With all faults at once, each with file, line, dotted path, value and what is allowed.
    """
    file = read_yaml(path)
    content = dict(file.content)
    if "panel" in content:
        content["panel"] = _located(content["panel"], file.path.absolute().parent)
    if "class" in str(content.get("strategy")):
        search_in(file.path.absolute().parent, Path.cwd())
    spec = SweepSpec.from_file(content, str(file.path), file.line_of)
    for strategy in spec.strategies:
        if isinstance(strategy, Strategy) and (other := hidden(type(strategy), file.path.absolute().parent)):
            raise InputError(
                f"{other[0]} is not read: {other[1]} was imported under its name",
                hint="give one of the two files another name, or start Python anew",
            )
    check(Space(spec), limit, str(file.path), file.line_of)
    return spec


def _located(panel: Any, folder: Path) -> Any:
    """Return a panel's absolute path, taken relative to `folder`; URIs, and what is no path, stay."""
    panel = os.fspath(panel) if isinstance(panel, os.PathLike) else panel
    if not isinstance(panel, str) or not panel or "://" in panel:
        return panel
    return os.path.normpath(folder / os.path.expanduser(panel))
