"""README and changelog tell the truth about commands and versions."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

import backtest_farm
from backtest_farm.cli.app import app
from tests.contracts.tree import ROOT, constraints, project

PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))
_SHELLS = frozenset({"sh", "bash", "shell", "console"})


def shell_lines(markdown: str) -> list[str]:
    """The commands in a page's shell blocks: prompts, continuations and comments taken care of."""
    lines: list[str] = []
    for language, block in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        if language in _SHELLS:
            joined = block.replace("\\\n", " ")
            if language == "console":
                joined = "\n".join(line[2:] for line in joined.splitlines() if line.startswith("$ "))
            lines += [line.strip() for line in joined.splitlines() if line.strip()]
    return lines


def make_targets() -> set[str]:
    """The targets that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def unknown(line: str) -> str | None:
    """What a shell line asks of make or of the command line that does not exist, if anything."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    if not words:
        return None
    program, *rest = words
    if program == "make":
        targets = [word for word in rest if not word.startswith("-") and "=" not in word]
        missing = [target for target in targets if target not in make_targets()]
        return f"make {missing[0]}" if missing else None
    if program.rpartition("/")[2] == "backtest-farm":
        return _unknown_verb(rest)
    return None


def _unknown_verb(words: list[str]) -> str | None:
    node: object = typer.main.get_command(app)
    for place, word in enumerate(words):
        verbs = getattr(node, "commands", None)
        if verbs is None:
            break
        if word in ("--help", "-h", "--version"):
            return None
        if word not in verbs:
            return f"backtest-farm {' '.join(words[: place + 1])}"
        node = verbs[word]
    options = {
        option
        for parameter in getattr(node, "params", [])
        for option in parameter.opts + parameter.secondary_opts
    }
    asked = [word.partition("=")[0] for word in words if word.startswith("-")]
    missing = [option for option in asked if option not in options | {"--help", "-h"}]
    return f"backtest-farm {' '.join(words)}: {missing[0]}" if missing else None


def test_readme_commands_exist() -> None:
    lines = shell_lines((ROOT / "README.md").read_text())
    assert any(line.startswith("make demo") for line in lines)
    assert any(line.startswith("make test") for line in lines)
    assert [line for line in lines if unknown(line)] == []


@pytest.mark.parametrize("page", ["cluster/README.md", "infra/README.md", *PAGES])
def test_other_pages_commands_exist(page: str) -> None:
    assert [line for line in shell_lines((ROOT / page).read_text()) if unknown(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "make tset",
        "X=1 make -j2 demo nonsense",
        ".venv/bin/backtest-farm swep x.yaml",
        "backtest-farm study topp s",
        "backtest-farm study top s --bye sharpe",
    ],
)
def test_commands_that_do_not_exist_are_noticed(line: str) -> None:
    assert unknown(line)


@pytest.mark.parametrize(
    "line",
    [
        "make test  # all",
        "backtest-farm study top s -n 5 --by calmar",
        "python x.py",
        "backtest-farm --version",
    ],
)
def test_commands_that_exist_are_not(line: str) -> None:
    assert unknown(line) is None


def test_shell_blocks_are_found() -> None:
    page = "x\n```bash\nmake a \\\n  b\n# c\n```\n```console\n$ make d\noutput\n```\n```python\nmake\n```\n"
    assert shell_lines(page) == ["make a    b", "# c", "make d"]


def test_versions_agree() -> None:
    version = project()["version"]
    assert backtest_farm.__version__ == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_constraints_cover_the_declared_dependencies() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    declared = project()["dependencies"] + project()["optional-dependencies"]["test"]
    for requirement in map(Requirement, declared):
        pinned = constraints().get(canonicalize_name(requirement.name), [])
        assert pinned, f"constraints.txt lacks {requirement.name}"
        assert all(version in requirement.specifier for version in pinned)
