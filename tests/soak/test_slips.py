"""Small slips in the store are noticed by the suites that are to notice them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.soak import crashes
from tests.soak.slips import SLIPS, noticed, slipped
from tests.storage.s3_double import Line, running


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with running() as one:
        yield one


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.name)
def test_a_slip_is_noticed(slip, line) -> None:
    assert noticed(slip, line)


def test_there_are_enough_of_them_and_they_are_undone() -> None:
    assert len({slip.name for slip in SLIPS}) == len(SLIPS) >= 12
    for slip in SLIPS:
        with slipped(slip):
            pass
    assert crashes.one(0) is None


def test_a_text_that_moved_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times"), slipped(SLIPS[0]._replace(old="no such text")):
        pass
