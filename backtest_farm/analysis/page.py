"""One HTML file that needs nothing else: no network, no other file, no trust in the names it shows."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import importlib.metadata
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backtest_farm.analysis import svg
from backtest_farm.analysis.curves import Line
from backtest_farm.analysis.markup import Markup, data_block, each, joined, part, shipped
from backtest_farm.analysis.units import DECIMALS
from backtest_farm.errors import InputError

_READ_POINTS = 400
"""Points of a curve that the pointer reads off: about as many as it can tell apart."""


def write_page(
    path: str | os.PathLike[str],
    title: str,
    lead: str,
    cards: Iterable[tuple[str, str, str]],
    sections: Mapping[str, tuple[str, Markup]],
    data: Mapping[str, Any],
) -> Path:
    """Write a page; a file that is there stays whole until the new one is.

    Parameters
    ----------
    path : str or path
    title, lead : str
        Its heading, and a sentence below.
    cards : iterable of (what, number, note)
        What stands large at the top.
    sections : mapping of name to (heading, content)
    data : mapping
        What the script reads: name to JSON content.

    Raises
    ------
    InputError
        If the folder does not exist, or the path is a folder.
    """
    file = Path(path)
    if file.is_dir() or not file.absolute().parent.is_dir():
        why = "it is a folder" if file.is_dir() else f"the folder {file.absolute().parent} does not exist"
        raise InputError(
            f"cannot write the report to {file}: {why}", hint="name a file in a folder that exists"
        )
    style, script = shipped("chart.css") + shipped("page.css"), shipped("page.js")
    top = each('<div class="card"><span>{}</span><b>{}</b><span>{}</span></div>', cards)
    page = part(
        "page",
        # Only this very script and style may run, and nothing may be fetched, even if a name slipped through.
        script_hash=_hash(script), style_hash=_hash(style), style=Markup(style), script=Markup(script),
        title=title, lead=lead, foot=_foot(), top=Markup(f'<div class="cards">{top}</div>'),
        links=each('<a href="#{}">{}</a>', ((name, heading) for name, (heading, _) in sections.items())),
        sections=joined(*(part("section", name=n, heading=h, content=c) for n, (h, c) in sections.items())),
        data=joined(*(data_block(name, content) for name, content in {"decimals": DECIMALS, **data}.items())),
    )  # fmt: skip
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.write_text(f"{page}\n", encoding="utf-8", newline="\n")
    return half.replace(file)


def figure(heading: str, picture: Markup, caption: object = None, button: object = None) -> Markup:
    """Return a chart in a frame."""
    below = Markup(f"<figcaption>{joined(caption)}</figcaption>") if caption else None
    return part("figure", heading=heading, picture=picture, caption=below, button=button)


def note(*words: object) -> Markup:
    """Return a paragraph in small print."""
    return part("note", words=joined(*words))


def curve_figures(
    values: list[Line], falls: list[Line], unit: str, name: str
) -> tuple[list[Markup], dict[str, Any]]:
    """Return the figures of values, on both scales, and of drawdowns, and what the pointer reads off them."""
    linear = svg.line_chart(values, unit, name, more='data-chart="growth" data-scale="linear"')
    log = svg.line_chart(
        values, unit, name, is_log=True, more='data-chart="growth" data-scale="log" hidden=""'
    )
    falling = svg.line_chart(
        falls, "percent", "Below the peak so far", to_zero=True, more='data-chart="drawdown"'
    )
    growth = figure(name, joined(linear, log), button=part("scales", name="growth"))
    read = {"growth": readable(values, unit), "drawdown": readable(falls, "percent")}
    return [growth, figure("Drawdown", falling)], read


def readable(lines: Sequence[Line], unit: str) -> dict[str, Any]:
    """Return what the pointer reads off a line chart; all lines are read at the first one's moments."""
    times = lines[0].timestamps
    times = times[np.unique(np.linspace(0, len(times) - 1, _READ_POINTS).round().astype(int))]
    # A line on other moments has its last known value there.
    places = [np.maximum(np.searchsorted(line.timestamps, times, "right") - 1, 0) for line in lines]
    read = [
        {"label": line.label, "values": rounded(line.values[at])}
        for line, at in zip(lines, places, strict=True)
    ]
    moments = np.datetime_as_string(times, "s").tolist()
    return {"times": moments, "lines": read, "unit": unit, "left": svg.LEFT, "right": svg.RIGHT}


def rounded(values: Iterable[Any]) -> list[Any]:
    """Return values for JSON: floats to six digits, None for what is missing or not finite."""
    short = []
    for value in values:
        if isinstance(value, float):
            value = float(f"{value:.6g}") if math.isfinite(value) else None
        short.append(int(value) if isinstance(value, float) and value.is_integer() else value)
    return short


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _foot() -> str:
    packages = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("backtest-farm", "numpy", "numba", "polars", "pyarrow")
    )
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = f"Report made {now} with {packages}, Python {platform.python_version()}."
    return f"{made} It needs no network and sends nothing."
