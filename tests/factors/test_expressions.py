"""Expressions: what they mean, what is refused, and that none looks ahead."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from backtest_farm import factor
from backtest_farm.errors import InputError
from backtest_farm.factors.fields import factor_field
from backtest_farm.spec import axis
from tests.factors.held import HeldPanel, market

close = pl.col("close")


def values(panel, expression) -> np.ndarray:
    return factor_field(panel, factor.expr(expression), panel.shape[0]).values


def test_sql_and_polars_say_the_same() -> None:
    panel = market()
    want = panel.fields["close"] / panel.fields["open"] - 1
    for expression in ("close / open - 1", close / pl.col("open") - 1):
        np.testing.assert_array_equal(values(panel, expression), want)


def test_what_it_reads_are_its_names() -> None:
    one = factor.expr('close / "context:vix" - open')
    assert (one.fields, one.contexts, one.warmup) == (("close", "open"), ("vix",), 0)
    both = factor.expr(axis([close.shift(3), "score"]), lookback=3)
    assert (both.fields, both.warmup) == (("close", "score"), 3)


def test_it_survives_the_way_through_a_file() -> None:
    one = factor.expr(close.rolling_mean(5) - pl.col("open").shift(2))
    plain = json.loads(json.dumps(one.model_dump(mode="json")))
    assert type(one).from_file(plain, "x") == one
    assert type(one).from_file({"factor": "expr", "sql": "close - open"}, "x").fields == (
        "close",
        "open",
    )


def test_context_series_are_the_same_for_all() -> None:
    panel = market()
    got = values(panel, close - pl.col("context:index"))
    np.testing.assert_array_equal(got, panel.fields["close"] - panel.contexts["index"][:, None])


def test_each_symbol_is_alone_and_in_bar_order() -> None:
    panel = market()
    x = panel.fields["close"]
    want = np.full(x.shape, math.nan)
    want[1:] = x[1:] - x[:-1]
    np.testing.assert_array_equal(values(panel, close.diff()), want)


def test_missing_values_are_null_and_null_is_missing() -> None:
    panel = market()
    there = np.isfinite(panel.fields["close"])
    np.testing.assert_array_equal(values(panel, close.is_null()), ~there)
    np.testing.assert_array_equal(np.isfinite(values(panel, close > 50)), there)
    filled = values(panel, close.forward_fill())
    assert np.isfinite(filled).sum() > there.sum()


def test_a_constant_of_the_past_is_broadcast() -> None:
    panel = HeldPanel(close=np.arange(1.0, 9.0).reshape(4, 2))
    np.testing.assert_array_equal(values(panel, close / close.first()), panel.fields["close"] / [1.0, 2.0])


@pytest.mark.parametrize(
    "ahead",
    [
        close.shift(-1),
        close.shift(-30),
        close.reverse(),
        close.backward_fill(),
        close / close.mean(),
        "close / avg(close)",
        close.max(),
        close.last(),
        close.rank(),
        close.rolling_mean(5, center=True),
        close.rolling_mean(20).shift(-19),
        close.interpolate(),
        close.sort(),
        close.shuffle(),
        close.diff(-1),
        (close.shift(-1) > close) & (close > 0),
    ],
    ids=str,
)
def test_what_looks_ahead_is_refused(ahead) -> None:
    with pytest.raises(
        InputError, match=r"looks ahead: for S0\d at 20\d\d-\d\d-\d\d it gives .* without those from"
    ):
        values(market(), ahead)


def test_what_looks_ahead_on_rare_bars_only_is_refused_by_its_form() -> None:
    crash = close / close.shift(1) < 0.9
    honest = pl.when(crash).then(2.0).otherwise(close / close)
    x = np.full((40, 1), 100.0)
    x[7:] = 50.0
    assert np.isfinite(values(HeldPanel(close=x), honest)).any()
    with pytest.raises(InputError, match="names later bars"):
        values(HeldPanel(close=x), pl.when(crash).then(close.shift(-3)).otherwise(close / close))


def test_one_asset_alone_is_found_out() -> None:
    """Where a fill shows is not where a return shows: neither may hide the other."""
    x = np.arange(100.0, 140.0)[:, None]
    x[20:22] = math.nan
    for ahead in (close.shift(-1) / close - 1, close.backward_fill(), close.shift(-1)):
        with pytest.raises(InputError, match="looks ahead"):
            values(HeldPanel(close=x), ahead)


def test_the_first_cell_that_looks_ahead_is_named() -> None:
    x = np.arange(100.0, 140.0)[:, None]
    with pytest.raises(InputError) as caught:
        values(HeldPanel(close=x), close.shift(-2))
    # 40 bars; the last is left out, and the value of bar 37 needs it.
    assert (
        "for S00 at 2020-02-07 it gives 139.0 with all bars, but nan without those from 2020-02-09 on"
        in str(caught.value)
    )


@pytest.mark.parametrize(
    "causal",
    [
        close.shift(1),
        close.cum_sum(),
        close.ewm_mean(span=10),
        close.rolling_std(10),
        close.rolling_quantile(0.3, window_size=9, min_samples=3),
        close.forward_fill().pct_change(5),
        close.cum_max() / close,
        close.rolling_mean(7) - pl.col("score").rolling_max(12),
        close.log().diff().rolling_skew(30),
        (close > close.shift(1)).cast(pl.Int8).rolling_sum(10),
        pl.when(close > 50).then(pl.col("score")).otherwise(-1),
        "case when close > open then 1 else 0 end",
    ],
    ids=str,
)
def test_what_does_not_is_computed(causal) -> None:
    assert np.isfinite(values(market(), causal)).sum() > 100


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("close +", "'close +' cannot be read as an expression: "),
        ("close, open", "cannot be read as an expression"),
        ("select close", "cannot be read as an expression"),
        ("1 + 1", "must read fields by their names"),
        (pl.all(), "must read fields by their names"),
        (pl.col("close", "open"), "must read fields by their names"),
        (pl.col("^c.*$"), "must read fields by their names"),
        (sum((close.shift(n) for n in range(100)), close), "cannot be read as an expression"),
        ("(" * 3000 + "close" + ")" * 3000, "cannot be read as an expression"),
        ('{"Column":3}', "cannot be read as an expression"),
        ("{", "cannot be read as an expression"),
        (5, "5 is neither SQL text nor a polars expression"),
        (close.map_elements, "is neither SQL text nor"),
    ],
)
def test_no_expression(expression, says: str) -> None:
    with pytest.raises(InputError) as caught:
        factor.expr(expression)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_python_functions_are_refused_before_they_are_read() -> None:
    with pytest.raises(InputError, match=r"cannot be kept as text"):
        factor.expr(close.map_batches(lambda x: x))
    for name in ("AnonymousFunction", "\\u0041nonymousFunction"):
        with pytest.raises(InputError, match=r"cannot be kept as text"):
            factor.expr('{"' + name + '": {"input": [{"Column": "close"}], "function": [128, 4, 46]}}')
    rolling = close.rolling_sum(3).meta.serialize(format="json")
    assert pl.Expr.deserialize(io.StringIO(rolling), format="json") is not None
    with pytest.raises(InputError, match=r"cannot be kept as text"):
        factor.expr(rolling.replace('"Sum"', '{"Map": [1]}'))


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (close.cast(pl.String), "gives String instead of numbers"),
        (close.implode(), "gives List"),
        (close.head(3), "cannot be computed"),
        (close.filter(close > 50), "cannot be computed"),
        (close.str.len_chars(), "cannot be computed"),
    ],
)
def test_no_number_a_bar(expression, says: str) -> None:
    with pytest.raises(InputError) as caught:
        values(market(), expression)
    assert says in str(caught.value)


def test_one_bar_cannot_look_ahead() -> None:
    panel = HeldPanel(close=np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(values(panel, close * 2), [[2.0, 4.0]])


@pytest.mark.parametrize(
    "carrier",
    [
        lambda: close.name.map_fields(lambda name: name),
        lambda: pl.fold(pl.lit(0.0), lambda sums, x: sums + x, [close]),
        lambda: pl.reduce(lambda sums, x: sums + x, [close, close]),
        lambda: close.map_elements(lambda x: x, return_dtype=pl.Float64),
        lambda: close.map_batches(lambda x: x, return_dtype=pl.Float64),
    ],
)
def test_what_could_carry_code_is_refused_before_it_is_read(carrier) -> None:
    with pytest.raises(InputError, match="cannot be kept as text"):
        bf.factor.expr(carrier())


def test_text_from_a_file_is_held_to_the_same_list() -> None:
    text = '{"Function":{"input":[{"Column":"close"}],"function":{"StructExpr":{"MapFieldNames":[128,4]}}}}'
    with pytest.raises(InputError, match="MapFieldNames"):
        bf.factor.expr(text)


@pytest.mark.parametrize("sql", ["close * 0 + current_date", "NOW() - close", "close + current_timestamp"])
def test_an_expression_does_not_ask_for_the_time(sql) -> None:
    with pytest.raises(InputError, match="time of day"):
        bf.factor.expr(sql)
