"""The worker's side: open the job once, run atoms, write their rows, return receipts."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import pkgutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from backtest_farm.errors import FarmError, InputError, PanelError, PlatformError
from backtest_farm.storage import open_storage
from backtest_farm.store import Fragment, read_fragment, write_fragment

SETTLED = ("ok", "error")
"""Statuses of trials that came to an end, and would come to the same one again."""

QUARANTINE = 2
"""An atom that lost so many workers is done where losing one costs little: see `quarantine`."""


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
    deadline : float, optional
        Seconds that an atom may take before its process is killed.
    """

    spec_json: str
    sweep_id: str
    store: str
    job: str
    statuses: tuple[str, ...]
    deadline: float | None = None


class Task(NamedTuple):
    """An atom to do.

    Attributes
    ----------
    atom : int
        Its number.
    sources : tuple of Fragment
        Fragments of the study that hold rows of some of its trials.
    attempt : int
        How many workers it has lost so far.
    """

    atom: int
    sources: tuple[Fragment, ...] = ()
    attempt: int = 0


class Failure(NamedTuple):
    """How a trial ended the process that ran it.

    Attributes
    ----------
    status : str
        ``crashed``, ``oom`` or ``timeout``.
    message : str
        Its kind, a colon, and the rest in words.
    """

    status: str
    message: str


NONE: Mapping[int, Failure] = MappingProxyType({})
"""No failures."""


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

    def numbers(self, i: int) -> Sequence[int]:
        """Return the numbers of the trials of atom `i`."""

    def run_atom(
        self, i: int, sources: Sequence[pa.Table] = (), failures: Mapping[int, Failure] = NONE
    ) -> AtomRows:
        """Return the rows of atom `i`: the same ones whenever and wherever it is asked.

        Trials whose keys stand in `sources` need not run: their results are there. Those whose numbers stand
        in `failures` must not: how they end is known.
        """

    def check_data(self) -> None:
        """Make sure that the data is still what the sweep was planned on.

        Raises
        ------
        PanelError
            If it is not.
        """


class Receipt(NamedTuple):
    """What became of one atom.

    Attributes
    ----------
    atom : int
        The atom's number.
    pid, host, elapsed, attempt : int, str, float, int
        Who ran it, in how many seconds, and how many workers it lost before.
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
    attempt: int = 0
    fragment: Fragment | None = None
    counters: Mapping[str, int] = {}
    seconds: Mapping[str, float] = {}
    error: FarmError | None = None
    traceback: str = ""


def run_shard(request: SweepRequest, tasks: Sequence[Task]) -> list[Receipt]:
    """Do `tasks` one after the other, write a fragment for each, and return a receipt for each, in order.

    An atom that raises does not stop the others: its receipt carries the error. One that runs out of memory
    ends the shard, as it would if the system had killed the process.
    """
    return [(_in_quarantine if task.attempt >= QUARANTINE else run_atom)(request, task) for task in tasks]


def run_atom(
    request: SweepRequest, task: Task, failures: Mapping[int, Failure] = NONE, keep: bool = True
) -> Receipt:
    """Do one atom.

    Parameters
    ----------
    request, task : SweepRequest, Task
    failures : mapping of int to Failure
        Trials that are not run, because it is known how they end.
    keep : bool
        Whether to write its rows.
    """
    result: dict[str, Any]
    storage = open_storage(request.store)
    began = time.perf_counter()
    try:
        job = open_job(request)
        # Opening happens once and must not count when shards are sized by their atoms' seconds.
        began = time.perf_counter()
        with _killed_after(request.deadline):
            sources = [_source(storage.uri, one, request.statuses) for one in task.sources]
            rows = job.run_atom(task.atom, sources, failures)
        computed = time.process_time()
        # What was mapped may have changed while it was read: such rows are nobody's.
        job.check_data()
        result = {"counters": rows.counters, "seconds": rows.seconds}
        if keep:
            result["fragment"] = write_fragment(storage, request.sweep_id, task.atom, rows.table, rows.copied)
            result["seconds"] = {**rows.seconds, "write": time.process_time() - computed}
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, PanelError):
            # What is mapped must not be used again, also when the files are put back.
            _open.cache_clear()
        # Only our own errors are sure to survive the trip to the driver.
        known = error if isinstance(error, FarmError) else PlatformError(f"{type(error).__name__}: {error}")
        result = {"error": known, "traceback": traceback.format_exc()}
    elapsed = time.perf_counter() - began
    return Receipt(task.atom, os.getpid(), socket.gethostname(), elapsed, task.attempt, **result)


@contextlib.contextmanager
def _killed_after(seconds: float | None) -> Iterator[None]:
    """Let the system kill this process when the body takes longer: compiled code heeds nothing else."""
    if seconds is None:  # there is one such timer, and it may be somebody else's
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _in_quarantine(request: SweepRequest, task: Task) -> Receipt:
    """Do an atom in a process of its own, which finds the trials that end it; see `quarantine.main`."""
    start = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer)"
    start += "; from backtest_farm.farm.quarantine import main; main()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", start], **pipes) as process:  # type: ignore[call-overload]
        try:
            answer, _ = process.communicate(pickle.dumps(sys.path) + pickle.dumps((request, task)))
        finally:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"atom {task.atom} ended its quarantine with exit code {process.returncode}")
    return pickle.loads(answer)


@functools.lru_cache(maxsize=256)
def _source(store_uri: str, fragment: Fragment, statuses: tuple[str, ...]) -> pa.Table:
    # Kept, because the trials of one old fragment may be spread over many new atoms, and the reverse. The
    # filter copies: it is the atom's rows that are kept, not the large file that they may lie in.
    rows = fragment.part(_file(store_uri, fragment.name, fragment.file_sha256))
    return rows.filter(pc.field("status").isin(list(statuses)))


@functools.lru_cache(maxsize=4)
def _file(store_uri: str, name: str, sha256: str) -> pa.Table:
    return read_fragment(open_storage(store_uri), name, sha256)


def open_job(request: SweepRequest) -> Job:
    """Return the request's job, the same one each time; its process has opened it before, or does now."""
    return _open(request.job, request.spec_json)


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
