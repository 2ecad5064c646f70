"""What only the owner of the data knows about how it was written."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from backtest_farm.errors import InputError, nearest

UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""Microseconds of one count of an epoch number; nanoseconds (``epoch_ns``) are less than one."""
DATE_NUMBERS = (*UNITS, "epoch_ns", "excel", "yyyymmdd")


@dataclass(frozen=True)
class ReadOptions:
    """How a source is to be read where it does not say so itself; what is not given is inferred or refused.

    Attributes
    ----------
    date_format : str, optional
        Of written dates, as in `datetime.strptime` (``"%d/%m/%Y"``), or what a number means: ``excel``,
        ``yyyymmdd``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``epoch_ns``.
    separator : str, optional
        Between the cells of a CSV line, one character.
    decimal : {".", ","}, optional
        The decimal mark of numbers in text.
    symbol : str, optional
        The asset, for a source without a column of symbols.
    columns : mapping of str to str
        The source's own names to ours, for example ``{"Last": "close"}``.
    zone : str, optional
        The time zone of times of day that are written without one, for example ``"America/New_York"``.

    Raises
    ------
    InputError
        If one of them cannot be meant; all faults are listed.
    """

    date_format: str | None = None
    separator: str | None = None
    decimal: str | None = None
    symbol: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None

    @classmethod
    def of(cls, **options: Any) -> ReadOptions:
        """Return these options, refusing names that are none."""
        known = [item.name for item in fields(cls)]
        faults = [f"{name!r} is no option: {nearest(name, known)}" for name in options if name not in known]
        if faults:
            raise InputError("these are no options for reading", faults=faults)
        return cls(**options)

    def __post_init__(self) -> None:
        faults = []
        if self.date_format is not None and not _is_date_format(self.date_format):
            faults.append(
                f"date_format {self.date_format!r} reads no day, month and year: write %d, %m and %Y where "
                f"they stand, for example '%d/%m/%Y', or one of {', '.join(DATE_NUMBERS)}"
            )
        if self.separator is not None and (len(self.separator) != 1 or not self.separator.isascii()):
            faults.append(f"separator {self.separator!r} is not one plain character such as ';'")
        if self.decimal not in (None, ".", ","):
            faults.append(f"decimal {self.decimal!r} is neither '.' nor ','")
        if self.separator is not None and self.separator == self.decimal:
            faults.append(f"separator and decimal are both {self.decimal!r}")
        if self.symbol is not None and not str(self.symbol).strip():
            faults.append("symbol is empty: give the asset's name")
        if self.zone is not None and self.zone not in zoneinfo.available_timezones():
            faults.append(
                f"zone {self.zone!r} is not known: write a name such as 'America/New_York' or 'UTC'"
            )
        if faults:
            raise InputError("these options cannot be meant", faults=faults)


def _is_date_format(text: str) -> bool:
    if text in DATE_NUMBERS:
        return True
    moment = dt.datetime(2017, 10, 31, 12)
    try:
        return dt.datetime.strptime(moment.strftime(text), text).date() == moment.date()
    except ValueError:
        return False
