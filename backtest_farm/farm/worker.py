"""The worker's side: open the job once, run atoms, write their rows, return receipts."""

from __future__ import annotations

import functools
import importlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from backtest_farm.errors import FarmError, InputError
from backtest_farm.storage import open_storage
from backtest_farm.store import write_fragment

Receipt = dict[str, Any]


class Rows(Protocol):
    """What a job returns for one atom: rows, counts of events, seconds by stage."""

    @property
    def table(self) -> pa.Table: ...

    @property
    def counters(self) -> Mapping[str, int]: ...

    @property
    def seconds(self) -> Mapping[str, float]: ...


class Job(Protocol):
    """A sweep made ready in one process: panel mapped, kernels loaded."""

    def run_atom(self, i: int) -> Rows:
        """Return the rows of atom `i`: the same ones whenever and wherever it is asked."""
        ...


def run_shard(spec_json: str, sweep_id: str, store_uri: str, job: str, atoms: Sequence[int]) -> list[Receipt]:
    """Run `atoms` one after the other and write a fragment for each.

    Everything that goes in and comes out is plain data. An atom that raises does not stop the others: its
    receipt carries the error.

    Parameters
    ----------
    spec_json : str
        The frozen sweep.
    sweep_id : str
        The sweep's digest.
    store_uri : str
        The study's place.
    job : str
        ``package.module:function`` that turns `spec_json` into a `Job`.
    atoms : sequence of int
        Atom numbers.

    Returns
    -------
    list of dict
        One receipt per atom, in order: ``atom, pid, host, elapsed`` and either ``fragment`` (see
        `store.Fragment`), ``counters``, ``seconds``, or ``error`` (see `describe_error`).
    """
    storage = open_storage(store_uri)
    receipts = []
    for atom in atoms:
        receipt: Receipt = {"atom": int(atom), "pid": os.getpid(), "host": socket.gethostname()}
        began = time.perf_counter()
        try:
            ready = _open(job, spec_json)
            # Opening happens once and must not count when shards are sized by their atoms' seconds.
            began = time.perf_counter()
            rows = ready.run_atom(int(atom))
            computed = time.perf_counter()
            fragment = write_fragment(storage, sweep_id, int(atom), rows.table)
            receipt["fragment"] = fragment.to_dict()
            receipt["counters"] = {str(name): int(count) for name, count in rows.counters.items()}
            receipt["seconds"] = {str(name): float(value) for name, value in rows.seconds.items()}
            receipt["seconds"]["write"] = time.perf_counter() - computed
        except Exception as error:
            receipt["error"] = describe_error(error)
        receipt["elapsed"] = time.perf_counter() - began
        receipts.append(receipt)
    return receipts


def describe_error(error: Exception) -> dict[str, Any]:
    """Return an exception as plain data; `FarmError` keeps its parts, anything else keeps its traceback."""
    if isinstance(error, FarmError):
        parts: dict[str, Any] = {"message": error.message, "faults": list(error.faults), "hint": error.hint}
        return {"kind": type(error).__name__, "exit_code": error.exit_code, **parts}
    frames = traceback.format_exception(type(error), error, error.__traceback__)
    return {"kind": type(error).__name__, "message": str(error), "traceback": "".join(frames)}


@functools.lru_cache(maxsize=2)
def _open(job: str, spec_json: str) -> Job:
    # Two, so that a process which serves two sweeps in turn does not open each again and again.
    module, _, name = job.partition(":")
    try:
        opener: Callable[[str], Job] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the job {job!r} cannot be imported on {socket.gethostname()}: {error}",
            hint="install the same backtest_farm and strategy modules on every machine",
        ) from error
    return opener(spec_json)
