"""Profiles: what they decide, what beats them, and what the result is called."""

import pytest

from backtest_farm.errors import InputError
from backtest_farm.spec import PROFILES, SWITCHES, Limits, Trading, axis, profile_of, switches_of

TABLE = {
    "default": (1, "next_open", "decision", 0, "nearest", "scale"),
    "vectorbt": (1, "same_close", "fill", 0, "nearest", "scale"),
    "backtrader": (1, "next_open", "decision", 0, "nearest", "reject"),
    "zipline": (1, "next_close", "decision", 1, "down", "allow"),
    "bt": (1, "same_close", "decision", 0, "nearest", "allow"),
    "ml4t": (1, "next_open", "decision", 0, "nearest", "reject"),
    "backtesting": (1, "next_open", "fill", 1, "down", "scale"),
}
"""As published: whoever changes a switch gives the profile its next version."""


def test_the_published_profiles() -> None:
    assert {name: tuple(profile) for name, profile in PROFILES.items()} == TABLE


def test_the_default_profile_is_what_stands_in_the_models() -> None:
    bare, named = Trading(), Trading(profile="default")
    assert bare == named
    assert profile_of(bare) == "default"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_its_switches_and_nothing_else(name) -> None:
    made, bare = Trading(profile=name).model_dump(), Trading().model_dump()
    for path, value in switches_of(name).items():
        top, _, inner = path.rpartition(".")
        assert (made[top] if top else made)[inner] == value
        (made[top] if top else made)[inner] = (bare[top] if top else bare)[inner]
    assert made == {**bare, "profile": name}


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ({"fill": "next_open"}, "zipline+fill=next_open"),
        ({"fill": "next_close"}, "zipline"),
        ({"limits": {"lot": 100}}, "zipline+limits.lot=100"),
        ({"limits": Limits(lot=0.5, afford="scale")}, "zipline+limits.lot=0.5+limits.afford=scale"),
        ({"limits": Limits(lot=0.0)}, "zipline+limits.lot=0"),
        ({"limits": Limits(band=0.01)}, "zipline"),
        ({"cash": 5}, "zipline"),
        ({"sizing": "fill", "limits": {"max_wait": 3}}, "zipline+sizing=fill"),
    ],
)
def test_what_is_given_beats_the_profile_and_its_name_says_so(given, called) -> None:
    trading = Trading(profile="zipline", **given)
    assert profile_of(trading) == called
    # The name means the same again, and what has been written out is read as it was.
    again = Trading(profile=called, limits={"band": trading.limits.band, "max_wait": trading.limits.max_wait})
    assert [getattr(again, name) for name in ("fill", "sizing", "limits")] == [
        trading.fill, trading.sizing, trading.limits,
    ]  # fmt: skip
    assert Trading.from_file(trading.model_dump(mode="json"), "written") == trading


def test_what_is_given_beats_changes_too() -> None:
    trading = Trading(profile="zipline+fill=next_open+limits.lot=100", fill="same_close")
    assert (trading.fill, trading.limits.lot) == ("same_close", 100)
    assert profile_of(trading) == "zipline+fill=same_close+limits.lot=100"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("ziplin", "profile: 'ziplin' is not allowed: did you mean 'zipline'"),
        ("zipline+cash=5", "profile: 'cash=5' is no switch of a profile"),
        ("zipline+fill=soon", "fill: 'soon' is not allowed"),
        ("zipline+limits.lot=many", "limits.lot: 'many' is not allowed"),
        (5, "profile: 5 is not allowed: give text"),
        (None, "profile: None is not allowed: give text"),
    ],
)
def test_wrong_profiles_are_named(profile, words) -> None:
    with pytest.raises(InputError, match=words):
        Trading(profile=profile)
    with pytest.raises(InputError, match=words):
        Trading(profile=profile, limits=Limits(band=0.1))


def test_several_profiles_are_for_a_sweep() -> None:
    trading = Trading(profile=axis(["default", "zipline"]))
    assert trading.profile == axis(["default", "zipline"])
    assert trading.fill == "next_open"
    assert set(SWITCHES) == {"fill", "sizing", "limits.lot", "limits.lot_rounding", "limits.afford"}
