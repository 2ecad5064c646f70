"""The bytes of results: they change only together with RESULT_EPOCH, and the kernel is compiled once."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from backtest_farm.kernel import RESULT_EPOCH
from tests.kernel.cases import run_case
from tests.oracle.book import Case
from tests.oracle.ledger import load_all

GOLDEN = {3: "275c39414d6f0cee564f18174dfb69957d9e88c63c5e359a8e8d09a485b790c2"}
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
from backtest_farm.factors.kernels import rank_rows
from backtest_farm.factors.ranks import rank
from backtest_farm.kernel import book, decisions, fills, rules, summary

prices = np.exp(np.random.default_rng(0).normal(size=(9, 4)))
ends, payout = np.full(4, 2**62), np.full(4, np.nan)
keep = np.eye(9, 4) > 0
frozen = book.s.frozen(prices)
for kind in (prices, frozen, np.asfortranarray(prices), prices.astype(np.float32), prices.tolist()):
    named = {name: np.asarray(kind) for name in ("open", "close", "high", "low", "volume")}
    blocks = [{name: each[rows] for name, each in named.items()} for rows in (slice(4), slice(4, 9))]
    for at, member in enumerate((None, prices > 0.5, np.asfortranarray(prices > 0.5).astype(np.uint8))):
        window = market(blocks, ends, payout, 252, member)
        fires = np.ones((2, 9), (bool, np.uint8, np.int64)[at])
        for targets in (
            ranked_targets(*rank(prices, ends, 2), fires),
            listed_targets(np.full((9, 4), 0.25), fires),
            listed_targets(np.full((9, 4), 3), fires, keep, at),
        ):
            several = terms(3, n=[1, 2, 0], quantile=0.5, weight=[1, 0.5, 0.5], fill=[0, 1, 2], lot=1, cash=9)
            for trials in (terms(1, n=2, weight=0.5), several):
                run_tile(window, trials, targets, record_bars=True, fill_rows=3)
                run_tile(window, trials, targets)
rooms = (book, decisions, fills, rules, summary)
compiled = [f for room in rooms for f in vars(room).values() if hasattr(f, "signatures")]
print({f.__name__: len(f.signatures) for f in (book.advance, book.finish, summary.summarise, rank_rows)})
print(max(len(f.signatures) for f in compiled))
"""


def test_one_specialisation_of_each_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", _EVERY_KIND], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    entries, most = done.stdout.splitlines()
    assert eval(entries) == {"advance": 1, "finish": 1, "summarise": 1, "rank_rows": 1}
    assert most == "1"
