"""What a user asks for: one sweep, or one backtest when no axis stands in it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from backtest_farm.errors import InputError
from backtest_farm.spec import MAX_TRIALS, ByTag, Keep, Trading, axes_of, read_yaml
from backtest_farm.strategy import TopN


class SweepSpec(Trading):
    """A panel, a strategy and how it trades, with axes at any of the parameters.

    Attributes
    ----------
    panel : str
        Absolute path or URI of the panel; no part of any key.
    strategy : TopN
        What to hold and when to decide.
    keep : Keep
        What is stored beside the rows; no part of any key.
    fill, sizing, cash, costs, limits, window, profile
        See `backtest_farm.spec.Trading`.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"panel", "profile"})

    panel: Annotated[str, Field(min_length=1)]
    strategy: Annotated[TopN, ByTag("kind")]
    keep: Keep = Keep()

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
        check_size(spec, limit)
        return spec


def load_sweep(path: str | Path, *, limit: int = MAX_TRIALS) -> SweepSpec:
    """Read a sweep file (YAML).

    A list at a leaf is an axis. Relative panel paths are relative to the file.

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
    spec = SweepSpec.from_file(content, str(file.path), file.line_of)
    check_size(spec, limit)
    return spec


def _located(panel: Any, folder: Path) -> Any:
    """Return a panel's absolute path, taken relative to `folder`; URIs, and what is no path, stay."""
    panel = os.fspath(panel) if isinstance(panel, os.PathLike) else panel
    if not isinstance(panel, str) or not panel or "://" in panel:
        return panel
    return os.path.normpath(folder / Path(panel).expanduser())


def check_size(spec: SweepSpec, limit: int = MAX_TRIALS) -> None:
    """Refuse a grid with more than `limit` trials, by arithmetic alone.

    Raises
    ------
    InputError
        With the size of the grid, axis by axis.
    """
    axes = axes_of(spec)
    trials = math.prod(len(axis.values) for axis in axes)
    if trials > limit:
        raise InputError(
            f"the grid has {trials:,} trials, over the limit of {limit:,}",
            faults=[f"{axis.path}: {len(axis.values):,} values" for axis in axes],
            hint="take fewer values on the long axes, or raise the limit",
        )
