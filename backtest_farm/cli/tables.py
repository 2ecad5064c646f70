"""Frames and mappings as tables for people."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
_MONEY = frozenset(
    {
        "equity", "cash", "gross", "net", "costs", "commission", "notional", "pnl",
        "realised", "open", "borrow", "dividends", "total",
    }
)  # fmt: skip


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
    cells = _cells(rows, columns)
    if ranked:
        cells = {
            "rank": _Cells("rank", [str(place + 1) for place in range(_height(cells))], "right"),
            **cells,
        }
    grid = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False)
    left, missing, kept = width, list[str](), list[list[str]]()
    for name, column in cells.items():
        if column.width > left:
            missing.append(name)
            continue
        left -= column.width + _GAP
        grid.add_column(Text(column.head), justify=column.justify, vertical="bottom", no_wrap=True)
        kept.append(column.texts)
    for row in zip(*kept, strict=True):
        grid.add_row(*map(Text, row))
    note = [Text(f"(no room for: {', '.join(map(plain, missing))})", style="dim")] if missing else []
    return Group(Text(plain(title), style="bold"), grid, *note)


class _Cells(NamedTuple):
    """One column as text: its head and the cells below."""

    head: str
    texts: list[str]
    justify: Literal["left", "right"]

    @property
    def width(self) -> int:
        return max(cell_len(line) for text in (self.head, *self.texts) for line in text.split("\n"))


def _cells(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, _Cells]:
    given = list(rows)
    found = {}
    for name in columns:
        below = [row[name] for row in given]
        texts = [shown(name, value) for value in below]
        is_text = any(isinstance(value, str) for value in below)
        found[name] = _Cells(_head(name), texts, "left" if is_text else "right")
    return found


def _height(cells: Mapping[str, _Cells]) -> int:
    return max((len(column.texts) for column in cells.values()), default=0)


def _head(name: str) -> str:
    # Names are longer than values: broken at their joints, more columns fit a terminal.
    return shown("", name).replace(".", ".\n").replace("_", "_\n")


def pairs(values: Mapping[str, Any], *, title: str) -> Group:
    """Lay a mapping out as two columns: numbers below each other, text as it comes."""
    cells = {name: shown(name, value) for name, value in values.items()}
    numbers = {name for name, value in values.items() if isinstance(value, int | float)}
    wide = max((len(cells[name]) for name in numbers), default=0)
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for name, cell in cells.items():
        grid.add_row(Text(plain(name)), Text(cell.rjust(wide) if name in numbers else cell))
    return Group(Text(plain(title), style="bold"), grid)


def leaderboard(
    frame: pl.DataFrame, parameters: Sequence[str], metrics: Sequence[str], *, width: int, title: str
) -> Group:
    """The best trials, one a row: number, the leading metrics, the parameters, and the other metrics."""
    rows = frame.to_dicts()
    # What does not fit is left out from the end: a narrow terminal must still show how good at what risk.
    columns = ["trial", *metrics[:LEADING], *parameters, *metrics[LEADING:]]
    cells = _cells(rows, columns)
    same = []
    if sum(column.width + _GAP for column in cells.values()) + len("rank") > width:
        # Parameters that say nothing about the difference make room first.
        same = [name for name in parameters if len(rows) > 1 and len({*cells[name].texts}) == 1]
    columns = [name for name in columns if name not in same]
    board = table(rows, columns, width=width, title=title, ranked=True)
    said = ", ".join(f"{plain(name)} {cells[name].texts[0]}" for name in same)
    return Group(board, Text(f"(in all of them: {said})", style="dim")) if same else board


def shown(name: str, value: Any) -> str:
    """Return a value as a reader wants it: percentages, thousands, no digits that mean nothing."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00").removesuffix(" 00:00:00")
    if isinstance(value, int) and not isinstance(value, bool) and name.startswith(("n_", "bytes")):
        return f"{value:,}"
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
    if isinstance(value, list | tuple):
        return ", ".join(shown(name, item) for item in value)
    # A cell is one line: what follows an end of line would pass for a row of the table.
    return plain(value).replace("\n", "\\n")


def counted(number: int, one: str, many: str = "") -> str:
    """Return a count and what is counted: ``1 sweep``, ``2 sweeps``, ``3 studies``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(n_bytes: float) -> str:
    """Return a number of bytes in a unit that people read."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:,.1f} {unit}"
    return f"{n_bytes:,.0f} bytes"


def span(seconds: float) -> str:
    """Return an estimated time in a unit that people read."""
    if seconds < 1:
        return "less than a second"
    if seconds < 120:
        return f"about {seconds:,.0f} s"
    return f"about {seconds / 60:,.0f} min" if seconds < 7200 else f"about {seconds / 3600:,.1f} h"
