"""Strict models: what they take, what they refuse, and in which words."""

import datetime as dt
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

from backtest_farm.errors import InputError
from backtest_farm.spec import (
    ByTag,
    Costs,
    Execution,
    Keep,
    Limits,
    Spec,
    Window,
    axis,
    has_axes,
    leaves_of,
    replaced,
)

COUNT = "is not allowed: give a whole number from 1 to 1,000"
MOMENT = "is not allowed: give a date such as 2017-10-31 or a time such as 2017-10-31T09:30:00 (UTC)"

GOOD = [
    (Limits, "max_wait", 5.0, 5),
    (Limits, "max_wait", np.int32(7), 7),
    (Execution, "cash", 10, 10.0),
    (Execution, "cash", np.float64(2.5), 2.5),
    (Execution, "sizing", "fill", "fill"),
    (Costs, "commission_bps", -0.0, 0.0),
    (Window, "start", dt.date(2015, 1, 2), dt.date(2015, 1, 2)),
    (Window, "start", "2015-01-02", dt.date(2015, 1, 2)),
    (Window, "start", np.datetime64("2015-01-02"), dt.date(2015, 1, 2)),
    (Window, "start", np.datetime64("2015-01-02T09:30", "ns"), dt.datetime(2015, 1, 2, 9, 30)),
    (Window, "start", "2015-01-02T09:30:00+02:00", dt.datetime(2015, 1, 2, 7, 30)),
    (Window, "end", None, None),
    (Window, "start", "auto", "auto"),
]

BAD = [
    (Limits, "max_wait", "5", "max_wait: '5' " + COUNT + ", without quotes"),
    (Limits, "max_wait", True, "max_wait: True " + COUNT),
    (Limits, "max_wait", np.True_, "max_wait: True " + COUNT),
    (Limits, "max_wait", 1001, "max_wait: 1001 " + COUNT),
    (Limits, "max_wait", None, "max_wait: None " + COUNT),
    (Execution, "cash", 0, "cash: 0 is not allowed: give a finite number > 0"),
    (Execution, "cash", float("nan"), "cash: nan is not allowed: give a finite number > 0"),
    (Execution, "cash", False, "cash: False is not allowed: give a finite number > 0"),
    (
        Execution,
        "fill",
        "next_opne",
        "fill: 'next_opne' is not allowed: did you mean 'next_open'? "
        "(valid: next_close, next_open, same_close)",
    ),
    (
        Execution,
        "fil",
        "next_open",
        "fil: unknown key: did you mean 'fill'? (valid: cash, fill, sizing)",
    ),
    (Limits, "max_wait", [1, 2], "max_wait: [1, 2] " + COUNT + "; several values are written axis([...])"),
    (Costs, "slippage_bps", -1e-9, "slippage_bps: -1e-09 is not allowed: give a finite number >= 0"),
    (Costs, "slippage_bps", "{x}", "slippage_bps: '{x}' is not allowed: give a finite number >= 0"),
    (Window, "end", "auto", "end: 'auto' " + MOMENT),
    (Window, "start", "Auto", "start: 'Auto' " + MOMENT + " or 'auto'; did you mean 'auto'? (valid: auto)"),
    (Window, "start", 2015, "start: 2015 " + MOMENT + " or 'auto'"),
    (
        Window,
        "end",
        axis(["2015-01-02"]),
        "end: an axis cannot stand here: give one value, not ['2015-01-02']",
    ),
    (Keep, "equity", 5, "equity: 5 is not allowed: give a mapping with the keys top, by"),
    (
        Keep,
        "equity",
        {"top": -1, "bye": 1},
        "equity.top: -1 is not allowed: give a whole number from 0 to 1,000,000",
    ),
    (
        Keep,
        "equity",
        axis([{"top": 1}]),
        "equity: alternatives cannot stand here: give one mapping",
    ),
]


@pytest.mark.parametrize(("model", "name", "given", "read"), GOOD)
def test_takes(model, name, given, read):
    value = getattr(model(**{name: given}), name)
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(("model", "name", "given", "says"), BAD)
def test_refuses(model, name, given, says):
    with pytest.raises(InputError) as caught:
        model(**{name: given})
    assert says in caught.value.faults


def test_all_faults_come_at_once():
    with pytest.raises(InputError) as caught:
        Costs(commission_bps="1", half_spread_bps=-1, slipage_bps=1)
    assert len(caught.value.faults) == 3


def test_window_ends_after_it_starts():
    assert Window(start="2015-01-02", end="2015-01-02").start == dt.date(2015, 1, 2)
    with pytest.raises(InputError, match="start 2015-01-02 09:30:00 lies after end 2015-01-02 09:00:00"):
        Window(start="2015-01-02T09:30", end="2015-01-02T09:00")


def test_a_date_as_end_covers_the_times_of_its_day():
    assert Window(start="2015-01-02T09:30", end="2015-01-02").end == dt.date(2015, 1, 2)
    with pytest.raises(InputError, match="lies after"):
        Window(start="2015-01-03T09:30", end="2015-01-02")


def test_all_costs_are_zero_unless_given():
    assert {value for _, value in Costs()} == {0.0}


