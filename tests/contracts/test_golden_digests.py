"""The bytes of results: they change only together with RESULT_EPOCH, and the kernel is compiled once."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from backtest_farm.kernel import RESULT_EPOCH
from tests.kernel.cases import run_case
from tests.oracle.book import Case
from tests.oracle.ledger import load_all

GOLDEN = {1: "7bec27887e4aa1ff0895894f574e2630e096377c4966f76dae716f7ad2056cbc"}
"""By epoch: the hash of the digests of all hand-made ledgers, whose inputs are plain decimal numbers."""


def test_bytes_change_only_with_the_epoch() -> None:
    digests = [f"{ledger.name} {run_case(Case(**ledger.case)).digests[0]}" for ledger in load_all()]
    found = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert found == GOLDEN.get(RESULT_EPOCH), (
        "results have other bytes than before, or there are other ledgers. If new bytes are meant, raise "
        f"RESULT_EPOCH in kernel/__init__.py, so that stored trials run again, and pin {found!r} for it"
    )


_EVERY_KIND = """
import numpy as np
from backtest_farm.engine.tile import listed_targets, market, ranked_targets, run_tile, terms
from backtest_farm.factors.kernels import momentum, rank_rows
from backtest_farm.factors.ranks import rank
from backtest_farm.kernel.book import advance, finish
from backtest_farm.kernel.state import frozen
from backtest_farm.kernel.summary import summarise

prices = np.exp(np.random.default_rng(0).normal(size=(9, 4)))
ends = np.full(4, 2**62)
for kind in (prices, frozen(prices), np.asfortranarray(prices), prices.astype(np.float32), prices.tolist()):
    window = market(np.asarray(kind), np.asarray(kind), ends, np.full(4, np.nan), 252)
    for targets in (ranked_targets(*rank(prices, ends, 2)), listed_targets(np.full((9, 4), 0.25))):
        for trials in (terms(1, n=2, weight=0.5), terms(3, n=[1, 2, 2], weight=[1, 0.5, 0.5], cash=1000)):
            run_tile(window, trials, targets, record_bars=True, fill_rows=3)
            run_tile(window, trials, targets)
print({f.__name__: len(f.signatures) for f in (advance, finish, summarise, rank_rows)})
"""


def test_one_specialisation_of_each_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", _EVERY_KIND], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert eval(done.stdout) == {"advance": 1, "finish": 1, "summarise": 1, "rank_rows": 1}
