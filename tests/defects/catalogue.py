"""The defects, read from ``catalogue.txt``; how they are written stands at its top."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

CATALOGUE = Path(__file__).with_name("catalogue.txt")


class Defect(NamedTuple):
    """One slip.

    Attributes
    ----------
    group : str
        Heading that it stands under.
    file : str
        Below ``backtest_farm``.
    name : str
        What the copy gets wrong.
    edits : tuple of (str, str)
        Old text, found exactly once, and new text.
    equivalent : str
        Why no test can notice, where none can.
    """

    group: str
    file: str
    name: str
    edits: tuple[tuple[str, str], ...]
    equivalent: str


@cache
def defects() -> tuple[Defect, ...]:
    """Return all defects, in the order written.

    Raises
    ------
    ValueError
        Where a line is none of what there can be.
    """
    found: list[Defect] = []
    group = file = ""
    rows: list[tuple[str, str]] = []
    for number, line in enumerate([*CATALOGUE.read_text(encoding="utf-8").splitlines(), "=="], start=1):
        if not line or line.startswith("#"):
            continue
        mark, _, text = line.partition(" ")
        if mark in ("==", "@", "*") and rows:
            found.append(_defect(group, file, rows))
            rows = []
        if mark == "==":
            group = text
        elif mark == "@":
            file = text
        elif mark in ("*", "-", "+", "="):
            rows.append((mark, text))
        else:
            raise ValueError(f"{CATALOGUE.name}, line {number}: {line}")
    return tuple(found)


def _defect(group: str, file: str, rows: list[tuple[str, str]]) -> Defect:
    """Return the defect that its lines describe."""
    texts = [
        (mark, "\n".join(text for _, text in lines)) for mark, lines in groupby(rows, lambda row: row[0])
    ]
    of = {sign: [text for mark, text in texts if mark == sign] for sign in "*-+="}
    (name,), reasons = of["*"], of["="] or [""]
    return Defect(group, file, name, tuple(zip(of["-"], of["+"], strict=True)), *reasons)
