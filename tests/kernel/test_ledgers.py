"""The kernel against the ledgers computed by hand."""

from __future__ import annotations

import pytest

from tests.kernel.cases import outcome_of, run_case
from tests.oracle.book import Case
from tests.oracle.ledger import Ledger, compare, load_all

LEDGERS = load_all()


@pytest.mark.parametrize("ledger", LEDGERS, ids=[ledger.name for ledger in LEDGERS])
def test_kernel_agrees_with_hand(ledger: Ledger) -> None:
    case = Case(**ledger.case)
    compare(ledger, outcome_of(case, run_case(case)))
