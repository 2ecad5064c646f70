"""Defects can be put into the kernel as it is now, and some of them are tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.defects.__main__ import LEAST, PAGE
from tests.defects.catalogue import Defect, defects
from tests.defects.copies import MovedTextError, defective, look, source_of
from tests.defects.evidence import gather, save

TRIED = {
    "commission is charged twice",
    "a split leaves waiting orders",
    "kept weights are scaled away by others",
    "cash of sales comes too late for buys",
    "water takes in a bar before its test",
    "a trial sees targets of the one before",
    "at once, equity leaves out the slots that new names have moved",
}
BOOKS = 60


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("defects") / "evidence"
    save(gather(BOOKS), path)
    return path


def test_the_kernel_as_it_is_passes(evidence) -> None:
    assert look(None, evidence).said == "NOT NOTICED"


@pytest.mark.parametrize(
    "defect", [each for each in defects() if each.name in TRIED], ids=lambda each: each.name
)
def test_a_defect_is_noticed(defect, evidence) -> None:
    finding = look(defect, evidence)
    assert finding.noticed
    assert finding.crash is None


def test_there_are_enough_of_them_and_every_text_is_where_it_was() -> None:
    names = [each.name for each in defects()]
    assert len(names) == len(set(names)) > 100
    assert set(names) >= TRIED
    moved = []
    for each in defects():
        try:
            assert defective(source_of(each), each) != source_of(each)
        except MovedTextError as error:
            moved.append(str(error))
    assert not moved, "write these edits anew in tests/defects/catalogue.txt:\n" + "\n".join(moved)


def test_a_text_that_moved_is_an_error() -> None:
    gone = Defect("", "kernel/book.py", "gone", (("no such text", ""),), "")
    with pytest.raises(MovedTextError, match="found 0 times"):
        defective("text", gone)
    with pytest.raises(MovedTextError, match="found 2 times"):
        defective("no such text, no such text", gone)


def test_the_page_is_of_these_defects() -> None:
    """`make defects` writes it anew when the catalogue has changed."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| [^|]+ \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    table = [row for row in rows if row[0] not in ("the copy's defect", "---")]
    assert [name for name, _ in table] == [each.name for each in defects()]
    missed = {name for name, other in table if "not noticed" in other}
    assert missed <= {each.name for each in defects() if each.equivalent}
    assert len(missed) <= (1.0 - LEAST) * len(table)
