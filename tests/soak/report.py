"""What came of the books, and running a suite over many of them in several processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

SEEDS_PER_CALL = 50
SHOWN = 10
"""So many of the books that failed are printed."""


@dataclass
class Report:
    """What came of some books.

    Attributes
    ----------
    books : int
    occurrences, in_books : Counter
        How often each thing happened, and in how many of the books.
    failures : list of tuple of (int, str)
        Seed, and what was wrong with its book.
    """

    books: int = 0
    occurrences: Counter[str] = field(default_factory=Counter)
    in_books: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def count(self, what: Counter[str]) -> None:
        """Take in what happened in one more book."""
        self.books += 1
        self.occurrences.update(what)
        self.in_books.update(name for name, count in what.items() if count)

    def add(self, other: Report) -> None:
        """Take in the report of other books."""
        self.books += other.books
        self.occurrences.update(other.occurrences)
        self.in_books.update(other.in_books)
        self.failures += other.failures

    def failure_lines(self) -> Iterator[str]:
        """Say what failed, the first books only."""
        for seed, what in sorted(self.failures)[:SHOWN]:
            yield f"book {seed}: {what}"
        if len(self.failures) > SHOWN:
            yield f"... and {len(self.failures) - SHOWN} more"


@dataclass(frozen=True)
class Suite:
    """One way of looking at books.

    Attributes
    ----------
    name : str
    claim : str
        What is compared, for the heading.
    examine : callable
        From a range of seeds to their Report; runs in other processes, so it must be a function of a module.
    names : tuple of str
        What has to occur, each at least `least` times.
    rare : frozenset of str
        Of these, what may occur less often.
    """

    name: str
    claim: str
    examine: Callable[[range], Report]
    names: tuple[str, ...]
    rare: frozenset[str] = frozenset()
    least: int = 20

    def run(self, seeds: range, processes: int) -> bool:
        """Examine the books of `seeds`, print table and summary, and return whether all is well."""
        print(f"{self.name}: {len(seeds):,} books, seeds {seeds[0]} to {seeds[-1]}: {self.claim}", flush=True)
        begun = time.perf_counter()
        report = self.examine(seeds[:1])  # alone: what has to be compiled is compiled once
        parts = [seeds[at : at + SEEDS_PER_CALL] for at in range(1, len(seeds), SEEDS_PER_CALL)]
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for part in pool.map(self.examine, parts):
                report.add(part)
        seconds = time.perf_counter() - begun

        print(f"{'':<30}{'occurrences':>12}{'books':>8}")
        for name in self.names:
            print(f"{name:<30}{report.occurrences[name]:>12,}{report.in_books[name]:>8,}")
        scarce = [
            name for name in self.names if report.occurrences[name] < self.least and name not in self.rare
        ]
        for line in report.failure_lines():
            print(line)
        if scarce:
            print(f"fewer than {self.least} times, which proves little: {', '.join(scarce)}")
        failed = len({seed for seed, _ in report.failures})
        verdict = "ok" if not failed and not scarce else "FAILED"
        print(
            f"{self.name}: {verdict}: {report.books:,} books, {failed:,} of them differ, "
            f"{processes} processes, {seconds:,.0f} s",
            flush=True,
        )
        return verdict == "ok"
