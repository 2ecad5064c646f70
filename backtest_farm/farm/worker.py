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
import pyarrow.compute as pc

from backtest_farm.errors import FarmError, InputError, PlatformError
from backtest_farm.storage import Storage, open_storage
from backtest_farm.store import Fragment, read_fragment, write_fragment

SETTLED = ("ok", "error")
"""Statuses of trials that came to an end, and would come to the same one again."""


class SweepRequest(NamedTuple):
    """A sweep as texts: all that a worker, on this machine or another, needs to know of it.

    Attributes
    ----------
    spec_json : str
        The frozen sweep as canonical JSON text.
    sweep_id : str
        The sweep's digest.
    store : str
        The study's folder or URI.
    job : str
        ``package.module:function`` that turns `spec_json` into a `worker.Job`.
    statuses : tuple of str
        Rows that may be copied instead of running their trials.
    """

    spec_json: str
    sweep_id: str
    store: str
    job: str
    statuses: tuple[str, ...]


class Task(NamedTuple):
    """An atom to do.

    Attributes
    ----------
    atom : int
        Its number.
    sources : tuple of Fragment
        Fragments of the study that hold rows of some of its trials.
    """

    atom: int
    sources: tuple[Fragment, ...] = ()


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
    copied : int
        Rows that came from the sources.
    """

    table: pa.Table
    counters: Mapping[str, int]
    seconds: Mapping[str, float]
    copied: int = 0


class Job(Protocol):
    """A sweep made ready in one process: panel mapped, kernels loaded."""

    def run_atom(self, i: int, sources: Sequence[pa.Table] = ()) -> AtomRows:
        """Return the rows of atom `i`: the same ones whenever and wherever it is asked.

        Trials whose keys stand in `sources` need not run: their results are there.
        """


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


def run_shard(request: SweepRequest, tasks: Sequence[Task]) -> list[Receipt]:
    """Do `tasks` one after the other, write a fragment for each, and return a receipt for each, in order.

    An atom that raises does not stop the others: its receipt carries the error.
    """
    storage = open_storage(request.store)
    return [_run_atom(storage, request, task) for task in tasks]


def _run_atom(storage: Storage, request: SweepRequest, task: Task) -> Receipt:
    result: dict[str, Any]
    began = time.perf_counter()
    try:
        ready = _open(request.job, request.spec_json)
        # Opening happens once and must not count when shards are sized by their atoms' seconds.
        began = time.perf_counter()
        sources = [_source(storage.uri, one, request.statuses) for one in task.sources]
        rows = ready.run_atom(task.atom, sources)
        computed = time.perf_counter()
        fragment = write_fragment(storage, request.sweep_id, task.atom, rows.table, rows.copied)
        seconds = {**rows.seconds, "write": time.perf_counter() - computed}
        result = {"fragment": fragment, "counters": rows.counters, "seconds": seconds}
    except Exception as error:
        # Only our own errors are sure to survive the trip to the driver.
        known = error if isinstance(error, FarmError) else PlatformError(f"{type(error).__name__}: {error}")
        result = {"error": known, "traceback": traceback.format_exc()}
    return Receipt(task.atom, os.getpid(), socket.gethostname(), time.perf_counter() - began, **result)


@functools.lru_cache(maxsize=256)
def _source(store_uri: str, fragment: Fragment, statuses: tuple[str, ...]) -> pa.Table:
    # Kept, because the trials of one old fragment may be spread over many new atoms, and the reverse. The
    # filter copies: it is the atom's rows that are kept, not the large file that they may lie in.
    rows = fragment.part(_file(store_uri, fragment.name, fragment.file_sha256))
    return rows.filter(pc.field("status").isin(list(statuses)))


@functools.lru_cache(maxsize=4)
def _file(store_uri: str, name: str, sha256: str) -> pa.Table:
    return read_fragment(open_storage(store_uri), name, sha256)


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
