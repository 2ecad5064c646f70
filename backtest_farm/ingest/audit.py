"""Another look at a panel that was written: its files, and its bars as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from backtest_farm.errors import PanelError
from backtest_farm.ingest.calendars import survey_sessions
from backtest_farm.ingest.checks import Survey
from backtest_farm.ingest.grid import Ends
from backtest_farm.ingest.ledger import Ledger
from backtest_farm.ingest.report import Report


class Checked(Protocol):
    """A file that knows what its bytes should be."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    def check_bytes(self) -> None:
        """Raise PanelError if the file is missing or was changed."""
        ...


def audit_files(files: Iterable[Checked]) -> Report:
    """Read every file in full and return the damaged ones as errors."""
    ledger = Ledger()
    for file in files:
        try:
            file.check_bytes()
        except PanelError as fault:
            ledger.note("damaged_file", str(file.path), [{"more": f"; {fault.message}"}])
    return ledger.report()


def audit_bars(
    timestamps: np.ndarray,
    symbols: tuple[str, ...],
    ends: Ends,
    calendar: str | None,
    blocks: Iterable[tuple[int, Mapping[str, np.ndarray]]],
    what: str,
) -> Report:
    """Return the warnings that reading these bars would give.

    Parameters
    ----------
    timestamps, symbols, ends, calendar
        The panel's.
    blocks : iterable of (int, mapping)
        First bar and fields, float64 (n, n_assets), of each run of bars, in order.
    what : str
        The panel's name in findings.
    """
    survey = Survey(timestamps, symbols, ends, what)
    for first, fields in blocks:
        survey.take(first, fields)
    return survey.report() + survey_sessions(calendar, timestamps)
