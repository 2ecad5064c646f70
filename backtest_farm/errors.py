"""The family of errors that people see.

Every mistake that a user can make ends as one of these: a sentence that says what is wrong, the list of
single faults with their place and value, and the next step to take. The command line prints them without
a traceback and leaves with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FarmError(Exception):
    """Base of all errors that backtest_farm raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong and where, in one sentence.
    faults : sequence of str, optional
        Every single fault found, all at once, each with its place and value.
    hint : str, optional
        The next step to take.
    """

    exit_code = 2

    def __init__(self, message: str, *, faults: Sequence[str] = (), hint: str | None = None) -> None:
        self.message = message
        self.faults = tuple(faults)
        self.hint = hint
        super().__init__(message, self.faults, hint)

    def __reduce__(self) -> tuple:
        # Errors travel from workers to the driver; keyword-only arguments need their own way back.
        return _rebuild, (type(self), self.message, self.faults, self.hint)

    def __str__(self) -> str:
        parts = [self.message]
        parts += [f"  - {fault}" for fault in self.faults]
        if self.hint:
            parts.append(f"  -> {self.hint}")
        return plain("\n".join(parts))


def _rebuild(kind: type[FarmError], message: str, faults: tuple, hint: str | None) -> FarmError:
    return kind(message, faults=faults, hint=hint)


class InputError(FarmError):
    """Something the user gave is wrong: a file, a column, a value, a name (exit code 2)."""


class PanelError(FarmError):
    """A panel on disk is missing, damaged or does not fit what is asked of it (exit code 2)."""


class StoreError(FarmError):
    """A study's store is missing, belongs to another sweep, or is damaged (exit code 2)."""


class PlatformError(FarmError):
    """The machine or its software cannot do what is asked: memory, packages, Ray (exit code 3)."""

    exit_code = 3


def plain(value: object) -> str:
    """Return a value as text of which no character steers a terminal or turns the order of the others.

    Control characters, escape sequences, marks of writing direction and halves of surrogate pairs become
    what Python writes for them, such as ``\\x1b``; ends of lines stay.
    """
    return "\n".join(
        line
        if line.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in str(value).split("\n")
    )


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which names are valid, the one closest to `name` first.

    Parameters
    ----------
    name : str
        What was written.
    allowed : iterable of str
        The valid names.

    Returns
    -------
    str
        ``did you mean 'x'? (valid: a, b, x)``, or only the list when nothing is close.
    """
    names = sorted(str(item) for item in allowed)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    listed = f"valid: {', '.join(names)}"
    return f"did you mean {close[0]!r}? ({listed})" if close else f"({listed})"
