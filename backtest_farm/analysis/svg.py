"""Charts as SVG: lines over time, a histogram, a heat map, a spread by value.

Each has its natural size in pixels and takes its colours from the classes of ``chart.css``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest_farm.analysis.curves import Line
from backtest_farm.analysis.grid import Cells
from backtest_farm.analysis.markup import Markup, joined, text
from backtest_farm.analysis.units import CELL_STEP, shown
from backtest_farm.study.study import SMALLER_IS_BETTER

if TYPE_CHECKING:
    import polars as pl

WIDTH, LEFT, RIGHT = 560.0, 58.0, 546.0
"""Pixels of a chart, and where its data begin and end."""

SCALE = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
"""The viridis colours, dark for poor and light for good: even for all eyes, and in grey."""

_LETTER = 7.2
"""About the width of a letter at the charts' 12 pixels: nothing here can measure text."""

_TIME_STEPS = (
    ("m", 5), ("m", 15), ("h", 1), ("h", 6), ("D", 1), ("D", 5), ("D", 14),
    ("M", 1), ("M", 3), ("M", 6), ("Y", 1), ("Y", 2), ("Y", 5), ("Y", 10), ("Y", 50),
)  # fmt: skip


@dataclass(frozen=True)
class _Plot:
    """The rectangle of a chart's data, and where values lie in it."""

    x0: float
    x1: float
    y0: float
    y1: float
    top: float
    bottom: float
    right: float = RIGHT
    is_log: bool = False

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / ((self.x1 - self.x0) or 1.0) * (self.right - LEFT)

    def y(self, value: float) -> float:
        low, high, level = (math.log(v) if self.is_log else v for v in (self.y0, self.y1, value))
        return self.bottom - (level - low) / ((high - low) or 1.0) * (self.bottom - self.top)


def line_chart(
    lines: Sequence[Line],
    unit: str,
    axis: str,
    height: float = 300.0,
    *,
    is_log: bool = False,
    to_zero: bool = False,
    more: str = "",
) -> Markup:
    """Draw values over time.

    Parameters
    ----------
    lines : sequence of Line
        At least one; thinned here.
    unit, axis : str
        Unit of the values, and the name of their axis.
    height : float
        Pixels.
    is_log : bool
        Logarithmic; values that are not positive are left out.
    to_zero : bool
        Let the axis reach 0, and fill below a single line.
    more : str
        Further attributes of the element.
    """
    to_zero = to_zero and not is_log
    drawn = [line.thinned() for line in lines]
    values = np.concatenate([line.values for line in drawn])
    values = values[np.isfinite(values) & ((values > 0) | (not is_log))]
    if not len(values):
        return _picture(WIDTH, 60, [_words("No values to draw", WIDTH / 2, 34)], axis, more)
    low, high = float(values.min()), float(values.max())
    low, high = (min(low, 0.0), max(high, 0.0)) if to_zero else (low, high)
    if low == high:
        low, high = (low * 0.99, high * 1.01) if low > 0 else (low - 1.0, high)
    start, stop = min(line.timestamps[0] for line in drawn), max(line.timestamps[-1] for line in drawn)
    plot = _Plot(_us(start), _us(stop), low, high, 44 if len(drawn) > 1 else 26, height - 30, is_log=is_log)
    parts = [_y_axis(plot, unit, axis)]
    for moment, words in _time_ticks(start, stop):
        parts.append(_x_tick(plot, plot.x(_us(moment)), words))
    if len(drawn) > 1:
        for at, line in enumerate(drawn):
            x = LEFT + at * (RIGHT - LEFT) / max(len(drawn), 4)
            parts += [
                _line(f"line s{at % 6}", x, 30, x + 20, 30),
                _words(_short(line.label), x + 26, 34, "start"),
            ]
    # The first one is drawn last, so that it lies on top.
    for at, line in reversed(list(enumerate(drawn))):
        path = _path(plot, line)
        if to_zero and len(drawn) == 1:
            zero = plot.y(0.0)
            area = f"M{plot.x(_us(start)):.1f} {zero:.1f}L{path[1:]}L{plot.x(_us(stop)):.1f} {zero:.1f}Z"
            parts.append(Markup(f'<path class="area" d="{area}"></path>'))
        parts.append(Markup(f'<path class="line s{at % 6}" d="{path}"></path>'))
    return _picture(WIDTH, height, parts, axis, more)


