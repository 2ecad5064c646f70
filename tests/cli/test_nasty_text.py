"""Names from data stay text wherever they are shown: terminal, JSON, CSV, HTML, reports of errors."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer

from backtest_farm.cli.answer import answering
from backtest_farm.errors import InputError, plain

NASTY = {
    "escape": "A\x1b[31mRED\x1b]0;title\x07",
    "one_byte_escape": "B\x9b2J",
    "markup": "[red]C[/red]",
    "html": "<script>alert('D')</script>",
    "entity": "\"&lt;E'",
    "formula": '=HYPERLINK("x","F")',
    "call": "@SUM(G1)",
    "minus": "-2+3",
    "plus": "+H",
    "wide": "＝1+1",
    "line": "I\nError: all is lost",
    "return": "J\rK",
    "backspace": "L\x08M",
    "turned": "N\u202egpj.exe",
    "isolated": "O\u2066P\u2069",
    "invisible": "Q\u200bR",
    "separator": "S\u2028T",
    "tagged": "U\U000e0041V",
    "percent": "{W} %s $(id) `id`",
}
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066\u2069\U000e0041]")
"""What must stand in no output at all."""


def assert_quiet(text: str) -> None:
    """Nothing in it steers a terminal, hides, or turns the order of letters."""
    found = STEERS.search(text)
    assert found is None, f"{found[0]!r} in {text[max(0, found.start() - 40) : found.end() + 40]!r}"


@pytest.fixture(scope="module")
def made(tmp_path_factory, farm) -> Path:
    """A panel of such symbols with such tags, one backtest on it, and a study of each symbol."""
    folder = tmp_path_factory.mktemp("nasty")
    random, names = np.random.default_rng(3), [*NASTY.values()]
    days = np.arange(np.datetime64("2021-01-04"), np.datetime64("2021-03-01"))
    frame = pl.DataFrame(
        {
            "timestamp": np.repeat(days, len(names)),
            "symbol": names * len(days),
            "open": 100.0,
            "close": 100.0 + random.normal(size=len(days) * len(names)),
        }
    )
    frame.write_parquet(folder / "prices.parquet")
    pl.DataFrame({"symbol": names, "tag": names}).write_parquet(folder / "tags.parquet")
    (folder / "one.yaml").write_text(
        "panel: panel\nstrategy: {kind: TopN, signal: {factor: momentum, lookback: 5}, n: 5, rebalance: 5}\n"
    )
    (folder / "each.yaml").write_text(
        (folder / "one.yaml").read_text() + "universes: [{by: tag}, {each: symbol}]\n"
    )
    for command in (
        ["panel", "build", "prices.parquet", "panel"],
        ["panel", "attach", "panel", "--static", "tag=tags.parquet"],
        ["sweep", "each.yaml", "--store", "study", "--executor", "inline"],
    ):
        done = farm(*command, cwd=folder)
        assert done.code == 0, done.err
        assert_quiet(done.out + done.err)
    return folder


SCREENS = {
    "info": ["panel", "info", "panel"],
    "check": ["panel", "check", "panel"],
    "run": ["run", "one.yaml"],
    "plan": ["plan", "each.yaml"],
    "top": ["study", "top", "study", "-n", "100"],
    "show": ["study", "show", "study"],
    "one": ["study", "show", "study", "3"],
    "replay": ["study", "replay", "study", "3"],
    "ls": ["study", "ls", "."],
}


@pytest.mark.parametrize("words", SCREENS.values(), ids=SCREENS)
def test_screens(words, made, farm) -> None:
    done = farm(*words, cwd=made)
    assert done.code == 0, done.err
    assert_quiet(done.out + done.err)
    assert "\nError: all is lost" not in done.out + done.err
    document = farm(*words, "--json", cwd=made)
    assert_quiet(document.out + document.err)
    json.loads(document.out)


def strings(value: object) -> set[str]:
    """All text in a JSON document."""
    if isinstance(value, dict):
        return strings([*value, *value.values()])
    return set().union(*map(strings, value)) if isinstance(value, list) else {str(value)}


def test_json_says_the_very_names(made, farm) -> None:
    document = farm("study", "top", "study", "-n", "100", "--json", cwd=made).document
    assert set(NASTY.values()) <= strings(document)


def test_no_cell_of_a_csv_is_a_formula(made, farm) -> None:
    bought = set()
    for trial in range(0, 38, 3):
        done = farm("study", "replay", "study", str(trial), "--fills", "fills.csv", cwd=made)
        assert done.code == 0, done.err
        rows = [*csv.DictReader(io.StringIO((made / "fills.csv").read_text(encoding="utf-8"), newline=""))]
        assert all(len(row) == len(rows[0]) for row in rows)
        bought |= {row["symbol"] for row in rows}
    done = farm("study", "export", "study", "rows.csv", cwd=made)
    assert done.code == 0, done.err
    rows = [*csv.DictReader(io.StringIO((made / "rows.csv").read_text(encoding="utf-8"), newline=""))]
    bought |= {row["universe"] for row in rows}
    assert {'\'=HYPERLINK("x","F")', "'@SUM(G1)", "'-2+3", "'+H", "'＝1+1"} <= bought
    assert not [cell for cell in bought if re.match(r"[=+\-@\t\r\n＝＋－＠]", cell)]


PICTURES = {
    "study": ["report", "study", "--out", "page.html"],
    "run": ["run", "one.yaml", "--report", "page.html"],
    "plot": ["run", "one.yaml", "--plot", "page.svg"],
}


@pytest.mark.parametrize("words", PICTURES.values(), ids=PICTURES)
def test_pages(words, made, farm) -> None:
    done = farm(*words, cwd=made)
    assert done.code == 0, done.err
    text = (made / words[-1]).read_text(encoding="utf-8")
    assert_quiet(text)
    assert "<script>alert" not in text


BROKEN = "timestamp,symbol,open,close\n" + "".join(
    f'2021-01-04,"{name.replace(chr(34), chr(34) * 2)}",-1,1\n' for name in NASTY.values() if "\n" not in name
)


def test_messages_about_data(made, farm) -> None:
    (made / "broken.csv").write_text(BROKEN, encoding="utf-8", newline="")
    for words in (
        ["check", "broken.csv"],
        ["build", "broken.csv", "none"],
        ["build", "\x1b[31m.csv", "none"],
    ):
        done = farm("panel", *words, cwd=made)
        assert done.code == 2
        assert_quiet(done.out + done.err)


@pytest.mark.parametrize("name", [*NASTY.values(), "half \ud800 of a pair", "a path \udcff of bytes"])
def test_an_error_is_quiet_wherever_it_is_printed(name, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error = InputError(f"{name} is wrong", faults=[name], hint=name)
    assert_quiet(str(error))
    for raised in (error, OSError(5, "bad", name), RuntimeError(name)):
        for as_json in (False, True):
            with pytest.raises(typer.Exit), answering(as_json):
                raise raised
    said = capsys.readouterr()
    for text in (said.out, said.err, *(file.read_text(encoding="utf-8") for file in tmp_path.iterdir())):
        text.encode()
        assert_quiet(text)
    assert plain(plain(name)) == plain(name)
    assert error.message == f"{name} is wrong", "what a program reads is what was said"
