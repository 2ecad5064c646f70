"""``python -m tests.defects``: try every defect and write docs/defects.md; ``--only TEXT`` tries some."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.defects.catalogue import Defect, defects
from tests.defects.copies import ROOT, Finding, look, look_compiled
from tests.defects.evidence import gather, save

PAGE = ROOT / "docs" / "defects.md"
BOOKS = 300
LEAST = 0.95
"""Part of the defects that the tests have to notice."""

INTRODUCTION = """\
# Would the tests notice?

`make defects` puts small slips into copies of the kernel, one at a time, holds each copy against the tests,
and writes this page. The slips stand in `tests/defects/catalogue.txt`; `make test` tries seven of them.

**{total} defects, {noticed} noticed ({part:.1%}).** Of {ledgers} ledgers worked out by hand, at least one
disagrees with {by_ledger} of the copies; of {books} generated books, which the oracle has run too, at least
one with {by_book}. What both let pass is held against relations between books, which notice {by_relation}
more; the rest is compiled and given to `tests/kernel` and `tests/properties`, which notice {by_compiled}.

The columns name the first ledger that disagrees, and how many books were looked at until one did, the most
telling ones first.
"""


def page(found: dict[Defect, Finding], books: int, ledgers: int) -> str:
    """Return docs/defects.md."""
    missed = [defect for defect, finding in found.items() if not finding.noticed]
    by = {
        f"by_{kind}": sum(getattr(finding, kind) is not None for finding in found.values())
        for kind in ("ledger", "book", "relation", "compiled")
    }
    total, noticed = len(found), len(found) - len(missed)
    figures = {
        "total": total,
        "noticed": noticed,
        "part": noticed / total,
        "books": books,
        "ledgers": ledgers,
    }
    lines = INTRODUCTION.format(**figures, **by).splitlines()
    for group, members in groupby(found, lambda defect: defect.group):
        lines += ["", f"## {group}", "", "| the copy's defect | ledger | books | otherwise |"]
        lines.append("| --- | --- | --- | --- |")
        for defect in members:
            finding = found[defect]
            other = finding.relation or finding.compiled or finding.crash or ""
            cells = defect.name, finding.ledger or "–", finding.book or "–", other.replace("|", "\\|")
            lines.append(f"| {' | '.join(cells if finding.noticed else (*cells[:3], '**not noticed**'))} |")
    if missed:
        lines += ["", "## Not noticed", ""]
        lines += [f"- {defect.name}: {defect.equivalent or 'a test is missing.'}" for defect in missed]
    return "\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> int:
    """Try the defects; 1 where too many are not noticed, or the kernel as it is does not pass."""
    parser = argparse.ArgumentParser("python -m tests.defects", description=__doc__)
    parser.add_argument(
        "--only", default="", help="defects whose file or name has this in it; writes no page"
    )
    parser.add_argument(
        "--books", type=int, default=BOOKS, help="generated books that a copy is held against"
    )
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(words)
    chosen = [each for each in defects() if asked.only in f"{each.file}: {each.name}"]
    begun = time.perf_counter()
    found: dict[Defect, Finding] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evidence"
        evidence = gather(asked.books)
        save(evidence, path)
        as_it_is = look(None, path)
        if as_it_is.noticed:
            print(f"defects: FAILED: the kernel as it is does not pass: {as_it_is.said}")
            return 1
        with ThreadPoolExecutor(asked.processes) as pool:
            findings = pool.map(lambda each: look(each, path, everything=True), chosen)
            for at, (each, finding) in enumerate(zip(chosen, findings, strict=True), start=1):
                found[each] = finding
                print(f"{at}/{len(chosen)} {each.file}: {each.name}: {finding.said}", flush=True)
    left = [each for each, finding in found.items() if not finding.noticed and not each.equivalent]
    # A test that fails anyway would notice everything.
    if left and (failing := look_compiled(None)):
        print(f"defects: FAILED: the kernel as it is does not pass {failing}")
        return 1
    for each in left:
        found[each] = Finding(compiled=look_compiled(each))
        print(f"compiled: {each.file}: {each.name}: {found[each].said}", flush=True)
    missed = [each for each, finding in found.items() if not finding.noticed]
    unexplained = [each for each in missed if not each.equivalent]
    part = 1.0 - len(missed) / len(chosen)
    if not asked.only:
        PAGE.write_text(page(found, asked.books, len(evidence.ledgers)), encoding="utf-8")
    verdict = "ok" if part >= LEAST and not unexplained else "FAILED"
    print(
        f"defects: {verdict}: {len(chosen)} defects, {len(chosen) - len(missed)} noticed ({part:.1%}), "
        f"{len(unexplained)} neither noticed nor explained, {time.perf_counter() - begun:,.0f} s"
    )
    return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
