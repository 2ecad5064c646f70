"""``python -m tests.defects.check EVIDENCE RELATIONS [--all]``: hold the kernel that is on the path against it.

Prints one JSON object: for each kind of test the first finding, or null where it noticed nothing, and what was
not asked any more is left out. Meant to be run with NUMBA_DISABLE_JIT=1, as compiling takes longer than this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import backtest_farm
from tests.defects.evidence import Evidence, load
from tests.kernel.cases import outcome_of, run_case
from tests.kernel.test_against_oracle import differences
from tests.oracle.ledger import compare
from tests.soak import relations


def noticed(look: Callable[[], str | None]) -> str | None:
    """Return what a look finds; a kernel that raises is noticed too."""
    try:
        return look()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def by_ledgers(evidence: Evidence) -> str | None:
    """Return the first hand ledger that disagrees."""
    for name, case, ledger in evidence.ledgers:
        if noticed(lambda case=case, ledger=ledger: compare(ledger, outcome_of(case, run_case(case)))):  # type: ignore[misc]
            return name
    return None


def by_books(evidence: Evidence) -> str | None:
    """Return how many books were looked at until kernel and oracle disagreed on one."""
    for at, (_, case, want) in enumerate(evidence.books, start=1):
        found = noticed(
            lambda case=case, want=want: next(differences(case, want, outcome_of(case, run_case(case))), None)
        )  # type: ignore[misc]
        if found:
            return str(at)
    return None


def by_relations(books: int) -> str | None:
    """Return the first relation that is broken."""
    report = relations.examine(range(books))
    return min(report.failures)[1].partition(":")[0] if report.failures else None


def main() -> None:
    """Look, and say what was found."""
    evidence, books, everything = load(Path(sys.argv[1])), int(sys.argv[2]), "--all" in sys.argv
    found: dict[str, str | None] = {"package": str(Path(backtest_farm.__file__).parent)}
    with np.errstate(all="ignore"):
        for kind, look in (
            ("ledger", lambda: by_ledgers(evidence)),
            ("book", lambda: by_books(evidence)),
            ("relation", lambda: noticed(lambda: by_relations(books))),
        ):
            if kind == "relation" and any(found.get(name) for name in ("ledger", "book")):
                continue
            found[kind] = look()
            if found[kind] and not everything:
                break
    print(json.dumps(found))


if __name__ == "__main__":
    main()
