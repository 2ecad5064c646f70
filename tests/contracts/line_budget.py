"""Count lines of code: without blanks, comments and docstrings.

Run as ``python -m tests.contracts.line_budget`` for a table by room.
"""

from __future__ import annotations

import ast
import tokenize
from collections import Counter
from pathlib import Path

from tests.contracts.tree import PACKAGE

AIM = 5_000
"""For the core: what runs backtests and keeps their results, from the kernel to the store."""

BUDGET = 7_750
"""What the core may have until the aim is met again. Over it are the rules, constraints, costs and events of
the accounting contract; two ways of running the same contract faster, ``kernel/at_once.py`` and lanes (some
550 lines, with what makes their targets); and what keeps results from being lost: recovery, repair and
checkpoints of a study (some 420), failures as rows, deadlines and the guard of snapshots (250), object stores
and a file system that can be simulated (240), compiled code under seal (90). A further rise needs a reason as
good."""

ROOM_BUDGETS = {
    # doors and readers
    "cli": 1_750,
    "analysis": 2_100,
    "ingest": 3_080,
    # the words of users, the library of factors and strategies, and reading one backtest or a study
    "spec": 860,
    "backtest": 480,
    "factors": 775,
    "strategy": 600,
    "study": 450,
}
"""Rooms outside the core, each with a budget of its own: they grow with what is offered, not with how it
runs."""

_NOT_CODE = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


def code_lines(source: str) -> int:
    """How many lines of `source` carry code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type not in _NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(ast.parse(source)))


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def by_room(package: Path = PACKAGE) -> Counter[str]:
    """Lines of code by room; files beside the rooms count under their own name."""
    counts: Counter[str] = Counter()
    for file in package.rglob("*.py"):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        counts[room] += code_lines(file.read_text(encoding="utf-8"))
    return counts


def core(counts: Counter[str]) -> int:
    """The part of `counts` that the budget is about."""
    return sum(lines for room, lines in counts.items() if room not in ROOM_BUDGETS)


if __name__ == "__main__":
    table = by_room()
    for name, count in table.most_common():
        print(f"{count:6,}  {name}{f'  (of {ROOM_BUDGETS[name]:,})' if name in ROOM_BUDGETS else ''}")
    print(f"{core(table):6,}  core, of {BUDGET:,}; the aim is {AIM:,}")
