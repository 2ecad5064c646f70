"""A cache folder of its own for every test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.tree import ROOT

_OUTSIDE = dict(os.environ)

_START = """
import os, sys
from backtest_farm.factors.fields import factor_field
os.environ["BACKTEST_FARM_CACHE"] = sys.argv[1]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's factor fields and rankings are kept."""
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "factors"


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Start a Python program that keeps its factors in this test's cache folder, but shares compiled code
    with all tests."""

    def started(program: str, *arguments: object, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-c", _START + program, tmp_path / "cache", *arguments]
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**_OUTSIDE, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started
