"""A plan and a job whose rows follow from their spec alone, with faults by atom.

Spec: ``seed``, ``per_atom`` (rows), ``seconds`` (to sleep), ``raises`` (atoms, or ``"all"``), ``kill_always``
(atoms), ``error_rows`` (trials), ``ends`` (trial to how it ends its process: a signal's name, ``hang``,
``eat`` or ``exit``), ``data`` (a file that must be there), ``no_panel``, ``first_key`` (keys count on from
it, so that two sweeps may share some), ``twins`` (atom to the earlier atom that it repeats), and
``executions``: a folder in which every execution of an atom that has something to simulate leaves a file, so
that tests can count. FARM_TEST_EXECUTIONS names it, and FARM_TEST_MENDED lists atoms whose error rows come
right, where the spec must stay the same.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from backtest_farm.errors import PanelError
from backtest_farm.farm.worker import NONE, AtomRows, Failure

_TEXTS = {name: pa.string() for name in ("key", "status", "digest")}
SCHEMA = pa.schema({"trial": pa.int64(), **_TEXTS, "sharpe": pa.float64()}.items())


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

    def numbers(self, i: int) -> tuple[int, ...]:
        return self.plan.atom(i).numbers

    def check_data(self) -> None:
        if (data := self.spec.get("data")) and not Path(data).exists():
            raise PanelError(f"{data} is missing, but the snapshot needs it")

    def run_atom(
        self, i: int, sources: Sequence[pa.Table] = (), failures: Mapping[int, Failure] = NONE
    ) -> AtomRows:
        spec = self.spec
        numbers = self.numbers(i)
        keys = self.plan.keys(numbers)
        there = {row["key"]: row for table in sources for row in table.to_pylist() if row["key"] in keys}
        if len(there) < len(keys):
            self._execute(i, failures)
        for number, key in zip(numbers, keys, strict=True):
            if number not in failures and key not in there and (how := spec.get("ends", {}).get(str(number))):
                _end(how)
        mended = os.environ.get("FARM_TEST_MENDED", "").split(",")
        rows = []
        for number, key in zip(numbers, keys, strict=True):
            draw = _draw(key)
            bad = number in spec.get("error_rows", []) and str(i) not in mended
            fresh = {"status": "error" if bad else "ok", "digest": float(draw).hex(), "sharpe": draw}
            if number in failures:
                status, message = failures[number]
                fresh = {"status": status, "digest": message.partition(":")[0], "sharpe": None}
            copied = {name: there[key][name] for name in fresh} if key in there else fresh
            rows.append({"trial": number, "key": key, **copied})
        table = pa.Table.from_pylist(rows, SCHEMA)
        return AtomRows(table, {"fills": len(rows)}, {"pass": 0.001}, len(there))

    def _execute(self, i: int, failures: Mapping[int, Failure]) -> None:
        spec = self.spec
        if folder := spec.get("executions") or os.environ.get("FARM_TEST_EXECUTIONS"):
            Path(folder, f"{i:06d}-{os.getpid()}-{secrets.token_hex(4)}").touch()
        if i in spec.get("kill_always", []) and set(self.numbers(i)) - set(failures):
            os.kill(os.getpid(), signal.SIGKILL)
        if i in spec.get("raises", []) or spec.get("raises") == "all":
            raise ValueError(f"no rows for {i}")
        if seconds := spec.get("seconds"):
            time.sleep(seconds)


@functools.cache
def _draw(key: str) -> float:
    return np.random.default_rng([int(part) for part in key.split("-")]).normal()


def _end(how: str) -> None:
    """End this process, or run out of memory."""
    if how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])
    if how == "exit":
        os._exit(3)
    if how == "hang":
        # As compiled code does it: no signal handler of Python ever runs.
        libc = ctypes.PyDLL(None)
        while True:
            libc.usleep(100_000)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    # A limit of its own, so that the machine need not run out.
    resource.setrlimit(resource.RLIMIT_DATA, (2**32, before[1]))
    try:
        # Never written to: what counts is what was asked for.
        hoard = [np.empty(2**26) for _ in range(64)]
        raise AssertionError(f"{len(hoard)} arrays did not fill the memory")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def open_job(spec_json: str) -> FakeJob:
    if json.loads(spec_json).get("no_panel"):
        raise PanelError("panels/us is not there", hint="build it first")
    return FakeJob(spec_json)
