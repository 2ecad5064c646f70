"""Classes of the user's through the front door: what they give is what the same targets give."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError
from backtest_farm.spec import UniverseSpec

N_BARS, N_ASSETS = 160, 12


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    made = bf.synthetic_panel(tmp_path_factory.mktemp("own") / "panel", N_BARS, N_ASSETS, seed=3)
    days = made.timestamps
    spells = pl.DataFrame({"symbol": made.symbols[:8], "start_date": [str(days[0])] * 8, "end_date": None})
    level = pl.DataFrame({"timestamp": days, "vix": np.arange(N_BARS, dtype=float)})
    return made.with_universe("club", spells).with_context("vix", level)


def momentum(panel, lookback: int) -> np.ndarray:
    close = panel["close"]
    out = np.full(close.shape, np.nan)
    out[lookback:] = close[lookback:] / close[:-lookback] - 1.0
    return out


class Momentum(bf.Strategy):
    """The example of the public surface, with a body."""

    lookback: int = 126
    n: int = 25

    def signal(self, panel):
        return momentum(panel, self.lookback)

    def portfolio(self):
        return bf.TopN(n=self.n, rebalance=5)


class Gives(bf.Strategy):
    what: str = "array"
    lookback: int = 10

    def signal(self, panel):
        values = momentum(panel, self.lookback)
        if self.what == "factor":
            return bf.factor.momentum(self.lookback)
        if self.what == "expression":
            return pl.col("close") / pl.col("close").shift(self.lookback) - 1.0
        if self.what == "long":
            cells = {"timestamp": np.repeat(panel.timestamps, len(panel.symbols))}
            cells["symbol"] = [*panel.symbols] * len(panel.timestamps)
            return pl.DataFrame({**cells, "value": values.reshape(-1)}).drop_nans()
        if self.what == "pandas":
            return self._wide(panel, values).to_pandas().set_index("timestamp")
        if self.what == "frame of the panel":
            return panel.to_wide("close").with_columns(
                pl.exclude("timestamp") / pl.exclude("timestamp").shift(self.lookback) - 1.0
            )
        if self.what == "seen":
            assert panel.shape == panel["close"].shape == (len(panel.timestamps), len(panel.symbols))
            assert len(panel.context("vix")) == len(panel.timestamps) < N_BARS
            assert panel.to_frame()["timestamp"].max() == panel.timestamps[-1]
            assert len(panel.static("sector")) == len(panel.symbols)
            assert not hasattr(panel, "members") and not hasattr(panel, "ends")
        return self._wide(panel, values) if self.what == "wide" else values

    def _wide(self, panel, values):
        return pl.DataFrame(
            {"timestamp": panel.timestamps, **dict(zip(panel.symbols, values.T, strict=True))}
        )

    def portfolio(self):
        return bf.TopN(n=3, rebalance=5)


@pytest.fixture(scope="module")
def declared(panel) -> str:
    return bf.run(panel, bf.TopN(signal=bf.factor.momentum(10), n=3, rebalance=5)).digest


def test_the_example_of_the_public_surface(panel, declared) -> None:
    assert bf.run(panel, Momentum(lookback=10, n=3)).digest == declared


@pytest.mark.parametrize(
    "what", ["array", "factor", "expression", "long", "wide", "pandas", "frame of the panel"]
)
def test_every_kind_of_signal_gives_the_same_bytes(panel, declared, what) -> None:
    assert bf.run(panel, Gives(what=what)).digest == declared


def test_a_signal_sees_a_panel_that_ends_where_the_window_ends(panel) -> None:
    end = str(panel.timestamps[99])
    whole = bf.run(panel, Gives(what="array")).equity
    assert bf.run(panel, Gives(what="seen"), end=end).equity.equals(whole.head(100))


@pytest.mark.parametrize(
    ("block", "same"),
    [
        (
            bf.Quantiles(quantile=0.25, rebalance=7),
            lambda s: bf.Quantiles(signal=s, quantile=0.25, rebalance=7),
        ),
        (bf.TopN(n=200), None),
    ],
)
def test_portfolios_are_blocks_without_a_signal(panel, block, same) -> None:
    class Own(Momentum):
        def portfolio(self):
            return block

    if same is None:
        with pytest.raises(InputError, match="n is 200, but the panel has 12 assets"):
            bf.run(panel, Own(lookback=10))
    else:
        expected = bf.run(panel, same(bf.factor.momentum(10)))
        assert bf.run(panel, Own(lookback=10)).digest == expected.digest
        assert expected.counters["fills"] > 20


def test_a_crossover_of_ones_own_goes_by_the_sign(panel) -> None:
    class Signs(bf.Strategy):
        def signal(self, panel):
            return bf.factor.sma_ratio(5, 20)

        def portfolio(self):
            return bf.CrossOver(slots=6)

    result = bf.run(panel, Signs())
    assert result.digest == bf.run(panel, bf.CrossOver(fast=5, slow=20, slots=6)).digest
    assert result.counters["fills"] > 20


def targets(panel) -> np.ndarray:
    """Equal weights of what rose, decided every third bar, one name always kept as it is."""
    rose = momentum(panel, 5) > 0.0
    rows = np.full(panel.shape, np.nan)
    rows[5::3] = rose[5::3] / 12.0
    rows[5::3, 2] = bf.KEEP
    rows[20, 2] = 0.2
    return rows


def test_without_a_portfolio_the_signal_is_target_weights(panel) -> None:
    class Rows(bf.Strategy):
        def signal(self, panel):
            return targets(panel)

    result = bf.run(panel, Rows())
    assert result.digest == bf.run(panel, targets(panel)).digest
    assert result.counters["fills"] > 50
    # A field of the panel says the same.
    kept = panel.with_field("wanted", targets(panel))
    assert bf.run(kept, bf.Weights(field="wanted")).digest == result.digest


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (np.zeros((3, 4)), "the signal does not fit: weights have shape (3, 4)"),
        (np.full((N_BARS, N_ASSETS), np.nan), "the signal is NaN on every bar of every asset"),
        (np.full((N_BARS, N_ASSETS), np.inf), "1920 weights are infinite"),
        (None, "the signal is None"),
        (3.5, "the signal is 3.5"),
        (
            pl.DataFrame({"timestamp": ["1999-01-04"], "symbol": ["X"], "value": [1.0]}),
            "the signal does not fit",
        ),
        (pl.col("close").shift(-1), "looks ahead"),
        (pl.col("nothing"), "the panel has no field 'nothing'"),
    ],
)
def test_signals_that_do_not_fit_are_named(panel, found, says) -> None:
    class Wrong(bf.Strategy):
        def signal(self, panel):
            return found

    with pytest.raises(InputError) as caught:
        bf.run(panel, Wrong())
    assert says in str(caught.value)


def test_an_error_in_a_signal_keeps_its_traceback(panel) -> None:
    class Broken(bf.Strategy):
        def signal(self, panel):
            return {}["missing"]

    with pytest.raises(
        InputError, match=r"signal\(\) of .*Broken raised KeyError at test_own_strategies.py:"
    ) as caught:
        bf.run(panel, Broken())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Momentum, "Momentum is a class of strategies"),
        (Momentum(n=bf.axis([1, 2])), "but n is an axis"),
        (bf.TopN(n=3), "TopN has no signal"),
    ],
)
def test_what_is_no_strategy_is_named(panel, given, says) -> None:
    with pytest.raises(InputError, match=says):
        bf.run(panel, given)


def test_a_signal_is_computed_anew_by_every_run(panel) -> None:
    calls = []

    class Counted(Momentum):
        def signal(self, panel):
            calls.append(self.lookback)
            return momentum(panel, self.lookback)

    for _ in range(2):
        bf.run(panel, Counted(lookback=10, n=3))
    assert calls == [10, 10]


# ------------------------------------------------------------------------------------------- bar by bar


class Rising(bf.Strategy):
    """What `targets` are, decided bar by bar."""

    lookback: int = 5

    def on_bar(self, ctx):
        if ctx.bar < self.lookback or (ctx.bar - 5) % 3:
            if ctx.bar == 20:
                ctx.target(np.where(np.arange(N_ASSETS) == 2, 0.2, np.nan))
            return
        close = ctx["close"]
        row = (close[ctx.bar] / close[ctx.bar - self.lookback] - 1.0 > 0.0) / 12.0
        row[2] = 0.2 if ctx.bar == 20 else bf.KEEP
        ctx.target(row)


@bf.step
def rising(bar, params, out):
    if bar.t < params.lookback or (bar.t - 5) % 3 != 0:
        if bar.t == 20:
            out[2] = 0.2
        return
    for a in range(out.shape[0]):
        out[a] = (bar.close[bar.t, a] / bar.close[bar.t - params.lookback, a] - 1.0 > 0.0) / 12.0
    out[2] = 0.2 if bar.t == 20 else bf.KEEP


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"fill": "next_close", "sizing": "fill"},
        {"universe": "club"},
        {"rules": {"stop_loss": 0.05, "cooldown": 3, "halt_drawdown": 0.03, "halt_bars": 10}},
        {"limits": {"max_weight": 0.06, "lot": 1}, "costs": {"per_share": 0.01, "half_spread_bps": 5}},
    ],
)
def test_bar_by_bar_gives_the_bytes_of_the_listed_targets(panel, how) -> None:
    listed = bf.run(panel, targets(panel), **how)
    assert listed.counters["fills"] > 50
    for strategy in (Rising(), rising(lookback=5)):
        result = bf.run(panel, strategy, **how)
        assert result.digest == listed.digest
        assert result.fills.equals(listed.fills)
        assert result.counters == listed.counters
        assert result.equity.equals(listed.equity)


def test_a_window_that_begins_later_still_sees_the_bars_before_it(panel) -> None:
    start = str(panel.timestamps[50])
    rows = targets(panel)
    listed = bf.run(panel, rows, start=start)
    assert bf.run(panel, Rising(), start=start).digest == listed.digest
    assert bf.run(panel, rising(lookback=5), start=start).digest == listed.digest


def test_what_a_bar_tells(panel) -> None:
    seen = []

    class Asks(bf.Strategy):
        def signal(self, panel):
            return panel["close"]

        def on_bar(self, ctx):
            assert ctx["close"].shape == (ctx.bar + 1, N_ASSETS)
            assert ctx.start == 10
            assert not ctx["close"].flags.writeable
            assert len(ctx.context("vix")) == ctx.bar + 1
            assert ctx.timestamp == panel.timestamps[ctx.bar]
            np.testing.assert_array_equal(ctx.signal, panel["close"][ctx.bar])
            alive = ctx.bar <= panel.ends.bar
            assert ctx.members.tolist() == (alive & (members[ctx.bar] == 1)).tolist()
            value = np.nansum(ctx.positions * ctx["close"][-1])
            assert ctx.equity == pytest.approx(ctx.cash + value)
            assert ctx.weights.sum() == pytest.approx(value / ctx.equity)
            ctx.state["n"] = ctx.state.get("n", 0) + 1
            seen.append(ctx.state["n"])
            if ctx.bar == 12:
                ctx.target({ctx.symbols[1]: 0.5, ctx.symbols[3]: 0.25})

    members = panel.members(panel.expand(UniverseSpec(of="club"))[0])
    result = bf.run(panel, Asks(), start=str(panel.timestamps[10]), universe="club")
    assert seen == [*range(1, N_BARS - 9)]
    assert set(result.fills["symbol"]) == {panel.symbols[1], panel.symbols[3]}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (lambda ctx: {"nobody": 1.0}, "'nobody' is no symbol"),
        (lambda ctx: np.zeros(3), r"the shape is \(3,\), but should be \(12,\)"),
        (lambda ctx: np.full(N_ASSETS, np.inf), "is infinite"),
        (lambda ctx: ctx["close"][ctx.bar + 1], "raised IndexError"),
        (lambda ctx: ctx["closing"], "the panel has no field 'closing'"),
        (lambda ctx: ctx["close"].fill(0), "read-only"),
    ],
)
def test_mistakes_after_a_bar_are_named(panel, target, says) -> None:
    class Wrong(bf.Strategy):
        def on_bar(self, ctx):
            ctx.target(target(ctx))

    with pytest.raises(InputError, match=says):
        bf.run(panel, Wrong())


@bf.step
def ahead(bar, params, out):
    out[0] = bar.close[bar.t + params.later, 0]


@bf.step
def endless(bar, params, out):
    out[0] = 1.0 / (params.size - params.size)


@bf.step
def untyped(bar, params, out):
    out[0] = bar.nothing + params.size


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        (ahead(later=1), r"step\(\) of .*:ahead raised IndexError"),
        (endless(size=1), "a weight is infinite"),
        (untyped(size=1), "numba cannot compile .*:untyped"),
    ],
)
def test_mistakes_of_steps_are_named(panel, strategy, says) -> None:
    with pytest.raises(InputError, match=says):
        bf.run(panel, strategy)


@bf.step
def plain(bar, params, out):
    out[:] = 1.0 / out.shape[0]


def test_a_step_without_parameters_and_a_number_of_either_kind(panel) -> None:
    equal = bf.run(panel, np.full(panel.shape, 1.0 / N_ASSETS))
    assert bf.run(panel, plain()).digest == equal.digest
    assert bf.run(panel, sized(size=1)).digest == bf.run(panel, sized(size=1.0)).digest
    assert bf.run(panel, sized(size=0.5)).digest != bf.run(panel, sized(size=1)).digest


@bf.step
def sized(bar, params, out):
    out[0] = params.size


@pytest.mark.parametrize("strategy", [Rising(), rising(lookback=5)])
def test_nothing_fills_at_the_close_that_a_bar_has_just_told(panel, strategy) -> None:
    with pytest.raises(InputError, match="fill is same_close: on_bar and steps decide after the close"):
        bf.run(panel, strategy, fill="same_close")
    with pytest.raises(InputError, match="fill: on_bar and steps decide"):
        bf.Sweep(panel=panel, strategy=strategy, fill=bf.axis(["next_open", "same_close"]))
