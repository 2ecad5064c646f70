"""What reading found: every fault at once, counted by kind, the first few of each kind in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Level = Literal["error", "warning"]
_SHOWN = 5  # examples of one kind in the text for people


class Kind(NamedTuple):
    """What a kind of finding means for the build, and what to do about it."""

    level: Level
    advice: str


_ERRORS = {
    "missing_column": "no such column: add it, or rename the one that holds it",
    "duplicate_column": "two columns have this meaning: keep one of them",
    "null_key": "timestamp or symbol is empty: fill it in or drop the row",
    "unparseable": (
        "this cannot be read: write dates as 2017-10-31, moments as 2018-01-10T04:55:00Z, plain numbers"
    ),
    "naive_timestamp": (
        "a time of day without a zone: write the zone (…Z or …+00:00), or give dates for daily bars"
    ),
    "mixed_zone": "some rows have a time zone and some have none: write all of them in the same way",
    "duplicate_key": "an earlier row has the same timestamp and symbol: keep one of them",
    "non_finite_price": "a price must be a finite number: leave the cell empty if there is none",
    "non_positive_price": "a price must be above 0: correct it, or leave the cell empty",
    "negative_volume": "volume cannot be negative: correct it, or leave the cell empty",
    "non_finite_value": "infinite: correct it, or leave the cell empty",
    "unknown_symbol": "the panel has no such symbol: correct it or drop the row",
    "unmatched_timestamp": "the panel has no bar at this time",
    "bad_payout": "a payout is 0 or more per share, or empty for the last mark",
    "damaged_file": "restore the folder from a copy, or build the panel again into a new folder",
}
_WARNINGS = {
    "ignored_column": "this column is no field because it holds no numbers",
    "missing_cell": "an empty price: this value is NaN and counts as no bar",
    "non_bracketing": "high and low do not enclose open and close: compare with another source",
    "decimal_shift": "a jump by a power of ten for one bar that reverts: probably a slipped decimal point",
    "gap": "bars are missing inside this life: a halt, or lost data",
    "zero_volume": "nothing was traded, or the volume is not known",
    "late_listing": "the first bar comes after the panel's: a listing, or a history that was cut",
    "early_end": (
        "the last bar comes before the panel's: if its life ended then, say so with ends, a frame of "
        "(symbol, date, payout), payout null for the last mark; nothing is assumed"
    ),
    "bars_after_end": "there are bars after the end of life that was given: check its date",
}
KINDS = {kind: Kind("error", advice) for kind, advice in _ERRORS.items()} | {
    kind: Kind("warning", advice) for kind, advice in _WARNINGS.items()
}


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
        value = "" if self.value is None else f" = {self.value}"
        return f"{self.kind}: {self._place(self.file)}{value}: {self.advice}"

    def example(self, title: str) -> str:
        """Return a short line to stand below a heading with kind and advice, in a text about `title`."""
        nowhere = self.row is None and self.symbol is None
        place = self._place(self.file if nowhere or self.file != title else "")
        own = self.advice.removeprefix(KINDS[self.kind].advice).lstrip(":; ")
        return ": ".join(part for part in (place, self.value, own) if part)

    def _place(self, file: str) -> str:
        row = "" if self.row is None else f"row {self.row}"
        return " ".join(part for part in (file, row, self.timestamp, self.symbol) if part)


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

    def lines(self, level: Level | None = None) -> list[str]:
        """Return text for people: each kind's counts and advice, then its first few findings.

        Parameters
        ----------
        level : str, optional
            Only ``error`` or only ``warning``; both, errors first, when not given.
        """
        # "error" sorts before "warning", and sorting keeps the order of checking within each.
        shown = [tally for tally in self.tallies if level in (None, tally.level)]
        return [
            line for tally in sorted(shown, key=lambda tally: tally.level) for line in self._paragraph(tally)
        ]

    def _paragraph(self, tally: Tally) -> Iterator[str]:
        names = f" in {tally.symbols} symbol{'s' * (tally.symbols != 1)}" if tally.symbols else ""
        run = f", longest {tally.longest} bars" if tally.longest > 1 else ""
        yield f"{tally.level} {tally.kind}: {tally.count}{names}{run} - {KINDS[tally.kind].advice}"
        listed = self.of(tally.kind)
        yield from (f"  {finding.example(self.findings[0].file)}" for finding in listed[:_SHOWN])
        # Gaps are counted in bars, but a finding is all gaps of one symbol.
        found = tally.symbols if tally.kind == "gap" else tally.count
        if found > _SHOWN:
            those = "them" if len(listed) == found else f"the first {len(listed)}"
            yield f"  ... and {found - _SHOWN} more (--json lists {those})"

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
