"""The repository's own files: what would be committed, whether git is at hand or not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "backtest_farm"


def own_files() -> Iterator[Path]:
    """Every file below the root that .gitignore does not exclude."""
    ignored = GitIgnoreSpec.from_lines((ROOT / ".gitignore").read_text().splitlines())
    folders = [ROOT]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            relative = entry.relative_to(ROOT).as_posix()
            if entry.name == ".git" or ignored.match_file(relative + "/" * entry.is_dir()):
                continue
            if entry.is_dir() and not entry.is_symlink():
                folders.append(entry)
            else:
                yield entry


@cache
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@cache
def constraints() -> dict[str, list[str]]:
    """Name to the exact versions that constraints.txt allows (two where Python versions differ)."""
    versions: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.partition(";")[0].strip().split("==")
            versions.setdefault(name, []).append(version)
    return versions
