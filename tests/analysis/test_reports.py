"""Reports: everything about a study in one file that fetches nothing and believes no name."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from backtest_farm.analysis import Grid, report_result, report_study
from backtest_farm.errors import InputError, StoreError
from backtest_farm.sweep import SweepSpec
from tests.analysis.cases import FEW, MadeStudy, made_study, noisy, rows_of


def block(page: str, name: str):
    """The JSON that the page's script reads."""
    return json.loads(re.search(rf'id="data-{name}">(.*?)</script>', page)[1])


def written(study, page: Path, **options) -> str:
    assert report_study(study, page, **options) == page
    return page.read_text(encoding="utf-8")


@pytest.fixture
def text(study, page: Path) -> str:
    return written(study, page)


def test_the_leaderboard_holds_the_best_trials_in_order(study, text: str) -> None:
    leaders, best = block(text, "leaders"), study.best(24)
    names = [column["name"] for column in leaders["columns"]]
    assert [row[0] for row in leaders["rows"]] == best["trial"].to_list()
    for name in ("signal.lookback", "n", "costs.commission_bps", "sharpe", "max_drawdown", "trades"):
        mine = [row[names.index(name)] for row in leaders["rows"]]
        assert mine == pytest.approx(best[name].to_list(), rel=1e-5)
    assert names[leaders["sort"]["column"]] == "sharpe"
    assert leaders["sort"]["descending"]


def test_heat_maps_hold_the_cells_of_every_pair_and_metric(study, text: str) -> None:
    maps, grid = block(text, "maps"), Grid.of(study)
    headings = [tuple(words.split(" × ")) for words in re.findall(r"<h3>([^<]* × [^<]*)</h3>", text)]
    assert len(headings) == len(maps["pairs"]) == 6
    for (x, y), pair in zip(headings, maps["pairs"], strict=True):
        for metric in ("sharpe", "turnover"):
            for over in ("median", "max", "min"):
                assert pair[metric][over] == pytest.approx(
                    grid.cells(x, y, metric).by[over].ravel(), rel=1e-5
                )
    assert maps["metrics"]["volatility"]["low"]
    assert not maps["metrics"]["sharpe"]["low"]


def test_curves_are_those_of_the_best_five(study, text: str) -> None:
    curves = block(text, "curves")["growth"]
    best = study.best(5)["trial"].to_list()
    assert [line["label"] for line in curves["lines"]] == [f"trial {trial}" for trial in best]
    mine = study.equity(best[0])["equity"].to_numpy()
    assert curves["lines"][0]["values"] == pytest.approx(mine / mine[0], rel=1e-5)


def test_nothing_can_be_fetched_and_only_the_own_script_runs(text: str) -> None:
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for source, tag in (("script-src", "script"), ("style-src", "style")):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert rules[source] == f"'sha256-{digest}'"
    assert not re.findall(r'\b(?:src|href)="(?!#)', text)
    assert set(re.findall(r"https?://[^\"'\s<)]+", text)) == {"http://www.w3.org/2000/svg"}
    # Neither the policy's hashes allow these, nor does anything here need them.
    assert not re.findall(r'\s(?:style|on\w+)="', text)


def test_names_of_users_stay_text(page: Path) -> None:
    evil = "</script><script>alert(\"x\")</script><img src=x onerror='y'>"
    points = [{evil: value, "n": n} for value in (evil, "b'\"") for n in (1, 2)]
    frame = rows_of(points, noisy()).with_columns(
        universe=pl.lit(evil),
        status=pl.when(pl.col("trial") == 3).then(pl.lit("error")).otherwise("status"),
        error=pl.when(pl.col("trial") == 3).then(pl.lit(f"{evil}: {evil}")).otherwise(None),
    )
    study = MadeStudy(frame, (evil, "n"), store=f"studies/{evil}")
    study.plan.spec.panel = evil
    study.provenance = lambda: {"packages": {evil: evil}}
    text = written(study, page)
    assert text.count("<script") == text.count("</script>") == 5
    assert "<img" not in text
    assert block(text, "leaders")["columns"][2]["name"] == evil
    assert text.count(html.escape(evil)) > 10


