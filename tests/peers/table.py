"""What the comparison found, row by row; printed when it is over."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One engine in one case."""

    engine: str
    case: str
    profile: str
    fills: str
    quantity: str
    price: str
    equity: str
    verdict: str


ROWS: list[Row] = []


def lines(rows: list[Row]) -> list[str]:
    """Return rows as text in columns, the names of these first."""
    table = [Row(*Row._fields), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
