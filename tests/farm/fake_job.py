"""A job whose rows follow from its spec alone, with faults by atom.

Spec: ``seed``, ``per_atom`` (rows), ``seconds`` (to sleep), ``raises`` (atoms, or ``"all"``), ``kill_always``
(atoms), ``error_rows`` (trials), ``no_panel``, and ``executions``: a folder in which every execution of an
atom leaves a file, so that tests can count. FARM_TEST_EXECUTIONS names it where the spec must stay the same.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from backtest_farm.errors import PanelError
from backtest_farm.farm.worker import AtomRows


class FakeJob:
    def __init__(self, spec: dict) -> None:
        self.spec = spec

    def run_atom(self, i: int) -> AtomRows:
        spec = self.spec
        if folder := spec.get("executions") or os.environ.get("FARM_TEST_EXECUTIONS"):
            Path(folder, f"{i:06d}-{os.getpid()}-{secrets.token_hex(4)}").touch()
        if i in spec.get("kill_always", []):
            os.kill(os.getpid(), signal.SIGKILL)
        if i in spec.get("raises", []) or spec.get("raises") == "all":
            raise ValueError(f"no rows for {i}")
        time.sleep(spec.get("seconds", 0.0))
        n = spec["per_atom"]
        trials = np.arange(i * n, (i + 1) * n)
        draws = np.random.default_rng([spec["seed"], i]).normal(size=n)
        status = ["error" if trial in spec.get("error_rows", []) else "ok" for trial in trials]
        columns = {
            "trial": trials,
            "key": [f"{spec['seed']}-{trial}" for trial in trials],
            "status": status,
            "digest": [float(draw).hex() for draw in draws],
            "sharpe": draws,
        }
        return AtomRows(pa.table(columns), {"fills": int(n)}, {"pass": 0.001})


def open_job(spec_json: str) -> FakeJob:
    spec = json.loads(spec_json)
    if spec.get("no_panel"):
        raise PanelError("panels/us is not there", hint="build it first")
    return FakeJob(spec)