def histogram(values: np.ndarray, unit: str, axis: str, marks: Sequence[tuple[str, float]]) -> Markup:
    """Draw how many trials have which value, and mark some values by name."""
    marks = [(name, value) for name, value in marks if math.isfinite(value)]
    known = [*values.tolist(), *(value for _, value in marks)]
    low, high = (min(known), max(known)) if min(known) < max(known) else (known[0] - 0.5, known[0] + 0.5)
    count, edges = np.histogram(values, bins=min(40, 8 + int(math.sqrt(len(values)))), range=(low, high))
    plot = _Plot(low, high, 0.0, float(count.max()) * 1.04, 26 + 18 * len(marks), 286)
    ticks, step = _ticks(low, high)
    parts = [_y_axis(plot, "count", "Trials"), _words(axis, (LEFT + RIGHT) / 2, 328, kind="name")]
    parts += [_x_tick(plot, plot.x(tick), shown(tick, unit, step)) for tick in ticks]
    for size, a, b in zip(count.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        bar = _rect(
            "bar", plot.x(a) + 0.5, plot.y(size), plot.x(b) - plot.x(a) - 1, plot.bottom - plot.y(size)
        )
        parts.append(_named(f"{shown(a, unit)} to {shown(b, unit)}: {size:,} trials", bar))
    for row, (name, value) in enumerate(marks):
        at, level, words = plot.x(value), 22.0 + 18 * row, f"{name} {shown(value, unit)}"
        side, gap = ("end", -5) if at + len(words) * _LETTER > RIGHT else ("start", 5)
        parts.append(_line(f"mark m{row}", at, level - 8, at, plot.bottom))
        parts.append(_words(words, at + gap, level, side, f"marked m{row}"))
    return _picture(WIDTH, 336, parts, f"Distribution of {axis}")


def spread_chart(spread: pl.DataFrame, unit: str, axis: str, parameter: str, n_numbers: int) -> Markup:
    """Draw median (dot), middle half (bar) and range (line) of a metric at each value of a parameter."""
    rows = spread.to_dicts()
    low, high = min(row["min"] for row in rows), max(row["max"] for row in rows)
    pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    plot = _Plot(-0.5, len(rows) - 0.5, low - pad, high + pad, 26, 188, right=464)
    half = min(14.0, 0.32 * (plot.x(1) - plot.x(0)))
    steps = " ".join(
        f"{plot.x(at):.1f},{plot.y(row['median']):.1f}" for at, row in enumerate(rows[:n_numbers])
    )
    parts = [_y_axis(plot, unit, axis), Markup(f'<polyline class="path" points="{steps}"></polyline>')]
    for at, row in enumerate(rows):
        x, q1, median, q3 = plot.x(at), *(plot.y(row[name]) for name in ("q1", "median", "q3"))
        middle, lower, upper = (shown(row[name], unit) for name in ("median", "q1", "q3"))
        count = f"half of {row['count']:,} trials"
        words = f"{parameter} = {row['label']}: median {middle}, {count} in {lower} to {upper}"
        span = _line("range", x, plot.y(row["min"]), x, plot.y(row["max"]))
        dot = Markup(
            f'<circle class="median" cx="{x:.1f}" cy="{median:.1f}" r="{min(4.0, half):.1f}"></circle>'
        )
        parts.append(_named(words, span, _rect("half", x - half, q3, 2 * half, max(q1 - q3, 1.0)), dot))
    places = {plot.x(at): row["label"] for at, row in enumerate(rows)}
    labels, depth = _labels(places, plot.bottom, skip=n_numbers > 0)
    name = plot.bottom + depth + 24
    return _picture(
        480, name + 8, [*parts, *labels, _words(parameter, (LEFT + 464) / 2, name, kind="name")], axis
    )


def heat_map(cells: Cells, unit: str, over: str, more: str = "") -> Markup:
    """Draw a metric over two parameters; a dashed cell has no trial."""
    values, (n_down, n_across) = cells.by[over], cells.by[over].shape
    side, tall = (min(most, max(20.0, 400.0 / n_across)) for most in (56.0, 34.0))
    # Slanted labels below begin to the left of their column: there must be room for them.
    left = max(14 + _wide(cells.y.labels), 0.72 * _wide(cells.x.labels) - side / 2 if n_across > 1 else 0.0)
    base = 26 + n_down * tall
    labels, depth = _labels({left + (at + 0.5) * side: name for at, name in enumerate(cells.x.labels)}, base)
    name = base + depth + 24
    width = max(left + n_across * side + 14, 320.0)
    parts = [_words(cells.y.column, 8, 14, "start", "name")]
    # Drawn from the bottom up, as on a chart: small values at the lower left.
    for row in range(n_down):
        y = base - (row + 1) * tall
        parts.append(_words(_short(cells.y.labels[row]), left - 6, y + tall / 2 + 4, "end"))
        parts += [
            _cell(cells, unit, over, row, at, left + at * side, y, side, tall) for at in range(n_across)
        ]
    parts += labels
    parts.append(_words(cells.x.column, left + n_across * side / 2, name, kind="name"))
    bar, ends = min(220.0, width - left - 20), _ends(values, cells.metric)
    parts += [
        _rect("", left + at * bar / 32, name + 14, bar / 32 + 0.5, 9, colour((at + 0.5) / 32))
        for at in range(32)
    ]
    parts.append(_words(shown(ends[0], unit), left, name + 38, "start", "poor"))
    parts.append(_words(shown(ends[1], unit), left + bar, name + 38, "end", "good"))
    return _picture(
        width, name + 46, parts, f"{cells.metric} over {cells.x.column} and {cells.y.column}", more
    )


def colour(place: float) -> str:
    """Return the colour at a place from 0 (poor) to 1 (good) of `SCALE`."""
    at = min(max(place, 0.0), 1.0) * (len(SCALE) - 1)
    low = min(int(at), len(SCALE) - 2)
    pairs = [[int(SCALE[low + i][c : c + 2], 16) for i in (0, 1)] for c in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * (at - low)):02x}" for a, b in pairs)


