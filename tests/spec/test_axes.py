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
    ids=lambda given: type(given).__name__ if not isinstance(given, str) else given,
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


@pytest.mark.parametrize(
    ("span", "values"),
    [
        ((10, 50, 10), (10, 20, 30, 40, 50)),
        ((10, 54, 10), (10, 20, 30, 40, 50)),
        ((50, 10, -20), (50, 30, 10)),
        ((0.1, 0.7, 0.1), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ((0, 1, 0.25), (0, 0.25, 0.5, 0.75, 1)),
        ((np.float64(0.05), np.float32(0.2), np.int64(1)), (0.05,)),
        ((5.0, 5, 1), (5,)),
        ((1e-3, 3e-3, 1e-3), (0.001, 0.002, 0.003)),
    ],
    ids=str,
)
def test_a_range_has_its_stop_and_no_drift(span, values):
    start, stop, step = span
    found = axis(start=start, stop=stop, step=step)
    assert found == Axis(values)
    in_file = {"slippage_bps": {"start": start, "stop": stop, "step": step}}
    assert Costs.from_file(in_file, "file").slippage_bps == Axis(values)


@pytest.mark.parametrize(
    ("span", "says"),
    [
        ({"start": 1, "stop": 5}, "a range needs start, stop and step: step is missing"),
        ({"start": 1, "stop": 5, "step": 0}, "a range needs a step other than 0"),
        ({"start": 5, "stop": 1, "step": 1}, "a range from 5 by 1 never comes to 1"),
        ({"start": 1, "stop": 5, "step": -1}, "a range from 1 by -1 never comes to 5"),
        ({"start": 1, "stop": "5", "step": 1}, "stop of a range must be a finite number, not '5'"),
        ({"start": True, "stop": 5, "step": 1}, "start of a range must be a finite number, not True"),
        ({"start": 1, "stop": float("inf"), "step": 1}, "stop of a range must be a finite number, not inf"),
        ({"start": 1, "stop": [2], "step": 1}, r"stop of a range must be a finite number, not \[2\]"),
        ({"start": 0, "stop": 1, "step": 1e-12}, "a range of more than 10,000,000 values is too long"),
        (
            {"start": -1e300, "stop": 1e300, "step": 1e-300},
            "a range of more than 10,000,000 values is too long",
        ),
    ],
    ids=str,
)
def test_wrong_ranges_are_refused_in_python_and_in_files(span, says):
    with pytest.raises(InputError, match=says):
        axis(**span)
    with pytest.raises(InputError, match=f"cash: {says}"):
        Execution.from_file({"cash": span}, "file")


def test_a_misspelt_key_of_a_range_is_named():
    with pytest.raises(InputError, match=r"cash: a range has no 'stepp': did you mean 'step'\?"):
        Execution.from_file({"cash": {"start": 1, "stop": 5, "stepp": 1}}, "file")


def test_values_and_a_range_do_not_go_together():
    with pytest.raises(InputError, match="got values and a range"):
        axis([1, 2], start=1)


def test_values_of_gives_one_or_many():
    assert values_of(axis([1, 2])) == (1, 2)
    assert values_of(3) == (3,)
