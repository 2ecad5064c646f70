"""The kinds of faults, and the ledger that collects them until everything has been looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.report import Finding, Level, Report, Tally
from backtest_farm.ingest.table import Table

LISTED = 20
"""Findings of one kind that are kept in full; all are counted."""


class Kind(NamedTuple):
    """What a kind means for the build, and what to do about it."""

    level: Level
    advice: str


KINDS: dict[str, Kind] = {
    "missing_column": Kind("error", "no such column: add it, or rename the one that holds it"),
    "duplicate_column": Kind("error", "two columns have this meaning: keep one of them"),
    "ignored_column": Kind("warning", "this column is no field because it holds no numbers"),
    "null_key": Kind("error", "timestamp or symbol is empty: fill it in or drop the row"),
    "unparseable": Kind(
        "error",
        "this cannot be read: write dates as 2017-10-31, moments as 2018-01-10T04:55:00Z, plain numbers",
    ),
    "naive_timestamp": Kind(
        "error", "a time of day without a zone: write the zone (…Z or …+00:00), or give dates for daily bars"
    ),
    "mixed_zone": Kind(
        "error", "some rows have a time zone and some have none: write all of them in the same way"
    ),
    "duplicate_key": Kind("error", "an earlier row has the same timestamp and symbol: keep one of them"),
    "non_finite_price": Kind(
        "error", "a price must be a finite number: leave the cell empty if there is none"
    ),
    "non_positive_price": Kind("error", "a price must be above 0: correct it, or leave the cell empty"),
    "negative_volume": Kind("error", "volume cannot be negative: correct it, or leave the cell empty"),
    "non_finite_value": Kind("error", "infinite: correct it, or leave the cell empty"),
    "unknown_symbol": Kind("error", "the panel has no such symbol: correct it or drop the row"),
    "unmatched_timestamp": Kind("error", "the panel has no bar at this time"),
    "bad_payout": Kind("error", "a payout is 0 or more per share, or empty for the last mark"),
    "missing_cell": Kind("warning", "an empty price: this value is NaN and counts as no bar"),
    "non_bracketing": Kind(
        "warning", "high and low do not enclose open and close: compare with another source"
    ),
    "decimal_shift": Kind(
        "warning", "a jump by a power of ten for one bar that reverts: a decimal point has probably slipped"
    ),
    "gap": Kind("warning", "bars are missing inside this life: a halt, or lost data"),
    "zero_volume": Kind("warning", "nothing was traded, or the volume is not known"),
    "late_listing": Kind(
        "warning", "the first bar comes after the panel's: a listing, or a history that was cut"
    ),
    "early_end": Kind("warning", "the last bar comes before the panel's"),
    "bars_after_end": Kind("warning", "there are bars after the end of life that was given: check its date"),
}
ALWAYS_REFUSED = frozenset({"missing_column", "duplicate_column"})
"""Kinds that leave nothing to build from, also under ``report``."""


class Ledger:
    """Collects findings of one source.

    Parameters
    ----------
    file : str
        The source's name in the findings.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._findings: dict[str, list[Finding]] = {}
        self._count: dict[str, int] = {}
        self._longest: dict[str, int] = {}
        self._symbols: dict[str, set[str]] = {}
        self.refuse_always = False

    def note(
        self,
        kind: str,
        *,
        advice: str | None = None,
        row: int | None = None,
        symbol: str | None = None,
        timestamp: str | None = None,
        value: str | None = None,
        count: int = 1,
        longest: int = 1,
    ) -> None:
        """Record one finding of `count` bars or cells; `advice` replaces that of the kind."""
        level, usual = KINDS[kind]
        findings = self._findings.setdefault(kind, [])
        if len(findings) < LISTED:
            findings.append(Finding(kind, level, self.file, advice or usual, row, symbol, timestamp, value))
        self._count[kind] = self._count.get(kind, 0) + count
        self._longest[kind] = max(self._longest.get(kind, 1), longest)
        if symbol is not None:
            self._symbols.setdefault(kind, set()).add(symbol)
        self.refuse_always |= kind in ALWAYS_REFUSED

    def note_rows(
        self,
        kind: str,
        table: Table,
        rows: np.ndarray,
        column: str | None = None,
        advise: Callable[[int], str] | None = None,
    ) -> None:
        """Record a finding for each of `rows` (positions in `table`).

        `column` gives the value shown; `advise` makes the advice of one position.
        """
        if not len(rows):
            return
        for at in rows[: max(0, LISTED - len(self._findings.get(kind, ())))].tolist():
            value = None if column is None else f"{column} {table.show(column, at)}"
            self.note(
                kind,
                advice=None if advise is None else advise(at),
                row=table.number(at),
                symbol=table.show("symbol", at),
                timestamp=table.show("timestamp", at),
                value=value,
                count=0,
            )
        self._count[kind] = self._count.get(kind, 0) + len(rows)
        self._longest.setdefault(kind, 1)
        self._symbols.setdefault(kind, set()).update(table.names_at(rows))

    def report(self) -> Report:
        """Return what was recorded."""
        return Report(
            tuple(finding for findings in self._findings.values() for finding in findings),
            tuple(
                Tally(kind, KINDS[kind].level, count, len(self._symbols.get(kind, ())), self._longest[kind])
                for kind, count in self._count.items()
            ),
        )


def refuse(report: Report, what: str, *, mendable: bool) -> NoReturn:
    """Raise the error that lists every fault of `report`.

    Parameters
    ----------
    report : Report
        Holds at least one error.
    what : str
        What was being read.
    mendable : bool
        Whether ``on_fault="report"`` would help.
    """
    tallies = [tally for tally in report.tallies if tally.level == "error"]
    total = sum(tally.count for tally in tallies)
    hint = "mend the data"
    if mendable:
        hint += ', or build with on_fault="report", which leaves faulty rows and cells out and lists them'
    kinds = ", ".join(f"{tally.kind}: {tally.count}" for tally in tallies)
    raise InputError(
        f"{what} has {total} fault{'s' * (total != 1)} ({kinds})",
        faults=list(_fault_lines(report, tallies)),
        hint=hint,
    )


def _fault_lines(report: Report, tallies: Iterable[Tally]) -> Iterable[str]:
    for tally in tallies:
        listed = report.of(tally.kind)
        yield from (finding.line() for finding in listed)
        if len(listed) < tally.count:
            yield f"{tally.kind}: {tally.count - len(listed)} more in {tally.symbols} symbols"


def positions(mask: Any) -> np.ndarray:
    """Return where `mask` is true."""
    return np.flatnonzero(np.asarray(mask))
