"""Times, figures, and the machine that they were taken on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

PACKAGES = ("backtest-farm", "numba", "llvmlite", "numpy", "ray", "polars", "pyarrow")

PATIENCE = 60.0
"""Seconds after which a comparison is content with the turns that it has."""

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Figure:
    """One number and how far it spread.

    Attributes
    ----------
    case, what : str
        Together they name it in the history.
    unit : str
    median, low, high : float
        Over `runs` runs.
    runs : int
    better : {"more", "less"}
    target : float or None
        What it should reach (or stay under).
    """

    case: str
    what: str
    unit: str
    median: float
    low: float
    high: float
    runs: int
    better: Better = "less"
    target: float | None = None

    @property
    def key(self) -> str:
        return f"{self.case}: {self.what}"

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "more" else self.median <= self.target

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figure(
    case: str,
    what: str,
    unit: str,
    values: Sequence[float],
    better: Better = "less",
    target: float | None = None,
) -> Figure:
    """Return the figure of some runs."""
    middle = statistics.median(values)
    return Figure(case, what, unit, middle, min(values), max(values), len(values), better, target)


def ratio(
    case: str, what: str, over: Figure, under: Figure, better: Better, target: float | None = None
) -> Figure:
    """Return one figure over another; the spread is that of the farthest pair."""
    low, high = over.low / under.high, over.high / under.low
    runs = min(over.runs, under.runs)
    return Figure(case, what, "times", over.median / under.median, low, high, runs, better, target)


def rate(
    case: str, what: str, unit: str, count: float, seconds: Figure, target: float | None = None
) -> Figure:
    """Return how many a second."""
    values = count / seconds.median, count / seconds.high, count / seconds.low
    return Figure(case, what, unit, *values, seconds.runs, "more", target)


def side_by_side(
    calls: Sequence[Callable[[int], object]],
    runs: int,
    clock: Callable[[], float] = time.process_time,
    patience: float = PATIENCE,
) -> list[list[float]]:
    """Time calls in turns, so that what disturbs one disturbs the others.

    The first turn is not counted, unless it alone has taken longer than one should wait.

    Parameters
    ----------
    calls : sequence of callable
        Each gets the number of the turn.
    runs : int
        Counted turns at most.
    clock : callable
        CPU seconds of this process unless given.
    patience : float
        Seconds after which no further turn begins.

    Returns
    -------
    list of list of float
        Seconds of each call's runs.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    start = time.monotonic()
    for turn in range(runs + 1):
        for at, call in enumerate(calls):
            began = clock()
            call(turn)
            seconds[at].append(clock() - began)
        if time.monotonic() - start > patience:
            break
    return [each[1:] if len(each) > 1 else each for each in seconds]


def machine() -> dict[str, Any]:
    """Return what figures depend on: processor, cores, memory, versions; and how busy it is."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "load": round(os.getloadavg()[0], 2),
    }


def same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether figures of two runs can be compared."""
    return all(one.get(name) == other.get(name) for name in ("processor", "cores", "memory_gib"))


def processes() -> dict[int, str]:
    """Return the processes below this one that Linux shows: number and command."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: names[pid] for pid in below - {os.getpid()}}


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far; 0 if it is gone."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def private_bytes(pid: int | str = "self") -> int:
    """Return the memory that a process shares with nobody; 0 if it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return 0


@contextlib.contextmanager
def watched(name: str, every: float = 0.25) -> Iterator[dict[int, list[int]]]:
    """Collect the private memory of the processes below this one whose command holds `name`."""
    seen: dict[int, list[int]] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(every):
            for pid, command in processes().items():
                if name in command and (held := private_bytes(pid)):
                    seen.setdefault(pid, []).append(held)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
