"""The worker's side: open the job once, run atoms, write their rows, return receipts."""

from __future__ import annotations

import functools
import os
import pkgutil
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from backtest_farm.errors import FarmError, InputError, PlatformError
from backtest_farm.storage import Storage, open_storage
from backtest_farm.store import Fragment, write_fragment


class AtomRows(NamedTuple):
    """What a job gives back for an atom.

    Attributes
    ----------
    table : pyarrow.Table
        One row a trial.
    counters : mapping of str to int
        Events, such as ``factor_builds``.
    seconds : mapping of str to float
        By stage, such as ``simulation``.
    """

    table: pa.Table
    counters: Mapping[str, int]
    seconds: Mapping[str, float]


class Job(Protocol):
    """A sweep made ready in one process: panel mapped, kernels loaded."""

    def run_atom(self, i: int) -> AtomRows:
        """Return the rows of atom `i`: the same ones whenever and wherever it is asked."""
        ...


class Receipt(NamedTuple):
    """What became of one atom.

    Attributes
    ----------
    atom : int
        The atom's number.
    pid, host, elapsed : int, str, float
        Who ran it, and in how many seconds.
    fragment, counters, seconds
        Its rows in the store, and the job's `AtomRows.counters` and `AtomRows.seconds`.
    error : FarmError, optional
        Why there are no rows.
    traceback : str
        Where the error came from.
    """

    atom: int
    pid: int = 0
    host: str = ""
    elapsed: float = 0.0
    fragment: Fragment | None = None
    counters: Mapping[str, int] = {}
    seconds: Mapping[str, float] = {}
    error: FarmError | None = None
    traceback: str = ""


def run_shard(spec_json: str, sweep_id: str, store_uri: str, job: str, atoms: Sequence[int]) -> list[Receipt]:
    """Run `atoms` one after the other and write a fragment for each.

    An atom that raises does not stop the others: its receipt carries the error.

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
    list of Receipt
        One per atom, in order.
    """
    storage = open_storage(store_uri)
    return [_run_atom(storage, sweep_id, job, spec_json, atom) for atom in atoms]


def _run_atom(storage: Storage, sweep_id: str, job: str, spec_json: str, atom: int) -> Receipt:
    result: dict[str, Any]
    began = time.perf_counter()
    try:
        ready = _open(job, spec_json)
        # Opening happens once and must not count when shards are sized by their atoms' seconds.
        began = time.perf_counter()
        rows = ready.run_atom(atom)
        computed = time.perf_counter()
        fragment = write_fragment(storage, sweep_id, atom, rows.table)
        seconds = {**rows.seconds, "write": time.perf_counter() - computed}
        result = {"fragment": fragment, "counters": rows.counters, "seconds": seconds}
    except Exception as error:
        # Only our own errors are sure to survive the trip to the driver.
        known = error if isinstance(error, FarmError) else PlatformError(f"{type(error).__name__}: {error}")
        result = {"error": known, "traceback": traceback.format_exc()}
    return Receipt(atom, os.getpid(), socket.gethostname(), time.perf_counter() - began, **result)


@functools.lru_cache(maxsize=2)
def _open(job: str, spec_json: str) -> Job:
    # Two, so that a process which serves two sweeps in turn does not open each again and again.
    try:
        opener = pkgutil.resolve_name(job)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the job {job!r} cannot be imported on {socket.gethostname()}: {error}",
            hint="install the same backtest_farm and strategy modules on every machine",
        ) from error
    return opener(spec_json)
