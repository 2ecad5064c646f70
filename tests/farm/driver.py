"""A sweep in a process of its own: ``driver.py EXECUTOR[@ADDRESS] JOB SPEC ID ATOMS TRIALS STORE``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from backtest_farm.farm import SweepRequest, run_sweep

if __name__ == "__main__":
    executor, job, spec_json, sweep_id, n_atoms, n_trials, store = sys.argv[1:]
    executor, _, address = executor.partition("@")
    workers = 2 if executor == "ray" else None
    request = SweepRequest(spec_json, sweep_id, int(n_atoms), int(n_trials), store, job)
    try:
        run_sweep(request, executor=executor, workers=workers, address=address or None)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print("ray" in sys.modules)
