"""Command lines that cannot be understood, and help."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import backtest_farm
from tests.cli.conftest import Command

VERBS = ["demo", "panel build", "panel check", "sweep", "study top", "study replay"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_json(verb: str, farm: Command, tmp_path: Path) -> None:
    done = farm(*verb.split(), "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"Example: backtest-farm {verb}" in done.out
    assert "--json" in done.out


def test_help_is_quick(farm: Command, tmp_path: Path) -> None:
    def seconds() -> float:
        started = time.perf_counter()
        assert farm("--help", cwd=tmp_path).code == 0
        return time.perf_counter() - started

    # 0.3 s on an idle core; the best of three, because other tests may be using the machine.
    assert min(seconds() for _ in range(3)) < 1.0


def test_version(farm: Command, tmp_path: Path) -> None:
    done = farm("--version", cwd=tmp_path)
    assert (done.code, done.out) == (0, f"backtest-farm {backtest_farm.__version__}\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("swep x.yaml", "Did you mean 'sweep'?"),
        ("study tpo x", "Did you mean 'top'?"),
        ("demo --asets 100", "--assets"),
        ("demo --assets many", "'--assets': Input should be a valid integer"),
        ("demo --assets 3", "60"),
        ("sweep", "'file'"),
        ("sweep x.yaml --executor dask", "'auto', 'inline', 'ray'"),
        ("panel build a b --on-fault ignore", "'strict', 'report'"),
    ],
)
def test_a_bad_command_line_is_2_and_says_what_is_meant(
    line: str, said: str, farm: Command, tmp_path: Path
) -> None:
    done = farm(*line.split(), cwd=tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert said in done.err
    assert "-> see: backtest-farm" in done.err
    assert "Traceback" not in done.err


def test_a_bad_command_line_is_a_document_with_json(farm: Command, tmp_path: Path) -> None:
    done = farm("swep", "--json", cwd=tmp_path)
    assert done.code == 2
    assert done.document["error"]["exit_code"] == 2


@pytest.mark.parametrize("line", ["", "study", "panel"])
def test_no_verb_shows_the_verbs(line: str, farm: Command, tmp_path: Path) -> None:
    done = farm(*line.split(), cwd=tmp_path)
    assert done.code == 2
    assert "Commands" in done.out + done.err


@pytest.mark.parametrize(
    "line",
    [
        "sweep missing.yaml",
        "panel build missing.csv panel",
        "panel check missing.csv",
        "study top missing",
        "study replay missing 3",
    ],
)
def test_what_is_missing_is_named(line: str, farm: Command, tmp_path: Path) -> None:
    done = farm(*line.split(), cwd=tmp_path)
    assert done.code == 2, done.err
    assert done.err.startswith("Error: ") or "\nError: " in done.err
    assert "missing" in done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert list(tmp_path.iterdir()) == []
