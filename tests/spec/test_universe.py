"""Universes: what a user writes, and the labels of the concrete ones."""

import pytest

from backtest_farm.errors import InputError
from backtest_farm.spec import Universe, UniverseSpec


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("sp500", UniverseSpec(of="sp500")),
        ({}, UniverseSpec(of="all")),
        ({"by": "sector"}, UniverseSpec(by="sector")),
        ({"by": "sector", "of": "sp500"}, UniverseSpec(by="sector", of="sp500")),
        ({"draw": 20, "size": 100.0, "seed": 1}, UniverseSpec(draw=20, size=100, seed=1)),
        ({"each": "symbol"}, UniverseSpec(each="symbol")),
    ],
)
def test_reads_a_name_or_a_mapping(given, read):
    assert UniverseSpec.from_file(given, "entry") == read
    assert UniverseSpec.from_file(read.model_dump(mode="json"), "entry") == read


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "sector", "each": "symbol"}, "by and each do not go together: write one entry for each"),
        ({"draw": 5}, "draw alone draw nothing: give draw, size and seed"),
        ({"size": 5, "seed": 1}, "size and seed alone draw nothing: give draw, size and seed"),
        (
            {"draw": 0, "size": 5, "seed": 1},
            "draw: 0 is not allowed: give a whole number from 1 to 1,000,000",
        ),
        (
            {"draw": 2, "size": [5, 6], "seed": 1},
            "size: an axis cannot stand here: give one value, not [5, 6]",
        ),
        ({"each": "name"}, "each: 'name' is not allowed: (valid: symbol)"),
        ({"bye": "sector"}, "bye: unknown key: did you mean 'by'? (valid: by, draw, each, of, seed, size)"),
        ("", "of: '' is not allowed: give text"),
        (5, "5 is not allowed: give a mapping with the keys of, by, draw, size, seed, each"),
    ],
)
def test_refuses(given, says):
    with pytest.raises(InputError) as caught:
        UniverseSpec.from_file(given, "entry")
    assert caught.value.faults == (says,)


@pytest.mark.parametrize(
    ("universe", "label"),
    [
        (Universe(), "all"),
        (Universe(of="sp500"), "sp500"),
        (Universe(column="sector", value="Energy"), "sector=Energy"),
        (Universe(of="sp500", column="sector", value="Energy"), "sp500/sector=Energy"),
        (Universe(draw=3, size=100, seed=1), "draw 3 (100 names, seed 1)"),
        (Universe(of="sp500", draw=0, size=5, seed=2), "sp500/draw 0 (5 names, seed 2)"),
        (Universe(symbol="AAPL"), "AAPL"),
        (Universe(of="sp500", symbol="AAPL"), "sp500/AAPL"),
    ],
)
def test_labels(universe, label):
    assert universe.label == label
    assert len({universe, Universe.from_file(universe.model_dump(mode="json"), "universe")}) == 1
