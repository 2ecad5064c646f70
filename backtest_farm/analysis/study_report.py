"""The report on a study."""

from __future__ import annotations

import io
import itertools
import math
import os
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_farm.analysis import svg
from backtest_farm.analysis.curves import kept_lines
from backtest_farm.analysis.grid import OVER, UNSET, Axis, Grid, label_of
from backtest_farm.analysis.markup import Markup, each, joined, part, table
from backtest_farm.analysis.page import curve_figures, figure, note, rounded, write_page
from backtest_farm.analysis.selection import deflated_sharpe, expected_max_sharpe
from backtest_farm.analysis.units import DECIMALS, shown, title_of, unit_of
from backtest_farm.errors import InputError
from backtest_farm.study.study import SMALLER_IS_BETTER

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.study import Study

MOST_ROWS = 5_000
"""Rows of the leaderboard that a page carries: what a browser sorts at once, in about a megabyte."""

_SHOWN = ("sharpe", "cagr", "volatility", "max_drawdown", "calmar", "turnover", "trades")
_MAPPED = ("sharpe", "cagr", "max_drawdown", "calmar", "volatility", "turnover")
_MOST_MAPS, _MOST_MAP_NUMBERS, _LONGEST_SIDE, _LONG_WORD = 15, 120_000, 40, 9
_STATIC_ROWS, _CURVES, _ERROR_KINDS = 25, 5, 50
_VERDICTS = {
    "plateau": "A plateau", "slope": "A slope", "spike": "A spike", "unknown": "Nothing to compare with",
}  # fmt: skip


def report_study(study: Study, path: str | os.PathLike[str], *, metric: str = "sharpe") -> Path:
    """Write a report on a study: one HTML file that works offline and prints.

    Parameters
    ----------
    study : Study
    path : str or path
        The file; overwritten.
    metric : str, default "sharpe"
        What leads: the leaderboard's order, the maps' first metric, the neighbours' value.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the metric is unknown, or the file's folder does not exist.
    StoreError
        If the study holds no rows, or is damaged.

    Notes
    -----
    The leaderboard holds up to `MOST_ROWS` trials, the best ones; everything else is over all trials.
    """
    return _Report(study, metric).write(path)


