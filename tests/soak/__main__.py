"""``python -m tests.soak [SUITE]``, from the repository root.

``contract``, ``relations`` or ``all`` (both of them) look at generated books, ``--books`` many. Every other
suite looks at seeds for ``--minutes``, going on from where its last run stood.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.soak import contract, long, relations
from tests.soak.report import Suite

BOOK_SUITES: dict[str, Suite] = {suite.name: suite for suite in (contract.SUITE, relations.SUITE)}
SUITES: dict[str, str] = {
    "crashes": "tests.soak.crashes",
    "damage": "tests.soak.damage",
    "s3": "tests.soak.s3",
    "races": "tests.soak.races",
    "simulation": "tests.soak.simulation",
    "kills": "tests.soak.kills",
    "bad_trials": "tests.soak.bad_trials",
    "one_digest": "tests.soak.one_digest",
    "hostile": "tests.soak.hostile",
    "fuzz": "tests.soak.fuzz",
}
"""Suites by seed, see `tests.soak.long`: their modules."""
BOOKS = 20_000
FIRST = 1_000
"""The usual tests look at the books before this one."""


def main(words: list[str] | None = None) -> int:
    """Run one suite or all of those about books; 1 where one fails."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("suite", nargs="?", default="all", choices=[*BOOK_SUITES, "all", *SUITES])
    parser.add_argument("--books", type=int, default=BOOKS, help="how many books each suite draws")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="for how long; a suite with an end may go without")
    parser.add_argument("--seed", type=int, help="start anew from this seed, instead of going on")
    parser.add_argument("--only", type=int, help="look at this seed alone, in this process")
    asked = parser.parse_args(words)
    if asked.suite in SUITES:
        module = SUITES[asked.suite]
        if asked.only is not None:
            wrong = importlib.import_module(module).one(asked.only)
            print(f"seed {asked.only}: {wrong or 'well'}")
            return 1 if wrong else 0
        return 0 if long.run(asked.suite, module, asked.minutes, asked.seed, asked.processes) else 1
    seeds = range(asked.first, asked.first + asked.books)
    chosen = BOOK_SUITES.values() if asked.suite == "all" else [BOOK_SUITES[asked.suite]]
    well = [suite.run(seeds, asked.processes) for suite in chosen]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
