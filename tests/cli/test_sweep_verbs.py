"""``plan``, ``run`` and ``sweep``: what they count, write and refuse."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import ONE, SWEEP, Command

GRID = """\
panel: panel
universes: [all, {draw: 2, size: 4, seed: 1}, {each: symbol}]
strategy:
  kind: TopN
  signal: {factor: momentum, lookback: [5, 10]}
  n: [1, 2, 4]
  rebalance: [5, month_end]
costs: {commission_bps: [0, 10]}
where: "n < 4 or signal.lookback == 10"
"""


def written(folder: Path, text: str, name: str = "a sweep.yaml") -> str:
    (folder / name).write_text(text)
    return name


@pytest.fixture
def place(studied: Path, tmp_path: Path) -> Path:
    """A folder with a panel, for sweep files and studies of one test."""
    shutil.copytree(studied / "panel", tmp_path / "panel")
    return tmp_path


def test_plan_counts_points_holes_and_duplicates(place: Path, farm: Command) -> None:
    file = written(place, GRID)
    said = farm("plan", file, "--json", cwd=place).document
    # 7 universes: all, two draws of all four names (equal to each other), and one for each name.
    assert said["points"] == 7 * 2 * 3 * 2 * 2
    assert said["trials"] == 7 * (2 + 3) * 2 * 2
    assert said["duplicates"] == (2 + 3) * 2 * 2
    assert said["axes"] == {
        "universe": 7, "signal.lookback": 2, "n": 3, "rebalance": 2, "costs.commission_bps": 2,
    }  # fmt: skip
    people = farm("plan", file, cwd=place)
    assert people.code == 0, people.err
    for text in (
        f"{said['trials']:,} trials",
        f"where leaves out {said['points'] - said['trials']:,}",
        "2 signals",
        "commission_bps       2  0, 10",
        "5, month_end",
        "in this process",
        "MiB a worker",
        "next: backtest-farm sweep 'a sweep.yaml'",
    ):
        assert text in people.out
    assert not (place / "studies").exists()


def test_plan_says_how_many_workers_it_counts_on(
    place: Path, farm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A starting time of Ray that makes it pay.
    monkeypatch.setattr("backtest_farm.farm.executor.RAY_START", -1e6)
    file = written(place, GRID)
    done = farm("plan", file, "--workers", 8, cwd=place)
    assert done.code == 0, done.err
    assert "on 8 workers of Ray" in done.out


def test_plan_says_that_the_kernel_is_still_to_be_compiled(
    place: Path, farm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (True, False):
        monkeypatch.setattr("backtest_farm.engine.warm.is_compiled", lambda there=there: there)
        done = farm("plan", written(place, GRID), cwd=place)
        assert ("kernel is compiled" in done.out) is not there


def test_plan_of_a_grid_over_the_limit_is_2_and_shows_the_axes(place: Path, farm: Command) -> None:
    done = farm("plan", written(place, GRID), "--limit", 10, cwd=place)
    assert done.code == 2
    assert "over the limit of 10" in done.err
    assert "n: 3 values" in done.err


def test_plan_of_alternatives_shows_their_columns(place: Path, farm: Command) -> None:
    text = ONE.replace(
        "{factor: momentum, lookback: 5}", "[{factor: momentum, lookback: [5, 10]}, {factor: rsi}]"
    )
    said = farm("plan", written(place, text), "--json", cwd=place).document
    assert said["trials"] == 3
    assert said["axes"]["signal.factor"] == 2


def test_run_shows_one_backtest_and_writes_what_is_asked_for(place: Path, farm: Command) -> None:
    file = written(place, ONE)
    files = [
        "--equity", "curve.parquet", "--fills", "fills.csv", "--trades", "trades.csv", "--plot", "a.svg",
        "--report", "a.html",
    ]  # fmt: skip
    done = farm("run", file, *files, "--json", cwd=place)
    assert done.code == 0, done.err
    said = done.document
    assert said["status"] == "ok"
    assert pl.read_csv(place / "fills.csv").height == said["counters"]["fills"] > 0
    assert pl.read_csv(place / "trades.csv").height == said["counters"]["trades"] > 0
    assert pl.read_parquet(place / "curve.parquet").height == 80
    assert (place / "a.svg").read_text().startswith("<svg")
    assert "</html>" in (place / "a.html").read_text()
    people = farm("run", file, cwd=place)
    for word in ("sharpe", "max_drawdown", f"digest: {said['digest']}", "last 5 of"):
        assert word in people.out


def test_run_gives_what_a_sweep_of_one_gives(place: Path, farm: Command) -> None:
    file = written(place, ONE)
    alone = farm("run", file, "--json", cwd=place).document
    swept = farm("sweep", file, "--store", "study", "--executor", "inline", cwd=place)
    assert swept.code == 0, swept.err
    row = farm("study", "show", "study", 0, "--json", cwd=place).document
    assert row["digest"] == alone["digest"]


def test_run_says_when_fills_look_ahead(place: Path, farm: Command) -> None:
    done = farm("run", written(place, ONE + "fill: same_close\n"), cwd=place)
    assert done.code == 0, done.err
    assert "look-ahead" in done.out


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (ONE.replace("n: 2", "n: [1, 2]"), (), "strategy.n"),
        (ONE + "universes: [all, {each: symbol}]\n", (), "universes"),
        (ONE + "universes: {each: symbol}\n", (), "universe"),
        (ONE + "universes: sp500\n", (), "sp500"),
        (ONE.replace("panel: panel", "panel: elsewhere"), (), "elsewhere"),
        (ONE.replace("momentum, lookback: 5", "field, name: score"), (), "score"),
        (ONE + "window: {start: 2031-01-01}\n", (), "2031"),
        (ONE, ("--plot", "a.jpeg"), ".jpeg"),
        (ONE, ("--report", "a.pdf"), ".pdf"),
        (ONE, ("--fills", "no/where.csv"), "where.csv"),
        ("strategy: [3\n", (), "YAML"),
        ("", (), "empty"),
    ],
)
def test_run_refuses_what_is_no_single_backtest(
    text: str, words: tuple[str, ...], said: str, place: Path, farm: Command
) -> None:
    done = farm("run", written(place, text), *words, cwd=place)
    assert done.code == 2, done.err
    assert said in done.err
    assert "internal error" not in done.err


def test_a_figure_without_its_package_is_refused_before_the_run(
    place: Path, farm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backtest_farm.cli.writing._FIGURES", {".png": "no_such_package", ".svg": None})
    done = farm("run", written(place, ONE), "--plot", "a.png", "--fills", "fills.csv", cwd=place)
    assert done.code == 3
    assert "[plots]" in done.err
    assert not (place / "fills.csv").exists()


def test_sweep_says_what_it_did_and_what_to_type_next(place: Path, farm: Command) -> None:
    file = written(place, GRID)
    first = farm("sweep", file, "--executor", "inline", cwd=place)
    assert first.code == 0, first.err
    # The two draws take all four names, so the second is the first.
    assert "140 trials: 120 run, 0 already there, 20 equal to others and copied, 0 failed" in first.out
    assert "rankings made" in first.out
    assert "next: backtest-farm study top 'studies/a sweep'" in first.out
    again = farm("sweep", file, "--executor", "inline", cwd=place)
    assert "140 trials: 0 run, 140 already there, 0 failed" in again.out


def test_a_wider_sweep_extends_a_study_and_runs_only_what_is_new(place: Path, farm: Command) -> None:
    words = ("--store", "study", "--executor", "inline")
    assert farm("sweep", written(place, ONE, "one.yaml"), *words, cwd=place).code == 0
    wider = written(place, ONE.replace("n: 2", "n: [1, 2]"), "two.yaml")
    refused = farm("sweep", wider, *words, cwd=place)
    assert refused.code == 2
    assert "--extend" in refused.err
    done = farm("sweep", wider, *words, "--extend", "--json", cwd=place)
    assert done.code == 0, done.err
    assert (done.document["executed"], done.document["reused"]) == (1, 1)


def test_no_resume_refuses_a_study_that_has_rows(place: Path, farm: Command) -> None:
    words = ("sweep", written(place, ONE), "--store", "study", "--executor", "inline")
    assert farm(*words, cwd=place).code == 0
    done = farm(*words, "--no-resume", cwd=place)
    assert done.code == 2
    assert "already" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--executor", "inline", "--workers", "2"), "workers"),
        (("--executor", "inline", "--address", "host:1"), "address"),
        (("--workers", "0"), "--workers"),
    ],
)
def test_sweep_refuses_options_that_do_not_go_together(
    words: tuple[str, ...], said: str, place: Path, farm: Command
) -> None:
    done = farm("sweep", written(place, ONE), "--store", "study", *words, cwd=place)
    assert done.code == 2, done.err
    assert said in done.err


def test_a_window_that_starts_before_the_panel_is_told(studied: Path, farm: Command, tmp_path: Path) -> None:
    text = f"window: {{start: 1999-01-04}}\npanel: {studied / 'panel'}\n"
    (tmp_path / "early.yaml").write_text(SWEEP.replace("panel: panel\n", text))
    said = "the window starts on 1999-01-04, but the panel's first bar is 2021-01-01: trials start there"
    plan = farm("plan", "early.yaml", cwd=tmp_path)
    assert plan.code == 0, plan.err
    assert said in plan.out
    assert re.search(r"window +2021-01-01 to 2021-04-22", plan.out)
    document = farm("plan", "early.yaml", "--json", cwd=tmp_path).document
    assert (document["notices"], document["first_bar"]) == ([said], "2021-01-01")
    swept = farm("sweep", "early.yaml", "--store", "study", "--executor", "inline", cwd=tmp_path)
    assert (swept.code, said in swept.err) == (0, True)
    (tmp_path / "one.yaml").write_text(ONE.replace("panel: panel\n", text))
    alone = farm("run", "one.yaml", cwd=tmp_path)
    assert (alone.code, said in alone.err) == (0, True), alone.err
