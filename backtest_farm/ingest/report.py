"""What reading found: every fault at once, counted by kind, the first few of each kind in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Level = Literal["error", "note", "warning"]
LISTED = 20
"""Findings of one kind that are kept in full; all are counted."""
_SHOWN = 5  # examples of one kind in the text for people


class Kind(NamedTuple):
    """What a kind of finding means for the build, and what to do about it."""

    level: Level
    advice: str


_ERRORS = {
    "missing_header": (
        "the first line holds values, not names: put a line such as "
        "timestamp,symbol,open,high,low,close,volume above it"
    ),
    "mixed_schema": "this file has other columns than the first one: build from files of one kind",
    "missing_column": "no such column",
    "duplicate_column": (
        'two columns have this meaning: keep one, or rename the other: columns={"its name": "another"}'
    ),
    "ragged_row": (
        "the line has not one cell for each column: correct it; what holds the separator needs quotes"
    ),
    "ambiguous_date": "this can be read in more than one way",
    "ambiguous_number": "this can be read in more than one way",
    "null_key": "timestamp or symbol is empty: fill it in or drop the row",
    "unparseable": (
        "this cannot be read: write dates as 2017-10-31, moments as 2018-01-10T04:55:00Z, plain numbers"
    ),
    "naive_timestamp": (
        "a time of day without a zone: write the zone (…Z or …+00:00), say it for all of them "
        '(zone="America/New_York"), or give dates for daily bars'
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
    "bad_spell": "a spell needs a start date before its end date; an empty end means still in",
    "overlapping_bar": (
        "append only later bars; a history that was revised needs a new panel: Panel.build into a new folder"
    ),
    "damaged_file": "restore the folder from a copy, or build the panel again into a new folder",
}
_WARNINGS = {
    "ignored_file": "neither a CSV nor a Parquet file by its name: it was not read",
    "ignored_column": "this column is no field because it holds no numbers",
    "missing_cell": "an empty price: this value is NaN and counts as no bar",
    "non_bracketing": "high and low do not enclose open and close: compare with another source",
    "decimal_shift": "a jump by a power of ten for one bar that reverts: probably a slipped decimal point",
    "gap": "bars are missing inside this life: a halt, or lost data",
    "late_listing": "the first bar comes after the panel's: a listing, or a history that was cut",
    "early_end": (
        "the last bar comes before the panel's: if its life ended then, say so with ends, a frame of "
        "(symbol, date, payout), payout null for the last mark; nothing is assumed"
    ),
    "bars_after_end": "there are bars after the end of life that was given: check its date",
    "zero_volume": "nothing was traded, or the volume is not known",
    "absent_symbol": (
        "the panel has this symbol, the new bars do not: halted, lost, or ended (say so with ends)"
    ),
    "survivorship": "a member of this universe has no prices in the panel: results on it are too good",
    "symbol_not_in_panel": "the panel has no such symbol: its value is not used",
    "missing_field": (
        "the new bars do not carry this field: its values are NaN there; add it again with with_field or "
        "with_context"
    ),
    "session_without_bars": "a session of the calendar has no bar: lost data, or another calendar",
    "bar_outside_session": "the calendar has no session at this time: another calendar, or a wrong time zone",
}
_NOTES = {"inferred": "this was read off the data; an option can say otherwise"}
_ADVICE: dict[Level, dict[str, str]] = {"error": _ERRORS, "note": _NOTES, "warning": _WARNINGS}
KINDS: dict[str, Kind] = {
    kind: Kind(level, advice) for level, advices in _ADVICE.items() for kind, advice in advices.items()
}
"""All kinds; a report lists them in this order."""


@dataclass(frozen=True)
class Finding:
    """One fault at one place.

    Attributes
    ----------
    kind : str
        Its kind, for example ``duplicate_key`` or ``gap``.
    level : str
        ``error`` (refused under ``strict``), ``warning`` (never refused), or ``note`` (what was inferred).
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
    """All that was found, in the order of `KINDS`.

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

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What was read off the data because nobody said it: separator, order of dates, and the like."""
        return tuple(finding for finding in self.findings if finding.level == "note")

    def tally(self, kind: str) -> Tally | None:
        """Return the counts of one kind, None when it was not found."""
        return next((tally for tally in self.tallies if tally.kind == kind), None)

    def lines(self, level: Level | None = None) -> list[str]:
        """Return text for people: each kind's counts and advice, then its first few findings.

        Parameters
        ----------
        level : str, optional
            Only those of this level; all, errors first, then notes, when not given.
        """
        shown = [tally for tally in self.tallies if level in (None, tally.level)]
        # The levels' names sort as they should be read, and sorting keeps the order of kinds within each.
        shown.sort(key=lambda tally: tally.level)
        sources = {finding.file for finding in self.findings if not finding.file.startswith("<")}
        title = "" if len(sources) > 1 else self.findings[0].file if self.findings else ""
        return [line for tally in shown for line in self._paragraph(tally, title)]

    def _paragraph(self, tally: Tally, title: str) -> Iterator[str]:
        names = f" in {tally.symbols} symbol{'s' * (tally.symbols != 1)}" if tally.symbols else ""
        run = f", longest {tally.longest} bars" if tally.longest > 1 else ""
        yield f"{tally.level} {tally.kind}: {tally.count}{names}{run} - {KINDS[tally.kind].advice}"
        listed = self.of(tally.kind)
        yield from (f"  {finding.example(title)}" for finding in listed[:_SHOWN])
        # Gaps are counted in bars, but a finding is all gaps of one symbol.
        found = tally.symbols if tally.kind == "gap" else tally.count
        if found > _SHOWN:
            those = "them" if len(listed) == found else f"the first {len(listed)}"
            yield f"  ... and {found - _SHOWN} more (--json lists {those})"

    def __add__(self, other: Report) -> Report:
        """Return both reports as one: counts add up, symbols of both are counted as different ones."""
        kinds = [kind for kind in KINDS if self.tally(kind) or other.tally(kind)]
        pairs = [[tally for tally in (self.tally(kind), other.tally(kind)) if tally] for kind in kinds]
        return Report(
            tuple(finding for kind in kinds for finding in (self.of(kind) + other.of(kind))[:LISTED]),
            tuple(
                Tally(
                    first.kind,
                    first.level,
                    sum(tally.count for tally in pair),
                    sum(tally.symbols for tally in pair),
                    max(tally.longest for tally in pair),
                )
                for pair in pairs
                for first in pair[:1]
            ),
        )

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
