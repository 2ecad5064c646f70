"""The soak itself: its suites pass, and notice what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from backtest_farm.engine.tile import TileResult
from tests.kernel.cases import run_case
from tests.oracle.book import Case
from tests.oracle.books import generate
from tests.soak import contract, relations
from tests.soak.__main__ import main
from tests.soak.report import Report

SEEDS = range(1000, 1024)


@pytest.mark.parametrize("suite", [contract, relations], ids=["contract", "relations"])
def test_a_few_books_pass(suite) -> None:
    report = suite.examine(SEEDS)
    assert report.failures == []
    assert report.books == len(SEEDS)
    assert sum(report.occurrences.values()) > 4 * len(SEEDS)


def dearer(case: Case, **changes: object) -> TileResult:
    """Run a book with a fixed fee on top of each of its commissions."""
    fees = {name: getattr(case, name) for name in ("commission_bps", "min_commission")}
    more: dict[str, Any] = {
        name: [each + case.cash * 1e-6 for each in fee] if isinstance(fee, list) else fee + case.cash * 1e-6
        for name, fee in fees.items()
    }
    return run_case(replace(case, max_commission_frac=0.0, **more), **changes)


def test_a_wrong_kernel_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(contract, "run_case", dearer)
    assert len(contract.examine(SEEDS).failures) > len(SEEDS) / 2


@pytest.mark.parametrize("relation", relations.RELATIONS, ids=lambda relation: relation.__name__)
def test_every_relation_can_be_broken(relation, monkeypatch) -> None:
    """By a run that is not the book's own; where two are made inside, by units or weights that are not."""
    listed = relations.listed_targets
    monkeypatch.setattr(relations, "listed_targets", lambda weights, fires: listed(1.001 * weights, fires))
    broken = looked = 0
    for seed in SEEDS:
        case = generate(seed)
        if relation is relations.no_splits:
            monkeypatch.setattr(relations, "_rescaled", lambda table, units, power: table)
        found = relation(Random(seed), case, dearer(case))
        looked += found is not None
        broken += bool(found is not None and list(found))
    assert broken > looked / 3 > 0


def test_what_went_wrong_is_said(capsys) -> None:
    assert main(["contract", "--books", "2", "--first", "1001", "--processes", "1"]) == 1
    said = capsys.readouterr().out
    assert "2 books, seeds 1001 to 1002" in said
    assert "fewer than 20 times, which proves little: full_rotation" in said
    assert said.splitlines()[-1].startswith("contract: FAILED: 2 books, 0 of them differ, 1 processes")


def test_reports_add_up() -> None:
    one, two = Report(), Report(failures=[(seed, "off") for seed in range(12, 0, -1)])
    one.count(Counter(a=2))
    two.count(Counter(a=1, b=0))
    one.add(two)
    assert (one.books, one.occurrences["a"], one.in_books["a"], one.in_books["b"]) == (2, 3, 2, 0)
    assert [*one.failure_lines()] == [*(f"book {seed}: off" for seed in range(1, 11)), "... and 2 more"]