def test_axes_are_found_by_path():
    assert has_axes(Execution()) == []
    assert has_axes(Execution(sizing=axis(["fill"]), cash=axis([1, 2]))) == ["sizing", "cash"]


def test_plain_form_can_be_read_again():
    window = Window(start="2015-01-02", end="2016-01-02T10:00")
    assert window.model_dump(mode="json") == {"start": "2015-01-02", "end": "2016-01-02T10:00:00"}
    assert Window.from_file(window.model_dump(mode="json"), "window") == window
    execution = Execution(sizing=axis(["fill", "decision"]), cash=axis([0.1, 2]))
    assert Execution.from_file(execution.model_dump(mode="json"), "execution") == execution


def test_replaced_changes_a_copy():
    keep = Keep()
    assert replaced(keep, {"equity.top": 3}).equity.top == 3
    assert keep.equity.top == 10


class Fast(Spec):
    speed: Literal["fast"] = "fast"
    gear: int


class Slow(Spec):
    speed: Literal["slow"] = "slow"


class Trailer(Spec):
    load: Annotated[int, Field(ge=0)] = 0
    colours: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Car(Spec):
    drive: Annotated[Fast | Slow, ByTag("speed")]
    trailer: Trailer | None = None


def test_several_models_are_alternatives_with_axes_of_their_own():
    given = {"drive": [{"speed": "slow"}, {"speed": "fast", "gear": [1, 2]}], "trailer": [None, {"load": 5}]}
    car = Car.from_file(given, "car")
    assert car == Car(drive=axis([Slow(), Fast(gear=axis([1, 2]))]), trailer=axis([None, Trailer(load=5)]))
    assert has_axes(car) == ["drive", "trailer"]
    drive, trailer = leaves_of(car)
    assert [[leaf.path for leaf in option] for option in drive.options] == [
        ["drive.speed"],
        ["drive.speed", "drive.gear"],
    ]
    assert [leaf.place for leaf in trailer.options[1]] == [("trailer", 1, "load"), ("trailer", 1, "colours")]
    assert trailer.options[0] == ()
    assert Car.from_file(car.model_dump(mode="json"), "car") == car


def test_a_list_where_the_field_takes_a_list_is_one_value():
    one = Trailer.from_file({"colours": ["red", "blue"]}, "trailer")
    assert one.colours == ("red", "blue")
    two = Trailer.from_file({"colours": {"axis": [["red"], ["blue", "red"]]}}, "trailer")
    assert two.colours == axis([("red",), ("blue", "red")])


@pytest.mark.parametrize(
    ("trailer", "says"),
    [
        ({"load": -1}, "trailer.load: -1 is not allowed: give a whole number >= 0"),
        ({"lod": 1}, "trailer.lod: unknown key: did you mean 'load'? (valid: colours, load)"),
        (5, "trailer: 5 is not allowed: give a mapping with the keys load, colours"),
        ([None, {"load": -1}], "trailer[1].load: -1 is not allowed: give a whole number >= 0"),
        ([{"load": [1, -1]}], "trailer[0].load[1]: -1 is not allowed: give a whole number >= 0"),
        ({"colours": [5]}, "trailer.colours[0]: 5 is not allowed: give text"),
        ({"colours": "red"}, "trailer.colours: 'red' is not allowed: give a list"),
    ],
)
def test_models_that_may_be_missing_are_put_in_words_too(trailer, says):
    with pytest.raises(InputError) as caught:
        Car.from_file({"drive": {"speed": "slow"}, "trailer": trailer}, "car")
    assert caught.value.faults == (says,)


@pytest.mark.parametrize(
    ("drive", "says"),
    [
        ({"speed": "slwo"}, "drive.speed: 'slwo' is not allowed: did you mean 'slow'? (valid: fast, slow)"),
        ({"gear": 1}, "drive.speed: is missing: give 'fast' or 'slow'"),
        ({"speed": "fast", "gear": "x"}, "drive.gear: 'x' is not allowed: give a whole number"),
        ({"speed": "fast"}, "drive.gear: is missing: give a whole number"),
        ({"speed": "slow", "gaer": 1}, "drive.gaer: unknown key: (valid: speed)"),
        (5, "drive: 5 is not allowed: give a mapping with speed: fast or slow"),
        ([Slow()], "drive: [Slow(speed='slow')] is not allowed: give a mapping with speed: fast or slow"),
        (
            axis([Slow(), {"speed": "fast", "gear": "x"}]),
            "drive[1].gear: 'x' is not allowed: give a whole number",
        ),
        (axis([Slow(), {"gear": 1}]), "drive[1].speed: is missing: give 'fast' or 'slow'"),
        (axis([Slow(), 5]), "drive[1]: 5 is not allowed: give a mapping with speed: fast or slow"),
    ],
)
def test_models_are_told_apart_by_their_tag(drive, says):
    assert Car(drive={"speed": "fast", "gear": axis([1, 2])}) == Car(drive=Fast(gear=axis([1, 2])))
    with pytest.raises(InputError) as caught:
        Car(drive=drive)
    assert [fault for fault in caught.value.faults if says in fault], caught.value.faults
