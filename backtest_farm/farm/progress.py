"""How far a run is, in words, and whom it tells; the displays are in `backtest_farm.analysis.progress`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from backtest_farm.farm.harvest import RunSummary

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
        for count, what in ((self.summary.n_failed, "failed"), (self.summary.n_lost, "workers lost")):
            line += f", {count:,} {what}" if count else ""
        return line


class Progress:
    """What a run tells how it goes; this one keeps it to itself."""

    def show(self, status: Status) -> None:
        """Take in the state; called often, also when nothing changed."""

    def say(self, text: str) -> None:
        """Show one line."""

    def end(self) -> None:
        """Stop showing; what is said afterwards are plain lines."""


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that fit: ``4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
