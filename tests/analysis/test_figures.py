"""Figures hold the study's numbers, say what they show, and end in the files that were asked for."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.analysis import plot_curves, plot_result, plot_study
from backtest_farm.errors import InputError, PlatformError, StoreError
from tests.analysis.cases import FEW, made_study, noisy

PNG = b"\x89PNG\r\n\x1a\n"


def needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'backtest-farm[plots]'")


def test_a_heat_map_holds_medians_of_the_trials(study) -> None:
    needs("plotly")
    figure = plot_study(study, "signal.lookback", "n", "calmar")
    heat = figure.data[0]
    trials = study.trials().collect()
    mine = trials.filter((pl.col("signal.lookback") == 20) & (pl.col("n") == 5))["calmar"].median()
    assert heat.z[heat.y.index("5")][heat.x.index("20")] == mine
    words = figure.layout.title.text
    assert "Calmar" in words
    assert "median over rebalance, costs.commission_bps" in words
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("signal.lookback", "n")


def test_a_heat_map_can_hold_other_parameters_still(study) -> None:
    needs("plotly")
    held = {"costs.commission_bps": 10, "rebalance": 5}
    figure = plot_study(study, "signal.lookback", "n", "sharpe", over="max", at=held)
    trials = (
        study.trials().filter((pl.col("costs.commission_bps") == 10) & (pl.col("rebalance") == 5)).collect()
    )
    assert sorted(np.ravel(figure.data[0].z)) == sorted(trials["sharpe"])
    assert "costs.commission_bps = 10" in figure.layout.title.text


def test_words_on_an_axis_are_categories_and_missing_cells_stay_empty() -> None:
    needs("plotly")
    study = made_study(FEW, noisy())
    study.frame = study.frame.filter(~((pl.col("rebalance") == "month_end") & (pl.col("lookback") == 60)))
    figure = plot_study(study, "lookback", "rebalance", "sharpe")
    assert figure.layout.yaxis.type == "category"
    assert figure.data[0].y == ("1", "21", "month_end")
    assert np.isnan(figure.data[0].z).tolist() == [[False] * 3, [False] * 3, [False, True, False]]
    assert "no trial" in figure.layout.title.text


def test_small_values_are_good_where_they_should_be() -> None:
    needs("plotly")
    study = made_study(FEW, noisy())
    assert plot_study(study, "lookback", "n", "volatility").data[0].reversescale
    assert not plot_study(study, "lookback", "n", "sharpe").data[0].reversescale


def test_one_parameter_gives_its_spread() -> None:
    needs("plotly")
    study = made_study({"lookback": [20, 60]}, lambda point: point["lookback"] / 100)
    for figure in (plot_study(study), plot_study(made_study(FEW, lambda p: p["lookback"] / 100), "lookback")):
        assert figure.data[0].y.tolist()[:2] == [0.2, 0.6]
        assert "lookback" in figure.layout.title.text


def test_without_axes_the_strongest_pair_is_drawn() -> None:
    needs("plotly")
    figure = plot_study(
        made_study(FEW, lambda p: p["lookback"] + (p["rebalance"] == "21") * 90 + p["n"] / 100)
    )
    assert {figure.layout.xaxis.title.text, figure.layout.yaxis.title.text} == {"lookback", "rebalance"}


def test_a_result_is_drawn_with_equity_drawdown_and_exposure(result) -> None:
    needs("plotly")
    figure = plot_result(result)
    equity = result.equity["equity"].to_numpy()
    drawn = {trace.name: np.asarray(trace.y) for trace in figure.data[2:]}
    assert np.array_equal(np.asarray(figure.data[0].y), equity)
    assert np.asarray(figure.data[1].y).min() == pytest.approx(result.metrics["max_drawdown"])
    assert np.array_equal(drawn["gross"], result.equity["gross"].to_numpy())
    names = [figure.layout[f"yaxis{at}"].title.text for at in ("", 2, 3)]
    assert names == ["Equity (money)", "Drawdown", "Exposure (of equity)"]
    scales = [button.args[0] for button in figure.layout.updatemenus[0].buttons]
    assert scales == [{"yaxis.type": "linear"}, {"yaxis.type": "log"}]


def test_curves_of_the_best_start_at_one(study) -> None:
    needs("plotly")
    figure = plot_curves(study, 3, by="calmar")
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names == [f"trial {number}" for number in study.best(3, by="calmar")["trial"]]
    assert all(trace.y[0] == 1.0 for trace in figure.data[:3])


def test_curves_that_cannot_be_had_are_named() -> None:
    with pytest.raises(StoreError, match="trial 6: no curve of 6"):
        plot_curves(made_study(FEW, noisy()), [6, 13])


def test_pictures_need_no_browser(result, study, tmp_path: Path) -> None:
    needs("vl_convert")
    for at, draw in enumerate(
        (
            lambda p: plot_result(result, p),
            lambda p: plot_study(study, path=p),
            lambda p: plot_curves(study, 2, p),
        )
    ):
        file = draw(tmp_path / f"{at}.png")
        assert file.read_bytes()[:8] == PNG
        assert file.stat().st_size > 10_000


def test_a_picture_as_svg_needs_nothing(result, tmp_path: Path) -> None:
    drawn = plot_result(result, tmp_path / "equity.svg").read_text(encoding="utf-8")
    assert "var(" not in drawn
    assert re.search(r">Drawdown<", drawn)


def test_a_page_of_plotly_holds_no_markup_of_names(tmp_path: Path) -> None:
    needs("plotly")
    study = made_study({"a<script>b": ["<b>x</b>", "</script>"], "n": [1, 2]}, noisy())
    written = plot_study(study, "a<script>b", "n", path=tmp_path / "map.html").read_text(encoding="utf-8")
    assert "a<script>b" not in written
    assert "<b>x</b>" not in written


def test_a_missing_package_is_said_with_its_command(
    result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", nothing)
    for path in (None, tmp_path / "equity.png"):
        with pytest.raises(PlatformError, match=r"pip install 'backtest-farm\[plots\]'"):
            plot_result(result, path)


def test_faults_are_said_before_anything_is_drawn(result, study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no figure ends in '\.gif'"):
        plot_result(result, tmp_path / "equity.gif")
    with pytest.raises(InputError, match="does not exist"):
        plot_result(result, tmp_path / "none" / "equity.png")
    with pytest.raises(InputError, match="over is 'mean'"):
        plot_study(study, over="mean")
    with pytest.raises(InputError, match="nothing to draw: no parameter varies"):
        plot_study(made_study({"n": [5]}, noisy()))
    with pytest.raises(InputError, match="nothing to draw: no trial has a value of sharpe"):
        plot_study(made_study({"n": [5, 10]}, lambda point: float("nan")))
