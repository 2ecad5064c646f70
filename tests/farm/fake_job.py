"""A plan and a job whose rows follow from their spec alone, with faults by atom.

Spec: ``seed``, ``per_atom`` (rows), ``seconds`` (to sleep), ``raises`` (atoms, or ``"all"``), ``kill_always``
(atoms), ``error_rows`` (trials), ``no_panel``, ``first_key`` (keys count on from it, so that two sweeps may
share some), ``twins`` (atom to the earlier atom that it repeats), and ``executions``: a folder in which every
execution of an atom that has something to simulate leaves a file, so that tests can count.
FARM_TEST_EXECUTIONS names it, and FARM_TEST_MENDED lists atoms whose error rows come right, where the spec
must stay the same.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from backtest_farm.errors import PanelError
from backtest_farm.farm.worker import AtomRows


class FakePlan:
    """The numbers and keys of a fake sweep."""

    def __init__(self, spec_json: str, n_atoms: int, sweep_id: str = "") -> None:
        self.spec, self.n_atoms, self.sweep_id = json.loads(spec_json), n_atoms, sweep_id
        self.n_trials = n_atoms * self.spec["per_atom"]
        self._text = spec_json

    def frozen_json(self) -> str:
        return self._text

    def atoms(self) -> Iterator[int]:
        return iter(range(self.n_atoms))

    def atom(self, index: int) -> SimpleNamespace:
        n = self.spec["per_atom"]
        return SimpleNamespace(numbers=tuple(range(index * n, (index + 1) * n)))

    def keys(self, numbers: Sequence[int]) -> list[str]:
        n, spec = self.spec["per_atom"], self.spec
        of = {int(i): twin for i, twin in spec.get("twins", {}).items()}
        same = [of.get(number // n, number // n) * n + number % n for number in numbers]
        return [f"{spec['seed']}-{spec.get('first_key', 0) + number}" for number in same]

    def twin_of(self, index: int) -> int | None:
        return self.spec.get("twins", {}).get(str(index))


class FakeJob:
    def __init__(self, spec_json: str) -> None:
        self.plan = FakePlan(spec_json, 0)
        self.spec = self.plan.spec

    def run_atom(self, i: int, sources: Sequence[pa.Table] = ()) -> AtomRows:
        spec = self.spec
        numbers = self.plan.atom(i).numbers
        keys = self.plan.keys(numbers)
        there = {row["key"]: row for table in sources for row in table.to_pylist() if row["key"] in keys}
        if len(there) < len(keys):
            self._execute(i)
        mended = os.environ.get("FARM_TEST_MENDED", "").split(",")
        rows = []
        for number, key in zip(numbers, keys, strict=True):
            draw = np.random.default_rng([int(part) for part in key.split("-")]).normal()
            bad = number in spec.get("error_rows", []) and str(i) not in mended
            fresh = {"status": "error" if bad else "ok", "digest": float(draw).hex(), "sharpe": draw}
            copied = {name: there[key][name] for name in fresh} if key in there else fresh
            rows.append({"trial": number, "key": key, **copied})
        return AtomRows(pa.Table.from_pylist(rows), {"fills": len(rows)}, {"pass": 0.001}, len(there))

    def _execute(self, i: int) -> None:
        spec = self.spec
        if folder := spec.get("executions") or os.environ.get("FARM_TEST_EXECUTIONS"):
            Path(folder, f"{i:06d}-{os.getpid()}-{secrets.token_hex(4)}").touch()
        if i in spec.get("kill_always", []):
            os.kill(os.getpid(), signal.SIGKILL)
        if i in spec.get("raises", []) or spec.get("raises") == "all":
            raise ValueError(f"no rows for {i}")
        time.sleep(spec.get("seconds", 0.0))


def open_job(spec_json: str) -> FakeJob:
    if json.loads(spec_json).get("no_panel"):
        raise PanelError("panels/us is not there", hint="build it first")
    return FakeJob(spec_json)
