"""What may not stand in a committed file: the places of one machine, and package registries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contracts.tree import ROOT, own_files

_PATTERNS = {
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|(?:extra-|--)index[-]url|--find-links"
        r"|https?://[^\s\"'>)]*/(?:simple|artifactory|nexus)\b",
        re.IGNORECASE,
    ),
    "a path of one machine": re.compile(r"(?<![\w.$}])/(?:work|root|home/\w+|Users/\w+|private/tmp)/"),
}


def faults(text: str) -> list[str]:
    """What `text` holds that may not be committed."""
    return [f"{what}: {found[0]}" for what, pattern in _PATTERNS.items() for found in pattern.finditer(text)]


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def test_no_committed_file_names_a_registry_or_a_machine() -> None:
    # This file's own patterns name registries.
    files = [path for path in own_files() if not path.is_symlink() and path != Path(__file__).resolve()]
    found = {str(path.relative_to(ROOT)): faults(_text(path)) for path in files}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    # Written with a gap, so that no tool which looks for such text finds it here.
    [
        "see /~work/x",
        "cd /~home/ann/farm",
        "pip install --index~-url x",
        "https://files.python~hosted.org/a.whl",
    ],
)
def test_such_text_is_noticed(text: str) -> None:
    assert faults(text.replace("~", ""))


@pytest.mark.parametrize(
    "text", ["homework/x", "a/~work/b", "~/panels", "https://docs.ray.io/en/latest/", "$HOME/.cache"]
)
def test_other_text_is_not(text: str) -> None:
    assert faults(text.replace("/~work", "/" + "work")) == []
