"""A panel larger than the memory that a process may hold is built, opened and read all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
N_BARS, N_ASSETS, LIFE = 6_750, 2_000, 200
FIELDS = ("open", "close", *"abcdefgh")
LIMIT = 512 * 2**20

CHILD = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT}, {LIMIT}))
import numpy as np
from backtest_farm.panel import Panel
built = Panel.build(sys.argv[1], sys.argv[2])
panel = Panel.open(sys.argv[2])
total = sum(np.nansum(slab[name]) for slab in panel.slabs() for name in panel.fields)
held = sum(slab[name].nbytes for slab in panel.slabs() for name in panel.fields)
digest = panel.digest(panel.fields, panel.shape[0] - 7)
print(*panel.shape, len(panel.slabs()), held, repr(float(total)))
try:
    np.ones({LIMIT} // 8)
    print("no limit")
except MemoryError:
    print("limited")
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux, where RLIMIT_DATA counts what a process holds"
)
def test_a_panel_larger_than_memory(tmp_path: Path) -> None:
    # Short lives: few rows to write here, and a dense grid of more than a gigabyte.
    draw = np.random.default_rng(0)
    first = draw.integers(0, N_BARS - LIFE, N_ASSETS)
    first[:2] = 0, N_BARS - LIFE
    bar = (first[:, None] + np.arange(LIFE)).reshape(-1)
    bar = np.concatenate([bar, np.arange(N_BARS)])
    asset = np.concatenate([np.repeat(np.arange(N_ASSETS), LIFE), np.full(N_BARS, N_ASSETS)])
    days = np.datetime64("1980-01-01") + bar
    prices = np.round(draw.uniform(10, 20, len(bar)), 2)
    frame = pl.DataFrame(
        {"timestamp": days, "symbol": np.array([f"S{a:05d}" for a in range(N_ASSETS + 1)])[asset]}
        | dict.fromkeys(FIELDS, prices)
    )
    frame.write_parquet(tmp_path / "bars.parquet", row_group_size=100_000)
    threads = {"POLARS_MAX_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "bars.parquet", tmp_path / "panel"],
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    n_bars, n_assets, slabs, held, total, limited = done.stdout.split()
    assert (int(n_bars), int(n_assets), limited) == (N_BARS, N_ASSETS + 1, "limited")
    assert int(held) > 2 * LIMIT and int(slabs) > 10
    assert float(total) == pytest.approx(len(FIELDS) * prices.sum(), rel=1e-9)
