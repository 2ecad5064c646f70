"""Trials as points on axes: every number against the plain way to compute it."""

from __future__ import annotations

import math

import polars as pl
import pytest

from backtest_farm.analysis import Grid
from backtest_farm.errors import InputError
from tests.analysis.cases import FEW, MadeStudy, made_study, noisy, rows_of

ADDITIVE = {20: 0.1, 60: 0.4, 120: 0.7}


def test_axes_are_ordered_numbers_first_then_words() -> None:
    study = made_study({"rebalance": ["month_end", "5", "21", "1"], "n": [30, 5, 10]}, noisy())
    rebalance, n = Grid.of(study).axes
    assert rebalance.labels == ("1", "5", "21", "month_end")
    assert (rebalance.n_numbers, rebalance.is_numeric) == (3, False)
    assert n.labels == ("5", "10", "30")
    assert n.is_numeric


def test_cells_of_a_real_study_equal_a_query_on_its_trials(study) -> None:
    cells = Grid.of(study).cells("signal.lookback", "n", "calmar")
    trials = study.trials().collect()
    assert cells.count.sum() == trials.height == 24
    for row, n in enumerate(cells.y.labels):
        for column, lookback in enumerate(cells.x.labels):
            mine = trials.filter((pl.col("n") == int(n)) & (pl.col("signal.lookback") == int(lookback)))[
                "calmar"
            ]
            assert cells.count[row, column] == len(mine) == 4
            for over in ("median", "max", "min"):
                assert cells.by[over][row, column] == getattr(mine, over)()


def test_failed_and_undefined_trials_leave_cells_missing() -> None:
    study = made_study({"x": [1, 2], "y": [1, 2]}, lambda point: point["x"] * 10.0 + point["y"])
    frame = study.frame.with_columns(
        pl.when(pl.col("trial") == 0).then(pl.lit("error")).otherwise("status").alias("status"),
        pl.when(pl.col("trial") == 3).then(math.nan).otherwise("sharpe").alias("sharpe"),
    )
    cells = Grid.from_frame(frame, ("x", "y")).cells("x", "y", "sharpe")
    assert cells.count.tolist() == [[0, 1], [1, 0]]
    assert math.isnan(cells.by["median"][0, 0])
    assert cells.by["max"][1, 0] == 12.0


def test_alternatives_have_no_place_on_axes_they_do_not_have() -> None:
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
    grid = Grid.from_frame(rows_of(points, noisy()), tuple(points[0]))
    assert grid.cells("signal.lookback", "n", "sharpe").count.tolist() == [[1, 1], [1, 1]]
    assert not grid.cells("signal.lookback", "signal.fast", "sharpe").count.any()
    spread = grid.spread("signal.lookback", "sharpe")
    assert spread.select("label", "count").rows() == [("20", 2), ("60", 2), ("not set", 4)]
    assert not grid.is_complete("sharpe")
    # One step of a look-back never leads to the other factor.
    assert set(grid.neighbourhood(0, "sharpe").steps["trial"]) == {1, 2}


def test_spreads_equal_quantiles_of_the_trials() -> None:
    study = made_study(FEW, noisy())
    spread = Grid.of(study).spread("rebalance", "sharpe")
    assert spread["label"].to_list() == ["1", "21", "month_end"]
    mine = study.frame.filter(pl.col("rebalance") == "21")["sharpe"]
    assert spread.row(1, named=True)["q1"] == mine.quantile(0.25, "linear")
    assert spread.row(1, named=True)["median"] == mine.median()


def test_shares_of_variance_recover_a_planted_truth() -> None:
    """An additive part of look-back, one of n, and their interaction: shares as the sums of squares say."""
    study = made_study(
        {"lookback": [20, 60, 120], "n": [5, 10], "skip": [0, 5]},
        lambda p: (
            ADDITIVE[p["lookback"]] + 0.2 * (p["n"] == 10) + 0.1 * (p["lookback"] == 120) * (p["n"] == 10)
        ),
    )
    grid = Grid.of(study)
    shares = {axis.column: grid.variance_share(axis.column, "sharpe") for axis in grid.axes}
    cells = study.frame["sharpe"]
    total = ((cells - cells.mean()) ** 2).sum()
    for name in ("lookback", "n"):
        means = study.frame.select(pl.col("sharpe").mean().over(name)).to_series()
        assert shares[name] == pytest.approx(((means - cells.mean()) ** 2).sum() / total)
    assert shares["skip"] == pytest.approx(0.0, abs=1e-12)
    assert 0.99 < sum(shares.values()) < 1.0
    assert grid.is_complete("sharpe")
    assert [axis.column for axis in grid.by_share("sharpe")] == ["lookback", "n", "skip"]


