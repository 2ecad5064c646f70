"""``study diff`` of two trials and of two studies, and ``study export`` of a Delta table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Command

SAID_OF_TRIALS = (
    "costs.commission_bps  0.0  10.0",
    "first decision that differs",
    "where the difference of final equity comes from (b less a)",
    "B[red]",
    "rounding",
)


def test_two_trials_are_shown_side_by_side(studied: Path, farm: Command) -> None:
    shown = farm("study", "diff", "study", 0, 1, cwd=studied)
    assert shown.code == 0, shown.err
    assert all(said in shown.out for said in SAID_OF_TRIALS), shown.out
    document = farm("study", "diff", "study", 0, 1, "--json", cwd=studied).document
    assert document["inputs"] == [{"input": "costs.commission_bps", "a": "0.0", "b": "10.0"}]
    equity = document["equity"]
    parts = sum(each["total"] for each in document["pnl"]) + equity["interest"] + equity["starting_cash"]
    assert equity["b"] - equity["a"] == equity["difference"] == pytest.approx(parts, rel=1e-9)


def test_a_trial_is_compared_with_its_like_in_another_study(studied: Path, farm: Command) -> None:
    shown = farm("study", "diff", "study", 3, "--other", "study", cwd=studied)
    assert shown.code == 0 and "They have equal results" in shown.out and "No input differs" in shown.out


def test_two_studies_are_shown_side_by_side(studied: Path, farm: Command, tmp_path: Path) -> None:
    dearer = (studied / "sweep.yaml").read_text().replace("[0, 10]", "[10, 20]")
    (studied / "dearer.yaml").write_text(dearer)
    store = tmp_path / "dearer"
    swept = farm("sweep", "dearer.yaml", "--store", store, "--executor", "inline", cwd=studied)
    assert swept.code == 0, swept.err
    document = farm("study", "diff", "study", "--other", store, "--json", cwd=studied).document
    assert document["counts"]["equal"] == document["counts"]["only in a"] == 4
    assert "only in a" not in document
    shown = farm("study", "diff", "study", "--other", store, cwd=studied)
    assert shown.code == 0 and "commission_bps.axis: [0, 10] -> [10, 20]" in shown.out


def test_format_names_a_delta_table(studied: Path, farm: Command, tmp_path: Path) -> None:
    done = farm("study", "export", "study", tmp_path / "lake", "--format", "delta", "--json", cwd=studied)
    assert done.code == 0, done.err
    assert pl.read_delta(str(tmp_path / "lake")).height == done.document["rows"] == 8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("study diff study", "nothing to compare with"),
        ("study diff study 0", "nothing to compare with"),
        ("study diff study 0 99", "no trial 99"),
        ("study diff study 0 --other nowhere", "nowhere"),
        ("study export study lake --format lance", "cannot tell the format from '.lance'"),
    ],
)
def test_wrong_questions_are_2_and_say_why(studied: Path, farm: Command, line: str, said: str) -> None:
    done = farm(*line.split(), cwd=studied)
    assert done.code == 2 and said in done.err and "Traceback" not in done.err
