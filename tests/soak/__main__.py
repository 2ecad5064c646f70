"""``python -m tests.soak [contract | relations | all]``, from the repository root."""

from __future__ import annotations

import argparse
import sys

from tests.soak import contract, relations
from tests.soak.report import Suite

SUITES: dict[str, Suite] = {suite.name: suite for suite in (contract.SUITE, relations.SUITE)}
BOOKS = 20_000
FIRST = 1_000
"""The usual tests look at the books before this one."""


def main(words: list[str] | None = None) -> int:
    """Run one suite or all of them; 1 where one fails."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("suite", nargs="?", default="all", choices=[*SUITES, "all"])
    parser.add_argument("--books", type=int, default=BOOKS, help="how many books each suite draws")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first one")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(words)
    seeds = range(asked.first, asked.first + asked.books)
    chosen = SUITES.values() if asked.suite == "all" else [SUITES[asked.suite]]
    well = [suite.run(seeds, asked.processes) for suite in chosen]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
