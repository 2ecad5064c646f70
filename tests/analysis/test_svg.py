"""Charts: where values lie, what ticks say, and that nothing of a name becomes markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from backtest_farm.analysis import Grid, svg
from backtest_farm.analysis.curves import Line
from backtest_farm.analysis.markup import data_block, part, table
from backtest_farm.analysis.units import shown
from tests.analysis.cases import made_study, noisy

DAYS = np.datetime64("2010-01-04") + np.arange(4000)


def words_of(picture: str) -> list[str]:
    return [
        element.text or ""
        for element in ElementTree.fromstring(picture).iter()
        if element.tag.endswith("text")
    ]


def line(values: np.ndarray, label: str = "equity") -> Line:
    return Line(label, DAYS[: len(values)], values)


@pytest.mark.parametrize(
    ("value", "unit", "step", "text"),
    [
        (0.1234, "percent", None, "12.34%"), (-0.00001, "percent", None, "0.00%"),
        (1234567.0, "money", None, "1,234,567"), (2.5e6, "money", 5e5, "2.5m"),
        (2e9, "money", 1e9, "2bn"), (12500.0, "money", 2500.0, "12.5k"), (0.75, "ratio", 0.25, "0.75"),
        (float("nan"), "ratio", None, "–"), (None, "count", None, "–"),
        (28.27, "multiple", None, "28.27×"), (-0.5, "percent", 0.1, "-50%"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_readers(value: float, unit: str, step: float, text: str) -> None:
    assert shown(value, unit, step) == text


def test_a_thinned_line_keeps_its_ends_and_extremes() -> None:
    values = np.cumsum(np.random.default_rng(0).normal(size=4000))
    values[1234], values[2345] = -500.0, 500.0
    thin = line(values).thinned(100)
    assert len(thin.values) <= 102
    assert (thin.values.min(), thin.values.max()) == (-500.0, 500.0)
    assert (thin.values[0], thin.values[-1]) == (values[0], values[-1])
    assert (np.diff(thin.timestamps).astype(int) > 0).all()


def test_drawdown_counts_the_peak_from_the_starting_cash_on() -> None:
    assert np.allclose(line(np.array([90.0, 120.0, 60.0])).drawdown(100.0).values, [-0.1, 0.0, -0.5])


def test_a_line_goes_through_its_values() -> None:
    picture = svg.line_chart([line(np.array([1.0, 3.0, 2.0]))], "ratio", "Value")
    (path,) = re.findall(r'class="line s0" d="([^"]+)"', picture)
    points = np.array([[float(n) for n in point.split()] for point in re.split("[ML]", path)[1:]])
    assert np.allclose(points[:, 0], [svg.LEFT, (svg.LEFT + svg.RIGHT) / 2, svg.RIGHT])
    assert points[0, 1] - points[1, 1] == pytest.approx(2 * (points[2, 1] - points[1, 1]), abs=0.2)


@pytest.mark.parametrize("n", [2, 30, 400, 4000])
@pytest.mark.parametrize("is_log", [False, True])
def test_axes_have_a_readable_number_of_ticks(n: int, is_log: bool) -> None:
    values = 1e6 * np.exp(np.linspace(0, n / 800, n))
    said = words_of(svg.line_chart([line(values)], "money", "Equity", is_log=is_log))
    assert 5 <= len(said) <= 20
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("values", [[np.nan, np.nan], [5.0, 5.0], [0.0, 0.0], [-1.0, -2.0], [7.0]])
@pytest.mark.parametrize("is_log", [False, True])
def test_odd_curves_are_drawn(values: list[float], is_log: bool) -> None:
    for to_zero in (False, True):
        ElementTree.fromstring(
            svg.line_chart([line(np.array(values))], "money", "Equity", is_log=is_log, to_zero=to_zero)
        )


def test_a_heat_map_stays_legible_at_20_by_20() -> None:
    grid = Grid.of(made_study({"across": list(range(100, 2100, 100)), "down": list(range(20))}, noisy()))
    picture = svg.heat_map(grid.cells("across", "down", "sharpe"), "ratio", "median")
    said = words_of(picture)
    assert picture.count("data-cell=") == 400
    assert set(map(str, range(20))) <= set(said)
    assert "2000" in said
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture).groups())
    assert width < 600
    assert height < 600


def test_the_best_cell_is_framed_and_the_missing_one_dashed() -> None:
    study = made_study({"x": [1, 2, 3], "y": [1, 2]}, lambda p: float(p["x"] * p["y"]))
    grid = Grid.from_frame(study.frame.filter(study.frame["trial"] != 0), ("x", "y"))
    picture = svg.heat_map(grid.cells("x", "y", "sharpe"), "ratio", "median")
    found = r'data-where="([^"]+)"><title>[^<]*</title><rect class="(\w*)"'
    groups = dict(re.findall(found, picture))
    assert groups["x = 3, y = 2"] == "best"
    assert groups["x = 1, y = 1"] == "missing"
    assert sorted(groups.values()) == ["", "", "", "", "best", "missing"]


def test_colours_run_from_poor_to_good() -> None:
    assert svg.colour(0.0) == svg.SCALE[0]
    assert svg.colour(1.0) == svg.SCALE[-1]
    assert svg.colour(0.5) == svg.SCALE[4]


def test_names_are_escaped_wherever_they_stand() -> None:
    evil = "\"><script>alert('x')</script>&"
    study = made_study({evil: ["<b>", "'\""], "n": [1, 2]}, noisy())
    grid = Grid.of(study)
    pictures = [
        svg.heat_map(grid.cells(evil, "n", "sharpe"), "ratio", "median"),
        svg.spread_chart(grid.spread(evil, "sharpe"), "ratio", evil, evil, 0),
        svg.line_chart([line(np.arange(9.0), evil), line(np.arange(9.0), "b")], "ratio", evil),
        svg.histogram(np.arange(9.0), "ratio", evil, [(evil, 3.0)]),
    ]
    for picture in pictures:
        ElementTree.fromstring(picture)
        assert "<script" not in picture
    assert "<script" not in table((evil,), [(evil,)])
    assert "<script>" not in part("note", words=evil)
    assert "</script>" not in data_block("x", {evil: [evil]})[:-9]
