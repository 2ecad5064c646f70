"""Number columns: what was written, as float64, with every cell that is none or no possible one marked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from backtest_farm.ingest.grid import PRICE_FIELDS
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.table import Table, nulls

_SAMPLE = 1000
_EMPTY = ("", "na", "n/a", "#n/a", "null", "none", "-", "--")
_ANY_SIGN = r"[$€£¥]"
_SIGNS = r"^([-+]?)[$€£¥]\s*|\s*[$€£¥]$"
_BLANKS = r"(\d)[\s\u00a0\u202f'’](\d{3})"  # thousands, as Swiss, French and typographers part them
_GROUPED = {  # by decimal mark: numbers with whole groups of thousands, or without any
    ".": r"^[-+]?(\d+|\d{1,3}(,\d{3})+)(\.\d*)?([eE][-+]?\d+)?$",
    ",": r"^[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?([eE][-+]?\d+)?$",
}
_ONLY = {  # numbers that can only be read with this decimal mark
    ".": r"^[-+]?(\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,}|\d+\.(\d{1,2}|\d{4,})|0\.\d+|\d{4,}\.\d+)$",
    ",": r"^[-+]?(\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,}|\d+,(\d{1,2}|\d{4,})|0,\d+|\d{4,},\d+)$",
}


class DecimalMark:
    """What a source writes between units and tenths: learned from all its cells, if they hold commas.

    Parameters
    ----------
    given : {".", ","}, optional
        What its owner said.
    """

    def __init__(self, given: str | None = None) -> None:
        self._given = given
        self._seen: Counter[str] = Counter()
        self._example = self._sign = ""
        self.mark, self.said, self.doubt = given or ".", "", ""

    def learn(self, column: pl.Series) -> tuple[int, int]:
        """Look at a text column before any of it is read.

        Returns
        -------
        tuple of int
            How many cells can be read as a number, whatever its decimal mark, and how many cannot.
        """
        plain = column.str.strip_chars().cast(pl.Float64, strict=False)
        others = column.filter(plain.is_null())
        others = others.filter(~_empty(others))
        bare = _bare(others)
        fitting = bare.filter(bare.str.contains(_GROUPED["."]) | bare.str.contains(_GROUPED[","]))
        signed = others.filter(others.str.contains(_ANY_SIGN))
        if len(signed) and len(fitting):
            self._sign = self._sign or f"{column.name} {signed[0]}"
        if not self._given:
            commas = fitting.filter(fitting.str.contains(",", literal=True))
            if len(commas):
                self._example = self._example or f"{column.name} {commas[0]}"
            # Of plain numbers the first few tell whether points stand for tenths.
            for text in (fitting, _bare(column.filter(plain.is_not_null()).head(_SAMPLE))):
                for mark, pattern in _ONLY.items():
                    self._seen[mark] += int(text.str.contains(pattern).sum())
        return len(plain) - plain.null_count() + len(fitting), len(others) - len(fitting)

    def settle(self) -> None:
        """Decide by what most of the cells that can only be read one way are."""
        if self._sign:
            self.said = f"currency signs are left out, as in {self._sign}"
        point, comma = self._seen["."], self._seen[","]
        if not self._example:
            return
        if point == comma:
            name, _, cell = self._example.rpartition(" ")
            whole, parted = cell.replace(",", ""), cell.replace(",", ".")
            self.doubt = f'{name} {cell} is {whole} (decimal=".") or {parted} (decimal=",")'
        self.mark = "," if comma > point else "."
        what = "thousands are parted by commas" if self.mark == "." else "commas are decimal marks"
        self.said += f'{"; " if self.said else ""}decimal="{self.mark}": {what}, as in {self._example}'

    def read(self, text: pl.Series) -> pl.Series:
        """Return text as Float64, null where it is no number."""
        plain = text.cast(pl.Float64, strict=False)
        # Where points are decimal marks, plain numbers need no second look.
        left = plain.is_null() if self.mark == "." else text.is_not_null()
        if not left.any():
            return plain
        bare = _bare(text.filter(left))
        other = "," if self.mark == "." else "."
        whole = bare.str.replace_all(other, "", literal=True).str.replace(",", ".", literal=True)
        numbers = whole.set(~bare.str.contains(_GROUPED[self.mark]), None).cast(pl.Float64, strict=False)
        return plain.scatter(left.arg_true(), numbers)


def read_numbers(table: Table, name: str, ledger: Ledger) -> np.ndarray:
    """Return a column as float64 with NaN for empty, unreadable and impossible cells; each is noted by its
    kind.

    An empty (null) price is a missing value and a warning; NaN or an infinity *written* as a price is a
    fault. Other fields may be NaN but not infinite.
    """
    numbers, unreadable = _as_numbers(table.frame[name], table.habits.decimal)
    ledger.note_rows("unparseable", table, unreadable, name)
    values = numbers.fill_null(np.nan).to_numpy().astype(np.float64, copy=True)
    empty = nulls(numbers)
    finite = np.isfinite(values)
    if name in PRICE_FIELDS:
        ledger.note_rows("missing_cell", table, empty & ~unreadable, name)
        ledger.note_rows("non_finite_price", table, ~finite & ~empty, name)
        ledger.note_rows("non_positive_price", table, finite & (values <= 0), name)
        values[~finite | (values <= 0)] = np.nan
        return values
    ledger.note_rows("non_finite_value", table, np.isinf(values), name)
    values[~finite] = np.nan
    if name == "volume":
        ledger.note_rows("negative_volume", table, values < 0, name)
        values[values < 0] = np.nan
    return values


def _as_numbers(column: pl.Series, decimal: DecimalMark) -> tuple[pl.Series, np.ndarray]:
    """Return `column` as Float64 (null where empty or unreadable), and a mask of the unreadable cells."""
    dtype = column.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64), np.zeros(len(column), bool)
    if dtype != pl.String:
        return pl.Series(column.name, [None] * len(column), pl.Float64), column.is_not_null().to_numpy()
    numbers = decimal.read(column.str.strip_chars())
    unreadable = numbers.is_null()
    if unreadable.any():
        others = column.filter(unreadable)
        unreadable = unreadable.scatter(unreadable.arg_true(), ~_empty(others))
    return numbers, unreadable.to_numpy()


def _empty(column: pl.Series) -> pl.Series:
    return column.is_null() | column.str.strip_chars().str.to_lowercase().is_in(list(_EMPTY))


def _bare(text: pl.Series) -> pl.Series:
    """Return numbers as text without currency signs and without blanks between thousands."""
    bare = text.str.strip_chars().str.replace_all(_SIGNS, "${1}")
    return bare.str.replace_all(_BLANKS, "${1}${2}").str.replace_all(_BLANKS, "${1}${2}")
