"""Factors and rankings against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_farm.factors import ranks
from backtest_farm.factors.fields import factor_field
from backtest_farm.factors.kernels import momentum, rank_rows, rolling, smoothed, warm
from backtest_farm.factors.ranks import rank
from backtest_farm.kernel.state import frozen
from tests.factors.held import market
from tests.factors.test_fields import EVERY

NO_END = 2**62


def plain_momentum(close: list[list[float]], lookback: int, skip: int) -> list[list[float]]:
    rows = []
    for t in range(len(close)):
        row = []
        for a in range(len(close[0])):
            if t < lookback:
                row.append(math.nan)
            else:
                row.append(close[t - skip][a] / close[t - lookback][a] - 1.0)
        rows.append(row)
    return rows


def plain_rank(
    values: list[list[float]], last_bar: list[int], depth: int, member: list[list[int]] | None = None
) -> list[list[int]]:
    rows = []
    for t, row in enumerate(values):
        there = [a for a, value in enumerate(row) if math.isfinite(value) and t <= last_bar[a]]
        there = [a for a in there if member is None or member[t][a]]
        rows.append(sorted(there, key=lambda a: (-row[a], a))[:depth])
    return rows


@pytest.mark.parametrize(
    ("lookback", "skip"), [(1, 0), (5, 2), (20, 19), (60, 0), (99, 1), (100, 0), (500, 3)]
)
def test_momentum_is_its_formula(lookback: int, skip: int) -> None:
    rng = np.random.default_rng(lookback)
    close = np.exp(rng.normal(size=(100, 7)))
    close[rng.random(close.shape) < 0.1] = np.nan
    out = np.empty_like(close)
    momentum(frozen(close), lookback, skip, out)
    np.testing.assert_array_equal(out, np.array(plain_momentum(close.tolist(), lookback, skip)))


def test_momentum_is_point_in_time() -> None:
    rng = np.random.default_rng(5)
    close = np.exp(rng.normal(size=(80, 5)))
    other = close.copy()
    other[50:] = np.exp(rng.normal(size=(30, 5)))
    one, two = np.empty_like(close), np.empty_like(close)
    momentum(frozen(close), 10, 2, one)
    momentum(frozen(other), 10, 2, two)
    assert one[:50].tobytes() == two[:50].tobytes()
    assert one[52:].tobytes() != two[52:].tobytes()


VALUES = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, -0.0, 0.5, 1.0, 1.0 + 2**-52, 7.0])


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 6).flatmap(
        lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=5)
    ),
    depth=st.integers(1, 8),
    shallow=st.sampled_from([0, 100]),
    data=st.data(),
)
def test_rank_is_a_stable_sort(
    rows: list[list[float]], depth: int, shallow: int, data: st.DataObject
) -> None:
    width = len(rows[0])
    last_bar = data.draw(st.lists(st.sampled_from([-1, 0, 2, NO_END]), min_size=width, max_size=width))
    mask = data.draw(st.none() | st.just([[data.draw(st.integers(0, 1)) for _ in row] for row in rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "SHALLOW", shallow)
        member = None if mask is None else np.array(mask, np.uint8)
        ids, counts = rank(np.array(rows), np.array(last_bar), depth, member)
    assert ids.shape == (len(rows), min(depth, width))
    got = [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]
    assert got == plain_rank(rows, last_bar, depth, mask)
    assert not any(row[count:].any() for row, count in zip(ids, counts, strict=True))


@pytest.mark.parametrize("depth", [60, 900])
def test_rank_of_a_wide_row(depth: int) -> None:
    values = np.round(np.random.default_rng(0).normal(size=(40, 900)), 2)
    values[:, ::17] = np.nan
    ids, counts = rank(values, np.full(900, NO_END), depth)
    assert counts.tolist() == [min(depth, 847)] * 40
    got = [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]
    assert got == plain_rank(values.tolist(), [NO_END] * 900, depth)


def test_warm_compiles_every_kernel_for_all_calls() -> None:
    """After `warm`, factors of every kind and rankings add no other specialisation."""
    warm()
    panel = market()
    for chosen in EVERY.values():
        factor_field(panel, chosen, 150)
    for member in (None, np.ones((3, 2), np.uint8)):
        rank(np.ones((3, 2)), np.full(2, NO_END), 1, member)
    compiled = {momentum, rolling, smoothed, rank_rows}
    assert {kernel.__name__: len(kernel.signatures) for kernel in compiled} == dict.fromkeys(
        (kernel.__name__ for kernel in compiled), 1
    )
