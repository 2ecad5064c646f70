"""Outcomes of trials as rows: one schema for what was simulated, copied, or raised."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from backtest_farm.farm import rows
from backtest_farm.identity import digest
from backtest_farm.kernel.state import COUNTERS, SEGMENTS
from backtest_farm.kernel.summary import METRICS


def tile(n: int = 3, broken: tuple[int, ...] = ()) -> SimpleNamespace:
    rng = np.random.default_rng(n)
    return SimpleNamespace(
        metrics=rng.normal(size=(n, len(METRICS))),
        counters=rng.integers(0, 9, (len(COUNTERS), n)),
        segments=rng.normal(size=(2, SEGMENTS, n)),
        digests=[f"{at:032x}" for at in range(n)],
        broken=np.isin(np.arange(n), broken),
    )


def with_keys(outcome: pa.Table, keys: list[str]) -> pa.Table:
    return outcome.append_column("key", pa.array(keys)).append_column("trial", pa.array(range(len(keys))))


def test_broken_trials_have_no_metrics_but_counts_and_a_digest() -> None:
    found = rows.simulated(tile(broken=(1,)))
    assert found.schema == rows.OUTCOME
    assert found["status"].to_pylist() == ["ok", "error", "ok"]
    assert found["error"].to_pylist() == [None, rows.NOT_FINITE, None]
    assert [value is None for value in found["sharpe"].to_pylist()] == [False, True, False]
    assert found["orders"].null_count == 0 and found["orders"].type == pa.int64()
    assert found["segment_sum"].to_pylist()[2] == tile().segments[0, :, 2].tolist()


def test_what_raised_is_a_row_of_nulls_whose_digest_knows_the_class_alone() -> None:
    one, other = rows.failed("error", "ValueError: bar 3", 2), rows.failed("error", "ValueError: bar 4", 1)
    assert one.schema == rows.OUTCOME and one.num_rows == 2
    assert one["error"].to_pylist() == ["ValueError: bar 3"] * 2
    assert {*one["digest"].to_pylist()} == {*other["digest"].to_pylist()}
    assert one["digest"][0] != rows.failed("error", "KeyError: bar 3", 1)["digest"][0]
    assert one["digest"][0] != rows.failed("crashed", "ValueError: bar 3", 1)["digest"][0]
    assert one["digest"][0].as_py() == digest(["error", "ValueError"]), "as rows of older studies have it"
    assert all(one[name].null_count == 2 for name in (*METRICS, *COUNTERS, "segment_sum"))
    assert len(rows.failed("error", "x" * 1000, 1)["error"][0].as_py()) == 200


def test_outcomes_are_found_by_key_in_any_source() -> None:
    first, second = (
        with_keys(rows.simulated(tile(3)), ["a", "b", "c"]),
        with_keys(rows.simulated(tile(4)), ["c", "d", "e", "f"]),
    )
    places, found = rows.copied(["x", "e", "c", "a"], [first, second])
    assert places == [1, 2, 3]
    assert found.schema == rows.OUTCOME
    assert found["digest"].to_pylist() == [f"{2:032x}", f"{2:032x}", f"{0:032x}"]
    assert found["sharpe"].to_pylist()[0] == second["sharpe"].to_pylist()[2]
    assert found["sharpe"].to_pylist()[1] == first["sharpe"].to_pylist()[2], "the first source wins"


@pytest.mark.parametrize("sources", [[], [with_keys(rows.simulated(tile()), ["a", "b", "c"]).drop(["skew"])]])
def test_sources_that_lack_a_column_are_as_good_as_none(sources: list[pa.Table]) -> None:
    places, found = rows.copied(["a", "b"], sources)
    assert places == [] and found.num_rows == 0 and found.schema == rows.OUTCOME


@pytest.mark.parametrize(
    ("axis", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([True, False], pa.bool_()),
        (["equal", "inverse"], pa.string()),
        ([True, 1], pa.string()),
        ([1.5, True], pa.string()),
        (["equal", 0.5, False], pa.string()),
    ],
)
def test_an_axis_that_mixes_kinds_becomes_text(axis: list, kind: pa.DataType) -> None:
    # One atom holds some of the values only, and None where an alternative has no such parameter.
    for values in ([axis[0], None], [axis[-1]], [None]):
        column = rows.parameters(values, axis)
        assert column.type == kind
        want = [None if value is None else str(value) if kind == pa.string() else value for value in values]
        assert column.to_pylist() == want
