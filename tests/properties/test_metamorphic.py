"""Changes of the input that must change nothing, or exactly one thing: bitwise, as the contract says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf

N_BARS, N_ASSETS = 180, 20
STRATEGY = bf.TopN(signal=bf.factor.momentum(15, 2), n=5, rebalance=4)
COSTS = bf.Costs(commission_bps=7.0, half_spread_bps=3.0, slippage_bps=1.0)
MONEY = ("open", "high", "low", "close", "atr", "dividend")
SHOWN = {
    "below_lot", "below_minimum", "in_band", "no_cash", "stop_loss", "atr_stop", "trailing", "take_profit",
    "time_exit", "drawdown_halt", "cooldown", "capped", "no_volume", "halted", "no_price",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Long bars and ends of life of a small market with gaps and late listings, and with whatever rules,
    limits, costs and events read."""
    panel = bf.synthetic_panel(
        tmp_path_factory.mktemp("meta") / "panel", n_bars=N_BARS, n_assets=N_ASSETS, seed=8
    )
    tables = {name: panel[name].reshape(-1) for name in ("open", "high", "low", "close", "volume")}
    rng = np.random.default_rng(2)
    close = tables["close"]
    rare = rng.random((2, close.size)) < 0.01
    tables |= {
        "atr": close * rng.uniform(0.01, 0.03, close.size),
        "sigma": rng.uniform(0.005, 0.03, close.size),
        "adv": rng.uniform(1e4, 1e6, close.size),
        "split": np.where(rare[0], rng.choice([2.0, 0.5, 1.25], close.size), np.nan),
        "dividend": np.where(rare[1], 0.01 * close, np.nan),
    }
    stamps, symbols = np.repeat(panel.timestamps, N_ASSETS), list(panel.symbols) * N_BARS
    bars = pl.DataFrame({"timestamp": stamps, "symbol": symbols, **tables}).filter(
        pl.col("close").is_not_nan()
    )
    known = np.flatnonzero(panel.ends.bar < N_BARS)
    ends = pl.DataFrame(
        {
            "symbol": [panel.symbols[a] for a in known],
            "date": panel.timestamps[panel.ends.bar[known]],
            "payout": [None if np.isnan(x) else x for x in panel.ends.payout[known].tolist()],
        },
        schema_overrides={"payout": pl.Float64},
    )
    assert ends.height >= 1
    return bars, ends


def weights_of(panel: bf.Panel, symbols: list[str]) -> pl.DataFrame:
    """A target set every few bars that depends on symbols and bar numbers alone."""
    rng = np.random.default_rng(1)
    rows = []
    for t in range(0, N_BARS, 5):
        for symbol, draw in zip(symbols, rng.normal(size=len(symbols)), strict=True):
            if draw > 0.5:
                rows.append((panel.timestamps[t], symbol, 0.12 if draw < 2 else -0.1))
    stamps, names, values = zip(*rows, strict=True)
    return pl.DataFrame({"timestamp": np.array(stamps), "symbol": names, "weight": values})


def rules(fill: str, money: float) -> dict[str, object]:
    """Settings of which each one is at work somewhere; those in money are multiplied by `money`."""
    costs = bf.Costs(commission_bps=2.0, per_share=0.003 * money, min_commission=4.0 * money)
    limits = bf.Limits(lot=1000.0, band=0.003, min_notional=8e3 * money, margin=0.02, afford="greedy")
    return {"fill": fill, "costs": costs, "limits": limits}


def everything(fill: str, money: float) -> dict[str, object]:
    """Settings with rules, constraints, a volume cap, impact, rates and events."""
    costs = bf.Costs(
        commission_bps=2.0, impact=0.4, borrow_rate=0.05, interest_rate=0.03, min_commission=2.0 * money
    )
    limits = {"gross": 1.1, "group": 0.5, "max_weight": 0.3, "participation": 0.05, "carry": True}
    protects = {
        "stop_loss": 0.035, "take_profit": 0.07, "trailing": 0.05, "trailing_step": 0.002, "atr_stop": 2.0,
        "max_bars": 12, "cooldown": 4, "halt_drawdown": 0.04, "halt_bars": 3,
    }  # fmt: skip
    on = "close" if fill == "same_close" else "intrabar"
    return {
        "fill": fill,
        "costs": costs,
        "limits": bf.Limits(**limits),
        "rules": bf.Rules(**protects, on=on),
        "events": True,
    }


