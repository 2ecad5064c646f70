"""What people see while a sweep runs: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

LINE_EVERY = 3.0
# The rate is that of the last seconds: long enough to be calm, short enough to follow a change.
_WINDOW = 20.0


class Progress(Protocol):
    """Told how far the work is; all numbers are of trials that are committed."""

    def begin(self, total: int, committed: int) -> None:
        """Start: `committed` of `total` trials were there before."""
        ...

    def moved(self, committed: int, failed: int) -> None:
        """Take in the new state; called often, also when nothing changed."""
        ...

    def end(self) -> None:
        """Stop showing; what is said afterwards are plain lines."""
        ...

    def say(self, text: str) -> None:
        """Show one line."""
        ...


class Speed:
    """Trials a second over the last seconds.

    Parameters
    ----------
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def saw(self, committed: int) -> None:
        """Take in the state at this moment; between two commits nothing is learnt."""
        if self._points and self._points[-1][1] == committed:
            return
        now = self._clock()
        self._points.append((now, committed))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW:
            self._points.popleft()

    def rate(self) -> float:
        """Return trials a second up to now; 0 while unknown."""
        if len(self._points) < 2:
            return 0.0
        (start, first), (_, last) = self._points[0], self._points[-1]
        return (last - first) / max(self._clock() - start, 1e-9)


def status_line(total: int, committed: int, failed: int, rate: float) -> str:
    """Return ``1,024 of 3,000 trials committed (34 %), 512/s, 4 s left, 2 failed``."""
    share = 100 * committed // total if total else 100
    parts = [f"{committed:,} of {total:,} trials committed ({share} %)"]
    if rate > 0:
        parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"]
        parts += [f"{duration((total - committed) / rate)} left"] if committed < total else []
    if failed:
        parts.append(f"{failed:,} failed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that fit: ``4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Silence:
    """Shows nothing."""

    def begin(self, total: int, committed: int) -> None:
        """Show nothing."""

    def moved(self, committed: int, failed: int) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


class Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._speed = Speed(clock)
        self._total = 0
        self._last_line = 0.0

    def begin(self, total: int, committed: int) -> None:
        """Start counting; see `Progress.begin`."""
        self._total, self._last_line = total, self._clock()

    def moved(self, committed: int, failed: int) -> None:
        """Write a line when the last one is old enough; see `Progress.moved`."""
        self._speed.saw(committed)
        if self._clock() - self._last_line >= LINE_EVERY:
            self._last_line = self._clock()
            self.say(status_line(self._total, committed, failed, self._speed.rate()))

    def end(self) -> None:
        """Nothing to take down."""

    def say(self, text: str) -> None:
        """Write one line at once."""
        print(text, file=self._stream, flush=True)


class Bar:
    """A live bar on a terminal."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream)
        self._speed = Speed(clock)
        self._total = 0
        columns = (BarColumn(bar_width=28), TextColumn("{task.description}"))
        self._bar = RichProgress(*columns, console=self._console, transient=True, refresh_per_second=5)
        self._task = self._bar.add_task("starting ...")

    def begin(self, total: int, committed: int) -> None:
        """Show the bar; see `Progress.begin`."""
        self._total = total
        self._bar.update(self._task, total=total, completed=committed)
        self._bar.start()

    def moved(self, committed: int, failed: int) -> None:
        """Move the bar; see `Progress.moved`."""
        self._speed.saw(committed)
        text = status_line(self._total, committed, failed, self._speed.rate())
        self._bar.update(self._task, completed=committed, description=text)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Write one line, above the bar while there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def choose_progress(wanted: bool | Progress, stream: TextIO | None = None) -> Progress:
    """Return what fits: silence for False, a bar on a terminal, lines elsewhere, or the one that was given.

    Parameters
    ----------
    wanted : bool or Progress
        What was asked for.
    stream : text file, optional
        Where to write; standard error when not given, so that results can be piped.
    """
    if not isinstance(wanted, bool):
        return wanted
    if not wanted:
        return Silence()
    out = stream or sys.stderr
    return Bar(out) if out.isatty() else Lines(out)
