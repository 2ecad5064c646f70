"""The kernel against the oracle, and the invariants on the kernel's own books."""

from __future__ import annotations

from collections import Counter

from tests.kernel.cases import outcome_of, run_case
from tests.kernel.test_against_oracle import differences
from tests.oracle.book import run
from tests.oracle.books import TROUBLES, generate, troubles
from tests.oracle.invariants import check
from tests.oracle.troubles import RARE
from tests.soak.report import Report, Suite


def examine(seeds: range) -> Report:
    """Compare the books of these seeds."""
    report = Report()
    for seed in seeds:
        case = generate(seed)
        want, have = run(case), outcome_of(case, run_case(case))
        report.count(Counter(troubles(case, want)))
        found = list(differences(case, want, have))
        if not found:
            try:
                check(case, have)
            except AssertionError as error:
                found = [f"invariant: {error}"]
        if found:
            report.failures.append((seed, "; ".join(found[:3])))
    return report


SUITE = Suite("contract", "kernel against oracle, and invariants", examine, TROUBLES, frozenset(RARE))