def test_symbols_of_a_result_stay_text(page: Path) -> None:
    days = np.datetime64("2020-01-01") + np.arange(50)
    curve = pl.DataFrame({"timestamp": days, "equity": np.linspace(1e6, 2e6, 50), "gross": 1.0, "net": 0.5})
    fills = pl.DataFrame(
        {
            "symbol": ["<script>1</script>"],
            "quantity": [2.0],
            "price": [3.0],
            "commission": [0.1],
            "spread": [0.0],
            "slippage": [0.0],
        }
    )
    result = SimpleNamespace(equity=curve, fills=fills, metrics={"sharpe": 1.0}, counters={"fills": 1})
    text = report_result(result, page, title="<script>2</script>").read_text(encoding="utf-8")
    assert "<script>1" not in text
    assert "<script>2" not in text
    assert "&lt;script&gt;1" in text


def test_a_result_is_reported_with_its_numbers(result, page: Path) -> None:
    text = report_result(result, page).read_text(encoding="utf-8")
    assert f"{result.metrics['sharpe']:.3f}" in text
    assert result.digest in text
    assert f"{result.counters['fills']:,} fills in" in text
    assert block(text, "curves")["growth"]["lines"][0]["values"][-1] == pytest.approx(
        result.equity["equity"][-1], rel=1e-5
    )


def test_returns_by_month_multiply_to_the_whole(result, page: Path) -> None:
    text = report_result(result, page).read_text(encoding="utf-8")
    months = re.search(r'id="months">(.*?)</section>', text, re.DOTALL)[1]
    rows = [[float(n) for n in re.findall(r">(-?[\d.]+)%<", row)] for row in months.split("<tr>")[2:]]
    whole = np.prod([1 + row[-1] / 100 for row in rows]) - 1
    assert whole == pytest.approx(result.metrics["total_return"], abs=0.002 * len(rows))
    for row in rows:
        assert np.prod([1 + gain / 100 for gain in row[:-1]]) - 1 == pytest.approx(row[-1] / 100, abs=0.01)


def test_the_sweep_file_in_a_report_is_the_sweep(study, text: str, page: Path, tmp_path: Path) -> None:
    files = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    again = SweepSpec.from_file(YAML(typ="safe").load(html.unescape(files[-1])), "again")
    assert again == study.plan.spec
    assert "lookback: [10, 20, 40]" in files[-1]
    store, winner = shlex.quote(study.summary()["store"]), study.best(1)["trial"][0]
    command = f"backtest-farm study replay {store} {winner} --fills fills.csv"
    assert command in html.unescape(files[0])


def test_the_selection_note_says_the_number_of_trials(text: str, study) -> None:
    spread = study.trials().collect()["sharpe"].std()
    note = html.unescape(re.sub("<[^>]+>", "", text))
    assert "24 trials were tried on the same prices" in note
    assert f"(standard deviation {spread:.2f})" in note
    assert "rough guide" in note
    assert "Journal of Portfolio Management 40(5), 2014" in note


def test_another_metric_can_lead(study, page: Path) -> None:
    leaders = block(written(study, page, metric="volatility"), "leaders")
    assert [row[0] for row in leaders["rows"]] == study.best(24, by="volatility")["trial"].to_list()
    assert not leaders["sort"]["descending"]


def test_several_universes_are_an_axis_of_the_report(page: Path) -> None:
    study = made_study({**FEW, "universe": ["all", "sector=Energy"]}, noisy())
    text = written(study, page)
    assert "universes: all, sector=Energy" in text
    assert "universe × " in text or " × universe" in text


def test_alternatives_with_parameters_of_their_own_are_reported(page: Path) -> None:
    points = [
        {"signal.factor": "momentum", "signal.lookback": lookback, "signal.fast": None, "n": n}
        for lookback in (20, 60)
        for n in (5, 10)
    ]
    points += [
        {"signal.factor": "sma_ratio", "signal.lookback": None, "signal.fast": fast, "n": n}
        for fast in (5, 9)
        for n in (5, 10)
    ]
    text = written(MadeStudy(rows_of(points, noisy()), tuple(points[0])), page)
    assert "not set" in text
    pairs = {frozenset(words.split(" × ")) for words in re.findall(r"<h3>([^<]* × [^<]*)</h3>", text)}
    assert frozenset({"signal.lookback", "n"}) in pairs
    assert frozenset({"signal.lookback", "signal.fast"}) not in pairs
    assert "Not every combination ran" in text


