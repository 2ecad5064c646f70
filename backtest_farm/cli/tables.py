"""Frames as tables for people."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from backtest_farm.cli.answer import plain

if TYPE_CHECKING:
    import polars as pl

LEADING = 3
_GAP = 2
_PERCENT = frozenset({"total_return", "cagr", "volatility", "max_drawdown", "exposure", "win_rate"})
_MONEY = frozenset({"equity", "cash", "gross", "net", "costs", "commission", "notional"})


def table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    width: int,
    title: str,
    ranked: bool = False,
) -> Group:
    """Lay `rows` out under `columns`, without a cell broken over lines.

    Parameters
    ----------
    rows : iterable of mapping
        Name to value.
    columns : sequence of str
        The names to show; the last ones are left out, and named below the table, when they do not fit.
    width : int
        Characters a line may have.
    title : str
        The line above.
    ranked : bool
        Whether a first column counts the rows from 1.
    """
    filled = [[shown(name, row[name]) for name in columns] for row in rows]
    heads = [_head(name) for name in columns]
    cells = dict(zip(columns, zip(heads, *filled, strict=True), strict=True))
    if ranked:
        cells = {"rank": ("rank", *(str(place) for place in range(1, len(filled) + 1))), **cells}

    grid = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False)
    left, missing = width, []
    for name, (head, *below) in cells.items():
        needed = max(cell_len(line) for text in (head, *below) for line in text.split("\n")) + _GAP
        left -= needed
        if left < 0:
            missing.append(name)
        else:
            grid.add_column(Text(head), justify="right", vertical="bottom", no_wrap=True)
    shown_cells = [column for name, column in cells.items() if name not in missing]
    for at in range(1, len(filled) + 1):
        grid.add_row(*(Text(column[at]) for column in shown_cells))
    note = (
        [Text(f"(not shown in {width} columns: {', '.join(map(plain, missing))})", style="dim")]
        if missing
        else []
    )
    return Group(Text(plain(title), style="bold"), grid, *note)


def _head(name: str) -> str:
    # Names are longer than values: broken at their joints, more columns fit a terminal.
    return plain(name).replace(".", ".\n").replace("_", "_\n")


def pairs(values: Mapping[str, Any], *, title: str) -> Group:
    """Lay a mapping out as two columns."""
    grid = Table.grid(padding=(0, _GAP))
    grid.add_column(justify="left")
    grid.add_column(justify="right")
    for name, value in values.items():
        grid.add_row(Text(plain(name)), Text(shown(name, value)))
    return Group(Text(plain(title), style="bold"), grid)


def leaderboard(
    frame: pl.DataFrame, parameters: Sequence[str], metrics: Sequence[str], *, width: int, title: str
) -> Group:
    """The best trials, one a row: number, the leading metrics, the parameters, and the other metrics."""
    rows = frame.iter_rows(named=True)
    # What does not fit is left out from the end: a narrow terminal must still show how good at what risk.
    columns = ["trial", *metrics[:LEADING], *parameters, *metrics[LEADING:]]
    return table(rows, columns, width=width, title=title, ranked=True)


def shown(name: str, value: Any) -> str:
    """Return a value as a reader wants it: percentages, thousands, no digits that mean nothing."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        if name in _PERCENT:
            return f"{value:.2%}"
        if name in _MONEY:
            return f"{value:,.2f}"
        return f"{value:,.4f}" if not value.is_integer() else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(key)} {shown(str(key), item)}" for key, item in value.items())
    return plain(value)
