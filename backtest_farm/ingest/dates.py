"""Written dates: which way a source writes them, and what each of them says.

ISO dates, dates that begin with the year and dates with a named month say what they mean. ``03/04/2024``
does not: the order of day and month is taken from a date of the same source that can only be read one way,
and without such a date, or with as many for either order, it is not decided. Numbers are dates by their
magnitude: the ranges of 20240102 and of epoch seconds, milliseconds and so on do not overlap. Excel's serial
numbers are never assumed, because workbooks count from 1900 or from 1904.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from backtest_farm.ingest.options import DATE_NUMBERS, UNITS

_THREE_NUMBERS = re.compile(r"(\d{1,4})\s*([/.-]|\s)\s*(\d{1,2})\s*\2\s*(\d{1,4})")
_DAY_NAMED_MONTH = re.compile(r"(\d{1,2})[\s/.-]*([A-Za-z]{3,9})[\s/.,-]*(\d{2,4})")
_NAMED_MONTH_DAY = re.compile(r"([A-Za-z]{3,9})[\s.]*(\d{1,2})[\s,]+(\d{2,4})")
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp])?(?:\.?[Mm]\.?)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_RANGES = {  # what a number can be, and where such numbers lie; epochs from 1973 on
    "yyyymmdd": (1800_00_00, 2200_00_00),
    "epoch_s": (1e8, 1e10),
    "epoch_ms": (1e11, 1e13),
    "epoch_us": (1e14, 1e16),
    "epoch_ns": (1e17, 1e19),
    "excel": (20_000, 80_000),  # 1954 to 2119
}
_EXCEL_EPOCH = dt.datetime(1899, 12, 30)  # its 1900 is a leap year, so that days count from here since March


class Reading(NamedTuple):
    """How the dates of a source are read.

    Attributes
    ----------
    form : str
        ``plain`` (says what it means), ``dmy``, ``mdy``, one of `DATE_NUMBERS`, or a strptime format.
    said : str
        What was inferred, for the report; empty when nothing was.
    doubt : str
        Why it is not certain; empty when it is.
    """

    form: str = "plain"
    said: str = ""
    doubt: str = ""


class DateEvidence:
    """Collects what the written dates of a source can be."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def take(self, texts: Iterable[str]) -> None:
        """Look at distinct texts."""
        for text in texts:
            self._note(_form_of(text), text)

    def take_numbers(self, numbers: np.ndarray) -> None:
        """Look at dates that are numbers, by their middle one."""
        known = numbers[np.isfinite(numbers)]
        if len(known):
            middle = float(np.median(known))
            self._note(number_form(middle) or "unknown", f"{middle:.15g}")

    def _note(self, form: str, example: str) -> None:
        self._seen[form] += 1
        self._examples.setdefault(form, example)

    def settle(self) -> Reading:
        """Decide by what most of the dates are."""
        order = {form: self._seen[form] for form in ("dmy", "mdy", "either", "same")}
        counts = {"plain": self._seen["plain"], "order": sum(order.values())}
        counts |= {form: self._seen[form] for form in DATE_NUMBERS}
        winner = max(counts, key=lambda form: counts[form])  # the first of equals: plain dates go first
        if winner == "order":
            return self._settle_order(order)
        if winner == "excel":
            return self._doubt_excel()
        if winner in ("plain", "yyyymmdd"):
            return Reading(winner)
        example = self._examples[winner]
        moment = show_number(float(example), winner)
        return Reading(winner, f'date_format="{winner}": {example} is {moment} UTC')

    def _settle_order(self, seen: dict[str, int]) -> Reading:
        form = "dmy" if seen["dmy"] >= seen["mdy"] else "mdy"
        if seen["dmy"] != seen["mdy"]:
            example = self._examples[form]
            return Reading(form, f"{_ORDERS[form]}: {example} is {_as_words(example, form)}")
        if not seen["either"] and not seen["dmy"]:
            return Reading(form, "day and month are the same in every date")
        if seen["dmy"]:
            both = f"{self._examples['dmy']} has the day first and {self._examples['mdy']} the month"
            return Reading(form, doubt=f"{both}; there are as many of either: write all in one way")
        example = self._examples["either"]
        readings = (f"{_as_words(example, order)} ({_ORDERS[order]})" for order in ("dmy", "mdy"))
        return Reading(form, doubt=f"{example} is {' or '.join(readings)}, and no other date decides it")

    def _doubt_excel(self) -> Reading:
        example = self._examples["excel"]
        moment = show_number(float(example), "excel")
        return Reading(
            "excel",
            doubt=f'{example} is {moment} where workbooks count days from 1900 (date_format="excel"), and '
            "something else where they do not; or write dates as text",
        )


_ORDERS = {"dmy": 'date_format="%d/%m/%Y"', "mdy": 'date_format="%m/%d/%Y"'}


def given_form(date_format: str) -> str:
    """Return how to read dates whose format was given: separators and times of day need not be in it."""
    letters = "".join(re.findall(r"%([A-Za-z])", date_format)).lower()
    return letters if letters in _ORDERS else date_format


