"""The core stays small, and files are named for what is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contracts.line_budget import AIM, BUDGET, ROOM_BUDGETS, by_room, code_lines, core
from tests.contracts.tree import own_files

_FORBIDDEN = re.compile(r"(?:^|[_\W])(utils?|helpers?|managers?|handlers?|misc)(?:$|[_\W])")


def forbidden_word(path: Path) -> str | None:
    """The word in a file's or folder's name that says nothing about what is inside, if there is one."""
    for part in path.parts:
        found = _FORBIDDEN.search(part.lower())
        if found:
            return found[1]
    return None


def test_core_is_within_its_line_budget(capsys: pytest.CaptureFixture[str]) -> None:
    counts = by_room()
    with capsys.disabled():
        told = f"at most {BUDGET:,} lines, {AIM:,} is the aim; the package: {sum(counts.values()):,}"
        print(f"\ncore: {core(counts):,} of {told}")
    assert core(counts) < BUDGET


def test_every_room_outside_the_core_is_within_its_own_budget() -> None:
    counts = by_room()
    assert {room: counts[room] for room, most in ROOM_BUDGETS.items() if not 0 < counts[room] <= most} == {}


def test_counting_leaves_out_blanks_comments_and_docstrings() -> None:
    module = '"""Two\nlines."""\n\nimport os  # counted\n\n\n'
    function = 'def f():\n    """No."""\n    # no\n    text = """a\n    b"""\n    return text\n'
    assert code_lines(module + function) == 5  # import, def, text (2 lines), return


def test_file_names_say_what_is_inside() -> None:
    root = next(path.parent for path in own_files() if path.name == "pyproject.toml")
    named = {path.relative_to(root): forbidden_word(path.relative_to(root)) for path in own_files()}
    assert {str(path): word for path, word in named.items() if word} == {}


@pytest.mark.parametrize(
    "name", ["utils.py", "a/path_helpers.py", "manager/x.py", "misc.yaml", "error_handler.py"]
)
def test_forbidden_names_are_noticed(name: str) -> None:
    assert forbidden_word(Path(name))


@pytest.mark.parametrize("name", ["commutils.py", "handle.py", "miscible.py"])
def test_other_names_are_not(name: str) -> None:
    assert forbidden_word(Path(name)) is None
