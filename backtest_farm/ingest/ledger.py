"""The ledger that collects findings until everything has been looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.report import KINDS, LISTED, Finding, Report, Tally
from backtest_farm.ingest.table import Table

ALWAYS_REFUSED = frozenset(
    {
        "missing_header",
        "mixed_schema",
        "missing_column",
        "duplicate_column",
        "ambiguous_date",
        "ambiguous_number",
        "overlapping_bar",
    }
)
"""Kinds that leave nothing to build from, or nothing that is certain, also under ``report``."""
_SAYABLE = frozenset({"missing_column", "ambiguous_date", "ambiguous_number"})


@dataclass
class _Entry:
    findings: list[tuple[tuple[int, ...], Finding]] = field(default_factory=list)
    symbols: set[str] = field(default_factory=set)
    count: int = 0
    longest: int = 1


class Ledger:
    """Collects what is found in a source and in what comes with it."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.refuse_always = False

    def note(
        self,
        kind: str,
        file: str,
        places: Iterable[Mapping[str, Any]],
        *,
        count: int = 1,
        symbols: Iterable[str] = (),
        longest: int = 1,
    ) -> None:
        """Record findings of one kind.

        Parameters
        ----------
        kind, file : str
            As in `Finding`.
        places : iterable of mapping
            For each finding its row, symbol, timestamp and value as far as they are known, and as ``more``
            what its advice says beyond that of its kind. ``order``, a tuple of ints, is its place among all
            findings of the kind; without it they stand in the order of noting. No more than can be listed are
            asked for, so a generator makes no more; those of one call are in order.
        count, symbols, longest
            The cells, rows or bars and the symbols concerned, and the longest run of bars.
        """
        entry = self._entries.setdefault(kind, _Entry())
        level, usual = KINDS[kind]
        for place in islice(places, LISTED):
            known = {"file": file, **place}
            advice = usual + known.pop("more", "")
            order = known.pop("order", ())
            entry.findings.append((order, Finding(kind, level, advice=advice, **known)))
        entry.findings.sort(key=lambda ordered: ordered[0])
        del entry.findings[LISTED:]
        entry.symbols.update(symbols)
        entry.count += count
        entry.longest = max(entry.longest, longest)
        self.refuse_always |= kind in ALWAYS_REFUSED

    def note_rows(
        self,
        kind: str,
        table: Table,
        mask: np.ndarray,
        column: str | None = None,
        more: Callable[[int], str] = lambda at: "",
    ) -> None:
        """Record a finding for each row of `table` in `mask`; `column` gives the value shown."""
        rows = np.flatnonzero(mask)
        if not len(rows):
            return
        places = (
            {
                "row": table.row(at),
                "symbol": table.show("symbol", at),
                "timestamp": table.show("timestamp", at),
                "value": column and f"{column} {table.show(column, at)}",
                "more": more(at),
            }
            for at in rows.tolist()
        )
        self.note(kind, table.file, places, count=len(rows), symbols=table.symbols_at(rows))

    def note_ragged(self, table: Table) -> None:
        """Record the lines of `table` that could not be cut into cells."""
        places = ({"row": row, "value": why} for row, why in table.ragged)
        if table.ragged:
            self.note("ragged_row", table.file, places, count=len(table.ragged))

    def report(self) -> Report:
        """Return what was recorded."""
        entries = {kind: self._entries[kind] for kind in KINDS if kind in self._entries}
        return Report(
            tuple(finding for entry in entries.values() for _, finding in entry.findings),
            tuple(
                Tally(kind, KINDS[kind].level, entry.count, len(entry.symbols), entry.longest)
                for kind, entry in entries.items()
            ),
        )

    @property
    def has_errors(self) -> bool:
        """Whether anything that ``strict`` refuses was recorded."""
        return any(KINDS[kind].level == "error" for kind in self._entries)

    def refuse(self, what: str, *, mendable: bool = False) -> NoReturn:
        """Raise the error that lists every fault recorded.

        Parameters
        ----------
        what : str
            What was being read.
        mendable : bool
            Whether ``on_fault="report"`` would help.
        """
        report = self.report()
        tallies = [tally for tally in report.tallies if tally.level == "error"]
        total = sum(tally.count for tally in tallies)
        instead = ', or build with on_fault="report" (--on-fault report): it leaves faults out and lists them'
        if any(tally.kind in _SAYABLE for tally in tallies):
            instead, mendable = ", or say how it is written: symbol, columns, date_format, decimal", True
        kinds = ", ".join(f"{tally.kind}: {tally.count}" for tally in tallies)
        raise InputError(
            f"{what} has {total} fault{'s' * (total != 1)} ({kinds})",
            faults=[line for tally in tallies for line in _fault_lines(report, tally)],
            hint=f"mend the data{instead if mendable else ''}",
        )


def _fault_lines(report: Report, tally: Tally) -> Iterator[str]:
    listed = report.of(tally.kind)
    yield from (finding.line() for finding in listed)
    if len(listed) < tally.count:
        yield f"{tally.kind}: {tally.count - len(listed)} more in {tally.symbols} symbols"
