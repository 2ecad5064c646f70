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
    Rules,
    Spec,
    Trading,
    Window,
    axis,
    has_axes,
    leaves_of,
    replaced,
)

COST = "is not allowed: give a finite number >= 0 or 'static:NAME'"
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
    (Costs, "borrow_rate", "static:borrow", "static:borrow"),
    (Costs, "impact", "static:k", "static:k"),
    (Costs, "interest_rate", -0.005, -0.005),
    (Costs, "debit_rate", None, None),
    (Limits, "positions", 0, 0),
    (Limits, "net", 0, 0.0),
    (Rules, "halt_bars", 0, 0),
    (Rules, "stop_loss", 1.5, 1.5),
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
        "fil: unknown key: did you mean 'fill'? (valid: cash, events, fill, sizing)",
    ),
    (Limits, "max_wait", [1, 2], "max_wait: [1, 2] " + COUNT + "; several values are written axis([...])"),
    (Costs, "slippage_bps", -1e-9, "slippage_bps: -1e-09 " + COST),
    (Costs, "slippage_bps", "{x}", "slippage_bps: '{x}' " + COST + "; (valid: static:NAME)"),
    (Costs, "per_share", "0.01", "per_share: '0.01' " + COST + ", without quotes"),
    (Costs, "commission_bps", "fee", "commission_bps: 'fee' " + COST + "; (valid: static:NAME)"),
    (
        Costs,
        "borrow_rate",
        "static:",
        "borrow_rate: 'static:' " + COST + "; did you mean 'static:NAME'? (valid: static:NAME)",
    ),
    (Costs, "half_spread_bps", float("inf"), "half_spread_bps: inf " + COST),
    (Costs, "impact", -0.5, "impact: -0.5 is not allowed: give a finite number >= 0 or 'static:NAME'"),
    (Costs, "sigma", "", "sigma: '' is not allowed: give text"),
    (Costs, "adv", None, "adv: None is not allowed: give text"),
    (Costs, "interest_rate", "2%", "interest_rate: '2%' is not allowed: give a finite number"),
    (Costs, "debit_rate", float("nan"), "debit_rate: nan is not allowed: give a finite number"),
    (Limits, "positions", -1, "positions: -1 is not allowed: give a whole number from 0 to 1,000,000,000"),
    (Limits, "positions", 2.5, "positions: 2.5 is not allowed: give a whole number from 0 to 1,000,000,000"),
    (Limits, "max_weight", -0.1, "max_weight: -0.1 is not allowed: give a finite number >= 0"),
    (Limits, "group", "0.3", "group: '0.3' is not allowed: give a finite number >= 0, without quotes"),
    (Limits, "group_by", "", "group_by: '' is not allowed: give text"),
    (Limits, "gross", True, "gross: True is not allowed: give a finite number >= 0"),
    (Limits, "net", float("inf"), "net: inf is not allowed: give a finite number >= 0"),
    (Limits, "turnover", -1, "turnover: -1 is not allowed: give a finite number >= 0"),
    (Limits, "over", "drop", "over: 'drop' is not allowed: (valid: reject, scale)"),
    (Limits, "participation", None, "participation: None is not allowed: give a finite number >= 0"),
    (Limits, "carry", 1, "carry: 1 is not allowed: give true or false"),
    (Execution, "events", "yes", "events: 'yes' is not allowed: give true or false"),
    (Rules, "stop_loss", -0.1, "stop_loss: -0.1 is not allowed: give a finite number >= 0"),
    (Rules, "take_profit", None, "take_profit: None is not allowed: give a finite number >= 0"),
    (
        Rules,
        "atr_stop",
        [1, 2],
        "atr_stop: [1, 2] is not allowed: give a finite number >= 0; several values are written axis([...])",
    ),
    (Rules, "atr", "", "atr: '' is not allowed: give text"),
    (Rules, "max_bars", 2.5, "max_bars: 2.5 is not allowed: give a whole number from 0 to 1,000,000,000"),
    (Rules, "cooldown", -1, "cooldown: -1 is not allowed: give a whole number from 0 to 1,000,000,000"),
    (Rules, "halt_bars", 0.5, "halt_bars: 0.5 is not allowed: give a whole number from 0 to 1,000,000,000"),
    (Rules, "on", "open", "on: 'open' is not allowed: (valid: close, intrabar)"),
    (
        Rules,
        "stoploss",
        0.1,
        "stoploss: unknown key: did you mean 'stop_loss'? (valid: atr, atr_stop, cooldown, halt_bars, "
        "halt_drawdown, max_bars, on, stop_loss, take_profit, trailing, trailing_floor, trailing_step)",
    ),
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
    named = {"sigma": "sigma", "adv": "adv", "debit_rate": None}
    assert dict(Costs()) == dict.fromkeys(Costs.model_fields, 0.0) | named


@pytest.mark.parametrize("name", ["trailing", "trailing_floor", "halt_drawdown"])
def test_a_fall_by_the_whole_price_is_no_level(name):
    with pytest.raises(InputError) as caught:
        Rules(**{name: 1})
    (told,) = caught.value.faults
    assert told.startswith(f"{name}: 1 is not allowed: give a finite number >= 0")


