"""Lanes leave the bytes that the general kernel leaves, and take only what they can do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

import backtest_farm as bf
from backtest_farm.engine import tile as tiles
from backtest_farm.engine.targets import TIE, crossing_rows
from backtest_farm.engine.tile import Market, TileResult, market, run_tile, terms
from backtest_farm.kernel import state
from backtest_farm.kernel.crossings import crossed
from backtest_farm.kernel.lanes import LANES, fits_lanes, went_well
from backtest_farm.kernel.state import COUNTERS, Targets, Terms, frozen
from tests.kernel.cases import split

N_ASSETS, ASSET = 3, 1
Tile = tuple[Market, Terms, Targets]


def timing(seed: int, n_trials: int = LANES + 6, n_bars: int = 150, **changes: Any) -> Tile:
    """Return trials of one asset of several: gaps, jumps, events, all costs in proportion, all policies."""
    rng = np.random.default_rng(seed)
    shape = (n_bars, N_ASSETS)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.03, shape), axis=0))
    opened = close * np.exp(rng.normal(0.0, 0.01, shape))
    for prices in (opened, close):
        gappy = rng.random(n_bars) < 0.1 * (seed % 3)
        prices[gappy] = rng.choice([np.nan, -1.0, 0.0, np.inf], (int(gappy.sum()), 1))
        prices[: seed % 4] = np.nan
    end = np.full(N_ASSETS, 2**62)
    tables = {}
    if seed % 5 == 0:
        rare = rng.random(shape) < 0.04
        tables = {"dividend": np.where(rare, 1.0, np.nan), "split": np.where(rare[::-1], 2.0, 1.0)}
    if seed % 5 == 1:
        end[ASSET] = n_bars // 2
    window = market([{"open": opened, "close": close}], end, np.full(N_ASSETS, np.nan), 252.0, **tables)
    fires = rng.choice(3, (n_bars, -(-n_trials // 8) * 8), p=[0.9, 0.05, 0.05]).astype(np.uint8)
    fires[: 4 * (seed % 8 > 3)] = state.IDLE
    given = {
        "weight": rng.choice([0.3, 0.9975, 1.0, 1.4], n_trials),
        "schedule": np.arange(n_trials),
        "max_wait": rng.integers(1, 4, n_trials),
        "commission_bps": rng.choice([0.0, 10.0, 50.0], n_trials),
        "per_share": rng.choice([0.0, 0.01], n_trials),
        "max_commission_frac": rng.choice([0.0, 0.001], n_trials),
        "half_spread_bps": rng.choice([0.0, 5.0, 6000.0], n_trials, p=[0.5, 0.49, 0.01]),
        "slippage_bps": rng.choice([0.0, 3.0], (n_trials, N_ASSETS)) if seed % 2 else 2.0,
        "afford": rng.integers(0, 4, n_trials),
        "margin": rng.choice([0.0, 0.5], n_trials),
        "cash": rng.choice([1.0, 1e4, 1e6], n_trials),
    }
    rows = frozen(np.arange(n_bars + 1), np.int64), frozen(np.ones(n_bars), np.int64)
    ids, values = frozen(np.full(n_bars, ASSET), np.uint32), frozen(np.ones(n_bars))
    targets = Targets(frozen(fires, np.uint8), *rows, ids, values, 1, state.WEIGHTS)
    return window, terms(n_trials, **{**given, **changes}), targets


def bust(seed: int, **changes: Any) -> Tile:
    """Return trials in debt on an asset that falls to next to nothing."""
    window, _, targets = timing(seed)
    slab = window.slabs[0]
    fall = np.where(np.arange(len(slab.close)) < 100, 1.0, 1e-3)[:, None]
    blocks = [{"open": slab.open * fall, "close": slab.close * fall}]
    end = np.full(N_ASSETS, 2**62)
    window = market(blocks, end, np.full(N_ASSETS, np.nan), 252.0)
    return window, timing(seed, afford=state.ALLOW, weight=3.0, **changes)[1], targets


def as_bytes(tile: TileResult) -> tuple[Any, ...]:
    arrays = (tile.metrics, tile.counters, tile.segments, tile.broken)
    return (tile.digests, *(np.ascontiguousarray(each).tobytes() for each in arrays))


@pytest.fixture
def went(monkeypatch) -> list[bool]:
    """For each tile that ran in lanes, whether that was enough."""
    found: list[bool] = []
    monkeypatch.setattr(tiles, "went_well", lambda *given: found.append(went_well(*given)) or found[-1])
    return found


def generally(tile: Tile) -> TileResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAST_LANES", 2**62)
        return run_tile(*tile)


def test_random_trials_have_the_bytes_of_the_general_kernel(went) -> None:
    happened: Counter[str] = Counter()
    for seed in range(40):
        tile = timing(seed)
        found = run_tile(*tile)
        assert as_bytes(found) == as_bytes(generally(tile)), seed
        happened.update(dict(zip(COUNTERS, found.counters.sum(axis=1).tolist(), strict=True)))
        events = tile[0].events
        happened.update(f"event {kind}" for kind in events.kind[events.asset == ASSET].tolist())
    print(happened)
    enough = ("orders", "fills", "trades", "no_cash", "no_price", "expired", "replaced", "stale_bars")
    assert min(happened[name] for name in (*enough, "unfilled_at_end", "cancelled")) >= 20
    assert min(happened[f"event {kind}"] for kind in (state.DIVIDEND, state.SPLIT)) >= 20
    assert happened[f"event {state.ENDS}"] == 8
    assert len(went) == 40 and sum(went) >= 20, "these tiles prove nothing about lanes"


def test_a_bust_is_left_to_the_general_kernel(went) -> None:
    for seed in range(3):
        tile = bust(seed)
        found = run_tile(*tile)
        assert found.counters[state.N_BUST].sum() >= 20
        assert as_bytes(found) == as_bytes(generally(tile))
    assert went == [False] * 3


@pytest.mark.parametrize("bars", [1, 7, 64])
def test_calls_and_slabs_do_not_matter(bars, monkeypatch, went) -> None:
    for seed in (3, 5, 6):
        tile = window, trials, targets = timing(seed, n_bars=90)
        monkeypatch.setattr(tiles, "LANE_BARS_PER_CALL", bars)
        whole = as_bytes(run_tile(*tile))
        assert whole == as_bytes(run_tile(split(window, 1, 33, 60), trials, targets))
        assert whole == as_bytes(generally(tile))
    assert len(went) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"fill": state.NEXT_CLOSE}, {"sizing": state.SIZE_AT_FILL}, {"lot": 1.0}, {"band": 0.1},
        {"band_rel": 0.1}, {"min_notional": 5.0}, {"min_commission": 1.0}, {"impact": 0.1},
        {"borrow_rate": 0.1}, {"interest_rate": 0.1}, {"participation": 0.1}, {"weight": -1.0},
        {"rules": {"stop_loss": 0.1}}, {"caps": {"gross": 1.0}}, {"schedule": 0},
    ],
    ids=str,
)  # fmt: skip
def test_other_terms_are_left_to_the_general_kernel(changes) -> None:
    window, trials, targets = timing(2)
    assert fits_lanes(trials, window.events, targets)
    others = timing(2, **{"slippage_bps": 2.0, **changes})[1]
    assert not fits_lanes(others, window.events, targets)


def test_other_targets_are_left_to_the_general_kernel() -> None:
    window, trials, targets = timing(2)
    ids, values = targets.ids.copy(), targets.values.copy()
    ids[7], values[7] = 0, np.nan
    leaves = window.events._replace(kind=np.full(len(window.events.kind), state.LEAVES))
    assert not fits_lanes(trials, leaves, targets)
    for other in ({"ids": ids}, {"values": values}, {"listed": 0}, {"kind": state.VALUES}):
        assert not fits_lanes(trials, window.events, targets._replace(**other))
    assert not fits_lanes(trials, window.events, targets._replace(fires=targets.fires[:, :-1]))


def test_what_is_recorded_and_small_tiles_run_in_the_general_kernel(went) -> None:
    run_tile(*timing(2), record_bars=True)
    run_tile(*timing(2), fill_rows=1)
    run_tile(*timing(2, n_trials=tiles.LEAST_LANES - 1))
    assert went == []
    run_tile(*timing(2, n_trials=tiles.LEAST_LANES))
    assert went == [True]


@pytest.mark.parametrize("flat", [False, True])
def test_crossings_are_those_of_rows(flat) -> None:
    changes = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        slow = np.exp(rng.normal(0.0, 0.1, 200))
        fast = slow * (1.0 + rng.choice([-2e-12, -5e-13, 0.0, 5e-13, 2e-12, 1e-3, -1e-3], 200))
        fast[rng.random(200) < 0.1] = np.nan
        slow[rng.random(200) < 0.1 * (seed % 2)] = 0.0
        fast[: seed % 9] = np.nan
        member = (rng.random(200) < 0.95).astype(np.uint8)
        blocked = rng.random(200) < 0.1 * (seed % 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = fast / slow - 1.0
        rows, _ = crossing_rows(ratio[:, None], member[:, None], False, blocked, flat)
        want = np.select([rows[:, 0] == 1.0, rows[:, 0] == 0.0], [state.DECIDE, state.CLOSE_ALL], state.IDLE)
        fires = np.zeros((200, 2), np.uint8)
        crossed(frozen(fast), frozen(slow), TIE, frozen(member, np.uint8), blocked, flat, fires[:, 1])
        assert fires[:, 1].tolist() == want.tolist() and not fires[:, 0].any()
        changes += np.count_nonzero(want)
    assert changes > 1000


@pytest.mark.parametrize("average", ["sma", "ema"])
def test_a_study_is_the_same_with_and_without_lanes(average, tmp_path, monkeypatch, went) -> None:
    panel = bf.synthetic_panel(tmp_path / "panel", n_bars=400, n_assets=3, seed=4)
    pairs = {"fast": bf.axis(range(2, 9)), "slow": bf.axis(range(6, 16))}
    strategy = bf.CrossOver(**pairs, average=average)
    sweep = bf.Sweep(
        panel=panel,
        strategy=strategy,
        universes=[{"each": "symbol"}],
        where="fast < slow",
        costs=bf.Costs(commission_bps=10),
    )
    ways = {}
    for way, least in (("lanes", 16), ("general", 2**62)):
        monkeypatch.setattr(tiles, "LEAST_LANES", least)
        study = sweep.run(tmp_path / way, executor="inline", progress=False)
        ways[way] = study.digest, study.summary()["trials"]
    monkeypatch.setattr("backtest_farm.engine.trials.timed_asset", lambda *_: None)
    ways["a tile a pair"] = (sweep.run(tmp_path / "rows", executor="inline", progress=False).digest, 3 * 64)
    assert went == [True] * 3
    assert len({*ways.values()}) == 1


_INTERPRETED = """
import sys
import numba
import numpy as np
from backtest_farm.engine.tile import run_tile
from tests.kernel.test_lanes import timing
assert numba.config.DISABLE_JIT
with np.errstate(all="ignore"):
    for seed in map(int, sys.argv[1:]):
        print(*run_tile(*timing(seed, n_trials=20, n_bars=40)).digests)
"""


def test_without_the_compiler_lanes_leave_the_same_bytes() -> None:
    seeds = range(6)
    done = subprocess.run(
        [sys.executable, "-c", _INTERPRETED, *map(str, seeds)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    want = [digest for seed in seeds for digest in run_tile(*timing(seed, n_trials=20, n_bars=40)).digests]
    assert done.stdout.split() == want