def number_form(number: float) -> str | None:
    """Return what a number of this magnitude is when it is a date."""
    return next((form for form, (low, high) in _RANGES.items() if low <= number < high), None)


def read_date(text: str, form: str) -> dt.datetime | None:
    """Return what a written date says when it is read this way, None when it cannot be."""
    try:
        if form == "plain" and text[4:5] == "-":
            return dt.datetime.fromisoformat(text)  # most dates, and by far the quickest way
    except ValueError:
        pass
    try:
        if form in DATE_NUMBERS:
            number = float(text)
            micros = from_numbers(np.array([number]), form)[0]
            return None if np.isnat(micros) else micros.item().replace(tzinfo=zone_of_number(form))
        if form not in ("plain", "dmy", "mdy"):
            return dt.datetime.strptime(text, form)
        return dt.datetime.fromisoformat(_as_iso(text, form))
    except (ValueError, OverflowError):
        return None


def from_numbers(numbers: np.ndarray, form: str) -> np.ndarray:
    """Return numbers as datetime64[us], NaT where this is no such number."""
    low, high = _RANGES[form]
    good = (numbers >= low) & (numbers < high)
    micros = np.full(len(numbers), np.datetime64("NaT", "us"))
    some = numbers[good]
    if form == "yyyymmdd":
        year, month, day = some // 10_000, some // 100 % 100, some % 100
        months = ((year - 1970) * 12 + month - 1).astype(np.int64).astype("M8[M]")
        days = months.astype("M8[D]") + (day - 1).astype(np.int64)
        possible = (
            (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months) & (some % 1 == 0)
        )
        micros[good] = np.where(possible, days.astype("M8[us]"), np.datetime64("NaT", "us"))
    elif form == "excel":
        micros[good] = np.datetime64(_EXCEL_EPOCH, "us") + np.rint(some * 86_400e6).astype("m8[us]")
    else:
        scale = UNITS.get(form, 1e-3)
        micros[good] = np.rint(some * scale).astype(np.int64).astype("M8[us]")
    return micros


def zone_of_number(form: str) -> dt.tzinfo | None:
    """Return UTC for epochs, which count in it, and None for dates."""
    return dt.UTC if form.startswith("epoch") else None


def show_number(number: float, form: str) -> str:
    """Return what a number is when it is read this way."""
    return str(from_numbers(np.array([number]), form)[0].astype("M8[s]")).replace("T00:00:00", "")


def _form_of(text: str) -> str:
    if _NUMBER.fullmatch(text):
        form = number_form(float(text)) or "unknown"
        return "plain" if form == "yyyymmdd" else form  # which is ISO, too
    match = _THREE_NUMBERS.match(text)
    if match is None or len(match[1]) > 2:
        return "plain" if read_date(text, "plain") else "unknown"
    first, second = int(match[1]), int(match[3])
    readable = [order for order in ("dmy", "mdy") if read_date(text, order)]
    if len(readable) == 2:
        return "same" if first == second else "either"
    return readable[0] if readable else "unknown"


def _as_words(text: str, order: str) -> str:
    moment = read_date(text, order)
    return f"{moment:%-d %B %Y}" if moment else text


def _as_iso(text: str, order: str) -> str:
    """Return a date, with or without a time of day, as ISO text.

    Raises
    ------
    ValueError
        If it is none, or cannot be read in this order.
    """
    date, clock = text, ""
    parts = re.fullmatch(r"(.*?\d)(?:,?\s+|T)(\d{1,2}:.*)", text)
    if parts:
        date, clock = parts[1], "T" + _clock(parts[2])
    if numbers := _THREE_NUMBERS.fullmatch(date):
        first, second, third = numbers[1], numbers[3], numbers[4]
        if len(first) > 2:
            year, month, day = first, second, third
        elif order == "plain":
            raise ValueError(text)
        else:
            year, month, day = third, *((second, first) if order == "dmy" else (first, second))
    elif named := _DAY_NAMED_MONTH.fullmatch(date):
        day, month, year = named[1], _month(named[2]), named[3]
    elif named := _NAMED_MONTH_DAY.fullmatch(date):
        month, day, year = _month(named[1]), named[2], named[3]
    else:
        return date + clock  # ISO in another of its forms, or nothing
    if len(year) == 2:
        year = ("20" if int(year) < 70 else "19") + year
    return f"{year}-{month:0>2}-{day:0>2}{clock}"


def _month(name: str) -> str:
    if name[:3].lower() not in _MONTHS:
        raise ValueError(name)
    return str(_MONTHS.index(name[:3].lower()) + 1)


def _clock(text: str) -> str:
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    hour, minute, second, fraction, half, zone = match.groups()
    if half:
        hour = str(int(hour) % 12 + 12 * (half.lower() == "p"))
    zone = "+00:00" if zone in ("Z", "UTC", "GMT") else zone or ""
    return f"{hour:0>2}:{minute}:{second or '00'}.{(fraction or '0')[:6]:0<6}{zone}"