EXITS = "stop_loss or take_profit or trailing or atr_stop or max_bars"


@pytest.mark.parametrize(
    ("spec", "name", "value", "needs", "on"),
    [
        (Rules, "trailing_step", 0.01, "trailing", {"trailing": 0.05}),
        (Rules, "trailing_floor", 0.01, "trailing", {"trailing": 0.05}),
        (Rules, "halt_bars", 5, "halt_drawdown", {"halt_drawdown": 0.2}),
        (Rules, "cooldown", 5, EXITS, {"max_bars": 3}),
        (Limits, "carry", True, "participation", {"participation": 0.1}),
    ],
)
def test_a_parameter_that_does_nothing_is_refused(spec, name, value, needs, on):
    says = f"{name} without {needs} does nothing: give {needs} too, or leave {name} out"
    for given in (value, axis([value])):
        with pytest.raises(InputError) as caught:
            spec(**{name: given})
        assert caught.value.faults == (says,)
    assert getattr(spec(**{name: value, **on}), name) == value
    # A grid may switch the rule off in some of its trials.
    grid = {rule: axis([0, each]) for rule, each in on.items()}
    assert has_axes(spec(**{name: value, **grid})) == [*on]


def test_costs_and_rules_take_axes_of_numbers_and_names():
    costs = Costs.from_file(
        {"commission_bps": [5, "static:fee"], "impact": {"start": 0, "stop": 1, "step": 0.5}}, "costs"
    )
    assert costs == Costs(commission_bps=axis([5, "static:fee"]), impact=axis([0, 0.5, 1.0]))
    rules = Rules.from_file(
        {"stop_loss": [0, 0.1], "halt_bars": [None, 5], "on": ["close"], "halt_drawdown": 0.2}, "rules"
    )
    assert rules == Rules(
        stop_loss=axis([0, 0.1]), halt_bars=axis([None, 5]), on=axis(["close"]), halt_drawdown=0.2
    )
    for spec in (costs, rules):
        assert type(spec).from_file(spec.model_dump(mode="json"), "spec") == spec
    with pytest.raises(InputError) as caught:
        Costs.from_file({"commission_bps": [5, "fee"]}, "costs")
    assert caught.value.faults[0].startswith("commission_bps[1]: 'fee' " + COST)


def stages(spec):
    return {leaf.path: leaf.stage for leaf in leaves_of(spec)}


def test_what_decides_which_data_is_read_is_of_the_stage_filter():
    found = stages(Trading(rules=Rules()))
    assert {path for path, stage in found.items() if stage == "filter"} == {
        "events", "costs.impact", "costs.sigma", "costs.adv", "limits.group", "limits.group_by",
        "limits.participation", "rules.atr", "rules.atr_stop",
    }  # fmt: skip
    assert found["rules.stop_loss"] == found["limits.positions"] == "execution"
    assert found["costs.borrow_rate"] == "costs"


@pytest.mark.parametrize("given", ["static:fee", axis([5, "static:fee"]), axis(["static:a", "static:b"])])
def test_a_cost_by_asset_is_of_the_stage_filter(given):
    found = stages(Costs(slippage_bps=given, per_share=axis([0, 1])))
    assert (found["slippage_bps"], found["per_share"]) == ("filter", "costs")


@pytest.mark.parametrize(
    ("parts", "fields", "offered", "statics"),
    [
        ({}, (), (), ()),
        ({"costs": {"sigma": "s", "adv": "a"}}, (), (), ()),
        ({"costs": {"impact": 0.5, "sigma": "s"}}, ("adv", "s"), (), ()),
        ({"costs": Costs(impact=axis([0, 1]), adv=axis(["a", "b"]))}, ("a", "b", "sigma"), (), ()),
        ({"costs": {"per_share": "static:x", "borrow_rate": "static:b"}}, (), (), ("b", "x")),
        (
            {"costs": axis([Costs(), Costs(slippage_bps=axis([1, "static:x"]))])},
            (),
            (),
            ("x",),
        ),
        ({"limits": {"participation": 0.1}}, ("volume",), (), ()),
        ({"limits": {"group_by": "country"}}, (), (), ()),
        ({"limits": Limits(group=axis([None, 0]), group_by="country")}, (), (), ("country",)),
        ({"rules": {"max_bars": 5}}, (), ("high", "low"), ()),
        (
            {"rules": axis([None, Rules(atr_stop=axis([0, 2]), atr=axis(["p", "q"]))])},
            ("p", "q"),
            ("high", "low"),
            (),
        ),
        ({"events": axis([False, True])}, (), ("dividend", "split"), ()),
    ],
)
def test_what_trading_reads_of_a_panel(parts, fields, offered, statics):
    assert Trading(**parts).reads == (fields, offered, statics)


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


def test_a_number_without_a_machine_type_is_refused() -> None:
    for value in (2**64, -(10**5000), axis([1, 2**70])):
        with pytest.raises(InputError, match="more than 64 bits"):
            Costs(slippage_bps=value)
