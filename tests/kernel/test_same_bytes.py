"""A trial's bytes do not depend on its neighbours, the room it had, the slabs it came in, or the compiler."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from backtest_farm.engine import tile as tiles
from backtest_farm.engine.tile import Market, ranked_targets, run_tile, terms
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import rank
from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, advance, finish
from backtest_farm.kernel.state import Book, Terms, frozen
from tests.kernel.cases import inputs, run_case, split
from tests.oracle.books import generate

N_BARS, N_ASSETS, N_TRIALS = 200, 30, 48


@pytest.fixture(scope="module")
def ranked_market():
    rng = np.random.default_rng(3)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.03, (N_BARS, N_ASSETS)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, close.shape))
    gone = rng.random(close.shape) < 0.03
    open_[gone], close[gone] = np.nan, np.nan
    close[:20, :5] = np.nan
    end = np.full(N_ASSETS, 2**62)
    end[[7, 11]] = [60, 120]
    payout = np.full(N_ASSETS, np.nan)
    payout[7] = 0.0
    score = rng.normal(size=close.shape)
    window = tiles.market(open_, close, end, payout, 252.0)
    return window, ranked_targets(*rank(score, end, 12))


def mixed_terms(n_trials: int = N_TRIALS) -> Terms:
    rng = np.random.default_rng(4)
    n = rng.integers(1, 13, n_trials)
    return terms(
        n_trials,
        n=n,
        weight=1.0 / n,
        rebalance=rng.integers(1, 22, n_trials),
        sizing=rng.integers(0, 2, n_trials),
        max_wait=rng.integers(1, 7, n_trials),
        commission_bps=rng.choice([0.0, 5.0, 10.0], n_trials),
        half_spread_bps=rng.choice([0.0, 3.0], n_trials),
        slippage_bps=rng.choice([0.0, 2.0], n_trials),
        cash=rng.choice([50.0, 1e6], n_trials),
    )


def only(trials: Terms, k: int) -> Terms:
    return Terms(*(frozen(column[k : k + 1], column.dtype) for column in trials))


def test_alone_and_in_a_tile(ranked_market) -> None:
    window, targets = ranked_market
    trials = mixed_terms()
    together = run_tile(window, trials, targets, record_bars=True)
    assert len(set(together.digests)) == N_TRIALS
    for k in range(N_TRIALS):
        alone = run_tile(window, only(trials, k), targets, record_bars=True, fill_rows=1)
        assert alone.digests[0] == together.digests[k]
        assert alone.metrics[0].tobytes() == together.metrics[k].tobytes()
        assert alone.segments[:, :, 0].tobytes() == np.ascontiguousarray(together.segments[:, :, k]).tobytes()
        assert (
            alone.record.bars[:, :, 0].tobytes()
            == np.ascontiguousarray(together.record.bars[:, :, k]).tobytes()
        )


def test_room_to_start_with_does_not_matter(ranked_market, monkeypatch) -> None:
    window, targets = ranked_market
    trials = mixed_terms()
    roomy = run_tile(window, trials, targets, fill_rows=100_000)
    grew = []
    grown, roomier = state.grown, state.roomier
    monkeypatch.setattr(tiles, "SPARE_SLOTS", -23)
    monkeypatch.setattr(state, "grown", lambda *given: grew.append("slots") or grown(*given))
    monkeypatch.setattr(state, "roomier", lambda *given: grew.append("rows") or roomier(*given))
    tight = run_tile(window, trials, targets, fill_rows=1)
    assert {"slots", "rows"} <= set(grew)
    assert tight.digests == roomy.digests
    used = int(roomy.record.used[0])
    assert int(tight.record.used[0]) == used > 1000
    assert tight.record.values[:used].tobytes() == roomy.record.values[:used].tobytes()


def test_chunks_of_bars_do_not_matter(ranked_market, monkeypatch) -> None:
    window, targets = ranked_market
    whole = run_tile(window, mixed_terms(), targets)
    monkeypatch.setattr(tiles, "TRIAL_BARS_PER_CALL", 7 * N_TRIALS)
    assert run_tile(window, mixed_terms(), targets).digests == whole.digests


@pytest.mark.parametrize("at", [1, 77, N_BARS - 1])
def test_slabs_do_not_matter(ranked_market, at: int) -> None:
    window, targets = ranked_market
    whole = run_tile(window, mixed_terms(), targets)
    assert run_tile(split(window, at), mixed_terms(), targets).digests == whole.digests


def test_state_can_be_saved_and_continued(ranked_market) -> None:
    window, targets = ranked_market
    trials = mixed_terms()
    want = run_tile(window, trials, targets).digests

    def walk(book: Book, until: int) -> None:
        todo = np.zeros((2, book.asset.shape[1]), np.int64)
        record = state.new_record(0, N_TRIALS, 0)
        scratch = np.zeros(N_ASSETS), np.zeros(N_ASSETS, np.int64)
        code = advance(
            book, window.slabs[0], trials, window.lives, targets, record, todo, *scratch, until, N_BARS
        )
        assert code == DONE

    book = state.new_book(trials.starting_cash, N_ASSETS, N_ASSETS)
    walk(book, 90)
    file = io.BytesIO()
    np.savez(file, **state.saved(book))
    file.seek(0)
    arrays = np.load(file, allow_pickle=False)
    again = state.restored(arrays)
    with pytest.raises(InputError, match="version 0 cannot be continued"):
        state.restored({**arrays, "version": np.array(0)})
    walk(again, N_BARS)
    finish(again)
    assert [f"{high:016x}{low:016x}" for high, low in again.digest.T.tolist()] == want


def test_mapped_and_writable_inputs_give_the_same(ranked_market, tmp_path) -> None:
    window, targets = ranked_market
    slab = window.slabs[0]
    maps = []
    for name in ("open", "close"):
        path = tmp_path / name
        path.write_bytes(getattr(slab, name).tobytes())
        maps.append(np.memmap(path, np.float64, "r", shape=(N_BARS, N_ASSETS)))
    mapped = tiles.market(
        *maps, window.lives.last_bar, np.array([0.0 if a == 7 else np.nan for a in range(N_ASSETS)]), 252.0
    )
    assert np.shares_memory(mapped.slabs[0].close, maps[1])
    assert (
        run_tile(mapped, mixed_terms(), targets).digests == run_tile(window, mixed_terms(), targets).digests
    )


def test_books_over_slabs(monkeypatch) -> None:
    for seed in range(0, 60):
        case = generate(seed)
        window, trial, targets = inputs(case)
        if window.n_bars < 3:
            continue
        cut: Market = split(window, window.n_bars // 2)
        assert run_tile(cut, trial, targets).digests == run_tile(window, trial, targets).digests


_INTERPRETED = """
import sys
import numpy as np
import numba
from tests.kernel.cases import run_case
from tests.oracle.books import generate
assert numba.config.DISABLE_JIT
with np.errstate(all="ignore"):
    for seed in range(int(sys.argv[1])):
        print(run_case(generate(seed)).digests[0])
"""


def test_without_the_compiler_the_bytes_are_the_same() -> None:
    books = 40
    done = subprocess.run(
        [sys.executable, "-c", _INTERPRETED, str(books)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [run_case(generate(seed)).digests[0] for seed in range(books)]
