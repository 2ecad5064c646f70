"""What a check of results runs again is really run again."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

import backtest_farm as bf
from backtest_farm.errors import StoreError

CALLS = [0]


class Unsteady(bf.Strategy):
    """Ranks by something else each time it is asked, as after an unseeded draw."""

    n: int = 2
    name: str = ""

    def signal(self, panel):
        assert self.name  # what is kept of a signal goes by what it reads
        CALLS[0] += 1
        return np.roll(panel["close"], CALLS[0], axis=1)

    def portfolio(self):
        return bf.TopN(n=self.n, rebalance=5)


def test_verify_asks_a_class_of_ones_own_for_its_signal_again(panel, tmp_path) -> None:
    # By a name that no earlier run of this test left a signal under.
    strategy = Unsteady(n=bf.axis([2, 3]), name=uuid.uuid4().hex)
    sweep = bf.Sweep(panel=panel, strategy=strategy)
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    asked = CALLS[0]
    assert asked == 1
    # What this machine keeps of a signal would agree with itself.
    assert study.replay(0).digest == study.trial(0)["digest"] and CALLS[0] == asked
    assert study.verify()["rows"] == 2
    with pytest.raises(StoreError, match=r"trial 0 gives digest \w+ now, but \w+ is stored"):
        study.verify(sample=1)
    assert CALLS[0] == asked + 1
