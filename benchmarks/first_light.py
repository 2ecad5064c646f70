"""Time one backtest, and a sweep inline and on local Ray with 1 and 2 workers."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import backtest_farm as bf
from backtest_farm.farm.ray.executor import RayExecutor

LOOKBACKS = list(range(20, 260, 12))
SIZES = list(range(5, 55, 5))
SCHEDULES = [1, 5, 10, 21, 63]


def median_seconds(call: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Return the median, shortest and longest time of `runs` calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), min(seconds), max(seconds)


def one_backtest(folder: Path, runs: int) -> dict[str, float]:
    """500 assets x 252 bars, the best 25 every day."""
    panel = bf.synthetic_panel(folder / "one", n_bars=252, n_assets=500, seed=0)
    strategy = bf.TopN(signal=bf.factor.momentum(20, 1), n=25, rebalance=1)
    result = bf.run(panel, strategy)
    median, low, high = median_seconds(lambda: bf.run(panel, strategy), runs)
    kernel = statistics.median(bf.run(panel, strategy).timings["simulation"] for _ in range(runs))
    print(
        f"one backtest, 500 x 252, top 25 daily ({result.counters['fills']:,} fills): "
        f"{1e3 * median:.2f} ms ({1e3 * low:.2f} to {1e3 * high:.2f}), "
        f"of which simulation {1e3 * kernel:.2f} ms; {252 * 500 / median / 1e6:,.0f} M asset-bars a second"
    )
    return {
        "median_ms": 1e3 * median,
        "min_ms": 1e3 * low,
        "max_ms": 1e3 * high,
        "simulation_ms": 1e3 * kernel,
    }


def sweep_rates(folder: Path, runs: int) -> dict[str, float]:
    """1,000 trials on 500 x 2,520: trials a second, and the gain of a second worker."""
    panel = bf.synthetic_panel(folder / "sweep", n_bars=2520, n_assets=500, seed=0)
    sweep = bf.Sweep(
        panel=panel,
        strategy=bf.TopN(
            signal=bf.factor.momentum(bf.axis(LOOKBACKS)), n=bf.axis(SIZES), rebalance=bf.axis(SCHEDULES)
        ),
        costs=bf.Costs(commission_bps=10.0),
        keep={"equity": {"top": 0}},
    )
    trials = sweep.plan()["trials"]
    digests, rates = set(), {}
    for name, workers in (("inline", 0), ("ray, 1 worker", 1), ("ray, 2 workers", 2)):
        executor = RayExecutor(workers, None) if workers else "inline"
        try:
            seconds = []
            # The first run warms workers and is not counted.
            for at in range(runs + 1):
                study = sweep.run(folder / f"study-{workers}-{at}", executor=executor, progress=False)
                digests.add(study.digest)
                seconds.append(study.summary()["seconds"])
        finally:
            if not isinstance(executor, str):
                executor.close()
        rates[name] = trials / statistics.median(seconds[1:])
    if len(digests) != 1:
        raise SystemExit(f"the runs differ, so no figure is printed: study digests {sorted(digests)}")
    for name, rate in rates.items():
        print(f"sweep of {trials:,} trials, 500 x 2,520, {name}: {rate:,.0f} trials a second")
    gain = rates["ray, 2 workers"] / rates["ray, 1 worker"]
    print(f"2 workers against 1: {gain:.2f} times the rate (efficiency {gain / 2:.2f})")
    print(f"all runs have the study digest {digests.pop()[:16]}")
    return {**rates, "gain": gain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    packages = ("backtest-farm", "numba", "numpy", "ray", "polars", "pyarrow")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "machine": machine,
            "one_backtest": one_backtest(Path(folder), 20 * options.runs),
            "sweep": sweep_rates(Path(folder), options.runs),
        }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
