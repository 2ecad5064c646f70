"""Small made-up bars, and where the real ones lie."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from backtest_farm.ingest import Grid, Report
from backtest_farm.ingest.checks import Survey

REAL = Path(__file__).parents[3] / "shared" / "data"
SYMBOLS = ("AA", "BB", "CC")
FIRST = dt.date(2024, 1, 1)


def bars(n_bars: int = 5, symbols: tuple[str, ...] = SYMBOLS) -> pl.DataFrame:
    """Faultless daily bars, sorted by timestamp and symbol; row = bar * len(symbols) + asset."""
    rows = [
        (
            FIRST + dt.timedelta(days=t),
            symbol,
            10.0 + t + a,
            11.0 + t + a,
            9.0 + t + a,
            10.5 + t + a,
            100.0 + t,
        )
        for t in range(n_bars)
        for a, symbol in enumerate(symbols)
    ]
    names = ["timestamp", "symbol", "open", "high", "low", "close", "volume"]
    return pl.DataFrame(rows, schema=names, orient="row")


def with_cell(frame: pl.DataFrame, row: int, column: str, value: object) -> pl.DataFrame:
    """`frame` with one cell changed (and the column's type, if the value needs another one)."""
    cells = frame[column].to_list()
    cells[row] = value
    return frame.with_columns(pl.Series(column, cells, strict=False))


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with every column as text, as in a CSV file."""
    return frame.with_columns(pl.all().cast(pl.String))


def survey(grid: Grid, file: str) -> Report:
    """The warnings about all bars of `grid`."""
    look = Survey(grid.timestamps, grid.symbols, grid.ends, file)
    look.take(0, grid.fields)
    return look.report()


def real_file(name: str) -> Path:
    """The path of a file of real prices; the test is skipped where there is none."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"needs real prices: put {name} into shared/data beside the repository's folder")
    return path
