"""What reading found: every fault at once, counted by kind, the first few of each kind in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault at one place.

    Attributes
    ----------
    kind : str
        Its kind, for example ``duplicate_key`` or ``gap``.
    level : str
        ``error`` (refused under ``strict``) or ``warning`` (never refused).
    file : str
        Where the data came from: a path, or ``<frame>``.
    row : int or None
        The line of a CSV file (its header is line 1); the 0-based row of a Parquet file or a frame, as in
        ``frame[row]``.
    symbol, timestamp, value : str or None
        What stood there.
    advice : str
        What is wrong with it and what to do.
    """

    kind: str
    level: Level
    file: str
    advice: str
    row: int | None = None
    symbol: str | None = None
    timestamp: str | None = None
    value: str | None = None

    def line(self) -> str:
        """Return the finding as one line of text."""
        place = [self.file if self.row is None else f"{self.file} row {self.row}"]
        place += [part for part in (self.timestamp, self.symbol) if part is not None]
        value = "" if self.value is None else f" = {self.value}"
        return f"{self.kind}: {' '.join(place)}{value}: {self.advice}"


@dataclass(frozen=True)
class Tally:
    """How often one kind was found.

    Attributes
    ----------
    kind, level : str
        As in `Finding`.
    count : int
        Cells, rows or bars concerned (a gap of 62 bars counts 62).
    symbols : int
        Symbols concerned.
    longest : int
        The longest run of bars of one finding; 1 for kinds that concern single cells.
    """

    kind: str
    level: Level
    count: int
    symbols: int
    longest: int = 1


@dataclass(frozen=True)
class Report:
    """All that was found, in the order of checking.

    Attributes
    ----------
    findings : tuple of Finding
        The first few of each kind.
    tallies : tuple of Tally
        The full counts of each kind.
    """

    findings: tuple[Finding, ...] = ()
    tallies: tuple[Tally, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Kind to count."""
        return {tally.kind: tally.count for tally in self.tallies}

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The listed findings that ``strict`` refuses."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The listed findings that never refuse."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def of(self, kind: str) -> tuple[Finding, ...]:
        """Return the listed findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def tally(self, kind: str) -> Tally | None:
        """Return the counts of one kind, None when it was not found."""
        return next((tally for tally in self.tallies if tally.kind == kind), None)

    def __add__(self, other: Report) -> Report:
        return Report(self.findings + other.findings, self.tallies + other.tallies)

    def lines(self, level: Level | None = None) -> list[str]:
        """Return text for people: each kind's counts, then its listed findings.

        Parameters
        ----------
        level : str, optional
            Only ``error`` or only ``warning``; both, errors first, when not given.
        """
        shown = [
            tally
            for wanted in ("error", "warning")
            if level in (None, wanted)
            for tally in self.tallies
            if tally.level == wanted
        ]
        text: list[str] = []
        for tally in shown:
            listed = self.of(tally.kind)
            run = f", longest {tally.longest} bars" if tally.longest > 1 else ""
            more = f", first {len(listed)} listed" if len(listed) < tally.count and not run else ""
            names = f" in {tally.symbols} symbol{'s' * (tally.symbols != 1)}" if tally.symbols else ""
            text.append(f"{tally.level} {tally.kind}: {tally.count}{names}{run}{more}")
            text += [f"  {finding.line()}" for finding in listed]
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, as JSON holds them."""
        return {
            "findings": [asdict(item) for item in self.findings],
            "tallies": [asdict(item) for item in self.tallies],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """Return the report that `to_dict` wrote."""
        return cls(
            tuple(Finding(**item) for item in content["findings"]),
            tuple(Tally(**item) for item in content["tallies"]),
        )
