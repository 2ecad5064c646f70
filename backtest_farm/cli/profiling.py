"""``--profile``: where the seconds of a run went, by stage, and a profile of this process."""

from __future__ import annotations

import contextlib
import cProfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from backtest_farm.cli.tables import table

ProfileFlag = Annotated[
    bool, typer.Option("--profile", help="Show seconds by stage, and write a profile of this process.")
]

STAGES = {
    "loading": "loading (file, engine)",
    "signal": "factors and ranks",
    "factors": "factors",
    "ranks": "ranks",
    "simulation": "simulation",
    "metrics": "metrics",
    "rows": "rows",
    "write": "commit (files of rows)",
}
"""What the stages are called, in the order in which they happen."""


class Profile:
    """Times one run.

    Attributes
    ----------
    path : Path or None
        Where the profile is written; None where nobody asked for one.
    """

    def __init__(self, asked: bool, path: Path) -> None:
        self.path = path if asked else None
        self._began = time.perf_counter()
        self._loaded = self._ended = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Profile what happens within; what came before counts as loading."""
        self._loaded = time.perf_counter()
        recorder = cProfile.Profile() if self.path is not None else None
        try:
            with recorder or contextlib.nullcontext():
                yield
        finally:
            self._ended = time.perf_counter()
            if recorder is not None and self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                recorder.dump_stats(self.path)

    def seconds(self, stages: Mapping[str, float], workers: int = 1) -> dict[str, float]:
        """Return seconds by stage: those of all workers, and what else this process did or waited for.

        Parameters
        ----------
        stages : mapping of str to float
            Seconds by stage as the engine counted them.
        workers : int
            How many processes shared them.
        """
        known = {"loading": self._loaded - self._began, **stages}
        ordered = sorted(known, key=lambda name: [*STAGES, name].index(name))
        elapsed = self._ended - self._loaded
        rest = max(0.0, elapsed - sum(stages.values()) / max(1, workers))
        return {**{name: known[name] for name in ordered}, "rest": rest}

    def document(self, stages: Mapping[str, float], workers: int = 1) -> dict[str, Any]:
        """Return what ``--json`` adds: nothing where nobody asked for a profile."""
        if self.path is None:
            return {}
        return {"profile": {"seconds": self.seconds(stages, workers), "file": self.path}}

    def parts(self, stages: Mapping[str, float], width: int, workers: int = 1) -> list[Any]:
        """Return what to print: a table, and where the profile is."""
        if self.path is None:
            return []
        seconds = self.seconds(stages, workers)
        total = sum(seconds.values())
        names = {**STAGES, "rest": "rest (planning, commit, waiting)"}
        rows = [
            {"stage": names.get(name, name), "seconds": spent, "share": f"{spent / total:.0%}"}
            for name, spent in seconds.items()
        ]
        of = f", of {workers} workers together" if workers > 1 else ""
        return [
            table(rows, ["stage", "seconds", "share"], width=width, title=f"\nseconds by stage{of}"),
            f"profile of this process: {self.path} (python -m pstats {self.path})",
        ]
