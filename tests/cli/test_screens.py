"""What a terminal of 80 columns shows: no line is too long, and no word is cut."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import sys
import termios
from pathlib import Path

import pytest

from backtest_farm.cli.tables import counted, leaderboard, size, span, table
from tests.cli.conftest import MAIN, environment

WIDTH = 80


def screen(folder: Path, *words: str, width: int = WIDTH) -> str:
    """What a command writes to a terminal of so many columns, without its colours."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        settings = {**environment(), "TERM": "xterm"}
        settings.pop("COLUMNS")
        os.execve(sys.executable, [sys.executable, "-c", MAIN, *words], settings)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    said = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side has left
            break
        if not part:
            break
        said += part
    os.close(terminal)
    os.waitpid(process, 0)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize(
    "line",
    [
        "plan sweep.yaml",
        "panel check panel",
        "panel info panel",
        "panel compact panel",
        "study ls .",
        "study show study",
        "study show study 1",
        "study top study",
        "study replay study 1",
        "study verify study",
        "run one.yaml",
        "sweep nowhere.yaml",
        "doctor",
    ],
)
def test_lines_fit_a_terminal_of_80_columns(line: str, studied: Path) -> None:
    (studied / "one.yaml").write_text(
        "panel: panel\nstrategy: {kind: TopN, signal: {factor: rsi}, n: 2, rebalance: 5}\n"
    )
    lines = screen(studied, *line.split()).splitlines()
    assert lines
    # A command, path or digest is never broken by us, so that it can be copied.
    long = [each for each in lines if len(each.rstrip()) > WIDTH and " " in each.strip()]
    assert [each for each in long if not re.match(r"\s*(digest|next|plot|fills)\b", each)] == []


def test_what_compact_says_fits_too(studied: Path, tmp_path: Path) -> None:
    place = tmp_path / "a study with quite a long name, as some have"
    shutil.copytree(studied / "study", place)
    for said in (" are now 1 fragment of ", "nothing to do"):
        text = screen(tmp_path, "study", "compact", place.name)
        assert said in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= WIDTH


def test_a_long_fault_is_broken_between_words_and_indented(studied: Path) -> None:
    (studied / "faulty.yaml").write_text("panel: panel\nstrategy: {kind: TopM, signals: 3}\n")
    said = screen(studied, "sweep", "faulty.yaml")
    assert "  - faulty.yaml:2: strategy.kind: 'TopM' is not allowed: did you mean" in said
    below = said.partition("  - faulty")[2].splitlines()[1]
    assert re.match(r"    \S", below)
    assert "Weights)" in said.replace("\n    ", " ")


def board(width: int) -> str:
    from io import StringIO

    import polars as pl
    from rich.console import Console

    frame = pl.DataFrame(
        {
            "trial": [7, 9],
            "sharpe": [1.25, 1.0],
            "n": [10, 20],
            "signal.lookback": [126, 126],
            "trades": [3, 4],
        }
    )
    out = StringIO()
    shown = leaderboard(frame, ["n", "signal.lookback"], ["sharpe", "trades"], width=width, title="best 2")
    Console(file=out, width=200).print(shown)
    return out.getvalue()


def test_a_wide_leaderboard_has_all_parameters_as_columns() -> None:
    assert "lookback" in board(80)
    assert "in all of them" not in board(80)


def test_a_narrow_leaderboard_tells_equal_parameters_once_and_names_what_has_no_room() -> None:
    text = board(32)
    assert "in all of them: signal.lookback 126" in text
    assert "no room for" not in text
    assert "no room for: n" in board(28)


def test_numbers_stand_right_and_words_left() -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    rows = [{"name": "a", "n": 1}, {"name": "bcd", "n": 20}]
    Console(file=out, width=80).print(table(rows, ["name", "n"], width=80, title="t"))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "t",
        "name   n",
        "a      1",
        "bcd   20",
    ]


def test_a_table_without_rows_is_a_title_and_heads(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=80).print(table([], ["study", "trials"], width=80, title="0 studies"))
    assert "study  trials" in capsys.readouterr().out


def test_counts_sizes_and_times_are_words() -> None:
    assert [counted(1, "sweep"), counted(2, "sweep"), counted(3, "study", "studies")] == [
        "1 sweep",
        "2 sweeps",
        "3 studies",
    ]
    assert [size(512), size(3 * 2**20), size(5 * 2**30)] == ["512 bytes", "3.0 MiB", "5.0 GiB"]
    assert [span(0.2), span(90), span(600), span(36_000)] == [
        "less than a second",
        "about 90 s",
        "about 10 min",
        "about 10.0 h",
    ]
