"""One backtest through the front door."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.backtest import single
from backtest_farm.engine import targets
from backtest_farm.errors import InputError
from backtest_farm.factors.kernels import momentum
from backtest_farm.factors.ranks import Window
from backtest_farm.kernel.state import frozen
from backtest_farm.spec import Universe
from tests.oracle.book import Case
from tests.oracle.book import run as oracle

N_BARS, N_ASSETS = 160, 25


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    return bf.synthetic_panel(
        tmp_path_factory.mktemp("run") / "panel", n_bars=N_BARS, n_assets=N_ASSETS, seed=2
    )


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """Three names at a time, now and then a decision, some of them to hold nothing."""
    rng = np.random.default_rng(8)
    table = np.full((N_BARS, N_ASSETS), np.nan)
    for t in range(0, N_BARS, 7):
        table[t] = 0.0
        table[t, rng.choice(N_ASSETS, 3, replace=False)] = 0.3
    table[70] = 0.0
    return table


def long(panel: bf.Panel, table: np.ndarray) -> pl.DataFrame:
    rows = [
        (panel.timestamps[t], panel.symbols[a], float(table[t, a]))
        for t in range(len(table))
        if np.isfinite(table[t]).any()
        for a in range(table.shape[1])
        if table[t, a] != 0.0 or not table[t].any()
    ]
    stamps, symbols, values = zip(*rows, strict=True)
    return pl.DataFrame({"timestamp": np.array(stamps), "symbol": symbols, "weight": values})


def case_of(panel: bf.Panel, targets: np.ndarray, **changes) -> Case:
    ends = {
        a: (int(bar), float(panel.ends.payout[a])) for a, bar in enumerate(panel.ends.bar) if bar < N_BARS
    }
    rows = [row.tolist() if np.isfinite(row).any() else None for row in targets]
    prices = {"open": panel["open"].tolist(), "close": panel["close"].tolist()}
    return Case(**prices, targets=rows, ends=ends, **{"commission_bps": 10.0, **changes})


def assert_same(result: bf.Result, case: Case) -> None:
    want = oracle(case)
    np.testing.assert_allclose(result.equity["equity"].to_numpy(), want.bars["equity"], rtol=1e-9)
    assert result.fills.height == len(want.fills)
    assert result.counters["orders"] == want.counters["orders"]
    assert result.metrics["sharpe"] == pytest.approx(want.metrics["sharpe"], rel=1e-6)


def test_weights_mean_the_same_in_every_form(panel, weights) -> None:
    want = bf.run(panel, weights)
    assert want.counters["fills"] > 50
    frame = long(panel, weights)
    wide = pl.DataFrame(
        {"timestamp": panel.timestamps, **{s: weights[:, a] for a, s in enumerate(panel.symbols)}}
    )
    forms = {
        "long": frame,
        "long, shuffled": frame.sample(fraction=1.0, shuffle=True, seed=1),
        "long, capitals and text": frame.select(
            pl.col("timestamp").dt.to_string("%Y-%m-%d").alias("Date"),
            pl.col("symbol").alias("Symbol"),
            "weight",
        ),
        "wide": wide.filter(pl.any_horizontal(pl.exclude("timestamp").is_finite())),
        "pandas": frame.to_pandas(),
        "arrow": frame.to_arrow(),
        "pandas, wide": wide.to_pandas().set_index("timestamp"),
        "pandas, wide, unnamed index": wide.to_pandas().set_index("timestamp").rename_axis(None),
    }
    for name, form in forms.items():
        assert bf.run(panel, form).digest == want.digest, name
    assert_same(want, case_of(panel, weights))


def test_topn_is_the_oracles_book_of_its_own_ranking(panel) -> None:
    lookback, skip, n, every = 20, 3, 4, 6
    score = np.empty(panel.shape)
    momentum(frozen(panel["close"]), lookback, skip, score)
    targets = np.full(panel.shape, np.nan)
    for t in range(0, N_BARS, every):
        there = [a for a in range(N_ASSETS) if math.isfinite(score[t, a]) and t <= panel.ends.bar[a]]
        best = sorted(there, key=lambda a: (-score[t, a], a))[:n]
        if best:
            targets[t] = 0.0
            targets[t, best] = 1.0 / n
    strategy = bf.TopN(signal=bf.factor.momentum(lookback, skip), n=n, rebalance=every)
    for changes in ({}, {"sizing": "fill"}, {"cash": 5_000.0}):
        assert_same(bf.run(panel, strategy, **changes), case_of(panel, targets, **changes))
    costs = {"commission_bps": 3.0, "half_spread_bps": 4.0, "slippage_bps": 2.0}
    assert_same(bf.run(panel, strategy, costs=bf.Costs(**costs)), case_of(panel, targets, **costs))
    assert_same(bf.run(panel, strategy, limits=bf.Limits(max_wait=1)), case_of(panel, targets, max_wait=1))


def test_costs_and_limits_may_be_mappings(panel, weights) -> None:
    given = bf.run(panel, weights, costs={"commission_bps": 5}, limits={"max_wait": 2})
    assert (
        given.digest
        == bf.run(panel, weights, costs=bf.Costs(commission_bps=5), limits=bf.Limits(max_wait=2)).digest
    )


def test_what_is_no_panel_or_no_frame(panel, weights) -> None:
    with pytest.raises(InputError, match="is no panel"):
        bf.run(str(panel.path), weights)
    with pytest.raises(InputError, match="neither a strategy nor weights"):
        bf.run(panel, long(panel, weights).to_pandas()["weight"])


def test_weights_that_all_lie_before_the_window(panel) -> None:
    table = np.full(panel.shape, np.nan)
    table[3] = 1 / N_ASSETS
    with pytest.raises(InputError, match="all weights lie outside the window"):
        bf.run(panel, table, start=panel.timestamps[10])


def test_the_contracts_example() -> None:
    """100,000 x 4 % / 200 = 20 shares; with 20 held the order is 0."""
    frame = pl.DataFrame(
        {
            "timestamp": [f"2024-01-{day:02d}" for day in range(1, 6)],
            "symbol": "A",
            **dict.fromkeys(("open", "high", "low", "close"), 200.0),
            "volume": 1.0,
        }
    ).with_columns(pl.col("timestamp").str.to_date())

    def run(path):
        panel = bf.Panel.build(frame, path)
        return bf.run(panel, np.full(panel.shape, 0.04), cash=100_000.0, costs=bf.Costs())

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        result = run(folder + "/p")
        assert result.fills["quantity"].to_list() == [20.0]
        assert result.counters["orders"] == 1


def test_bars_before_the_window_only_warm_factors(panel) -> None:
    strategy = bf.TopN(signal=bf.factor.momentum(20, 3), n=4, rebalance=6)
    start, end = panel.timestamps[40], panel.timestamps[119]
    result = bf.run(panel, strategy, start=start, end=end)
    assert result.equity.height == 80
    assert result.equity["timestamp"].to_list() == panel.timestamps[40:120].tolist()
    assert result.fills["decision_bar"].min() == 0
    assert bf.run(panel, strategy, start=str(start), end=str(end)).digest == result.digest
    table = np.full(panel.shape, np.nan)
    table[40] = 1 / N_ASSETS
    assert (
        bf.run(panel, table, start=start, end=end).digest
        == bf.run(panel, table[40:120], start=start, end=end).digest
    )


def test_what_a_result_shows(panel, weights) -> None:
    result = bf.run(panel, weights)
    assert result.equity.columns == [
        "timestamp", "equity", "cash", "gross", "net", "turnover", "costs", "financing", "dividends",
        "positions"
    ]  # fmt: skip
    assert result.fills.columns == [
        "decision_bar", "bar", "timestamp", "symbol", "quantity", "base", "price", "commission", "spread",
        "slippage", "impact", "reason",
    ]  # fmt: skip
    assert set(result.timings) == {"signal", "simulation"}
    assert (result.status, result.profile, result.bars_per_year) == ("ok", "default", 252.0)
    assert result.equity["costs"].sum() == pytest.approx(result.metrics["costs"], rel=1e-12)
    assert "sharpe" in repr(result)
    result.check_ledger()
    result._record.values[0, 0] *= 1.01
    with pytest.raises(InputError, match="do not rebuild the cash of bar"):
        result.check_ledger()


def test_equity_that_is_not_finite_is_an_error(tmp_path) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": np.arange("2024-01-01", "2024-01-05", dtype="M8[D]"),
            "symbol": "A",
            "open": [1e-300, 1e-300, 1e-300, 1e-300],
            "close": [1e-300, 1e-300, 1e300, 1e300],
        }
    )
    frame = frame.with_columns(
        high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )
    panel = bf.Panel.build(frame, tmp_path / "p", on_fault="report")
    result = bf.run(panel, np.array([[1.0], [np.nan], [np.nan], [np.nan]]))
    assert result.status == "error"


WRONG = {
    "unknown symbol": (lambda p, w: long(p, w).with_columns(symbol=pl.lit("NOPE")), "NOPE"),
    "off the grid": (
        lambda p, w: long(p, w).with_columns(pl.col("timestamp").dt.offset_by("20y")),
        "nearest|no bar",
    ),
    "twice": (lambda p, w: pl.concat([long(p, w), long(p, w)]), "twice|duplicate"),
    "no weight column": (lambda p, w: long(p, w).drop("weight"), "no table of weights"),
    "infinite": (lambda p, w: np.where(w == 0.3, np.inf, w), "infinite"),
    "wrong shape": (lambda p, w: w[:, :3], "shape"),
    "text": (lambda p, w: w.astype(str).astype(object), "numbers|object"),
    "nothing like it": (lambda p, w: "momentum", "neither a strategy nor weights"),
    "an axis": (lambda p, w: bf.TopN(signal=bf.factor.momentum(5), n=bf.axis([1, 2])), "n is an axis"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_named(panel, weights, name) -> None:
    make, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        bf.run(panel, make(panel, weights))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "ziplin"}, "did you mean 'zipline'"),
        ({"fill": "at_once"}, "fill"),
        ({"unit": "shares"}, "unit"),
        ({"universe": "sp501"}, "sp501"),
        ({"universe": {"each": "symbol"}}, "takes one universe"),
        ({"keep_mask": np.ones(3)}, "keep_mask"),
        ({"sizing": "later"}, "sizing"),
        ({"cash": 0.0}, "cash"),
        ({"start": "2100-01-01"}, "window"),
        ({"start": "soon"}, "start"),
        ({"costs": 5}, "costs"),
        ({"costs": {"commission": 5}}, "commission_bps"),
        ({"limits": {"max_wait": 0}}, "max_wait"),
        ({"costs": bf.Costs(commission_bps=bf.axis([1, 2]))}, "commission_bps is an axis"),
    ],
)
def test_wrong_options_are_named(panel, weights, options, words) -> None:
    with pytest.raises(InputError, match=words):
        bf.run(panel, weights, **options)


def test_options_that_would_be_ignored_are_refused(panel, weights) -> None:
    mask, strategy = np.zeros(panel.shape, bool), bf.TopN(signal=bf.factor.momentum(5), n=3)
    for options in ({"keep_mask": mask}, {"unit": "value"}):
        with pytest.raises(InputError, match="not to a strategy"):
            bf.run(panel, strategy, **options)
    with pytest.raises(InputError, match="belongs to an array"):
        bf.run(panel, long(panel, weights), keep_mask=mask)
    with pytest.raises(InputError, match="has a column 'weight'"):
        bf.run(panel, long(panel, weights), unit="value")


def test_a_pandas_frame_indexed_by_timestamp_and_symbol(panel, weights) -> None:
    indexed = long(panel, weights).to_pandas().set_index(["timestamp", "symbol"])
    assert bf.run(panel, indexed).digest == bf.run(panel, weights).digest


def test_what_a_process_remembers_of_earlier_runs_changes_nothing(panel) -> None:
    score = bf.factor.field("score")
    top = bf.TopN(signal=score, n=3, rebalance=1)
    runs = [
        (top, {}),
        (bf.TopN(signal=score, n=4, rebalance=1), {}),
        (bf.TopN(signal=score, n=3, rebalance=2), {}),
        (bf.TopN(signal=score, n=3, rebalance=1, filter={"context": "vix", "above": 20}), {}),
        (bf.TopN(signal=bf.factor.reversal(5), n=3, rebalance=1), {}),
        (bf.Weights(field="score"), {}),
        (bf.Quantiles(signal=score, quantile=0.2, rebalance=1), {}),
        (top, {"costs": {"commission_bps": 25}}),
        (top, {"costs": bf.Costs(commission_bps=20)}),
        (top, {"limits": bf.Limits(lot=10)}),
        (top, {"rules": bf.Rules(max_bars=3)}),
        (top, {"profile": "vectorbt"}),
        (top, {"cash": 1_000}),
        (top, {"start": panel.timestamps[40]}),
        (top, {"end": panel.timestamps[90]}),
        (top, {"universe": {"draw": 1, "size": 12, "seed": 1}}),
    ]
    vix = pl.DataFrame({"timestamp": panel.timestamps, "vix": np.arange(N_BARS) % 40.0})
    panel = panel.with_context("vix", vix)

    def digest(strategy, options) -> str:
        return bf.run(panel, strategy, **options).digest

    alone = []
    for each in runs:
        targets._recent.clear()
        single._trading.cache_clear()
        single._traded.cache_clear()
        alone.append(digest(*each))
    assert len(set(alone)) == len(runs)
    for _ in range(2):
        assert [digest(*each) for each in reversed(runs)] == alone[::-1]


def test_numbers_that_only_python_thinks_equal_are_not_taken_for_each_other(panel, weights) -> None:
    bf.run(panel, weights, cash=1)
    with pytest.raises(InputError, match="cash"):
        bf.run(panel, weights, cash=True)


def test_ranks_by_a_field_are_not_taken_for_weights_in_it(panel) -> None:
    ranks, weights = bf.TopN(signal=bf.factor.field("score"), n=3, rebalance=1), bf.Weights(field="score")
    for one in (ranks, weights, ranks):
        # Alternatives of one sweep ask for the same depth.
        made = targets.prepare(panel, Window(0, N_BARS), one, one.signal, Universe(), [1], 3)
        assert made.targets.listed == (one is weights)
