"""Axes: several values in place of one."""

import numpy as np
import pytest

from backtest_farm.errors import InputError
from backtest_farm.spec import MAX_TRIALS, Axis, Costs, Execution, Limits, axis, values_of


@pytest.mark.parametrize(
    "values", [[10, 25], (10, 25), range(10, 26, 15), np.array([10, 25]), iter([10, 25])], ids=type
)
def test_axis_takes_any_list_of_values(values):
    assert Limits(max_wait=axis(values)).max_wait == Axis((10, 25))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "got no value"),
        (5, r"write axis\(\[5\]\)"),
        ("next_open", r"write axis\(\['next_open'\]\)"),
        (range(10**12), "1,000,000,000,000 or more values"),
        (iter(range(MAX_TRIALS + 5)), "10,000,005 or more values is too long"),
    ],
    ids=str,
)
def test_axis_refuses_what_is_no_list_of_values(values, says):
    with pytest.raises(InputError, match=says):
        axis(values)


def test_values_are_read_by_the_field_at_which_the_axis_stands():
    read = Costs(commission_bps=axis([0, np.float32(2.5), np.int64(10)])).commission_bps
    assert read == Axis((0.0, 2.5, 10.0))
    assert {type(value) for value in read.values} == {float}


def test_each_wrong_value_of_an_axis_is_named_by_its_index():
    with pytest.raises(InputError) as caught:
        Execution(cash=axis([1.0, float("inf")]))
    assert caught.value.faults == ("cash[1]: inf is not allowed: give a finite number > 0",)
    with pytest.raises(InputError) as caught:
        Limits(max_wait=axis([5, "7", True, 0, 2.5, 9]))
    assert caught.value.faults == (
        "max_wait[1]: '7' is not allowed: give a whole number from 1 to 1,000, without quotes",
        "max_wait[2]: True is not allowed: give a whole number from 1 to 1,000",
        "max_wait[3]: 0 is not allowed: give a whole number from 1 to 1,000",
        "max_wait[4]: 2.5 is not allowed: give a whole number from 1 to 1,000",
    )


def test_equal_values_are_refused_however_they_are_spelt():
    with pytest.raises(InputError) as caught:
        Limits(max_wait=axis([5, 6, 5.0, np.int64(5)]))
    assert caught.value.faults == (
        "max_wait[2]: 5 stands here twice: [0] is the same value",
        "max_wait[3]: 5 stands here twice: [0] is the same value",
    )


def test_values_of_gives_one_or_many():
    assert values_of(axis([1, 2])) == (1, 2)
    assert values_of(3) == (3,)
