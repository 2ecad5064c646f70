"""Figures: of plotly, to turn and to read, or of the same data as a picture in a file."""

from __future__ import annotations

import html
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_farm.analysis import svg
from backtest_farm.analysis.curves import Line, kept_lines
from backtest_farm.analysis.grid import OVER, Cells, Grid
from backtest_farm.analysis.markup import Markup, joined, shipped
from backtest_farm.analysis.units import title_of, unit_of
from backtest_farm.errors import InputError, PlatformError, StoreError, nearest
from backtest_farm.study.study import SMALLER_IS_BETTER

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.backtest import Result
    from backtest_farm.study import Study

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B4558B", "#8A6D00", "#555F6B")
"""After Okabe and Ito: told apart by colour-blind eyes, the pale ones darkened for a white ground."""

_FORMATS = {"percent": ".1%", "ratio": ".2f", "multiple": ".2f", "money": "~s", "count": ",d", "bars": ".1f"}
_ENDINGS = (".html", ".png", ".svg")
_PNG_SCALE = 2.0


def plot_result(result: Result, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw a backtest: equity, drawdown, and exposure over time.

    Parameters
    ----------
    result : Result
    path : str or path, optional
        Write the figure there instead: ``.png``, ``.svg`` or ``.html``.

    Returns
    -------
    plotly.graph_objects.Figure, or Path when `path` is given

    Raises
    ------
    PlatformError
        If plotly (or, for a PNG, vl-convert-python) is not installed: the command that installs it.
    InputError
        If the file's ending is none of the three, or its folder does not exist.
    """
    equity, drawdown, exposure = result_lines(result)
    first, last = (str(equity.timestamps[at])[:10] for at in (0, -1))
    rows = [
        ("Equity (money)", "money", [equity]),
        ("Drawdown", "percent", [drawdown]),
        ("Exposure (of equity)", "percent", exposure),
    ]
    return _time_figure(f"Backtest, {first} to {last}", rows, path)


def plot_curves(
    study: Study,
    trials: int | Sequence[int] = 5,
    path: str | os.PathLike[str] | None = None,
    *,
    by: str = "sharpe",
) -> Any:
    """Draw growth and drawdown of several trials of a study.

    Parameters
    ----------
    study : Study
    trials : int or sequence of int, default 5
        So many of the best, or these numbers. Curves that were not kept are replayed.
    path : str or path, optional
        As in `plot_result`.
    by : str, default "sharpe"
        The metric that says which are best.

    Returns
    -------
    plotly.graph_objects.Figure, or Path when `path` is given

    Raises
    ------
    StoreError
        If no curve can be had: why, trial by trial.
    InputError, PlatformError
        As `plot_result`.
    """
    numbers = study.best(trials, by=by)["trial"].to_list() if isinstance(trials, int) else list(trials)
    lines, missing = kept_lines(study, numbers)
    if not lines:
        raise StoreError("no equity curve to draw", faults=missing, hint="no trial has a value, or see above")
    rows = [
        ("Growth of 1", "multiple", [line.growth() for line in lines]),
        ("Drawdown", "percent", [line.drawdown() for line in lines]),
    ]
    title = (
        f"The {len(lines)} best trials by {title_of(by)}"
        if isinstance(trials, int)
        else f"{len(lines)} trials"
    )
    return _time_figure(title, rows, path)


def plot_study(
    study: Study,
    x: str | None = None,
    y: str | None = None,
    metric: str = "sharpe",
    path: str | os.PathLike[str] | None = None,
    *,
    over: str = "median",
    at: Mapping[str, Any] | None = None,
) -> Any:
    """Draw a metric over two parameters as a heat map, or over one as its spread by value.

    Parameters
    ----------
    study : Study
    x, y : str, optional
        Parameters by dotted path. Without `x`, the two that explain most of the metric; without `y` only
        `x`: median and middle half at each value.
    metric : str, default "sharpe"
    path : str or path, optional
        As in `plot_result`.
    over : {"median", "max", "min"}
        How trials that share a cell are put together; it stands on the figure.
    at : mapping, optional
        Values that other parameters must have: ``{"costs.commission_bps": 10}``.

    Returns
    -------
    plotly.graph_objects.Figure, or Path when `path` is given

    Raises
    ------
    InputError
        If a parameter does not vary, the metric is unknown, or no trial is left.
    PlatformError
        As `plot_result`.
    """
    if over not in OVER:
        raise InputError(f"over is {over!r}: {nearest(over, OVER)}")
    at = at or {}
    grid = Grid.of(study).where(at)
    if not grid.axes or not grid.values(metric).count():
        why = (
            "no parameter varies over these trials" if not grid.axes else f"no trial has a value of {metric}"
        )
        raise InputError(f"nothing to draw: {why}")
    x, y = (x, y) if x else (*(axis.column for axis in grid.by_share(metric)), None)[:2]
    name, unit = title_of(metric), unit_of(metric)
    held = "".join(f", {column} = {value}" for column, value in at.items())
    if y is None:
        spread, axis = grid.spread(str(x), metric), grid.axis(str(x))
        title = f"{name}: median and middle half by {x}{held}"
        chart = svg.spread_chart(spread, unit, name, axis.column, axis.n_numbers)
        return _given(path, lambda: _spread_figure(spread, unit, name, axis.column, title), title, chart)
    cells = grid.cells(str(x), y, metric)
    others = ", ".join(axis.column for axis in grid.axes if axis.column not in {x, y})
    title = f"{name}: {over} over {others}{held}" if others else f"{name}{held}"
    return _given(
        path, lambda: _heat_figure(cells, unit, over, name, title), title, svg.heat_map(cells, unit, over)
    )


def result_lines(result: Result) -> tuple[Line, Line, list[Line]]:
    """Return equity, drawdown, and gross and net exposure of a backtest."""
    equity = Line.of(result.equity, "equity", "equity")
    exposure = [Line.of(result.equity, name, name) for name in ("gross", "net")]
    return equity, equity.drawdown(getattr(result, "cash", None)), exposure


def _given(
    path: str | os.PathLike[str] | None, figure: Callable[[], Any], title: str, *charts: Markup
) -> Any:
    """Return the figure, or write it or its picture."""
    if path is None:
        return figure()
    file = Path(path)
    if file.suffix.lower() not in _ENDINGS or not file.absolute().parent.is_dir():
        fine = file.suffix.lower() in _ENDINGS
        why = (
            f"the folder {file.absolute().parent} does not exist"
            if fine
            else f"no figure ends in {file.suffix!r}"
        )
        raise InputError(
            f"cannot draw {file}: {why}", hint="make it" if fine else f"take {', '.join(_ENDINGS)}"
        )
    if file.suffix.lower() == ".html":
        figure().write_html(file)
    elif file.suffix.lower() == ".svg":
        file.write_text(_coloured(svg.stack(title, *charts)), encoding="utf-8")
    else:
        drawing = str(_coloured(svg.stack(title, *charts)))
        file.write_bytes(_optional("vl_convert").svg_to_png(drawing, scale=_PNG_SCALE))
    return file


def _coloured(picture: Markup) -> Markup:
    """Give a picture its style and a ground, for programs that know neither CSS variables nor schemes."""
    colours, rules = shipped("chart.css").split("}", 1)
    light = dict(re.findall(r"(--\w+): light-dark\(([^,]+),", colours))
    style = re.sub(r"var\((--\w+)\)", lambda found: light[found[1]], rules)
    ground = f'<style>{style}</style><rect width="100%" height="100%" fill="{light["--card"]}"></rect>'
    start, rest = picture.split(">", 1)
    return joined(Markup(f"{start}>"), Markup(ground), Markup(rest))


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PlatformError(
            f"this figure needs a package that is not installed: {error}",
            hint="pip install 'backtest-farm[plots]'",
        ) from None


def _time_figure(
    title: str, rows: Sequence[tuple[str, str, list[Line]]], path: str | os.PathLike[str] | None
) -> Any:
    """Draw lines below each other over one time; the first row's scale can be changed."""

    def figure() -> Any:
        heights = [2.0, *[1.0] * (len(rows) - 1)]
        drawn = _optional("plotly.subplots").make_subplots(
            rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights
        )
        named: set[str] = set()
        for row, (name, unit, lines) in enumerate(rows, start=1):
            for at, line in enumerate(lines):
                drawn.add_scatter(
                    x=line.timestamps, y=line.values, name=html.escape(line.label), row=row, col=1,
                    showlegend=len(lines) > 1 and line.label not in named, legendgroup=line.label,
                    fill="tozeroy" if name == "Drawdown" and len(lines) == 1 else None,
                    mode="lines", line={"color": _COLOURS[at % 6], "width": 1.5},
                )  # fmt: skip
                named.add(line.label)
            tick, exact = (".0%", ".2%") if unit == "percent" else (_FORMATS[unit], ",.2f")
            drawn.update_yaxes(title_text=name, tickformat=tick, hoverformat=exact, row=row, col=1)
        drawn.update_xaxes(title_text="Date", row=len(rows), col=1)
        scales = [
            {"label": f"{kind} scale", "method": "relayout", "args": [{"yaxis.type": kind}]}
            for kind in ("linear", "log")
        ]
        place = {"x": 1, "xanchor": "right", "y": 1.03, "yanchor": "bottom"}
        menu = {"type": "buttons", "direction": "left", "buttons": scales, **place}
        drawn.update_layout(updatemenus=[menu], legend={"orientation": "h", "y": -0.1}, height=780)
        drawn.update_layout(hovermode="x unified")
        return _styled(drawn, title)

    charts = [
        svg.line_chart(lines, unit, name, 200.0 if at else 300.0, to_zero=at > 0)
        for at, (name, unit, lines) in enumerate(rows)
    ]
    return _given(path, figure, title, *charts)


def _heat_figure(cells: Cells, unit: str, over: str, name: str, title: str) -> Any:
    go, values, form = _optional("plotly.graph_objects"), cells.by[over], _FORMATS[unit]
    across, down = html.escape(cells.x.column), html.escape(cells.y.column)
    place, value = f"{across} %{{x}}<br>{down} %{{y}}", f"{over} of %{{customdata}} trials: %{{z:{form}}}"
    figure = go.Figure(
        go.Heatmap(
            x=[*map(html.escape, cells.x.labels)], y=[*map(html.escape, cells.y.labels)], z=values,
            customdata=cells.count, hoverongaps=False, xgap=1, ygap=1,
            hovertemplate=f"{place}<br>{value}<extra></extra>",
            colorscale=list(svg.SCALE), reversescale=cells.metric in SMALLER_IS_BETTER,
            colorbar={"title": {"text": name, "side": "right"}, "tickformat": form},
            texttemplate=f"%{{z:{form}}}" if values.shape[1] <= 12 else None,
        )
    )  # fmt: skip
    # Words and numbers are places on a grid here, not quantities: 21 and month_end stand side by side.
    figure.update_xaxes(title_text=across, type="category")
    figure.update_yaxes(title_text=down, type="category")
    figure.update_layout(height=max(420, 190 + 30 * values.shape[0]))
    missing = "<br><sub>grey: no trial with a value</sub>" if np.isnan(values).any() else ""
    return _styled(figure, title, missing, ground="#d9dde2")


def _spread_figure(spread: pl.DataFrame, unit: str, name: str, parameter: str, title: str) -> Any:
    figure, form = _optional("plotly.graph_objects").Figure(), _FORMATS[unit]
    q1, median, q3, count = (spread[column].to_numpy() for column in ("q1", "median", "q3", "count"))
    figure.add_scatter(
        x=[*map(html.escape, spread["label"])], y=median, mode="lines+markers", name="median",
        line={"color": _COLOURS[0]}, marker={"size": 9}, customdata=np.column_stack([q1, q3, count]),
        error_y={"type": "data", "symmetric": False, "array": q3 - median, "arrayminus": median - q1},
        hovertemplate=(
            f"%{{x}}: median %{{y:{form}}}, middle half %{{customdata[0]:{form}}} to "
            f"%{{customdata[1]:{form}}}, %{{customdata[2]}} trials<extra></extra>"
        ),
    )  # fmt: skip
    figure.update_xaxes(title_text=html.escape(parameter), type="category")
    figure.update_yaxes(title_text=name, tickformat=form)
    return _styled(figure, title)


def _styled(figure: Any, title: str, note: str = "", ground: str = "#ffffff") -> Any:
    # Names are escaped here and above: plotly reads a small markup of its own in all texts.
    figure.update_layout(
        title={"text": html.escape(title, quote=False) + note, "x": 0.02, "xanchor": "left"},
        font={"family": "system-ui, Segoe UI, Roboto, Arial, sans-serif", "size": 13},
        plot_bgcolor=ground, paper_bgcolor="#ffffff", margin={"l": 80, "r": 30, "t": 90, "b": 60},
    )  # fmt: skip
    lines = {
        "gridcolor": "#e8ebee" if ground == "#ffffff" else ground,
        "linecolor": "#cfd6dd",
        "zerolinecolor": "#cfd6dd",
    }
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    return figure
