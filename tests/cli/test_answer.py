"""How a verb ends: message, document and exit code."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer

from backtest_farm.cli.answer import answering, jsonable, plain
from backtest_farm.cli.tables import shown
from backtest_farm.errors import InputError, PlatformError


def ending(error: BaseException, *, as_json: bool = False) -> int:
    with pytest.raises(typer.Exit) as left, answering(as_json):
        raise error
    return left.value.exit_code


def test_a_known_error_shows_faults_and_hint_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError(
        "prices.csv has 2 faults", faults=["row 3: [bold]x[/bold]", "row 9: no price"], hint="mend them"
    )
    assert ending(error) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.rstrip() for line in err.splitlines()]
    assert lines == [
        "Error: prices.csv has 2 faults",
        "  - row 3: [bold]x[/bold]",
        "  - row 9: no price",
        "  -> mend them",
    ]


def test_with_json_an_error_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(PlatformError("no memory", hint="buy some"), as_json=True) == 3
    error = {"message": "no memory", "faults": [], "hint": "buy some", "exit_code": 3}
    assert json.loads(capsys.readouterr().out) == {"error": error}


def test_an_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_missing_file_is_wrong_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "nothing.yaml").read_text()
    assert ending(missing.value) == 2
    assert "nothing.yaml: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("odd state"), PermissionError(13, "Permission denied", "p")])
def test_what_nobody_foresaw_is_3_and_leaves_its_traceback_in_a_file(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ending(error) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (report,) = tmp_path.iterdir()
    assert str(report) in err
    assert "Traceback" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0


def test_whatever_libraries_print_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(True) as answer:
        print("a library talks")
        answer.give({"n": 1})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"n": 1}
    assert "a library talks" in err


def test_json_has_a_form_for_all_that_verbs_give() -> None:
    frame = pl.DataFrame({"day": [dt.date(2020, 1, 2)], "x": [float("nan")]})
    value = {
        "frame": frame,
        "path": Path("a/b"),
        "n": np.int64(3),
        "xs": np.array([1.5, np.inf]),
        "t": (True, None),
    }
    rows = [{"day": "2020-01-02", "x": None}]
    assert jsonable(value) == {"frame": rows, "path": "a/b", "n": 3, "xs": [1.5, None], "t": [True, None]}
    with pytest.raises(TypeError, match="object"):
        jsonable(object())


def test_data_cannot_steer_the_terminal() -> None:
    assert plain("A\x1b[31mB") == "A\\x1b[31mB"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cagr", 0.12345, "12.35%"),
        ("sharpe", 1.23456, "1.2346"),
        ("equity", 1234567.891, "1,234,567.89"),
        ("sharpe", float("nan"), "-"),
        ("n", 10, "10"),
        ("costs.commission_bps", 5.0, "5"),
        ("rebalance", None, ""),
        ("timestamp", dt.datetime(2020, 1, 2), "2020-01-02"),
    ],
)
def test_values_are_shown_as_a_reader_wants_them(name: str, value: object, text: str) -> None:
    assert shown(name, value) == text