class _Report:
    """What the sections of the page share, and the sections, in the order of the page."""

    def __init__(self, study: Study, metric: str) -> None:
        self.study, self.metric = study, metric
        self.name, self.unit, self.low = title_of(metric), unit_of(metric), metric in SMALLER_IS_BETTER
        self.frame = study.trials().collect()
        self.grid = Grid.from_frame(self.frame, study.plan.columns)
        self.values = self.grid.values(metric).drop_nulls().to_numpy()
        self.best = study.best(MOST_ROWS, by=metric) if len(self.values) else self.frame.clear()
        self.varied = [axis.column for axis in self.grid.axes]
        self.summary = study.summary()
        self.store = str(self.summary.get("store", "study"))

    def write(self, path: str | os.PathLike[str]) -> Path:
        sections: dict[str, tuple[str, Markup]] = {}
        data: dict[str, Any] = {}
        if len(self.values):
            leaders, data["leaders"] = self.leaders()
            curves, data["curves"] = self.curves()
            maps, data["maps"] = self.maps()
            sections = {
                "leaders": ("Leaderboard", leaders),
                "distribution": ("Distribution and selection", self.distribution()),
                "curves": ("Best trials", curves),
                "sensitivity": ("What matters", self.sensitivity()),
                "maps": ("Heat maps", maps),
                "neighbours": ("Neighbours of the best", self.neighbours()),
            }
            if assumed := [
                name for name in ("profile", "fill") if name in self.varied and len(self.varied) > 1
            ]:
                sections["fills"] = "What fills assume", self.assumptions(assumed[0])
        sections["failures"] = "Failures", self.failures()
        sections["provenance"] = "Provenance", self.provenance()
        title = f"Study {Path(self.store).name or self.store}"
        return write_page(path, title, self.lead(), self.cards(), sections, data)

    def shown(self, value: float) -> str:
        return shown(value, self.unit)

    def words(self, row: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} = {label_of(row[name]) or UNSET}" for name in self.varied)

    # ------------------------------------------------------------------------------------ headline

    def lead(self) -> str:
        frame, words = self.frame, [f"{self.frame.height:,} of {self.study.plan.n_trials:,} trials have run"]
        if frame.height:
            first, last = (
                str(when)[:10] for when in (frame["window_start"].min(), frame["window_end"].max())
            )
            names = frame["universe"].drop_nulls().unique().sort().cast(str).to_list()
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            words.append(f"{first} to {last}, {frame['bars'].to_numpy().max():,} bars")
            words.append(f"universe{'s' * (len(names) > 1)}: {', '.join(names[:6])}{more}")
        return "; ".join(words)

    def cards(self) -> list[tuple[str, str, str]]:
        planned, ran = self.study.plan.n_trials, self.frame.height
        left = f"{planned - ran:,} have not run yet, " if planned > ran else ""
        failed = ran - int((self.frame["status"] == "ok").sum())
        cards = [("Trials", f"{ran:,}", f"{left}{failed:,} failed")]
        if not len(self.values):
            return [*cards, (self.name, "–", "no trial has a value: none ran, all failed, or none traded")]
        around = self.around
        cards += [
            (f"Best {self.name}", self.shown(around.value), f"trial {around.trial}"),
            ("Median of all", self.shown(around.typical), f"{len(self.values):,} trials have a value"),
            ("One step from the best", self.shown(around.median), _VERDICTS[around.verdict]),
        ]
        if math.isfinite(self.luck):
            cards.append(
                (
                    "Best by luck alone",
                    shown(self.luck, "ratio"),
                    "Sharpe ratio expected without skill, a rough guide",
                )
            )
        return cards

    def assumptions(self, over: str) -> Markup:
        heads = ["From", "To", "Trials", "Rank correlation", "Leaders", "Stay", "Leave"]
        rows = [
            [
                *map(str, row[:3]),
                shown(row[3], "ratio"),
                *map(str, row[4:6]),
                ", ".join(map(str, row[6])) or "none",
            ]
            for row in self.study.ranking_shift(over, self.metric).iter_rows()
        ]
        words = f"Trials that are equal but for {over}, ranked by {self.name}: leaders that leave lead by it."
        return joined([note(words), table(heads, rows, [0, 1, 6])])

    # --------------------------------------------------------------------------------- leaderboard

    def leaders(self) -> tuple[Markup, dict[str, Any]]:
        axes = [self.grid.axis(name) for name in (*self.varied, *self.grid.followers)]
        metrics = [_metric_column(name) for name in self.grid.metrics if name != self.metric]
        parameters = [_column(axis.column, "number" if axis.is_numeric else "words") for axis in axes]
        # The leading metric comes before the parameters: a narrow page shows the first columns.
        columns = [_column("trial", "number"), _metric_column(self.metric), *parameters, *metrics]
        names, units = ([column[key] for column in columns] for key in ("name", "unit"))
        rows = [rounded(row) for row in self.best.select(names).iter_rows()]
        wanted = {"trial", *self.varied[:8], self.metric, *_SHOWN}
        visible = [at for at, name in enumerate(names) if name in wanted]
        # This much stands in the page itself: for readers without the script, and for search.
        static = [
            [shown(row[at], units[at]) if units[at] in DECIMALS else label_of(row[at]) for at in visible]
            for row in rows[:_STATIC_ROWS]
        ]
        text = [place for place, at in enumerate(visible) if units[at] == "words"]
        board = table([columns[at]["title"] for at in visible], static, text)
        cut = len(self.values) > len(rows)
        words = (
            note(f"The {len(rows):,} best of {len(self.values):,} trials by {self.name}.") if cut else None
        )
        sort = {"column": names.index(self.metric), "descending": not self.low}
        return part("leaders", note=words, table=board), {
            "columns": columns,
            "rows": rows,
            "shown": visible,
            "sort": sort,
        }

    # ---------------------------------------------------------------------- distribution, selection

    @cached_property
    def sharpes(self) -> np.ndarray:
        return self.grid.values("sharpe").drop_nulls().to_numpy()

    @cached_property
    def luck(self) -> float:
        spread = float(self.sharpes.std(ddof=1)) if len(self.sharpes) > 1 else 0.0
        return expected_max_sharpe(len(self.sharpes), spread) if spread > 0.0 else math.nan

    def distribution(self) -> Markup:
        marks = [("best", self.around.value), ("median", self.around.typical)]
        marks += [("best by luck alone", self.luck)] if self.metric == "sharpe" else []
        chart = svg.histogram(self.values, self.unit, self.name, marks)
        content = joined(figure(f"{self.name} of {len(self.values):,} trials", chart), self.selection())
        return part("boxed", kind="charts", content=content)

    def selection(self) -> Markup:
        if not math.isfinite(self.luck):
            return part("no-selection")
        # The best by Sharpe ratio, whatever metric leads the report: the formula is about no other.
        row = self.study.best(1, by="sharpe").row(0, named=True)
        terms = {name: row[name] for name in ("bars_per_year", "skew", "kurtosis")}
        chance = deflated_sharpe(row["sharpe"], self.luck, n_bars=row["bars"], **terms)
        return part(
            "selection", n=f"{len(self.sharpes):,}", best=f"{row['sharpe']:.2f}", luck=f"{self.luck:.2f}",
            spread=f"{self.sharpes.std(ddof=1):.2f}", chance=shown(chance, "percent", 0.001),
            verdict="above" if row["sharpe"] > self.luck else "not above",
        )  # fmt: skip

    # -------------------------------------------------------------------------------------- curves

    def curves(self) -> tuple[Markup, dict[str, Any]]:
        leaders = self.best.head(_CURVES)
        lines, missing = kept_lines(self.study, leaders["trial"].to_list())
        rows = [(row["trial"], self.words(row), self.shown(row[self.metric])) for row in leaders.to_dicts()]
        known = table(("trial", "parameters", self.name), rows, words=(1,))
        notes = [note(f"No curve of {why}") for why in missing]
        if not lines:
            return joined(*notes, known), {}
        falls = [line.drawdown() for line in lines]
        figures, read = curve_figures([line.growth() for line in lines], falls, "multiple", "Growth of 1")
        return joined(part("boxed", kind="charts", content=joined(*figures)), *notes, known), read

    # --------------------------------------------------------------------------------- sensitivity

    def sensitivity(self) -> Markup:
        grid, charts, rows, total = self.grid, [], [], 0.0
        for axis in grid.by_share(self.metric):
            name, share, spread = (
                axis.column,
                grid.variance_share(axis.column, self.metric),
                grid.spread(axis.column, self.metric),
            )
            ranked = spread.sort("median", descending=not self.low)
            gap = abs(ranked["median"][0] - ranked["median"][-1])
            bar = part(
                "share", value=f"{max(share, 0.0):.4f}", name=name, shown=shown(share, "percent", 0.001)
            )
            rows.append((name, len(axis.labels), bar, ranked["label"][0], self.shown(gap)))
            words, half = None, _LONGEST_SIDE // 2
            if not axis.is_numeric and spread.height > _LONGEST_SIDE:
                spread = ranked.head(half).vstack(ranked.tail(half))
                words = f"The {half} best and the {half} poorest of {ranked.height:,} values."
            numbers = axis.n_numbers if words is None else 0
            charts.append(figure(name, svg.spread_chart(spread, self.unit, self.name, name, numbers), words))
            total += share
        if not charts:
            return note("No parameter varies in this study.")
        rest = "Not every combination ran and has a value, so shares overlap and need not add up."
        if grid.is_complete(self.metric) and math.isfinite(total):
            left = shown(max(1.0 - total, 0.0), "percent", 0.001)
            rest = f"The grid is complete: what is left, {left}, is how parameters act together."
        followers = "".join(f" {name} moves with {leader}." for name, leader in grid.followers.items())
        heads = ("parameter", "values", "variance explained", "best value by median", "range of medians")
        return part(
            "sensitivity", metric=self.name, rest=rest, followers=followers, table=table(heads, rows),
            charts=joined(*charts),
        )  # fmt: skip

    # ----------------------------------------------------------------------------------- heat maps

    def maps(self) -> tuple[Markup, dict[str, Any] | None]:
        grid, room = self.grid, _MOST_MAP_NUMBERS
        metrics = list(dict.fromkeys((self.metric, *(name for name in _MAPPED if name in grid.metrics))))
        axes = [axis for axis in grid.by_share(self.metric) if 2 <= len(axis.labels) <= _LONGEST_SIDE]
        drawn: list[Markup] = []
        numbers: list[dict[str, dict[str, list[Any]]]] = []
        pairs = list(itertools.combinations(axes, 2))
        for pair in pairs:
            # The axis of more values goes across, as pages are wide; but long words are read beside rows.
            y, x = (axis.column for axis in sorted(pair, key=_down_first))
            cells = {name: grid.cells(x, y, name) for name in metrics}
            size, empty = cells[self.metric].count.size, int((cells[self.metric].count == 0).sum())
            room -= size * len(metrics) * len(OVER)
            if empty == size or len(drawn) == _MOST_MAPS or (room < 0 and drawn):
                continue
            words = f"{empty:,} of {size:,} cells have no trial with a value (dashed)." if empty else None
            chart = svg.heat_map(cells[self.metric], self.unit, "median", f'data-pair="{len(drawn)}"')
            drawn.append(figure(f"{x} × {y}", chart, words))
            numbers.append(
                {n: {o: rounded(v.ravel().tolist()) for o, v in c.by.items()} for n, c in cells.items()}
            )
        if not drawn:
            return note(
                f"A heat map needs two parameters of 2 to {_LONGEST_SIDE} values that occur together."
            ), None
        kinds = {
            n: {"title": title_of(n), "unit": unit_of(n), "low": n in SMALLER_IS_BETTER} for n in metrics
        }
        option = '<option value="{}">{}</option>'
        left_out = (
            f"{len(pairs) - len(drawn)} further pairs are left out." if len(pairs) > len(drawn) else None
        )
        content = part(
            "maps", over=each(option, ((word, word) for word in OVER)),
            metrics=each(option, ((name, title_of(name)) for name in metrics)),
            name=self.name, left_out=left_out, maps=joined(*drawn),
        )  # fmt: skip
        return content, {"scale": svg.SCALE, "metrics": kinds, "pairs": numbers}

    # ---------------------------------------------------------------------------------- neighbours

    @cached_property
    def around(self) -> Any:
        return self.grid.neighbourhood(self.best["trial"][0], self.metric)

    def neighbours(self) -> Markup:
        around, robust = self.around, self.grid.most_robust(self.metric)
        if not around.steps.height or robust is None:
            return note(
                "The best trial has no neighbours: no numeric parameter has another value next to its own."
            )
        row = self.frame.row(by_predicate=self._is(robust[0]), named=True)
        alone = f"The best surroundings are those of trial {robust[0]}"
        rows = [
            (*step, self.shown(value), self.shown(value - around.value))
            for *step, value in around.steps.iter_rows()
        ]
        heads = ("parameter", "from", "to", "trial", self.name, "difference")
        return part(
            "neighbours", verdict=around.verdict, title=_VERDICTS[around.verdict], n=around.steps.height,
            value=self.shown(around.value), median=self.shown(around.median),
            lost=shown(around.lost, "percent", 0.01),
            typical=self.shown(around.typical), level=self.shown(robust[1]), own=self.shown(row[self.metric]),
            robust="The best trial also has the best surroundings" if robust[0] == around.trial else alone,
            where=self.words(row), table=table(heads, rows),
        )  # fmt: skip

    def _is(self, trial: int) -> pl.Expr:
        import polars as pl

        return pl.col("trial") == trial

    # ------------------------------------------------------------------------ failures, provenance

    def failures(self) -> Markup:
        import polars as pl

        # What stands before the colon is the kind of an error; its numbers and names follow.
        error = pl.col("error").cast(pl.String).fill_null("no reason given")
        kinds = (
            self.frame.filter(pl.col("status") != "ok")
            .with_columns(error, error.str.split(":").list.first().alias("kind"))
            .group_by("kind", "status")
            .agg(pl.len().alias("n"), pl.col("trial").sort().head(5), pl.col("error").first())
            .sort("n", "kind", descending=[True, False])
            .head(_ERROR_KINDS)
        )
        if not kinds.height:
            return note("No trial failed.")
        rows = [
            (kind, status, f"{n:,}", ", ".join(map(str, trials)), error)
            for kind, status, n, trials, error in kinds.rows()
        ]
        return table(("class", "status", "trials", "first trials", "example"), rows, words=(0, 1, 3, 4))

    def provenance(self) -> Markup:
        given, plan = getattr(self.study, "provenance", None), self.study.plan
        planned = ("data_digest", "data_digests", "code_digest")
        short = {
            "store": self.store,
            "digest": self.summary.get("digest"),
            "sweep": self.summary.get("sweep"),
        }
        facts = given() if callable(given) else short
        facts |= {name.replace("_", " "): getattr(plan, name, None) for name in planned}
        store = shlex.quote(self.store)
        replay = part("replay", store=store, trial=self.around.trial) if len(self.values) else None
        rows = table(("what", "value"), _flat(facts), words=(0, 1))
        return part("provenance", facts=rows, store=store, replay=replay, file=_sweep_file(plan.spec))


