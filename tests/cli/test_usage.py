"""Command lines that cannot be understood, and help."""

from __future__ import annotations

from pathlib import Path

import pytest

import backtest_farm
from tests.cli.conftest import Command
from tests.cli.test_imports import verbs


@pytest.mark.parametrize("verb", verbs())
def test_help_has_an_example_and_json(verb: str, farm: Command, tmp_path: Path) -> None:
    done = farm(*verb.split(), "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"Example: backtest-farm {verb}" in done.out
    assert "--json" in done.out


def test_version(farm: Command, tmp_path: Path) -> None:
    done = farm("--version", cwd=tmp_path)
    assert (done.code, done.out) == (0, f"backtest-farm {backtest_farm.__version__}\n")


@pytest.mark.parametrize(("line", "code"), [("--version", 0), ("study ls nowhere", 2), ("swep", 2)])
def test_a_process_ends_with_the_code_and_the_streams_of_its_verb(
    line: str, code: int, farm: Command, process: Command, tmp_path: Path
) -> None:
    inside, outside = (run(*line.split(), cwd=tmp_path) for run in (farm, process))
    assert outside.code == inside.code == code
    assert (outside.out, outside.err) == (inside.out, inside.err)


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