def test_a_planted_spike_and_a_planted_plateau_are_told_apart() -> None:
    def spiky(point) -> float:
        # A lone peak at (3, 3); a broad, slightly lower hill around (10, 10).
        hill = math.exp(-((point["x"] - 10) ** 2 + (point["y"] - 10) ** 2) / 18)
        return 1.5 if (point["x"], point["y"]) == (3, 3) else 1.2 * hill

    grid = Grid.of(made_study({"x": list(range(14)), "y": list(range(14))}, spiky))
    spike, hill = grid.neighbourhood(3 * 14 + 3, "sharpe"), grid.neighbourhood(10 * 14 + 10, "sharpe")
    assert (spike.verdict, hill.verdict) == ("spike", "plateau")
    assert spike.steps.height == 4
    assert spike.steps.select("parameter", "from", "to").rows() == [
        ("x", "3", "2"),
        ("x", "3", "4"),
        ("y", "3", "2"),
        ("y", "3", "4"),
    ]
    assert grid.most_robust("sharpe")[0] == 10 * 14 + 10


def test_words_and_single_values_are_no_steps() -> None:
    grid = Grid.of(made_study({"rebalance": ["1", "5", "month_end"], "n": [5]}, noisy()))
    assert [axis.column for axis in grid.axes] == ["rebalance"]
    assert grid.neighbourhood(1, "sharpe").steps["to"].to_list() == ["1"]
    assert grid.neighbourhood(2, "sharpe").steps.height == 0
    assert grid.neighbourhood(2, "sharpe").verdict == "unknown"


def test_parameters_that_only_move_together_are_one() -> None:
    points = [
        {"fast": fast, "slow": slow, "n": n}
        for fast, slow in ((5, 50), (10, 100), (20, 200))
        for n in (5, 10)
    ]
    grid = Grid.from_frame(rows_of(points, noisy()), ("fast", "slow", "n"))
    assert [axis.column for axis in grid.axes] == ["fast", "n"]
    assert grid.followers == {"slow": "fast"}
    assert grid.cells("slow", "n", "sharpe").count.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert set(grid.neighbourhood(2, "sharpe").steps["trial"]) == {0, 3, 4}


def test_what_only_tells_alternatives_apart_is_no_axis_of_its_own() -> None:
    points = [{"factor": "momentum", "lookback": lookback, "skip": 5, "fast": None} for lookback in (20, 60)]
    points += [{"factor": "sma_ratio", "lookback": None, "skip": None, "fast": fast} for fast in (5, 9)]
    grid = Grid.from_frame(rows_of(points, noisy()), tuple(points[0]))
    assert [axis.column for axis in grid.axes] == ["factor", "lookback", "fast"]
    assert grid.followers == {"skip": "factor"}


def test_small_values_lead_where_they_should() -> None:
    grid = Grid.of(made_study({"x": [1, 2, 3, 4]}, lambda point: float(point["x"])))
    assert grid.most_robust("sharpe")[0] == 3
    assert grid.most_robust("volatility")[0] == 0


def test_universes_are_an_axis_even_if_the_plan_does_not_say_so() -> None:
    frame = made_study(FEW, noisy()).frame.with_columns(
        pl.when(pl.col("trial") % 2 == 0).then(pl.lit("all")).otherwise(pl.lit("sp500")).alias("universe")
    )
    grid = Grid.from_frame(frame, tuple(FEW))
    assert grid.axis("universe").labels == ("all", "sp500")


def test_faults_name_what_there_is() -> None:
    grid = Grid.of(made_study(FEW, noisy()))
    with pytest.raises(InputError, match=r"'lookbak' is no parameter.*did you mean 'lookback'"):
        grid.axis("lookbak")
    with pytest.raises(InputError, match="'sharp' is no metric: did you mean 'sharpe'"):
        grid.values("sharp")
    with pytest.raises(InputError, match="n is never 7"):
        grid.where({"n": 7})


def test_trials_can_be_narrowed_to_values_of_parameters() -> None:
    study = made_study(FEW, noisy())
    grid = Grid.of(study).where({"n": 10})
    assert [axis.column for axis in grid.axes] == ["lookback", "rebalance"]
    assert sorted(grid.values("sharpe")) == sorted(study.frame.filter(pl.col("n") == 10)["sharpe"])


def test_an_empty_study_has_no_axes() -> None:
    full = made_study(FEW, noisy())
    grid = Grid.of(MadeStudy(full.frame.clear(), tuple(FEW)))
    assert grid.axes == ()
    assert grid.most_robust("sharpe") is None
