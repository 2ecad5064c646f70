"""``where``: a condition over parameters, read once and answered for many trials at a time.

Numbers and text are kept apart: a comparison of the one with the other, or with a parameter that a trial does
not have, is false. Only the parts of Python's grammar that are named here are read, and nothing is called.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from backtest_farm.errors import InputError, nearest

MAX_CHARACTERS = 1_000

_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ALLOWED = "compare parameters by < <= > >= == != in (a, b), join with and, or, not, reckon with + - * / // %"


class Where:
    """A condition that was read and found to be about the parameters of a sweep.

    Parameters
    ----------
    text : str
        Such as ``n < signal.lookback and kind in ('TopN', 'Quantiles')``.
    known : mapping of str to sequence
        Every parameter that may be named, with all values that it takes; an empty one may take any.

    Attributes
    ----------
    names : set of str
        The parameters that it names.

    Raises
    ------
    InputError
        If it cannot be read, uses what is not allowed, or names an unknown parameter or value.
    """

    def __init__(self, text: str, known: Mapping[str, Sequence[Any]]) -> None:
        self.names: set[str] = set()
        self._known = known
        self._texts: dict[str, int] = {}
        try:
            if len(text) > MAX_CHARACTERS:
                raise ValueError(f"it has more than {MAX_CHARACTERS:,} characters")
            self._root = ast.parse(text.replace("\n", " ").strip(), mode="eval").body
            # Evaluated once, so that everything in it is met.
            self.holds(dict.fromkeys(known, self.column([None])), 1)
        except RecursionError:
            raise InputError(f"{text[:60]!r} cannot be read: it is nested too deeply") from None
        except (SyntaxError, ValueError, OverflowError, MemoryError) as error:
            reason = getattr(error, "msg", error)
            raise InputError(f"{text[:60]!r} cannot be read: {reason}; {_ALLOWED}") from None

    def column(self, values: Iterable[Any]) -> np.ndarray:
        """Return values as this condition compares them.

        Returns
        -------
        float64 array, shape (2, n_values)
            Numbers (booleans are 0 and 1), and below them equal numbers for equal texts; NaN is neither.
        """
        rows = [
            (np.nan, self._texts.setdefault(each, len(self._texts)))
            if isinstance(each, str)
            else (float(each) if isinstance(each, (int, float)) else np.nan, np.nan)
            for each in values
        ]
        return np.array(rows, np.float64).T

    def holds(self, columns: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Return for each of `count` trials whether the condition holds (bool).

        Parameters
        ----------
        columns : mapping of str to array, shape (2, 1) or (2, count)
            All parameters of `names`, made by `column`.
        """
        with np.errstate(all="ignore"):
            return np.broadcast_to(self._truth(self._root, columns), count)

    def _truth(self, node: ast.AST, columns: Mapping[str, np.ndarray]) -> Any:
        match node:
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return reduce(join, [self._truth(part, columns) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~self._truth(part, columns)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                pairs = zip([left, *rights], ops, rights, strict=False)
                return reduce(np.logical_and, [self._compared(*pair, columns) for pair in pairs])
            case ast.Name() | ast.Attribute():
                value = self._value(node, columns)
                if {type(each) for each in self._known[_name(node)]} == {bool}:
                    return value[0] == 1
        raise InputError(f"{ast.unparse(node)!r} is neither true nor false: {_ALLOWED}")

    def _compared(self, left: ast.AST, op: ast.AST, right: Any, columns: Mapping[str, np.ndarray]) -> Any:
        within = isinstance(op, (ast.In, ast.NotIn)) and isinstance(right, (ast.Tuple, ast.List))
        listed = right.elts if within else [right]
        for other in listed:
            self._check_text(left, other)
            self._check_text(other, left)
        one, others = self._value(left, columns), [self._value(each, columns) for each in listed]
        if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](one[0], others[0][0])
        if not within and not isinstance(op, (ast.Eq, ast.NotEq)):
            raise InputError(f"'in' needs a list such as (5, 10): {_ALLOWED}")
        equal = reduce(np.logical_or, [(one == other).any(axis=0) for other in others], np.False_)
        if isinstance(op, (ast.Eq, ast.In)):
            return equal
        return reduce(np.logical_and, [(each == each).any(axis=0) for each in (one, *others)], ~equal)

    def _check_text(self, one: ast.AST, other: ast.AST) -> None:
        """Refuse a text that a parameter never is: it is misspelt, or a number in quotes."""
        known = self._known.get(_name(one))
        text = other.value if isinstance(other, ast.Constant) else None
        if known and isinstance(text, str) and text not in known:
            texts = [each for each in known if isinstance(each, str)]
            which = nearest(text, texts) if texts else "numbers stand without quotes"
            raise InputError(f"{_name(one)} is never {text!r}: {which}")

    def _value(self, node: ast.AST, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        match node:
            case ast.Constant(value=int() | float() | str() as value):
                return self.column([value])
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return self._value(part, columns) * [[-1.0], [np.nan]]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                one, other = self._value(left, columns), self._value(right, columns)
                number = _OPERATORS[type(op)](one[0], other[0])
                return np.where(np.isfinite(number), number, np.nan) * [[1.0], [np.nan]]
            case ast.Name() | ast.Attribute():
                name = _name(node)
                if name not in self._known:
                    known = nearest(name, self._known)
                    raise InputError(f"{name!r} is no parameter of this sweep (text needs quotes): {known}")
                self.names.add(name)
                return columns[name]
        raise InputError(f"{ast.unparse(node)!r} cannot stand there: {_ALLOWED}")


def _name(node: ast.AST) -> str:
    """Return the column that a name means: those of the strategy may be written with or without its name."""
    return ast.unparse(node).removeprefix("strategy.")
