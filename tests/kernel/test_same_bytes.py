"""A trial's bytes do not depend on its neighbours, the room it had, the slabs it came in, or the compiler."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from backtest_farm.engine import tile as tiles
from backtest_farm.engine.tile import Market, run_tile
from backtest_farm.errors import InputError
from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, advance, finish
from backtest_farm.kernel.state import Book, Targets, Terms
from tests.kernel.cases import inputs, run_case, split
from tests.kernel.mixed import (
    END,
    KINDS,
    N_ASSETS,
    N_BARS,
    N_TRIALS,
    PAYOUT,
    mixed_market,
    mixed_targets,
    mixed_terms,
    only,
)
from tests.oracle.books import generate

OF_WEIGHTS = {"capped", "over_limit"}
"""Counters of constraints, which bound weights alone."""


@pytest.fixture(scope="module")
def window() -> Market:
    return mixed_market()


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def targets(kind) -> Targets:
    return mixed_targets(kind)


@pytest.fixture(scope="module")
def trials(kind) -> Terms:
    return mixed_terms(kind)


def test_everything_happens_in_the_mixed_tile(kind, window, trials, targets) -> None:
    tile = run_tile(window, trials, targets, record_bars=True, fill_rows=100)
    assert len(set(tile.digests)) > 0.9 * N_TRIALS
    never = {name for name, counts in zip(state.COUNTERS, tile.counters, strict=True) if not counts.any()}
    assert never == (OF_WEIGHTS if kind in ("values", "quantities") else set())
    columns = dict(zip(state.BAR_COLUMNS, np.abs(tile.record.bars).sum(axis=(0, 2)), strict=True))
    assert all(columns.values()), f"these trials prove nothing about {columns}"
    used = int(tile.record.used[0])
    parts = dict(zip(state.FILL_VALUES, np.abs(tile.record.values[:used]).sum(axis=0), strict=True))
    assert all(parts.values()), f"these trials prove nothing about {parts}"
    assert {*tile.record.keys[:used, 4].tolist()} == {*range(len(state.REASONS))}
    assert {*window.events.kind.tolist()} == {*range(5)}


def test_alone_and_in_a_tile(window, trials, targets) -> None:
    together = run_tile(window, trials, targets, record_bars=True)
    bare = 0
    for k in range(N_TRIALS):
        mine = only(trials, k)
        bare += len(mine.rules) == 0
        alone = run_tile(window, mine, targets, record_bars=True, fill_rows=1)
        assert alone.digests[0] == together.digests[k]
        assert alone.metrics[0].tobytes() == together.metrics[k].tobytes()
        assert alone.segments[:, :, 0].tobytes() == np.ascontiguousarray(together.segments[:, :, k]).tobytes()
        assert (
            alone.record.bars[:, :, 0].tobytes()
            == np.ascontiguousarray(together.record.bars[:, :, k]).tobytes()
        )
    assert bare > 3, "some trials have no rules while their neighbours do"


def test_the_place_in_a_tile_does_not_matter(window, trials, targets) -> None:
    straight = run_tile(window, trials, targets).digests
    order = np.random.default_rng(1).permutation(N_TRIALS)
    mixed = run_tile(window, only(trials, *order), targets).digests
    assert mixed == [straight[k] for k in order]


def test_room_to_start_with_does_not_matter(window, trials, targets, monkeypatch) -> None:
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


def test_chunks_of_bars_do_not_matter(window, trials, targets, monkeypatch) -> None:
    whole = run_tile(window, trials, targets)
    monkeypatch.setattr(tiles, "TRIAL_BARS_PER_CALL", 7 * N_TRIALS)
    assert run_tile(window, trials, targets).digests == whole.digests


@pytest.mark.parametrize("at", [(1,), (77,), (N_BARS - 1,), (60, 61, 121), range(1, N_BARS)], ids=str)
def test_slabs_do_not_matter(window, trials, targets, at) -> None:
    whole = run_tile(window, trials, targets)
    assert run_tile(split(window, *at), trials, targets).digests == whole.digests


@pytest.mark.parametrize("stops", [(1,), (90,), (59, 60, 61, 62, 120, 150)], ids=str)
def test_state_can_be_saved_and_continued(window, trials, targets, stops) -> None:
    want = run_tile(window, trials, targets).digests

    def walk(book: Book, until: int) -> None:
        record = state.new_record(0, N_TRIALS, 0)
        scratch = state.new_scratch(N_ASSETS, book.asset.shape[1])
        code = advance(book, window.slabs[0], trials, window.events, targets, record, scratch, until, N_BARS)
        assert code == DONE

    book = state.new_book(trials, N_ASSETS, N_ASSETS)
    for stop in stops:
        walk(book, stop)
        file = io.BytesIO()
        np.savez(file, **state.saved(book))
        file.seek(0)
        book = state.restored(np.load(file, allow_pickle=False))
    walk(book, N_BARS)
    finish(book)
    assert [f"{high:016x}{low:016x}" for high, low in book.digest.T.tolist()] == want


def test_a_state_of_another_version_is_refused(trials) -> None:
    arrays = state.saved(state.new_book(trials, N_ASSETS, N_ASSETS))
    with pytest.raises(InputError, match="version 0 cannot be continued"):
        state.restored({**arrays, "version": np.array(0)})


def test_mapped_and_writable_inputs_give_the_same(window, trials, targets, tmp_path) -> None:
    slab = window.slabs[0]
    names = ("open", "high", "low", "close", "volume")
    maps, copies = {}, {}
    for name in names:
        path = tmp_path / name
        path.write_bytes(getattr(slab, name).tobytes())
        maps[name] = np.memmap(path, np.float64, "r", shape=(N_BARS, N_ASSETS))
        copies[name] = getattr(slab, name).copy()
    atr = slab.atr
    mapped, copied = (tiles.market([each], END, PAYOUT, 252.0, atr=atr) for each in (maps, copies))
    assert np.shares_memory(mapped.slabs[0].low, maps["low"])
    digests = [run_tile(each, trials, targets).digests for each in (mapped, copied)]
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
from backtest_farm.engine.tile import run_tile
from tests.kernel.cases import run_case
from tests.kernel.mixed import KINDS, mixed_market, mixed_targets, mixed_terms
from tests.oracle.books import generate
assert numba.config.DISABLE_JIT
books, n_bars, n_trials = map(int, sys.argv[1:])
with np.errstate(all="ignore"):
    for seed in range(books):
        print(run_case(generate(seed)).digests[0])
    for kind in KINDS:
        market, targets = mixed_market(n_bars=n_bars), mixed_targets(kind, n_bars=n_bars)
        print(*run_tile(market, mixed_terms(kind, n_trials), targets).digests)
"""


def test_without_the_compiler_the_bytes_are_the_same() -> None:
    books, n_bars, n_trials = 60, 70, 24
    done = subprocess.run(
        [sys.executable, "-c", _INTERPRETED, str(books), str(n_bars), str(n_trials)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    want = [run_case(generate(seed)).digests[0] for seed in range(books)]
    for kind in KINDS:
        market, targets = mixed_market(n_bars=n_bars), mixed_targets(kind, n_bars=n_bars)
        want += run_tile(market, mixed_terms(kind, n_trials), targets).digests
    assert done.stdout.split() == want
