"""The report on one backtest."""

from __future__ import annotations

import calendar
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backtest_farm.analysis import svg
from backtest_farm.analysis.curves import Line
from backtest_farm.analysis.figures import result_lines
from backtest_farm.analysis.markup import Markup, joined, part, table
from backtest_farm.analysis.page import curve_figures, figure, note, readable, write_page
from backtest_farm.analysis.units import shown, title_of, unit_of

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.backtest import Result

_LEADING = ("total_return", "cagr", "sharpe", "max_drawdown", "volatility", "turnover")
_KNOWN = ("digest", "status", "profile", "cash", "bars_per_year", "contract_version", "result_epoch")
_SYMBOLS = 25


def report_result(result: Result, path: str | os.PathLike[str], *, title: str = "Backtest") -> Path:
    """Write a report on one backtest: one HTML file that works offline and prints.

    Parameters
    ----------
    result : Result
    path : str or path
        The file; overwritten.
    title : str
        Its heading.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file's folder does not exist.
    """
    equity, drawdown, exposure = result_lines(result)
    charts, read = curve_figures([equity], [drawdown], "money", "Equity (money)")
    share = svg.line_chart(exposure, "percent", "Part of equity", to_zero=True, more='data-chart="exposure"')
    charts.append(figure("Exposure", share))
    metrics = [(title_of(name), shown(value, unit_of(name))) for name, value in result.metrics.items()]
    counters = [(name.replace("_", " "), f"{count:,}") for name, count in result.counters.items()]
    both = joined(table(("metric", "value"), metrics), table(("counter", "times"), counters))
    facts = [(name.replace("_", " "), getattr(result, name, None)) for name in _KNOWN]
    sections = {
        "curves": ("Curves", _boxed("charts", joined(*charts))),
        "months": ("Returns by month", _months(equity, getattr(result, "cash", equity.values[0]))),
        "numbers": ("Metrics and counters", _boxed("charts", both)),
        "fills": ("Fills by symbol", _fills(result.fills)),
        "provenance": ("Provenance", table(("what", "value"), facts, words=(0, 1))),
    }
    cards = [(title_of(name), shown(result.metrics.get(name), unit_of(name)), "") for name in _LEADING]
    first, last = (str(equity.timestamps[at])[:10] for at in (0, -1))
    data = {"curves": {**read, "exposure": readable(exposure, "percent")}}
    return write_page(path, title, f"{first} to {last}, {len(equity.values):,} bars", cards, sections, data)


def _months(equity: Line, cash: float) -> Markup:
    """Return a table of months by years: from the last bar before a month to the last one in it."""
    months = equity.timestamps.astype("M8[M]").astype(int)
    last = np.flatnonzero(np.append(months[1:] != months[:-1], True))
    before = np.append(cash, equity.values[last[:-1]])
    gains = dict(zip(months[last].tolist(), (equity.values[last] / before - 1.0).tolist(), strict=True))
    rows = []
    for year in sorted({month // 12 for month in gains}):
        own = [gains.get(12 * year + month) for month in range(12)]
        whole = math.prod(1.0 + gain for gain in own if gain is not None) - 1.0
        rows.append([1970 + year, *map(_signed, (*own, whole))])
    return table(("year", *calendar.month_abbr[1:], "whole"), rows)


def _signed(gain: float | None) -> Markup:
    if gain is None or not math.isfinite(gain):
        return Markup("")
    return Markup(f'<span class="{"up" if gain >= 0 else "down"}">{shown(gain, "percent", 0.001)}</span>')


def _fills(fills: pl.DataFrame) -> Markup:
    import polars as pl

    if not fills.height:
        return note("Nothing was traded.")
    traded = (pl.col("quantity").abs() * pl.col("price")).sum().alias("traded")
    slipped = pl.sum_horizontal("spread", "slippage").sum().alias("slipped")
    symbols = fills.group_by("symbol").agg(pl.len(), traded, pl.col("commission").sum(), slipped)
    most = symbols.sort("traded", "symbol", descending=[True, False]).head(_SYMBOLS)
    rows = [
        (name, f"{n:,}", *(shown(value, "money") for value in money)) for name, n, *money in most.iter_rows()
    ]
    words = f"{fills.height:,} fills in {symbols.height:,} symbols; the {most.height:,} most traded ones:"
    heads = ("symbol", "fills", "traded (money)", "commission", "spread and slippage")
    return joined(note(words), table(heads, rows))


def _boxed(kind: str, content: Markup) -> Markup:
    return part("boxed", kind=kind, content=content)
