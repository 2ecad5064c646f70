"""What people see while a sweep runs: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from backtest_farm.farm.progress import Progress, Status

LINE_EVERY = 3.0
# A line that tells nothing new only says that there is life.
SAME_LINE_EVERY = 10.0


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
