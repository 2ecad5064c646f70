"""``python -m tests.defects.check EVIDENCE BOOKS [--all]``: hold the kernel on the path against the evidence.

Prints one JSON object: for each kind of test the first finding, or null where it noticed nothing; what was
not asked any more is left out. Meant for NUMBA_DISABLE_JIT=1, as compiling takes longer than all of this.
BOOKS is how many are held against relations.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import backtest_farm
from tests.defects.evidence import Evidence, load
from tests.kernel.cases import outcome_of, run_case
from tests.kernel.rankings import ranking, unlike
from tests.kernel.test_against_oracle import differences
from tests.oracle.book import Case, Outcome
from tests.oracle.ledger import Ledger, compare
from tests.soak import relations

RANKINGS = 3
"""For each book that is held against relations, so many rankings: they are quicker."""


def noticed(look: Callable[[], str | None]) -> str | None:
    """Return what a look finds; a kernel that raises is noticed too."""
    try:
        return look()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def by_ledgers(evidence: Evidence) -> str | None:
    """Return the first hand ledger that disagrees."""
    for ledger in evidence.ledgers:
        if noticed(partial(_against_hand, ledger)):
            return ledger.name
    return None


def _against_hand(ledger: Ledger) -> None:
    case = Case(**ledger.case)
    compare(ledger, outcome_of(case, run_case(case)))


def by_books(evidence: Evidence) -> str | None:
    """Return how many books were looked at until kernel and oracle disagreed on one."""
    for at, (case, want) in enumerate(evidence.books, start=1):
        if noticed(partial(_against_oracle, case, want)):
            return str(at)
    return None


def _against_oracle(case: Case, want: Outcome) -> str | None:
    return next(differences(case, want, outcome_of(case, run_case(case))), None)


def by_relations(books: int) -> str | None:
    """Return the first relation that is broken.

    Ledgers and books mostly list their targets. Rankings, which the kernel fills at once where it can, are
    held against tables that say the same.
    """
    for seed in range(RANKINGS * books):
        if noticed(partial(_against_tables, seed)):
            return "a ranking and its tables"
    report = relations.examine(range(books))
    return min(report.failures)[1].partition(":")[0] if report.failures else None


def _against_tables(seed: int) -> str | None:
    return next(unlike(ranking(seed)), None)


def main() -> None:
    """Look, and say what was found."""
    evidence, books, everything = load(Path(sys.argv[1])), int(sys.argv[2]), "--all" in sys.argv
    found: dict[str, str | None] = {}
    with np.errstate(all="ignore"):
        found["ledger"] = by_ledgers(evidence)
        if everything or not found["ledger"]:
            found["book"] = by_books(evidence)
        if not any(found.values()):
            found["relation"] = noticed(lambda: by_relations(books))
    print(json.dumps({"package": str(Path(backtest_farm.__file__).parent), **found}))


if __name__ == "__main__":
    main()
