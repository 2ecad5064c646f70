"""What a user asks for: one sweep, or one backtest when no axis stands in it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from backtest_farm.errors import InputError
from backtest_farm.spec import MAX_TRIALS, Axis, Costs, Execution, Keep, Limits, Window, leaves
from backtest_farm.strategy import TopN


class SweepSpec(Execution):
    """A panel, a strategy and how it trades, with axes at any of the parameters.

    Attributes
    ----------
    panel : str
        Absolute path or URI of the panel; no part of any key.
    strategy : TopN
        What to hold and when to decide.
    costs : Costs
        What trading costs; nothing unless given.
    limits : Limits
        What bounds orders.
    window : Window
        The span of bars that is traded.
    keep : Keep
        What is stored beside the rows; no part of any key.
    profile : str
        The named set of switches of the accounting contract.
    fill, sizing, cash
        See `Execution`.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"panel", "profile"})

    panel: Annotated[str, Field(min_length=1)]
    strategy: TopN
    costs: Costs = Costs()
    limits: Limits = Limits()
    window: Window = Window()
    keep: Keep = Keep()
    profile: Literal["default"] = "default"

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
        located = (
            located_panel(os.fspath(panel), Path.cwd()) if isinstance(panel, (str, os.PathLike)) else panel
        )
        spec = cls(panel=located, **parts)
        check_size(spec, limit)
        return spec


def located_panel(panel: str, folder: Path) -> str:
    """Return a panel's absolute path, taken relative to `folder`; URIs and empty text stay as they are."""
    if not panel or "://" in panel:
        return panel
    return os.path.normpath(folder / Path(panel).expanduser())


def check_size(spec: SweepSpec, limit: int = MAX_TRIALS) -> None:
    """Refuse a grid with more than `limit` trials, by arithmetic alone.

    Raises
    ------
    InputError
        With the size of the grid, axis by axis.
    """
    axes = [leaf for leaf in leaves(spec) if isinstance(leaf.value, Axis)]
    trials = math.prod(len(leaf.value) for leaf in axes)
    if trials > limit:
        raise InputError(
            f"the grid has {trials:,} trials, over the limit of {limit:,}",
            faults=[f"{'.'.join(leaf.path)}: {len(leaf.value):,} values" for leaf in axes],
            hint="take fewer values on the long axes, or raise the limit",
        )