def stack(title: str, *charts: Markup) -> Markup:
    """Return charts below each other in one picture, under a title."""
    y, width, parts = 40.0, 40 + 9.5 * len(title), [_words(title, 14, 26, "start", "title")]
    for chart in charts:
        across, down = map(float, chart.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split())
        parts.append(Markup(f'<g transform="translate(0 {y:.1f})">{chart}</g>'))
        y, width = y + down + 8, max(width, across)
    return _picture(width, y, parts, title)


def _cell(
    cells: Cells, unit: str, over: str, row: int, at: int, x: float, y: float, side: float, tall: float
) -> Markup:
    value, count, (poor, good) = (
        float(cells.by[over][row, at]),
        int(cells.count[row, at]),
        _ends(cells.by[over], cells.metric),
    )
    where = f"{cells.x.column} = {cells.x.labels[at]}, {cells.y.column} = {cells.y.labels[row]}"
    place = ((value - poor) / (good - poor) if good != poor else 0.5) if count else 0.0
    kind = "missing" if not count else "best" if value == good else ""
    parts = [_rect(kind, x + 0.5, y + 0.5, side - 1, tall - 1, colour(place) if count else "none")]
    if side >= 38:
        number = shown(value, unit, CELL_STEP[unit]) if count else ""
        parts.append(
            _words(number, x + side / 2, y + tall / 2 + 4, kind="on-light" if place > 0.55 else "on-dark")
        )
    said = f"{shown(value, unit)}, {over} of {count:,} trials" if count else "no trial with a value"
    more = f'data-cell="{row * len(cells.x.labels) + at}" data-where="{text(where)}"'
    return _named(f"{where}: {said}", *parts, more=more)


def _ends(values: np.ndarray, metric: str) -> tuple[float, float]:
    """Return the poorest and the best of a map's values."""
    if not np.isfinite(values).any():
        return math.nan, math.nan
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (high, low) if metric in SMALLER_IS_BETTER else (low, high)


def _picture(width: float, height: float, parts: Sequence[Markup], label: str, more: str = "") -> Markup:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{text(label)}" {more}>'
    return joined(Markup(start), *parts, Markup("</svg>"))


