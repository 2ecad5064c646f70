"""A sweep in a process of its own: ``driver.py EXECUTOR[@ADDRESS] JOB SPEC ID ATOMS STORE``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from backtest_farm.analysis.progress import choose_progress
from backtest_farm.farm import run_sweep
from tests.farm.fake_job import FakePlan

if __name__ == "__main__":
    executor, job, spec_json, sweep_id, n_atoms, store = sys.argv[1:]
    executor, _, address = executor.partition("@")
    workers = 2 if executor == "ray" else None
    try:
        plan = FakePlan(spec_json, int(n_atoms), sweep_id)
        how = {"executor": executor, "workers": workers, "address": address or None}
        run_sweep(plan, store, job=job, extend=True, display=choose_progress(True), **how)
    except KeyboardInterrupt as stop:
        sys.exit(getattr(stop, "exit_code", 130))
    finally:
        print("ray" in sys.modules)
