"""What people see while a sweep runs: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from backtest_farm.farm.harvest import RunSummary

LINE_EVERY = 3.0
# A line that tells nothing new only says that there is life.
SAME_LINE_EVERY = 10.0
# The rate is that of the last seconds: long enough to be calm, short enough to follow a change.
_WINDOW = 20.0


class Status:
    """How far a run is, and how fast it goes; all numbers are of trials that are committed.

    Parameters
    ----------
    summary : RunSummary
        The run's own count of itself.
    clock : callable
        Seconds, never going back.

    Attributes
    ----------
    phase : str
        What is going on before the first rows come in, in words.
    """

    def __init__(self, summary: RunSummary, clock: Callable[[], float] = time.monotonic) -> None:
        self.summary, self._clock = summary, clock
        self.phase = ""
        self._points: deque[tuple[float, int]] = deque()

    def moved(self) -> None:
        """Look at the summary, for the first time when rows have come in: waiting for them is no work."""
        self.phase = ""
        if not self._points or self._points[-1][1] != self.summary.n_committed:
            self._points.append((self._clock(), self.summary.n_committed))
        while len(self._points) > 2 and self._points[-1][0] - self._points[0][0] > _WINDOW:
            self._points.popleft()

    def rate(self) -> float:
        """Return trials a second over the last seconds up to now; 0 while unknown."""
        if len(self._points) < 2:
            return 0.0
        (start, first), (_, last) = self._points[0], self._points[-1]
        return (last - first) / max(self._clock() - start, 1e-9)

    def line(self) -> str:
        """Return ``1,024 of 3,000 trials committed (34 %), 512/s, 4 s left, 2 failed``, after the phase."""
        total, committed, rate = self.summary.n_trials, self.summary.n_committed, self.rate()
        line = f"{committed:,} of {total:,} trials committed ({100 * committed // total} %)"
        if self.phase:
            return f"{self.phase}; {line}"
        if rate > 0:
            line += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
            line += f", {duration((total - committed) / rate)} left" if committed < total else ""
        return line + (f", {self.summary.n_failed:,} failed" if self.summary.n_failed else "")


class Progress:
    """Shows people how a run goes; this one shows nothing."""

    def show(self, status: Status) -> None:
        """Take in the state; called often, also when nothing changed."""

    def say(self, text: str) -> None:
        """Show one line."""

    def end(self) -> None:
        """Stop showing; what is said afterwards are plain lines."""


class Lines(Progress):
    """Plain lines, for logs and pipes: a new phase at once, news every few seconds, the same line seldom."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._line, self._phase, self._when = "", "", clock()

    def show(self, status: Status) -> None:
        """Write a line when it is time for one; see `Progress.show`."""
        line, now = status.line(), self._clock()
        every = SAME_LINE_EVERY if line == self._line else LINE_EVERY
        if status.phase not in ("", self._phase) or now - self._when >= every:
            self._line, self._phase, self._when = line, status.phase, now
            self.say(line)

    def say(self, text: str) -> None:
        """Write one line at once."""
        print(text, file=self._stream, flush=True)


class Bar(Progress):
    """A live bar on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        columns = (BarColumn(bar_width=28), TextColumn("{task.description}", markup=False))
        self._bar = RichProgress(*columns, console=self._console, transient=True, refresh_per_second=5)
        self._task = self._bar.add_task("")

    def show(self, status: Status) -> None:
        """Move the bar; see `Progress.show`."""
        total, committed = status.summary.n_trials, status.summary.n_committed
        self._bar.update(self._task, total=total, completed=committed, description=status.line())
        self._bar.start()

    def say(self, text: str) -> None:
        """Write one line, above the bar while there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def choose_progress(wanted: bool | Progress, stream: TextIO | None = None) -> Progress:
    """Return what fits: nothing for False, a bar on a terminal, lines elsewhere, or the one that was given.

    Parameters
    ----------
    wanted : bool or Progress
        What was asked for.
    stream : text file, optional
        Where to write; standard error when not given, so that results can be piped.
    """
    if not isinstance(wanted, bool):
        return wanted
    out = stream or sys.stderr
    return Progress() if not wanted else Bar(out) if out.isatty() else Lines(out)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that fit: ``4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