def _words(words: str, x: float, y: float, anchor: str = "middle", kind: str = "", more: str = "") -> Markup:
    start = f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}" {more}>'
    return Markup(f"{start}{text(words)}</text>")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"></line>')


def _rect(kind: str, x: float, y: float, width: float, height: float, fill: str = "") -> Markup:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.6):.1f}" height="{height:.1f}"'
    ink = f' fill="{fill}"' if fill else ""
    return Markup(f'<rect class="{kind}" {box}{ink}></rect>')


def _named(words: str, *parts: Markup, more: str = "") -> Markup:
    """Return parts that say their words when pointed at."""
    return Markup(f"<g {more}><title>{text(words)}</title>{joined(*parts)}</g>")


def _y_axis(plot: _Plot, unit: str, name: str) -> Markup:
    ticks, step = _log_ticks(plot.y0, plot.y1) if plot.is_log else _ticks(plot.y0, plot.y1)
    parts = [_words(name, 8, 14, "start", "name")]
    for tick in ticks:
        y = plot.y(tick)
        parts.append(_line("rule" if tick else "zero", LEFT, y, plot.right, y))
        parts.append(_words(shown(tick, unit, step if math.isfinite(step) else tick), LEFT - 7, y + 4, "end"))
    return joined(*parts)


def _labels(places: Mapping[float, str], base: float, skip: bool = False) -> tuple[list[Markup], float]:
    """Return the labels below a chart, and how deep they reach: side by side, some of them, or slanted."""
    apart = min((b - a for a, b in itertools.pairwise(places)), default=math.inf)
    room = _wide(places.values()) + 6
    if room <= apart or skip:
        every = max(1, math.ceil(room / apart))
        kept = list(places.items())[::every]
        return [_words(_short(label), x, base + 17) for x, label in kept], 14.0
    turns = {x: f'transform="rotate(-45 {x + 4:.1f} {base + 12:.1f})"' for x in places}
    slanted = [_words(_short(label), x + 4, base + 12, "end", more=turns[x]) for x, label in places.items()]
    return slanted, 0.72 * room + 6


def _wide(labels: Iterable[str]) -> float:
    return max(len(_short(label)) for label in labels) * _LETTER


def _x_tick(plot: _Plot, x: float, words: str) -> Markup:
    mark = _line("tick", x, plot.bottom, x, plot.bottom + 5)
    return joined(mark, _words(words, min(x, WIDTH - len(words) * _LETTER / 2), plot.bottom + 19))


def _ticks(low: float, high: float, most: int = 6) -> tuple[list[float], float]:
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * m for m in (1, 2, 2.5, 5, 10, 20) if (high - low) / (size * m) <= most)
    return [at * step for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)], step


def _log_ticks(low: float, high: float) -> tuple[list[float], float]:
    if high / low < 4.0:
        return _ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leads in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            lead * 10.0**power for power in powers for lead in leads if low <= lead * 10.0**power <= high
        ]
        if len(ticks) <= 8:
            break
    return ticks, math.inf


def _time_ticks(start: np.datetime64, stop: np.datetime64) -> list[tuple[np.datetime64, str]]:
    for unit, step in _TIME_STEPS:
        first, last = (int(moment.astype(f"M8[{unit}]").astype(int)) for moment in (start, stop))
        moments = np.arange(-(-first // step) * step, last + 1, step).astype(f"M8[{unit}]")
        if len(moments) <= 8:
            break
    kept = [moment for moment in moments if start <= moment.astype("M8[us]") <= stop]
    return [(moment, str(moment)[5:].replace("T", " ") if unit in "mh" else str(moment)) for moment in kept]


def _path(plot: _Plot, line: Line) -> str:
    pieces, pen = [], "M"
    for moment, value in zip(line.timestamps, line.values.tolist(), strict=True):
        if not math.isfinite(value) or (plot.is_log and value <= 0.0):
            pen = "M"
        else:
            pieces.append(f"{pen}{plot.x(_us(moment)):.1f} {plot.y(value):.1f}")
            pen = "L"
    return "".join(pieces)


def _short(label: str, most: int = 26) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _us(moment: np.datetime64) -> float:
    return float(moment.astype("M8[us]").astype(np.int64))
