"""Suites that go on from where they stood: seed after seed for some minutes, with a table every half minute.

Such a suite is a module with ``TITLE``, the claim in a few words, and ``one(seed)``, which returns None or
what was wrong with that seed's case; it may have ``cases()``, after how many seeds the suite is complete.
What was found lies in ``build/soak/<suite>.json``.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FOLDER = Path("build") / "soak"
EVERY_SECONDS = 30.0
FIRST = 1_000_000
"""The usual tests look at the seeds before this one."""


@dataclass
class Progress:
    """What a suite has found so far.

    Attributes
    ----------
    next : int
        The first seed that was not looked at.
    done : int
        How many were.
    seconds : float
        How long that took, all runs together.
    failures : dict of str to str
        Seed, and what was wrong with it; those that are well by now are gone.
    """

    next: int = FIRST
    done: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Progress:
        """Return what the last run left, or nothing yet."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()

    def save(self, path: Path) -> None:
        """Write it for the next run, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(temporary, path)

    def take(self, seed: int, wrong: str | None) -> None:
        """Take in what came of one seed."""
        self.failures.pop(str(seed), None)
        if wrong is not None:
            self.failures[str(seed)] = wrong


def look(module: str, seed: int) -> str | None:
    """Return what was wrong with one seed; a suite that raises has found something too."""
    try:
        return importlib.import_module(module).one(seed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run(
    name: str,
    module: str,
    minutes: float | None = None,
    seed: int | None = None,
    processes: int = 2,
    folder: Path = FOLDER,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Look at more seeds of a suite, print what came of them, and return whether all are well.

    Parameters
    ----------
    name, module : str, str
        The suite.
    minutes : float, optional
        For how long; until it is complete when not given.
    seed : int, optional
        Start anew from this one, instead of going on.
    processes : int
        How many look at once.
    folder : pathlib.Path
        Where it keeps what it found.
    clock : callable
        Seconds.
    """
    suite: Any = importlib.import_module(module)
    total: int | None = suite.cases() if hasattr(suite, "cases") else None
    if minutes is None and total is None:
        raise SystemExit(f"{name} has no end: say --minutes")
    path = folder / f"{name}.json"
    progress = Progress.load(path) if seed is None else Progress(next=seed)
    begun = told = clock()
    before = progress.seconds

    def left() -> bool:
        return minutes is None or clock() - begun < 60.0 * minutes

    def seeds() -> Iterator[int]:
        # What failed may have been mended since.
        yield from [int(text) for text in progress.failures]
        while left() and (total is None or progress.done < total):
            progress.next, progress.done = progress.next + 1, progress.done + 1
            yield progress.next - 1

    print(f"{name}: {suite.TITLE}; from seed {progress.next:,}", flush=True)
    to_do, flying, broken = seeds(), dict[Future[str | None], int](), False
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        while True:
            for one in () if broken else to_do:
                flying[pool.submit(look, module, one)] = one
                if len(flying) >= 2 * processes:
                    break
            if not flying:
                break
            for future in wait(flying, EVERY_SECONDS, FIRST_COMPLETED).done:
                try:
                    wrong = future.result()
                except BrokenProcessPool:
                    wrong, broken = "a process that looked at this seed or a neighbour died", True
                progress.take(flying.pop(future), wrong)
            if clock() - told >= EVERY_SECONDS:
                told = clock()
                progress.seconds = before + told - begun
                print("\n".join(table(name, progress, total)), flush=True)
                # Those still being looked at would be looked at again.
                Progress(**{**asdict(progress), **_without(progress, flying)}).save(path)
    progress.seconds = before + clock() - begun
    progress.save(path)
    for line in table(name, progress, total):
        print(line)
    print(f"{name}: {'FAILED' if progress.failures else 'ok'}", flush=True)
    return not progress.failures


def _without(progress: Progress, flying: dict[Future[str | None], int]) -> dict[str, int]:
    first = min([*flying.values(), progress.next])
    return {"next": first, "done": progress.done - (progress.next - first)}


def table(name: str, progress: Progress, total: int | None) -> Iterator[str]:
    """Say where a suite stands."""
    of = "" if total is None else f" of {total:,}"
    yield f"{'suite':<14}{'seeds looked at':>24}{'failed':>8}{'minutes':>9}"
    minutes = progress.seconds / 60.0
    yield f"{name:<14}{f'{progress.done:,}{of}':>24}{len(progress.failures):>8,}{minutes:>9.1f}"
    for seed, wrong in sorted(progress.failures.items(), key=lambda item: int(item[0]))[:20]:
        yield f"  seed {seed}: {wrong}  (again: python -m tests.soak {name} --only {seed})"