def market_at(path, bars: pl.DataFrame, ends: pl.DataFrame, later: pl.DataFrame | None = None) -> bf.Panel:
    """Build the market, append what comes later, and add its groups: by the last letter of a symbol."""
    panel = bf.Panel.build(bars, path, ends=ends if later is None else None)
    if later is not None:
        panel = panel.append(later).with_ends(ends)
    groups = ["ABC"[ord(symbol[-1]) % 3] for symbol in panel.symbols]
    return panel.with_static("sector", pl.DataFrame({"symbol": panel.symbols, "sector": groups}))


def all_kinds(
    bars: pl.DataFrame,
    ends: pl.DataFrame,
    path,
    symbols: list[str],
    money: float = 1.0,
    later: pl.DataFrame | None = None,
    **options,
) -> list[bf.Result]:
    """Run a strategy and a table of weights, each plain, with limits, and with everything there is."""
    panel = market_at(path, bars, ends, later)
    weights = weights_of(panel, symbols)
    return [
        bf.run(panel, STRATEGY, costs=COSTS, **options),
        bf.run(panel, weights, costs=COSTS, **options),
        bf.run(panel, STRATEGY, **rules("same_close", money), **options),
        bf.run(panel, weights, **rules("next_close", money), **options),
        bf.run(panel, STRATEGY, **everything("next_open", money), **options),
        bf.run(panel, weights, **everything("same_close", money), **options),
        bf.run(panel, weights, **everything("next_close", money), **options),
    ]


@pytest.fixture(scope="module")
def names(source) -> list[str]:
    return sorted(source[0]["symbol"].unique().to_list())


@pytest.fixture(scope="module")
def base(source, names, tmp_path_factory) -> list[bf.Result]:
    results = all_kinds(*source, tmp_path_factory.mktemp("base") / "p", names)
    assert all(result.counters["fills"] > 100 for result in results)
    for name in SHOWN:
        assert any(result.counters[name] for result in results), name
    for result in results[4:]:
        for name in ("financing", "dividends", "costs"):
            assert result.equity[name].abs().sum() > 0, name
        result.check_ledger()
    return results


def digests(results: list[bf.Result]) -> list[str]:
    return [result.digest for result in results]


def test_shuffled_rows_and_columns(source, base, names, tmp_path) -> None:
    bars, ends = source
    mixed = bars.sample(fraction=1.0, shuffle=True, seed=3).select(sorted(bars.columns, reverse=True))
    assert digests(all_kinds(mixed, ends.reverse(), tmp_path / "p", names)) == digests(base)


def test_twice_the_money(source, base, names, tmp_path) -> None:
    bars, ends = source
    bars = bars.with_columns(pl.col(*MONEY) * 2.0)
    ends = ends.with_columns(pl.col("payout") * 2.0)
    for one, two in zip(base, all_kinds(bars, ends, tmp_path / "p", names, money=2.0, cash=2e6), strict=True):
        assert (two.equity["equity"] / 2.0).to_list() == one.equity["equity"].to_list()
        for name in ("cash", "costs", "financing", "dividends"):
            assert (two.equity[name] / 2.0).to_list() == one.equity[name].to_list()
        assert two.fills["quantity"].to_list() == one.fills["quantity"].to_list()
        assert two.counters == one.counters
        for name in set(one.metrics) - {"costs"}:
            np.testing.assert_equal(two.metrics[name], one.metrics[name])


def test_a_symbol_that_is_never_a_target(source, base, names, tmp_path) -> None:
    bars, ends = source
    extra = bars.filter(pl.col("symbol") == names[3]).with_columns(symbol=pl.lit("AAA_NEVER"))
    # Momentum must never choose it: it falls on every bar.
    falling = 1e6 * 0.5 ** np.arange(extra.height)
    extra = extra.with_columns(pl.Series(name, falling) for name in ("open", "high", "low", "close"))
    results = all_kinds(pl.concat([bars, extra]), ends, tmp_path / "p", names)
    # The strategy holds the best 5 of 20, so a name that always falls is never among them once all are there.
    assert "AAA_NEVER" not in results[0].fills["symbol"].to_list()
    assert digests(results) == digests(base)


