"""The README's blocks run as they are written, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

from backtest_farm.ingest import synthetic_grid
from tests.contracts.tree import ROOT

PRELUDE = "import sys; from backtest_farm.cli import main; sys.argv[0] = 'backtest-farm'; main()"


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_bars(path: Path) -> None:
    """Write a CSV such as a user has: one row per timestamp and symbol, nothing where there is no bar."""
    grid = synthetic_grid(500, 60, 3)
    columns = {
        "timestamp": np.repeat(grid.timestamps, 60),
        "symbol": list(grid.symbols) * 500,
        **{name: grid.fields[name].reshape(-1) for name in ("open", "high", "low", "close", "volume")},
    }
    pl.DataFrame(columns).filter(pl.col("close").is_not_nan()).write_csv(path)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


def test_own_data_from_csv_to_replay(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv")
    (sweep,) = blocks("yaml")
    name = re.match(r"# (\S+\.yaml):", sweep)
    assert name is not None
    (tmp_path / name[1]).write_text(sweep)
    lines = [line.partition("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "backtest-farm"]
    assert [words[0] for words in commands] == ["panel", "panel", "sweep", "study", "study"]
    for words in commands:
        done = run(tmp_path, "-c", PRELUDE, *words)
    assert "equal to the stored one" in done.stdout
    assert pl.read_csv(tmp_path / "fills.csv").height > 0


def test_the_python_block(tmp_path: Path) -> None:
    (block,) = blocks("python")
    (tmp_path / "first.py").write_text(block)
    assert "shape: (5, 6)" in run(tmp_path, "first.py").stdout
