"""The verbs on real files: build, check, sweep, top, replay."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import SWEEP, Command, prices


def test_panel_build_describes_what_it_built(farm: Command, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(prices())
    done = farm("panel", "build", "prices.csv", "panel", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    said = done.document
    assert (said["n_bars"], said["n_assets"], said["first"]) == (80, 4, "2021-01-01")
    assert {"open", "close"} <= set(said["fields"])
    assert said["bars_per_year"] == 252.0


def test_panel_build_refuses_bad_prices_and_lists_them_all(farm: Command, tmp_path: Path) -> None:
    broken = prices().replace("2021-01-05,AAA,", "2021-01-05,AAA,-", 1)
    day = next(line for line in broken.splitlines() if line.startswith("2021-01-07,CCC"))
    (tmp_path / "prices.csv").write_text(broken + day + "\n")
    done = farm("panel", "build", "prices.csv", "panel", "--json", cwd=tmp_path)
    assert done.code == 2
    told = str(done.document["error"])
    assert "2021-01-05" in told
    assert "2021-01-07" in told
    assert not (tmp_path / "panel").exists() or farm("panel", "check", "panel", cwd=tmp_path).code == 2


def test_panel_check_takes_a_source_and_a_panel(studied: Path, farm: Command) -> None:
    source, panel = (farm("panel", "check", path, "--json", cwd=studied) for path in ("prices.csv", "panel"))
    assert (source.code, panel.code) == (0, 0), source.err + panel.err
    assert source.document["kind"] == "source"
    assert panel.document["kind"] == "panel"
    assert source.document["n_bars"] == panel.document["n_bars"] == 80


def test_panel_check_of_a_broken_source_is_2_and_lists_it(farm: Command, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(prices().replace("2021-01-05,AAA,", "2021-01-05,AAA,-", 1))
    done = farm("panel", "check", "prices.csv", cwd=tmp_path)
    assert done.code == 2
    assert "2021-01-05" in done.out
    assert "AAA" in done.out


def test_a_second_sweep_runs_nothing_and_gives_the_same_digest(studied: Path, farm: Command) -> None:
    top = farm("study", "top", "study", "--json", cwd=studied).document
    again = farm("sweep", "sweep.yaml", "--store", "study", "--executor", "inline", "--json", cwd=studied)
    assert again.code == 0, again.err
    said = again.document
    assert (said["trials"], said["ok"], said["executed"], said["reused"]) == (8, 8, 0, 8)
    assert said["digest"] == top["digest"]


def test_another_sweep_on_the_same_study_is_refused(studied: Path, farm: Command, tmp_path: Path) -> None:
    other = studied / "other.yaml"
    other.write_text(SWEEP.replace("n: [1, 2]", "n: [1, 3]"))
    done = farm("sweep", "other.yaml", "--store", "study", "--executor", "inline", cwd=studied)
    assert done.code == 2
    assert "Error: " in done.err


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("rebalance: 5", "rebalanse: 5", "rebalance"),
        ("factor: momentum", "factor: momentun", "momentum"),
        ("lookback: [5, 10]", "lookback: [5, x]", "lookback"),
        ("panel: panel", "panel: nowhere", "nowhere"),
    ],
)
def test_a_fault_in_a_sweep_file_is_2_and_named(
    good: str, bad: str, said: str, studied: Path, farm: Command
) -> None:
    assert good in SWEEP
    (studied / "bad.yaml").write_text(SWEEP.replace(good, bad))
    done = farm("sweep", "bad.yaml", "--store", "bad", "--executor", "inline", cwd=studied)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_study_top_ranks_by_the_metric_asked_for(studied: Path, farm: Command) -> None:
    done = farm("study", "top", "study", "-n", 3, "--by", "calmar", "--json", cwd=studied)
    assert done.code == 0, done.err
    ranked = [row["calmar"] for row in done.document["trials"]]
    assert len(ranked) == 3
    assert ranked == sorted(ranked, reverse=True)


def test_study_top_is_a_table_of_parameters_and_metrics(studied: Path, farm: Command) -> None:
    done = farm("study", "top", "study", cwd=studied)
    assert done.code == 0, done.err
    for word in (
        "rank",
        "trial",
        "lookback",
        "commission_",
        "sharpe",
        "drawdown",
        "digest:",
    ):
        assert word in done.out


def test_study_top_by_a_metric_that_does_not_exist(studied: Path, farm: Command) -> None:
    done = farm("study", "top", "study", "--by", "sharp", cwd=studied)
    assert done.code == 2
    assert "sharpe" in done.err


def test_replay_shows_metrics_and_writes_fills(studied: Path, farm: Command) -> None:
    best = farm("study", "top", "study", "-n", 1, "--json", cwd=studied).document["trials"][0]
    arguments = ["--fills", "fills.csv", "--equity", "equity.parquet"]
    done = farm("study", "replay", "study", best["trial"], *arguments, "--json", cwd=studied)
    assert done.code == 0, done.err
    said = done.document
    assert said["metrics"]["sharpe"] == pytest.approx(best["sharpe"], nan_ok=True)
    assert pl.read_csv(studied / "fills.csv").height == said["n_fills"] > 0
    assert pl.read_parquet(studied / "equity.parquet").height > 0

    by_key = farm("study", "replay", "study", best["key"], cwd=studied)
    assert by_key.code == 0, by_key.err
    assert said["digest"] in by_key.out
    assert "B[red]" in by_key.out or "B[red]" not in (studied / "fills.csv").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("study replay study 99", "99"),
        ("study replay study nonsense", "nonsense"),
        ("study replay study 0 --fills fills.xlsx", ".csv or .parquet"),
        ("study replay study 0 --equity nowhere/equity.csv", "nowhere"),
    ],
)
def test_replay_refuses_what_it_cannot_do(line: str, said: str, studied: Path, farm: Command) -> None:
    done = farm(*line.split(), cwd=studied)
    assert done.code == 2, done.err
    assert said in done.err