def _column(name: str, unit: str) -> dict[str, Any]:
    return {"name": name, "title": name, "unit": unit, "low": True}


def _metric_column(name: str) -> dict[str, Any]:
    return {"name": name, "title": title_of(name), "unit": unit_of(name), "low": name in SMALLER_IS_BETTER}


def _flat(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values: mappings opened up, empty values left out."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {inner}", words) for inner, words in _flat(value)]
        elif value not in (None, "", []):
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return rows


def _down_first(axis: Axis) -> tuple[bool, int]:
    return max(map(len, axis.labels)) <= _LONG_WORD, len(axis.labels)


def _sweep_file(spec: Any) -> str:
    """Return a sweep as YAML that reads as it, with its defaults spelled out."""
    from ruamel.yaml import YAML

    full = spec.model_dump(mode="json")
    stream, yaml = io.StringIO(), YAML()
    yaml.default_flow_style, yaml.width = None, 160
    yaml.dump(_listed(full) if _reads_as(_listed(full), spec) else full, stream)
    return stream.getvalue()


def _listed(content: Any) -> Any:
    """Return content as people write it: ``{axis: [...]}`` as the plain list, nothing that is not set."""
    if isinstance(content, list):
        return [_listed(each) for each in content]
    if not isinstance(content, dict):
        return content
    if [*content] == ["axis"]:
        return _listed(content["axis"])
    return {name: _listed(value) for name, value in content.items() if value is not None and value != []}


def _reads_as(content: Any, spec: Any) -> bool:
    try:
        return bool(type(spec).from_file(content, "sweep file") == spec)
    except InputError:
        return False
