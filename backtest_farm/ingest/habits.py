"""How a source is written, as far as it does not say so itself: learned from all of it before any is read."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import BAR_FIELDS
from backtest_farm.ingest.keys import Clock
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.numbers import DecimalMark
from backtest_farm.ingest.options import ReadOptions
from backtest_farm.ingest.table import KEYS, Table


class Habits:
    """Conventions of one source, which may be many files of one kind.

    Parameters
    ----------
    options : ReadOptions
        What its owner said.

    Attributes
    ----------
    clock : Clock
        Reads its timestamps.
    decimal : DecimalMark
        Reads its numbers.
    """

    def __init__(self, options: ReadOptions | None = None) -> None:
        self.options = options or ReadOptions()
        self.clock = Clock(self.options)
        self.decimal = DecimalMark(self.options.decimal)
        self._counts: dict[str, tuple[int, int]] = {}
        self._types: dict[str, str] = {}
        self._first: Table | None = None
        self._said: dict[str, str] = {}
        self._others: dict[str, str] = {}  # files with other columns, and what is other about them

    def say(self, text: str, file: str) -> None:
        """Remember what a reader inferred, once."""
        self._said.setdefault(text, file)

    def learn(self, table: Table) -> None:
        """Look at one of the source's tables."""
        if self._first is None:
            self._first = replace(table, frame=table.frame.clear(), rows=table.rows[:0])
        elif missing := [name for name in self._first.schema if name not in table]:
            self._others[table.file] = f"without {', '.join(missing)}"
        elif more := [name for name in table.schema if name not in self._first]:
            self._others[table.file] = f"with {', '.join(more)}"
        if "timestamp" in table:
            self.clock.learn(table.frame["timestamp"])
        for name, dtype in table.schema.items():
            if name in KEYS:
                continue
            numbers, others = self._count_numbers(table, name, dtype)
            before = self._counts.get(name, (0, 0))
            self._counts[name] = before[0] + numbers, before[1] + others
            self._types[name] = str(dtype)

    def _count_numbers(self, table: Table, name: str, dtype: pl.DataType) -> tuple[int, int]:
        """Return how many cells of a column can be numbers, and how many cannot."""
        if dtype == pl.String:
            return self.decimal.learn(table.frame[name])
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            return 1, 0  # it need not be in this part of the table
        column = table.frame[name]  # dates, lists and the like are no numbers in any row
        return 0, len(column) - column.null_count()

    @property
    def first(self) -> Table:
        """The first table that was looked at, without its rows."""
        if self._first is None:
            raise InputError("there is nothing to read")
        return self._first

    def settle(self, ledger: Ledger) -> tuple[str, ...]:
        """Decide, note what was inferred and what cannot be decided, and return the columns that are fields.

        A text column is a field when most of its cells read as numbers: the others are then faults.
        """
        self.clock.settle()
        self.decimal.settle()
        file = self.first.file
        for kind, habit in (("ambiguous_date", self.clock.reading), ("ambiguous_number", self.decimal)):
            if habit.doubt:
                ledger.note(kind, file, [{"more": f": {habit.doubt}"}])
            elif habit.said:
                ledger.note("inferred", file, [{"value": habit.said}])
        for text, where in self._said.items():
            ledger.note("inferred", where, [{"value": text}])
        for other, difference in self._others.items():
            ledger.note("mixed_schema", other, [{"value": difference, "more": f" ({file})"}])
        fields = []
        for name, (numbers, others) in self._counts.items():
            if name in BAR_FIELDS or (name and numbers >= others):
                fields.append(name)
            else:
                ledger.note("ignored_column", file, [{"value": f"{name} ({self._types[name]})"}])
        return tuple(fields)
