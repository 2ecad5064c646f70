"""A trial's bytes do not depend on its neighbours, the room it had, the slabs it came in, or the compiler."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from backtest_farm.engine import tile as tiles
from backtest_farm.engine.tile import Market, listed_targets, ranked_targets, run_tile, terms
from backtest_farm.errors import InputError
from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, advance, finish
from backtest_farm.kernel.state import Book, Targets, Terms, frozen
from tests.kernel.cases import inputs, run_case, split
from tests.oracle.books import generate

N_BARS, N_ASSETS, N_TRIALS = 200, 30, 96
END = np.full(N_ASSETS, 2**62)
END[[7, 11]] = [60, 120]
PAYOUT = np.full(N_ASSETS, np.nan)
PAYOUT[7] = 0.0


@pytest.fixture(scope="module")
def window() -> Market:
    """A market with gaps, late listings, ends of life and a universe that changes."""
    rng = np.random.default_rng(3)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.03, (N_BARS, N_ASSETS)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, close.shape))
    gone = rng.random(close.shape) < 0.03
    open_[gone], close[gone] = np.nan, np.nan
    close[:20, :5] = np.nan
    spells = np.cumsum(rng.random(close.shape) < 0.02, axis=0) % 2
    return tiles.market([(open_, close)], END, PAYOUT, 252.0, spells == rng.integers(0, 2, N_ASSETS))


def schedules() -> np.ndarray:
    """Three rhythms, and one that closes everything now and then."""
    fires = np.stack([np.arange(N_BARS) % every == 0 for every in (1, 5, 21, 3)]).astype(np.uint8)
    fires[3, 60::40] = state.CLOSE_ALL
    return fires


@pytest.fixture(scope="module", params=["ranked", "weights", "values", "quantities"])
def targets(request) -> Targets:
    rng = np.random.default_rng(5)
    score = rng.normal(size=(N_BARS, N_ASSETS))
    if request.param == "ranked":
        counts = rng.choice([0, 1, 12, N_ASSETS], N_BARS)
        return ranked_targets(np.argsort(score, axis=1), counts, schedules())
    kind = ("weights", "values", "quantities").index(request.param)
    rows = np.where(np.abs(score) > 1.0, score * (0.1, 1e5, 2e3)[kind], np.nan)
    return listed_targets(rows, schedules(), rng.random(score.shape) < 0.2, kind)


def mixed_terms(n_trials: int = N_TRIALS) -> Terms:
    """Trials that have everything in some of them."""
    rng = np.random.default_rng(4)

    def some(*values, share: float = 0.5):
        return np.where(rng.random(n_trials) < share, rng.choice(values, n_trials), 0)

    return terms(
        n_trials,
        n=some(1, 3, 12, share=0.6),
        quantile=rng.uniform(0.05, 0.4, n_trials),
        weight=rng.uniform(0.05, 1.2, n_trials),
        short_weight=some(0.3, 0.8),
        schedule=rng.integers(0, 4, n_trials),
        fill=rng.integers(0, 3, n_trials),
        sizing=rng.integers(0, 2, n_trials),
        max_wait=rng.integers(1, 7, n_trials),
        commission_bps=some(5.0, 10.0),
        per_share=some(0.01, 0.1),
        min_commission=some(1.0, 50.0),
        max_commission_frac=some(0.01),
        half_spread_bps=some(3.0),
        slippage_bps=some(2.0),
        afford=rng.integers(0, 4, n_trials),
        margin=some(0.5),
        lot=some(0.1, 1.0, 100.0),
        lot_down=rng.integers(0, 2, n_trials),
        band=some(0.01, 0.1),
        band_rel=some(0.2),
        min_notional=some(10.0, 5000.0),
        cash=rng.choice([5e3, 1e6], n_trials),
    )


def only(trials: Terms, k: int) -> Terms:
    return Terms(*(frozen(column[k : k + 1], column.dtype) for column in trials))


def test_alone_and_in_a_tile(window, targets) -> None:
    trials = mixed_terms()
    together = run_tile(window, trials, targets, record_bars=True)
    assert len(set(together.digests)) > 0.9 * N_TRIALS
    never = {name for name, counts in zip(state.COUNTERS, together.counters, strict=True) if not counts.any()}
    assert not never, f"these trials prove nothing about {never}"
    for k in range(N_TRIALS):
        alone = run_tile(window, only(trials, k), targets, record_bars=True, fill_rows=1)
        assert alone.digests[0] == together.digests[k]
        assert alone.metrics[0].tobytes() == together.metrics[k].tobytes()
        assert alone.segments[:, :, 0].tobytes() == np.ascontiguousarray(together.segments[:, :, k]).tobytes()
        assert (
            alone.record.bars[:, :, 0].tobytes()
            == np.ascontiguousarray(together.record.bars[:, :, k]).tobytes()
        )


def test_room_to_start_with_does_not_matter(window, targets, monkeypatch) -> None:
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


def test_chunks_of_bars_do_not_matter(window, targets, monkeypatch) -> None:
    whole = run_tile(window, mixed_terms(), targets)
    monkeypatch.setattr(tiles, "TRIAL_BARS_PER_CALL", 7 * N_TRIALS)
    assert run_tile(window, mixed_terms(), targets).digests == whole.digests


@pytest.mark.parametrize("at", [(1,), (77,), (N_BARS - 1,), (60, 61, 121), range(1, N_BARS)], ids=str)
def test_slabs_do_not_matter(window, targets, at) -> None:
    whole = run_tile(window, mixed_terms(), targets)
    assert run_tile(split(window, *at), mixed_terms(), targets).digests == whole.digests


def test_state_can_be_saved_and_continued(window, targets) -> None:
    trials = mixed_terms()
    want = run_tile(window, trials, targets).digests

    def walk(book: Book, until: int) -> None:
        record = state.new_record(0, N_TRIALS, 0)
        scratch = state.new_scratch(N_ASSETS, book.asset.shape[1])
        code = advance(book, window.slabs[0], trials, window.events, targets, record, scratch, until, N_BARS)
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


def test_mapped_and_writable_inputs_give_the_same(window, targets, tmp_path) -> None:
    slab = window.slabs[0]
    maps = []
    for name in ("open", "close"):
        path = tmp_path / name
        path.write_bytes(getattr(slab, name).tobytes())
        maps.append(np.memmap(path, np.float64, "r", shape=(N_BARS, N_ASSETS)))
    mapped, copied = (
        tiles.market([prices], END, PAYOUT, 252.0) for prices in (maps, (slab.open.copy(), slab.close.copy()))
    )
    assert np.shares_memory(mapped.slabs[0].close, maps[1])
    digests = [run_tile(each, mixed_terms(), targets).digests for each in (mapped, copied)]
    assert digests[0] == digests[1]


def test_books_over_slabs() -> None:
    for seed in range(60):
        window, trial, targets = inputs(generate(seed))
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
    books = 60
    done = subprocess.run(
        [sys.executable, "-c", _INTERPRETED, str(books)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [run_case(generate(seed)).digests[0] for seed in range(books)]
