"""An atom that lost workers, done in processes that may die: trials that end theirs become failed rows."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backtest_farm.errors import FarmError, PlatformError
from backtest_farm.farm.worker import Failure, Receipt, SweepRequest, Task, open_job, run_atom

Attempt = Callable[[Mapping[int, Failure], bool, int], "Receipt | Failure"]
"""Does the atom in a process of its own: trials that are left out, whether rows are kept, and how many times
the deadline it may take; gives the receipt, or how the process ended."""

_NO_MEMORY = 77
"""Exit code of a process that ran out of memory."""


def main() -> None:
    """Do the atom that stands on the standard input, and write its receipt to the standard output.

    This process opens the job and runs nothing: it stays sound, and forking it takes milliseconds, where a
    new worker takes seconds.
    """
    _die_with_parent()
    # A strategy prints where it likes, and Ctrl-C is for the driver to hear.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request, task = pickle.load(sys.stdin.buffer)
    try:
        receipt = examined(open_job(request).numbers(task.atom), _attempts(request, task))
    except FarmError as error:
        receipt = Receipt(task.atom, attempt=task.attempt, error=error)
    answers.write(pickle.dumps(receipt))
    answers.close()


def examined(numbers: Sequence[int], attempt: Attempt) -> Receipt:
    """Do an atom; trials that end their process alone, twice, are left out of it as failures.

    Parameters
    ----------
    numbers : sequence of int
        The atom's trials.
    attempt : callable
        See `Attempt`.

    Raises
    ------
    PlatformError
        If the atom ends its process, and none of its trials alone does.
    """
    failures: dict[int, Failure] = {}
    patience = 1
    while isinstance(outcome := attempt(failures, True, patience), Failure):
        asked = [number for number in numbers if number not in failures]

        def alone(part: Sequence[int]) -> Failure | None:
            others = {number: outcome for number in numbers if number not in part}
            ended = attempt(others, False, 1)
            return ended if isinstance(ended, Failure) else None

        found = _culprits(asked, alone)
        if not found and (outcome.status != "timeout" or patience > 1):
            raise PlatformError(
                f"{outcome.message}: {len(asked)} trials together, and none of them alone",
                hint="run the sweep again; with more memory, if it was that",
            )
        # Many slow trials are no hanging one: each alone kept the deadline.
        patience = 1 if found else len(numbers)
        failures |= found
    return outcome


def _culprits(part: Sequence[int], alone: Callable[[Sequence[int]], Failure | None]) -> dict[int, Failure]:
    """Return which trials of a part that ended its process do so alone, by halving it."""
    if len(part) == 1:
        # Once more: a process may also die by chance.
        ended = alone(part)
        return {} if ended is None else {part[0]: ended}
    half = len(part) // 2
    halves = [some for some in (part[:half], part[half:]) if alone(some) is not None]
    return {number: failure for some in halves for number, failure in _culprits(some, alone).items()}


def _attempts(request: SweepRequest, task: Task) -> Attempt:
    def attempt(failures: Mapping[int, Failure], keep: bool, patience: int) -> Receipt | Failure:
        deadline = request.deadline and request.deadline * patience
        outcome = _in_child(lambda: run_atom(request._replace(deadline=deadline), task, failures, keep))
        if isinstance(outcome, int):
            # A mapped file that shrinks kills whoever reads it: then no trial is to blame.
            open_job(request).check_data()
            return _failure(outcome, deadline)
        return outcome

    return attempt


def _in_child(work: Callable[[], Receipt]) -> Receipt | int:
    """Return what `work` gives in a forked process, or how that ended: minus a signal, or an exit code."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _die_with_parent()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _bound_memory()
            with os.fdopen(write, "wb") as answers:
                pickle.dump(work(), answers)
            code = 0
        except MemoryError:
            code = _NO_MEMORY
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code or pickle.loads(answer)


def _failure(code: int, deadline: float | None) -> Failure:
    """Say how a process ended."""
    if code == -signal.SIGALRM and deadline:
        return Failure("timeout", f"Deadline: not done after {deadline:g} s")
    if code == _NO_MEMORY:
        return Failure("oom", "MemoryError: wants more memory than there is")
    if code == -signal.SIGKILL:
        return Failure("oom", "SIGKILL: killed from outside, as systems do when memory runs out")
    if code > 0:
        return Failure("crashed", f"SystemExit: ended its process with exit code {code}")
    return Failure("crashed", f"{signal.Signals(-code).name}: ended its process")


def _die_with_parent() -> None:
    """Ask for SIGKILL when whoever started this process is gone: nothing that hangs may outlive a sweep."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _bound_memory() -> None:
    """Leave the machine a fifth of what is free: who wants more gets an error, before systems, or Ray, kill.

    Ray would kill the worker that waits for this process, not this process.
    """
    sizes = Path("/proc/meminfo"), Path("/proc/self/status")
    if not all(file.exists() for file in sizes):
        return
    lines = [line.split() for file in sizes for line in file.read_text().splitlines()]
    kilobytes = {line[0]: int(line[1]) for line in lines if line[-1:] == ["kB"]}
    limit = 1024 * (kilobytes["VmData:"] + kilobytes["MemAvailable:"] * 4 // 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if resource.RLIM_INFINITY in (soft, hard) or limit < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft < 0 else min(limit, soft), hard))
