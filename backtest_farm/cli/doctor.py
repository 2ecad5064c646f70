"""``doctor``: what a machine offers, what is wrong with it, and how to mend that."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from backtest_farm.cli.answer import ENVIRONMENT, JsonFlag, Prose, answering

PACKAGES = ("ray", "polars", "numpy", "numba", "pyarrow", "fastparquet", "pydantic", "typer")
EXTRAS = {"plotly": "plots", "vl_convert": "plots", "exchange_calendars": "calendars"}
_DISTRIBUTIONS = {"vl_convert": "vl-convert-python"}
# A worker takes some 300 MB beside what it maps; below this a local Ray node swaps.
LEAST_MEMORY_BYTES = 2 * 2**30
LEAST_DISK_BYTES = 2**30


class Finding(NamedTuple):
    """One thing looked at."""

    check: str
    state: Literal["ok", "warning", "error"]
    found: str
    mend: str = ""


def register(app: typer.Typer) -> None:
    """Add the verb to the tree."""
    app.command(epilog="Example: backtest-farm doctor")(doctor)


def doctor(json: JsonFlag = False) -> None:
    """Look at this machine: versions, cores, memory, caches, ports. Exit code 3 when something is broken."""
    with answering(json) as answer:
        findings = [finding for check in CHECKS for finding in check()]
        broken = [finding for finding in findings if finding.state == "error"]
        checks = [finding._asdict() for finding in findings]
        doubts = sum(finding.state == "warning" for finding in findings)
        said = f"{len(findings)} checks, {len(broken)} errors, {doubts} warnings"
        wide = max(len(finding.check) for finding in findings)
        lines = [line for finding in findings for line in _lines(finding, wide)]
        answer.give({"checks": checks, "errors": len(broken)}, Prose(lines), said)
        if broken:
            raise typer.Exit(ENVIRONMENT)


def _lines(finding: Finding, wide: int) -> Iterator[str]:
    yield f"{finding.state:<7}  {finding.check:<{wide}}  {finding.found}"
    if finding.mend:
        yield f"{'':<9}-> {finding.mend}"


def _versions() -> Iterator[Finding]:
    import importlib.metadata
    import importlib.util
    import platform

    from backtest_farm import __version__

    python = platform.python_version()
    yield Finding(
        "backtest_farm", "ok", f"{__version__}, Python {python}, {platform.system()} {platform.machine()}"
    )
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            mend = "pip install backtest-farm again in this environment"
            yield Finding(name, "error", f"not in {sys.prefix}", mend)
    for name, extra in EXTRAS.items():
        there = importlib.util.find_spec(name) is not None
        distribution = _DISTRIBUTIONS.get(name, name)
        found = importlib.metadata.version(distribution) if there else "not installed (optional)"
        yield Finding(
            name, "ok", found, "" if there else f'pip install "backtest-farm[{extra}]" if you want it'
        )


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "ok", f"{cores} for this process")
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return
    enough = free >= LEAST_MEMORY_BYTES
    mend = "" if enough else "end other programs, or sweep with fewer --workers"
    yield Finding("free memory", "ok" if enough else "warning", f"{free / 2**30:.1f} GiB", mend)
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).total < 2**28:
        size = shutil.disk_usage(shared).total / 2**20
        yield Finding("/dev/shm", "warning", f"{size:.0f} MiB", "give the container more: --shm-size=1g")


def _caches() -> Iterator[Finding]:
    import tempfile

    from backtest_farm.cache import cache_root

    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        mend = "name a folder that can be written in BACKTEST_FARM_CACHE"
        yield Finding("cache folder", "error", f"{folder}: {error.strerror}", mend)
        return
    enough = free >= LEAST_DISK_BYTES
    mend = "" if enough else "make room, or point BACKTEST_FARM_CACHE elsewhere"
    yield Finding(
        "cache folder", "ok" if enough else "warning", f"{folder}, {free / 2**30:.1f} GiB free", mend
    )


def _kernel() -> Iterator[Finding]:
    began = time.perf_counter()
    try:
        import numpy as np

        from backtest_farm.engine.tile import market, ranked_targets, run_tile, terms
        from backtest_farm.engine.warm import compile_once, is_compiled

        there = is_compiled()
        compile_once()
        prices, never = np.ones((2, 1)), np.full(1, 2**62)
        one = market([{"open": prices, "close": prices}], never, np.full(1, np.nan), 252.0)
        tile = run_tile(one, terms(1, n=1), ranked_targets(np.zeros((2, 1)), np.ones(2), np.ones((1, 2))))
        assert not tile.broken[0]
    except Exception as error:  # whatever a broken installation raises
        mend = "install backtest-farm again in this environment; if that is in vain, empty the cache folder"
        yield Finding("kernel", "error", f"{type(error).__name__}: {error}", mend)
        return
    took = "" if there else f", compiled just now in {time.perf_counter() - began:.0f} s"
    yield Finding("kernel", "ok", f"runs{took}")


def _network() -> Iterator[Finding]:
    import socket

    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError as error:
            mend = "Ray talks to itself over loopback: allow it, or sweep with --executor inline"
            yield Finding("loopback ports", "error", str(error), mend)
            return
    yield Finding("loopback ports", "ok", "can be opened")
    token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    mend = "" if token else "a local node makes its own; to join a cluster set RAY_AUTH_TOKEN"
    yield Finding("Ray token", "ok", "given" if token else "none given", mend)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_versions, _machine, _caches, _kernel, _network)