@pytest.mark.parametrize("axes", [{"n": [5, 10, 20]}, {"n": [5]}])
def test_one_parameter_or_none_is_enough(axes: dict, page: Path) -> None:
    text = written(made_study(axes, lambda point: point["n"] / 10), page)
    assert "A heat map needs two parameters" in text
    assert ("No parameter varies" in text) == (len(axes["n"]) == 1)


def test_a_study_of_failures_says_which(page: Path) -> None:
    study = made_study(FEW, noisy())
    kind = pl.when(pl.col("n") == 5).then(pl.lit("no price")).otherwise(pl.lit("bust"))
    study.frame = study.frame.with_columns(
        status=pl.lit("error"), error=pl.format("{}: at trial {}", kind, "trial"),
        sharpe=pl.lit(None, pl.Float64),
    )  # fmt: skip
    text = written(study, page)
    assert "18 failed" in text
    assert 'id="leaders"' not in text
    rows = re.findall(
        r'<tr><td class="words">([^<]+)</td><td class="words">error</td><td>(\d+)</td>'
        r'<td class="words">([^<]+)<',
        text,
    )
    assert rows == [("bust", "9", "3, 4, 5, 9, 10"), ("no price", "9", "0, 1, 2, 6, 7")]


def test_trials_that_never_traded_are_no_failures(page: Path) -> None:
    text = written(made_study(FEW, lambda point: float("nan")), page)
    assert "no trial has a value" in text
    assert "No trial failed." in text


def test_a_study_without_rows_is_said_or_refused(study, page: Path) -> None:
    full = made_study(FEW, noisy())
    empty = MadeStudy(full.frame.clear(), tuple(FEW))
    empty.plan.n_trials = 18
    assert "18 have not run yet" in written(empty, page)
    page.unlink()
    empty.trials = lambda: (_ for _ in ()).throw(StoreError("holds no rows yet"))
    with pytest.raises(StoreError, match="no rows"):
        report_study(empty, page)
    assert not page.exists()


def test_missing_curves_are_named(page: Path) -> None:
    study = made_study({"n": list(range(7))}, lambda point: float(point["n"]))
    text = written(study, page)
    assert "No curve of trial 6: no curve of 6" in text
    assert [line["label"] for line in block(text, "curves")["growth"]["lines"]] == [
        "trial 5",
        "trial 4",
        "trial 3",
        "trial 2",
    ]


def test_faults_leave_no_file(study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        report_study(study, tmp_path / "none" / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        report_study(study, tmp_path)
    with pytest.raises(InputError, match="'sharp' is no metric"):
        report_study(study, tmp_path / "report.html", metric="sharp")
    assert list(tmp_path.iterdir()) == []


def test_a_hundred_thousand_trials_fit_in_a_small_file(page: Path) -> None:
    """As in a large sweep. Some 3 s and 2 MB are needed; what is promised leaves room for slow machines."""
    axes = {
        "signal.lookback": range(20),
        "signal.skip": range(10),
        "n": range(20),
        "rebalance": range(5),
        "bps": range(5),
    }
    grids = np.meshgrid(*[np.arange(len(values)) for values in axes.values()], indexing="ij")
    head = rows_of([dict.fromkeys(axes, 0)], lambda point: 0.0)
    random = np.random.default_rng(5)
    size = grids[0].size
    frame = head[np.zeros(size, int)]
    noise = {
        name: random.normal(0.3, 0.2, size)
        for name in head.columns
        if head.schema[name] == pl.Float64 and name != "bars_per_year"
    }
    frame = frame.with_columns(
        pl.Series("trial", np.arange(size)),
        *(pl.Series(name, grid.ravel()) for name, grid in zip(axes, grids, strict=True)),
        *(pl.Series(name, values) for name, values in noise.items()),
    )  # fmt: skip
    assert frame.height == 100_000
    started = time.perf_counter()
    text = written(MadeStudy(frame, tuple(axes)), page)
    assert time.perf_counter() - started < 20
    assert page.stat().st_size < 6_000_000
    assert len(block(text, "leaders")["rows"]) == 5_000
    assert "The 5,000 best of 100,000 trials" in text
