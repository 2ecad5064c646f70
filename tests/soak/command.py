"""One command line in this process, and what may not come of it."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import typer

from backtest_farm.cli.app import run

# The tree of verbs is made anew for every command line; that takes longer than most of what is looked at.
typer.main.get_command = cache(typer.main.get_command)  # type: ignore[assignment]

_TROUBLE = re.compile(r"Traceback|internal error|panicked at|Segmentation|Exception ignored")


def outcome(words: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a folder; return its exit code and all that it said."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(words)
    return code, said.getvalue()


def trouble(words: list[str], code: int, said: str, codes: tuple[int, ...] = (0, 2)) -> str | None:
    """Say what is wrong with the end of a command: a code that nothing documents, or a traceback."""
    found = _TROUBLE.search(said)
    if found or code not in codes:
        return f"{' '.join(words)}: exit code {code}: {said[max(0, len(said) - 600) :]}"
    return None
