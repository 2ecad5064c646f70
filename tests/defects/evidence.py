"""What every defective copy is held against: hand ledgers, and books with what the oracle makes of them.

The oracle's part is the same for all copies, so it is worked out once and handed over as a file.
"""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.oracle.book import Case, Outcome, run
from tests.oracle.books import generate, troubles
from tests.oracle.ledger import load_all


class Ledger(NamedTuple):
    """A hand ledger without the code that loads it."""

    name: str
    case: Case
    ledger: Any


class Evidence(NamedTuple):
    """What a copy of the kernel is held against."""

    ledgers: list[Ledger]
    books: list[tuple[int, Case, Outcome]]


def gather(books: int) -> Evidence:
    """Return all hand ledgers and the first so many generated books, the most telling ones first.

    A book tells much if it has troubles that few others have.
    """
    found = []
    for seed in range(books):
        case = generate(seed)
        outcome = run(case)
        present = {name for name, count in troubles(case, outcome).items() if count}
        found.append((seed, case, outcome, present))
    in_books = Counter(name for *_, present in found for name in present)
    found.sort(key=lambda row: -sum(1.0 / in_books[name] for name in row[3]))
    ledgers = [Ledger(each.name, Case(**each.case), each) for each in load_all()]
    return Evidence(ledgers, [row[:3] for row in found])


def save(evidence: Evidence, path: Path) -> None:
    """Write evidence for processes of this run to read."""
    path.write_bytes(pickle.dumps(evidence))


def load(path: Path) -> Evidence:
    """Read what `save` wrote."""
    evidence: Evidence = pickle.loads(path.read_bytes())
    return evidence
