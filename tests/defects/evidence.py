"""What every defective copy is held against: hand ledgers, and books with what the oracle makes of them.

The oracle's part is the same for all copies, so it is worked out once and handed over as a file.
"""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.oracle.book import Case, Outcome, run
from tests.oracle.books import generate, troubles
from tests.oracle.ledger import Ledger, load_all


class Evidence(NamedTuple):
    """What a copy of the kernel is held against."""

    ledgers: list[Ledger]
    books: list[tuple[Case, Outcome]]


def gather(books: int) -> Evidence:
    """Return all hand ledgers and the first so many generated books, the most telling ones first.

    A book tells much if it has troubles that few others have.
    """
    found = []
    for seed in range(books):
        case = generate(seed)
        outcome = run(case)
        present = {name for name, count in troubles(case, outcome).items() if count}
        found.append((present, case, outcome))
    in_books = Counter(name for present, *_ in found for name in present)
    found.sort(key=lambda row: -sum(1.0 / in_books[name] for name in row[0]))
    return Evidence(load_all(), [(case, outcome) for _, case, outcome in found])


def save(evidence: Evidence, path: Path) -> None:
    """Write evidence for other processes of this run."""
    path.write_bytes(pickle.dumps(evidence))


def load(path: Path) -> Evidence:
    """Read what `save` wrote."""
    evidence: Evidence = pickle.loads(path.read_bytes())
    return evidence
