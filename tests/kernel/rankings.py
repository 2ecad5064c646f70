"""Random books given twice: as a ranking, and as tables that say the same of each bar.

What the kernel is told by a ranking it fills all at once where nothing stands in the way; what it is told by
a table always becomes orders. So both have to leave the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from backtest_farm.engine.tile import (
    Market,
    TileResult,
    listed_targets,
    market,
    ranked_targets,
    run_tile,
    terms,
    with_portfolio,
)
from backtest_farm.kernel import state
from backtest_farm.kernel.state import Targets, Terms
from tests.kernel.cases import split
from tests.kernel.mixed import only

N_TRIALS = 4


class Ranking(NamedTuple):
    """A tile of trials that follow a ranking.

    Attributes
    ----------
    window : Market
    trials : Terms
    targets : Targets
    tables : list of (Terms, Targets)
        Each trial alone, with a table of the weights that it takes from the ranking.
    """

    window: Market
    trials: Terms
    targets: Targets
    tables: list[tuple[Terms, Targets]]


def ranking(seed: int, n_assets: int | None = None, n_bars: int | None = None) -> Ranking:
    """Return a book of its own for each seed; wide ones on request."""
    rng = np.random.default_rng([seed, 77])
    n_bars = n_bars or int(rng.integers(10, 30))
    n_assets = n_assets or int(rng.integers(3, 12))
    window = _market(rng, n_bars, n_assets)
    rhythms = [[1] * n_bars, np.arange(n_bars) % 3 == 0, rng.random(n_bars) < 0.4]
    fires = np.array(rhythms, np.uint8)
    fires[2, rng.random(n_bars) < 0.1] = state.CLOSE_ALL
    # Ranks change little from bar to bar in some books, and altogether in others.
    scores = np.cumsum(rng.normal(size=(n_bars, n_assets)), axis=0) * rng.choice([0.3, 1.0])
    scores += rng.normal(size=scores.shape)
    ids = np.argsort(-scores, axis=1)
    counts = rng.choice([0, 2, n_assets], n_bars, p=[0.05, 0.15, 0.8])
    trials = _terms(rng, n_assets)
    tables = []
    for k in range(N_TRIALS):
        weights = _weights(trials, k, ids, counts)
        alone = with_portfolio(only(trials, k), n=0, quantile=0.0, weight=1.0, short_weight=0.0)
        tables.append((alone, listed_targets(weights, fires)))
    return Ranking(window, trials, ranked_targets(ids, counts, fires), tables)


def _market(rng: np.random.Generator, n_bars: int, n_assets: int) -> Market:
    """Prices with gaps, splits, dividends, late listings, lives that end and members that leave."""
    shape = n_bars, n_assets

    def seldom(values: np.ndarray, otherwise: float) -> np.ndarray:
        rare = rng.choice([0.0, 0.01, 0.04])
        return np.where(rng.random(shape) < rare, values, otherwise)

    close = rng.choice([1.0, 20.0, 300.0], n_assets) * np.exp(np.cumsum(rng.normal(0, 0.04, shape), axis=0))
    opens = close * np.exp(rng.normal(0, 0.01, shape))
    high = np.maximum(opens, close) * 1.01
    low = np.minimum(opens, close) * 0.99
    for table in (opens, close, low):
        table[:] = np.where(seldom(np.ones(shape), 0.0) == 1.0, rng.choice([np.nan, 0.0, np.inf]), table)
    if rng.random() < 0.3:
        close[: rng.integers(1, n_bars), rng.integers(n_assets)] = np.nan
    end = np.where(rng.random(n_assets) < 0.15, rng.integers(1, n_bars, n_assets), 2**62)
    member = None
    if rng.random() < 0.4:
        joined = rng.random(n_assets) < 0.8
        member = np.logical_xor.accumulate(seldom(np.ones(shape), 0.0) == 1.0, axis=0) ^ joined
    return market(
        [{"open": opens, "high": high, "low": low, "close": close}],
        end,
        np.where(rng.random(n_assets) < 0.5, np.nan, 10.0),
        252.0,
        member,
        split=seldom(rng.choice([2.0, 0.5, 3.0], shape), 1.0),
        dividend=seldom(rng.uniform(-0.1, 0.5, shape), np.nan),
        atr=np.full(shape, 0.02) * np.where(np.isfinite(close), close, 1.0),
    )


def _terms(rng: np.random.Generator, n_assets: int) -> Terms:
    """Trials that mostly can be filled at once, with one thing or another to be minded."""

    def some(*values: float, share: float = 0.3, off: float = 0.0) -> np.ndarray:
        return np.where(rng.random(N_TRIALS) < share, rng.choice(values, N_TRIALS), off)

    rules = None
    if rng.random() < 0.4:
        rules = {
            "stop_loss": some(0.02, 0.05),
            "trailing": some(0.03),
            "take_profit": some(0.05),
            "atr_stop": some(1.0, 2.0, share=0.5),
            "max_bars": some(2.0, 5.0),
            "cooldown": some(2.0, share=0.5),
            "halt_drawdown": some(0.03, 0.1),
            "halt_bars": rng.choice([2.0, 4.0, np.inf], N_TRIALS),
            "on_close": some(1.0),
        }
    by_quantile = some(1.0, share=0.2) == 1.0
    n = np.where(by_quantile, 0, rng.choice([1, 2, 3, max(3, (2 * n_assets) // 3), n_assets], N_TRIALS))
    # Without costs a book of 1 is rebalanced by nothing but rounding, and buys take cash to its last bit.
    charged = rng.random() < 0.7
    gross = rng.choice([0.5, 1.0, 1.0, 1.3, 2.0], N_TRIALS) if charged else np.ones(N_TRIALS)
    return terms(
        N_TRIALS,
        n=n,
        quantile=np.where(by_quantile, rng.choice([0.2, 0.5, 1.0], N_TRIALS), 0.0),
        weight=gross / np.maximum(n, 1),
        short_weight=np.where(by_quantile, some(0.5), 0.0),
        schedule=rng.integers(0, 3, N_TRIALS),
        fill=some(state.SAME_CLOSE, state.SAME_CLOSE, state.SAME_CLOSE, state.NEXT_CLOSE, share=0.5),
        sizing=some(state.SIZE_AT_FILL, share=0.05),
        max_wait=some(1, 2, off=5),
        commission_bps=charged * some(5.0, 20.0, share=0.6),
        per_share=charged * some(0.01, share=0.2),
        min_commission=charged * some(1.0, 3000.0, share=0.2),
        max_commission_frac=some(0.002, share=0.2),
        half_spread_bps=charged * some(5.0, 3000.0),
        slippage_bps=charged * some(3.0, 4000.0),
        interest_rate=charged * some(0.04, share=0.2),
        afford=some(state.SCALE, state.GREEDY, state.REJECT, state.ALLOW, share=0.5),
        margin=some(0.3, 1.0, share=0.5),
        lot=some(1.0, 100.0),
        lot_down=some(1, share=0.5),
        band=some(0.02, 0.1, share=0.2),
        band_rel=some(0.2, share=0.2),
        min_notional=some(1000.0, 50_000.0, share=0.2),
        cash=rng.choice([1e6, 1e5]),
        rules=rules,
    )


def _weights(trials: Terms, k: int, ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the table of what a trial wants, NaN in rows that are no decision."""
    weights = np.full(ids.shape, np.nan)
    n, quantile, long, short = (
        column[k] for column in (trials.n, trials.quantile, trials.weight, trials.short_weight)
    )
    for t, count in enumerate(counts.tolist()):
        top, end = min(int(n), count), 0
        if n == 0:
            top = min(max(int(count * quantile + 1e-9), 1), count)
            if short > 0.0:
                top = end = min(top, count // 2)
        if top + end == 0:
            continue
        weights[t] = 0.0
        weights[t, ids[t, :top]] = long if n > 0 else long / top
        weights[t, ids[t, count - end : count]] = -short / max(end, 1)
    return weights


def unlike(case: Ranking) -> Iterator[str]:
    """Say what differs between a ranking, in two slabs, and its tables, one after another."""
    window = case.window
    cut = split(window, window.n_bars // 2)
    tile = run_tile(cut, case.trials, case.targets, record_bars=True, fill_rows=4)
    quiet = run_tile(window, case.trials, case.targets)
    if quiet.digests != tile.digests or quiet.metrics.tobytes() != tile.metrics.tobytes():
        yield "recorded or not"
    for k, (alone, table) in enumerate(case.tables):
        one = run_tile(window, alone, table, record_bars=True, fill_rows=4)
        for name, pair in _parts(tile, k, one).items():
            if pair[0] != pair[1]:
                yield f"{name} of trial {k}"


def _parts(tile: TileResult, k: int, one: TileResult) -> dict[str, tuple[object, object]]:
    """Return what trial `k` of a tile and a trial alone leave, to be compared."""
    sides = []
    for each, at in ((tile, k), (one, 0)):
        used = int(each.record.used[0])
        mine = each.record.keys[:used, 0] == at
        ledger = each.record.keys[:used, 1:][mine].tobytes() + each.record.values[:used][mine].tobytes()
        sides.append(
            {
                "fills": ledger,
                "bars": np.ascontiguousarray(each.record.bars[:, :, at]).tobytes(),
                "counters": each.counters[:, at].tolist(),
                "metrics": each.metrics[at].tobytes(),
                "segments": np.ascontiguousarray(each.segments[:, :, at]).tobytes(),
                "digest": each.digests[at],
                "broken": bool(each.broken[at]),
            }
        )
    return {name: (sides[0][name], sides[1][name]) for name in sides[0]}
