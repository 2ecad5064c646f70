"""Copies of the package with one defect, and the processes that look at them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.defects.catalogue import Defect

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240
"""A copy that takes longer runs round in circles."""
RELATION_BOOKS = 40
COMPILED_TESTS = ("tests/kernel/test_metrics.py", "tests/kernel", "tests/properties")


class Finding(NamedTuple):
    """What noticed a defect first, by kind of test; None for what did not, or was not asked.

    Attributes
    ----------
    ledger, book, relation, compiled : str or None
        A hand ledger; how many books were looked at; a relation between books; a test of the compiled kernel.
    crash : str or None
        What the process said that did not come to an end.
    """

    ledger: str | None = None
    book: str | None = None
    relation: str | None = None
    compiled: str | None = None
    crash: str | None = None

    @property
    def noticed(self) -> bool:
        """Whether any test noticed."""
        return any(self)

    @property
    def said(self) -> str:
        """What noticed, in words."""
        named = [f"{kind} {what}" for kind, what in self._asdict().items() if what]
        return ", ".join(named) or "NOT NOTICED"


class MovedTextError(Exception):
    """The text that a defect replaces is not there exactly once."""


def defective(source: str, defect: Defect) -> str:
    """Return a file's text with the defect in it.

    Raises
    ------
    MovedTextError
        If one of its old texts does not occur exactly once.
    """
    for old, new in defect.edits:
        if source.count(old) != 1:
            raise MovedTextError(
                f"{defect.name!r}: found {source.count(old)} times in {defect.file}, wanted once:\n{old}"
            )
        source = source.replace(old, new)
    return source


def source_of(defect: Defect) -> str:
    """Return the text of the file that a defect changes."""
    return (ROOT / "backtest_farm" / defect.file).read_text(encoding="utf-8")


@contextmanager
def copy_with(defect: Defect | None) -> Iterator[Path]:
    """Make a folder that holds the package with a defect, or as it is."""
    with TemporaryDirectory(prefix="defect-") as folder:
        tree = Path(folder)
        shutil.copytree(
            ROOT / "backtest_farm", tree / "backtest_farm", ignore=shutil.ignore_patterns("__pycache__")
        )
        if defect is not None:
            changed = defective(source_of(defect), defect)
            (tree / "backtest_farm" / defect.file).write_text(changed, encoding="utf-8")
        yield tree


def look(defect: Defect | None, evidence: Path, *, everything: bool = False) -> Finding:
    """Hold a copy against the evidence until something notices; `everything` asks ledgers and books both."""
    with copy_with(defect) as tree:
        env = {
            **os.environ,
            "NUMBA_DISABLE_JIT": "1",
            "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BACKTEST_FARM_CACHE": str(tree / "cache"),
        }
        command = [sys.executable, "-m", "tests.defects.check", str(evidence), str(RELATION_BOOKS)]
        try:
            done = subprocess.run(
                [*command, *["--all"] * everything],
                cwd=tree,
                env=env,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Finding(crash="no end")
        if done.returncode:
            return Finding(crash=done.stderr.strip().splitlines()[-1])
        found = json.loads(done.stdout.splitlines()[-1])
        assert found.pop("package") == str(tree / "backtest_farm"), "another copy was looked at"
        return Finding(**found)


def look_compiled(defect: Defect | None) -> str | None:
    """Run the kernel's own tests and the properties on a compiled copy; return the first that fails."""
    with copy_with(defect) as tree:
        shutil.copy(ROOT / "pyproject.toml", tree)
        shutil.copytree(
            ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__", ".venv", "peers")
        )
        env = {**os.environ, "BACKTEST_FARM_CACHE": str(tree / "cache"), "PYTHONPATH": str(tree)}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *COMPILED_TESTS]
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
        if done.returncode == 0:
            return None
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return lines[0].split(" - ")[0].partition(" ")[2] if lines else done.stdout[-200:]
