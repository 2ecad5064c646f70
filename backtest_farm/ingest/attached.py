"""What is attached to a panel besides bars: series, static columns, spells of membership, ends of life.

Readers return what was given and the warnings about it (None = none), and refuse all faults at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.grid import NO_END, Ends, no_ends
from backtest_farm.ingest.keys import Sort, read_moments, read_symbols
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.matching import Lag, as_of, note_columns, read_ends
from backtest_farm.ingest.report import Report
from backtest_farm.ingest.sources import open_table
from backtest_farm.ingest.spells import ALL, Spell, during, lacking
from backtest_farm.ingest.table import KEYS, Table, canonical_name


def read_series(
    name: str, source: Any, timestamps: np.ndarray, available: str | None, lag: Lag
) -> np.ndarray:
    """Return a market-wide series as it was known at each bar, float64 (n_bars,); see `as_of`.

    Parameters
    ----------
    name : str
        The series' name, and that of its column unless there is only one; of bars (open, close, ...) it is
        the close.
    source, timestamps, available, lag
        As in `as_of`: timestamp, one column of numbers, and when they were available.
    """
    _check_name("context", name)
    what, ledger = f"context {name!r}", Ledger()
    column = _value_column(open_table(source, what), name, ("timestamp", available or ""), ledger)
    return as_of(source, timestamps, None, column, available, lag, what)


def read_static(name: str, source: Any, symbols: tuple[str, ...]) -> tuple[tuple, Report | None]:
    """Return a static column, one value (text, number, truth value or None) per symbol.

    Parameters
    ----------
    name : str
        The column's name, unless there is only one besides symbol.
    source : frame or path
        symbol and one column of values; an empty value is None.
    symbols : tuple of str
        The panel's; values of others are not used, and counted.
    """
    _check_name("static column", name)
    ledger = Ledger()
    table = open_table(source, f"static {name!r}")
    column = _value_column(table, name, ("symbol",), ledger)
    names = read_symbols(table.frame["symbol"])
    ledger.note_rows("null_key", table, names.is_null().to_numpy())
    repeated = ~names.is_first_distinct() & names.is_not_null()
    ledger.note_rows("duplicate_key", table, repeated.to_numpy())
    strange = ~names.is_in(list(symbols)) & names.is_not_null()
    ledger.note_rows("symbol_not_in_panel", table, strange.fill_null(False).to_numpy())
    if strange.all() and len(names):
        raise InputError(
            f"{table.file} has no symbol of the panel", hint=f"the panel's are like {symbols[0]!r}"
        )
    known = dict(zip(names.to_list(), map(_plain, table.frame[column].to_list()), strict=True))
    return tuple(known.get(symbol) for symbol in symbols), _warnings(ledger, name)


def read_spells(
    name: str, source: Any, timestamps: np.ndarray, symbols: tuple[str, ...]
) -> tuple[tuple[Spell, ...], Report | None]:
    """Return who was a member from which day to which (None = still in), sorted.

    Parameters
    ----------
    name : str
        The universe's name.
    source : frame or path
        symbol, start_date, end_date: a member on d when start_date <= d < end_date.
    timestamps, symbols
        The panel's; spells during these bars of symbols that it lacks are counted.
    """
    _check_name("universe", name)
    if name == ALL:
        raise InputError(f"{ALL!r} is the universe of all assets: choose another name")
    ledger = Ledger()
    table = open_table(source, f"universe {name!r}")
    columns = ("symbol", "start_date", "end_date")
    note_columns(table, columns, ledger)
    if any(column not in table for column in columns):
        ledger.refuse(table.file)
    names = read_symbols(table.frame["symbol"])
    start, end = (read_moments(table.frame[column]) for column in columns[1:])
    ledger.note_rows("null_key", table, names.is_null().to_numpy())
    for column, moments in zip(columns[1:], (start, end), strict=True):
        ledger.note_rows("unparseable", table, ~moments.where(Sort.DAY, Sort.EMPTY), column)
    wrong = start.where(Sort.EMPTY) | (end.micros <= start.micros)
    ledger.note_rows(
        "bad_spell", table, wrong, "start_date", lambda at: f"; end_date {table.show('end_date', at)}"
    )
    if ledger.has_errors:
        ledger.refuse(table.file)
    days = [moments.micros.astype("M8[D]").astype(object).tolist() for moments in (start, end)]
    rows = zip(names.to_list(), *days, strict=True)
    spells = sorted({(who, str(since), str(until) if until else None) for who, since, until in rows}, key=str)
    lost = lacking(during(timestamps, spells), symbols)
    if lost:
        places = ({"symbol": who, "value": f"{since} .. {until or 'now'}"} for who, since, until in lost)
        who = {spell[0] for spell in lost}
        ledger.note("survivorship", f"universe {name!r}", places, count=len(lost), symbols=who)
    return tuple(spells), _warnings(ledger, name)


def read_more_ends(
    source: Any, timestamps: np.ndarray, symbols: tuple[str, ...], before: Ends
) -> tuple[Ends, Report | None]:
    """Return `before` with the ends of life in `source`; see `read_ends`."""
    ledger = Ledger()
    new = read_ends(source, timestamps, symbols, ledger)
    return continued(before, new), _warnings(ledger, "ends")


def continued(before: Ends, new: Ends, first_bar: int = 0) -> Ends:
    """Return `before` with the ends in `new`, which may have more assets and counts bars from `first_bar`."""
    ends = no_ends(len(new.bar))
    for now, known in zip(ends, before, strict=True):
        now[: len(known)] = known
    given = new.bar != NO_END
    ends.bar[given], ends.payout[given] = new.bar[given] + first_bar, new.payout[given]
    return ends


def missing_fields(names: Collection[str]) -> Report:
    """Return the warning that a panel's fields of these names are not among the later bars."""
    ledger = Ledger()
    if names:
        ledger.note("missing_field", "<panel>", ({"value": name} for name in names), count=len(names))
    return ledger.report()


def _check_name(kind: str, name: str) -> None:
    """Refuse a name that no column of a frame could have."""
    if not name or name in KEYS or name != canonical_name(name):
        raise InputError(
            f"{name!r} is no name for a {kind}: use lower case without blanks, not {' or '.join(KEYS)}"
        )


def _warnings(ledger: Ledger, what: str) -> Report | None:
    """Return the warnings about `what`, None when there are none, or refuse with all its faults."""
    if ledger.has_errors:
        ledger.refuse(what)
    report = ledger.report()
    return report if report.tallies else None


def _value_column(table: Table, name: str, keys: tuple[str, ...], ledger: Ledger) -> str:
    """Return the column called `name`, or the only one besides the keys, or the close of a file of bars."""
    others = [column for column in table.frame.columns if column not in (*KEYS, *keys)]
    column = name
    if name not in others and len(others) == 1:
        column = others[0]
    elif name not in others and {"open", "close"} <= {*others}:
        column = "close"
    note_columns(table, (keys[0], column), ledger)
    if keys[0] not in table or column not in table:
        ledger.refuse(table.file)
    return column


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value:
        return None
    return value if isinstance(value, (bool, int, float)) else str(value)