def test_shifted_timestamps(source, base, names, tmp_path) -> None:
    bars, ends = source
    bars = bars.with_columns(pl.col("timestamp").dt.offset_by("364d"))
    ends = ends.with_columns(pl.col("date").dt.offset_by("364d"))
    assert digests(all_kinds(bars, ends, tmp_path / "p", names)) == digests(base)


def test_data_after_the_window(source, names, tmp_path) -> None:
    bars, ends = source
    stamps = bars["timestamp"].unique().sort()
    cut = stamps[N_BARS // 2]
    ends = ends.filter(pl.col("date") <= cut)
    noise = pl.when(pl.col("timestamp") > cut).then(3.0).otherwise(1.0)
    other = bars.with_columns(pl.col("open", "high", "low", "close", "volume", "atr", "sigma", "adv") * noise)
    shorter = bars.filter(pl.col("timestamp") <= cut)
    digest = []
    for at, frame in enumerate((bars, other, shorter)):
        panel = market_at(tmp_path / str(at), frame, ends)
        settings = [{"costs": COSTS}, everything("next_open", 1.0), everything("same_close", 1.0)]
        digest.append([bf.run(panel, STRATEGY, end=cut, **each).digest for each in settings])
    assert digest[0] == digest[1]
    # A symbol listed only after the cut is missing from the shorter panel; ids shift, bytes may not.
    assert digest[2] == digest[0]


def test_bars_that_were_appended(source, base, names, tmp_path) -> None:
    bars, ends = source
    cut = bars["timestamp"].unique().sort()[2 * N_BARS // 3]
    first, later = bars.filter(pl.col("timestamp") < cut), bars.filter(pl.col("timestamp") >= cut)
    assert set(first["symbol"]) == set(names), "who lists later comes later in the panel's order"
    assert digests(all_kinds(first, ends, tmp_path / "p", names, later=later)) == digests(base)


def test_the_equity_of_a_prefix_does_not_see_the_future(source, base, tmp_path) -> None:
    panel = market_at(tmp_path / "p", *source)
    cut = panel.timestamps[99]
    for at, settings in ((0, {"costs": COSTS}), (4, everything("next_open", 1.0))):
        part = bf.run(panel, STRATEGY, end=cut, **settings)
        assert part.equity["equity"].to_list() == base[at].equity["equity"][:100].to_list()


def test_split_of_cash_between_two_equal_books(source, base, names, tmp_path) -> None:
    """Half the starting cash holds half of everything: powers of two scale exactly."""
    halves = all_kinds(*source, tmp_path / "p", names, cash=5e5)
    for whole, half in zip(base[:2], halves[:2], strict=True):  # lots and minimums are of one size
        assert (half.equity["equity"] * 2.0).to_list() == whole.equity["equity"].to_list()
        assert half.counters == whole.counters


def test_buy_and_hold_equals_its_closed_form(source, names, tmp_path) -> None:
    panel = bf.Panel.build(source[0], tmp_path / "p", ends=source[1])
    whole = [
        a
        for a in range(len(panel.symbols))
        if np.isfinite(panel["open"][:, a]).all() and np.isfinite(panel["close"][:, a]).all()
    ]
    held = [a for a in whole if panel.ends.bar[a] >= N_BARS][:3]
    weights = np.full(panel.shape, np.nan)
    weights[0] = 0.0
    weights[0, held] = 0.25
    result = bf.run(panel, weights, costs=bf.Costs(commission_bps=10.0))
    shares = 0.25 * 1e6 / panel["close"][0, held]
    paid = shares * panel["open"][1, held]
    cash = 1e6 - paid.sum() * 1.001
    want = cash + (panel["close"][1:, held] * shares).sum(axis=1)
    np.testing.assert_allclose(result.equity["equity"].to_numpy()[1:], want, rtol=1e-12)
    assert result.equity["equity"][0] == 1e6
