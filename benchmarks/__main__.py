"""``python -m benchmarks``: measure, print ratios, and keep them; ``make bench`` calls it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
HISTORY = HERE / "history.jsonl"
PAGE = ROOT / "docs" / "benchmarks.md"
CACHE = ROOT / "build" / "benchmarks-cache"


def own_cache() -> None:
    """Give this process a cache of the package that no user shares, with compiled kernels but no rankings.

    To be called before the package is imported.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(CACHE / "factors", ignore_errors=True)
    os.environ["BACKTEST_FARM_CACHE"] = str(CACHE)


def main() -> int:
    """Measure what is asked for; return 1 if something was unequal, or slower than the last time."""
    from benchmarks.suite import SECTIONS

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="small cases, few runs; kept in no history")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the 100,000 trials of W3x100")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "build" / "benchmarks.json", help="where to write it"
    )
    parser.add_argument("--no-history", action="store_true", help=f"do not add a line to {HISTORY.name}")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{PAGE.name}")
    options = parser.parse_args()
    own_cache()

    from benchmarks.gate import UnequalError
    from benchmarks.measure import machine
    from benchmarks.report import document, line, read_history, replace_block, slower, table
    from benchmarks.suite import Bench

    facts = machine()
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    print(
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"Python {facts['python']}, {versions}"
    )
    if facts["load"] > 0.5:
        print(f"other work is going on here (load {facts['load']}): quote ratios of this run, not its times")
    figures, unequal, began = [], 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="backtest-farm-bench-") as folder:
        bench = Bench(Path(folder), CACHE, quick=options.quick, scale=options.scale)
        for name in options.only or SECTIONS:
            started = time.monotonic()
            try:
                for one in SECTIONS[name](bench):
                    figures.append(one)
                    print(line(one), flush=True)
            except UnequalError as error:
                unequal += 1
                print(f"{name}: no figure: {error}", flush=True)
            print(f"-- {name}: {time.monotonic() - started:.0f} s", flush=True)
    how = {"quick": options.quick, "scale": options.scale}
    run = document(figures, facts, how)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(run, indent=1) + "\n")
    worse = slower(run, read_history(HISTORY))
    print(*worse, sep="\n", end="\n" * bool(worse))
    if figures and not (options.quick or options.no_history):
        with HISTORY.open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(f"added to {HISTORY.relative_to(ROOT)}; commit it with the change that it measures")
    if options.docs:
        PAGE.write_text(replace_block(PAGE.read_text(), "figures", table(run)))
    print(f"{len(figures)} figures in {time.monotonic() - began:.0f} s; all of them in {options.json}")
    return 1 if unequal or worse else 0


if __name__ == "__main__":
    sys.exit(main())
