"""The README's blocks run as they are written, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.ingest import synthetic_grid
from tests.contracts.tree import ROOT

PRELUDE = "import sys; from backtest_farm.cli import main; sys.argv[0] = 'backtest-farm'; main()"
N_BARS, N_ASSETS = 500, 60


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_sources(folder: Path) -> None:
    """Write what a user has: bars (none where there is no bar), members of an index, sectors, a series."""
    grid = synthetic_grid(N_BARS, N_ASSETS, 3)
    names = ("open", "high", "low", "close", "volume")
    columns = {
        "timestamp": np.repeat(grid.timestamps, N_ASSETS),
        "symbol": list(grid.symbols) * N_BARS,
        **{name: grid.fields[name].reshape(-1) for name in names},
    }
    pl.DataFrame(columns).filter(pl.col("close").is_not_nan()).write_csv(folder / "bars.csv")
    members = pl.DataFrame({"symbol": grid.symbols[:40]})
    joined = pl.when(pl.int_range(pl.len()) < 30).then(pl.lit("2010-01-01")).otherwise(pl.lit("2011-01-03"))
    members.with_columns(start_date=joined, end_date=None).write_csv(folder / "members.csv")
    pl.DataFrame({"symbol": grid.symbols, "sector": grid.statics["sector"]}).write_csv(folder / "sectors.csv")
    level = 25 + 15 * np.sin(np.arange(N_BARS) / 20)
    pl.DataFrame({"timestamp": grid.timestamps, "close": level}).write_csv(folder / "vix.csv")


def spoil(bars: Path) -> None:
    """Put the two faults into the file that the README shows: a row twice, and a price of -1."""
    lines = bars.read_text().splitlines()
    lines.insert(1000, lines[999])
    cells = lines[2000].split(",")
    lines[2000] = ",".join([*cells[:5], "-1.0", *cells[6:]])
    bars.write_text("\n".join(lines) + "\n")


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == code, f"{arguments}: {done.stderr}"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's files."""
    place = tmp_path_factory.mktemp("readme")
    write_sources(place)
    return place


def test_faulty_data_is_answered_as_the_readme_shows(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_bytes((folder / "bars.csv").read_bytes())
    spoil(tmp_path / "bars.csv")
    (block,) = blocks("console")
    command, *expected = block.splitlines()
    done = run(tmp_path, "-c", PRELUDE, *shlex.split(command)[2:], code=2)
    assert done.stderr.splitlines() == expected


def test_own_data_from_csv_to_report(folder: Path) -> None:
    (sweep,) = blocks("yaml")
    name = re.match(r"# (\S+\.yaml):", sweep)
    assert name is not None
    (folder / name[1]).write_text(sweep)
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "backtest-farm"]
    assert len(commands) >= 10
    said = {" ".join(words[:2]): run(folder, "-c", PRELUDE, *words).stdout for words in commands}
    assert "sp500" in said["panel info"]
    assert "0 run, " in said["sweep momentum.yaml"], "the second time nothing is left to do"
    assert "equal to the stored one" in said["study replay"]
    assert "5 trials, each with the stored digest" in said["study verify"]
    assert pl.read_csv(folder / "fills.csv").height > 0
    assert pl.read_parquet(folder / "trials.parquet")["universe"].n_unique() > 5
    assert (folder / "momentum.html").stat().st_size > 50_000


def test_the_python_blocks(tmp_path: Path) -> None:
    first, own = blocks("python")
    (tmp_path / "first.py").write_text(first)
    assert "shape: (5, 6)" in run(tmp_path, "first.py").stdout
    (tmp_path / "momentum.py").write_text(f"import backtest_farm as bf\n\n{own}")
    sweep = "panel: panels/demo\nstrategy: {class: 'momentum:Momentum', lookback: [42, 63]}\n"
    (tmp_path / "own.yaml").write_text(sweep)
    done = run(tmp_path, "-c", PRELUDE, "sweep", "own.yaml", "--store", "own", "--executor", "inline")
    assert "2 run, " in done.stdout
    call = "from momentum import *; print(bf.run(bf.Panel.open('panels/demo'), Momentum(lookback=63)))"
    assert "Result(504 bars" in run(tmp_path, "-c", call).stdout
