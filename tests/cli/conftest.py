"""A command to run, a source to build from, and one finished study for the tests that only read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest_farm.cli.app import run
from tests.contracts.tree import ROOT

MAIN = "from backtest_farm.cli import main; main()"

ONE = """\
panel: panel
strategy:
  kind: TopN
  signal: {factor: momentum, lookback: 5}
  n: 2
  rebalance: 5
"""

SWEEP = """\
panel: panel
strategy:
  kind: TopN
  signal: {factor: momentum, lookback: [5, 10], skip: 0}
  n: [1, 2]
  rebalance: 5
costs: {commission_bps: [0, 10]}
"""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process's own environment, the repository importable, and no terminal to adapt to."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "240", **(extra or {})}


Command = Callable[..., Done]


@pytest.fixture(scope="session")
def process() -> Command:
    """Run ``backtest-farm`` with these arguments in this folder, as a user does: in a process of its own."""

    def command(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *map(str, arguments)],
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture(scope="session")
def farm() -> Command:
    """The same within this process, where packages are loaded once for all tests."""

    def command(*arguments: object, cwd: Path) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*map(str, arguments)])
        return Done(code, out.getvalue(), err.getvalue())

    return command


def prices(n_bars: int = 80, symbols: tuple[str, ...] = ("AAA", "B[red]", "CCC", "DDD")) -> str:
    """A long CSV of seeded random walks; one symbol looks like markup of the table library."""
    random = np.random.default_rng(7)
    days = np.arange(np.datetime64("2021-01-01"), np.datetime64("2021-12-31"))
    days = days[np.is_busday(days)][:n_bars]
    rows = ["timestamp,symbol,open,high,low,close,volume"]
    for symbol in symbols:
        close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.02, n_bars)))
        opened = close * np.exp(random.normal(0.0, 0.005, n_bars))
        for day, first, last in zip(days, opened, close, strict=True):
            high, low = max(first, last) + 1.0, min(first, last) - 1.0
            rows.append(f"{day},{symbol},{first:.4f},{high:.4f},{low:.4f},{last:.4f},1000")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory, farm: Command) -> Path:
    """A folder with prices.csv, panel, sweep.yaml and the finished study (8 trials)."""
    folder = tmp_path_factory.mktemp("studied")
    (folder / "prices.csv").write_text(prices())
    (folder / "sweep.yaml").write_text(SWEEP)
    built = farm("panel", "build", "prices.csv", "panel", cwd=folder)
    assert built.code == 0, built.err
    swept = farm("sweep", "sweep.yaml", "--store", "study", "--executor", "inline", cwd=folder)
    assert swept.code == 0, swept.err
    return folder
