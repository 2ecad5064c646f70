"""Cases that may kill the process they run in: each in a fork of one warm process, with limits.

The warm process loads every package and the kernel once, but lets no package start threads: those do not
survive a fork. It is asked by lines on its stdin and answers by lines on its stdout.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

TIMEOUT_S = 100.0
MEMORY_BYTES = 4 * 2**30
_LONGEST = 2_000  # characters of what was wrong


def look(module: str, seeds: Sequence[int]) -> dict[int, str]:
    """Return what was wrong with seeds: what ``module.examine(seed, template, room)`` said, or how it died.

    ``module.warm()`` loads what the cases need, and ``module.prepare(template)`` fills a folder, both once.
    """
    requests, answers = _warm(module)
    requests.write(json.dumps([*seeds]) + "\n")
    requests.flush()
    return {int(seed): wrong for seed, wrong in json.loads(answers.readline()).items()}


@cache
def _warm(module: str) -> tuple[IO[str], IO[str]]:
    """Start a warm process for a suite."""
    folder = tempfile.mkdtemp(prefix="soak-")
    process = subprocess.Popen(
        [sys.executable, "-c", f"from tests.soak import forks; forks.serve({module!r}, {folder!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"POLARS_MAX_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"},
    )
    assert process.stdin is not None and process.stdout is not None

    def end() -> None:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return process.stdin, process.stdout


def serve(name: str, folder: str) -> None:
    """Be the warm process."""
    suite: Any = importlib.import_module(name)
    template, room = Path(folder, "template"), Path(folder, "room")
    template.mkdir()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    suite.warm()
    # What a node keeps for later is no part of any case; compiled code has its folder already.
    os.environ |= {"BACKTEST_FARM_CACHE": f"{folder}/cache", "TMPDIR": folder}

    def case(seed: int) -> str | None:
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        return suite.examine(seed, template, room)

    if wrong := forked(lambda _: suite.prepare(template), [0]):
        raise SystemExit(f"{name} cannot be prepared: {wrong[0]}")
    for line in sys.stdin:
        answers.write(json.dumps(forked(case, json.loads(line))) + "\n")
        answers.flush()


def forked(case: Callable[[int], str | None], seeds: Sequence[int]) -> dict[int, str]:
    """Return what was wrong with each seed; one that kills its fork leaves the others to the next fork."""
    wrong: dict[int, str] = {}
    left = [*seeds]
    while left:
        child, answers = _fork(case, left)
        while left:
            ready, _, _ = select.select([answers], [], [], TIMEOUT_S)
            said = answers.readline() if ready else b""
            if not said:
                break
            seed, text = left.pop(0), json.loads(said)
            if text is not None:
                wrong[seed] = text[:_LONGEST]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        answers.close()
        if left:
            code = os.waitstatus_to_exitcode(status)
            hung = bool(not ready)
            wrong[left.pop(0)] = f"was not done after {TIMEOUT_S:.0f} s" if hung else f"died (code {code})"
    return wrong


def _fork(case: Callable[[int], str | None], seeds: Sequence[int]) -> tuple[int, IO[bytes]]:
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.setpgid(child, child)
        os.close(writing)
        return child, open(reading, "rb", buffering=0)
    os.close(reading)
    os.setpgid(0, 0)
    faulthandler.disable()  # a death is an answer here, and no news
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    for seed in seeds:
        try:
            said = case(seed)
        except BaseException as error:
            said = f"raised {type(error).__name__}: {error}"
        try:
            os.write(writing, json.dumps(said and said[:_LONGEST]).encode() + b"\n")
        except BrokenPipeError:  # nobody asks any more
            break
    os._exit(0)
