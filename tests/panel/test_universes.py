"""Universes: who is a member when, as it was known then."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.errors import InputError
from backtest_farm.panel import Panel
from backtest_farm.spec import Universe, UniverseSpec
from tests.ingest.bars import bars, real_file
from tests.panel.test_append import later


def day(n: int) -> dt.date:
    return dt.date(2024, 1, 1) + dt.timedelta(days=n)


SPELLS = pl.DataFrame(
    {
        "symbol": ["AA", "AA", "BB", "DD", "DD", "QQ"],
        "start_date": [day(-9), day(3), day(1), day(0), day(6), day(-9)],
        "end_date": [day(2), None, day(3), day(4), None, day(-5)],
    }
)
IN = {"AA": [1, 1, 0, 1, 1], "BB": [0, 1, 1, 0, 0], "CC": [0, 0, 0, 0, 0]}
CLUB = Universe(of="club")


@pytest.fixture
def club(small: Panel) -> Panel:
    return small.with_universe("club", SPELLS)


def test_members_follow_the_dates(club: Panel) -> None:
    assert club.universes == ("club",)
    mask = Panel.open(club.path).members(CLUB)
    assert mask.dtype == np.uint8 and not mask.flags.writeable and mask.flags.c_contiguous
    assert dict(zip(club.symbols, mask.T.tolist(), strict=True)) == IN
    assert (club.members(Universe()) == 1).all()


def test_spells_that_the_panel_lacks_are_survivorship(club: Panel) -> None:
    tally = club.report.tally("survivorship")
    assert tally is not None and (tally.count, tally.symbols) == (1, 1)  # the others lie outside of the panel
    described = club.info()["universes"]["club"]
    assert described == {
        "members_first": 1,
        "members_last": 1,
        "spells": 4,
        "lacking": 1,
        "lacking_share": 0.25,
    }


def test_appended_bars_and_symbols_follow_the_dates(club: Panel) -> None:
    before = [club.members_digest(CLUB, 0, stop) for stop in range(1, 6)]
    longer = club.append(later(5, 8, ("AA", "BB", "CC", "DD")))
    mask = longer.members(CLUB)
    assert mask[:, 0].tolist() == [*IN["AA"], 1, 1, 1]
    # A member without a price yet is none: the past stays what it was when DD was not there.
    assert mask[:, 3].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert [longer.members_digest(CLUB, 0, stop) for stop in range(1, 6)] == before
    assert longer.members_digest(CLUB, 0, 7) != longer.members_digest(CLUB, 0, 6)


def test_a_members_digest_is_about_its_rows_alone(club: Panel) -> None:
    alone = club.members_digest(CLUB, 3, 5)
    other = club.with_universe("same", SPELLS[1:2])
    assert other.members_digest(Universe(of="same"), 3, 5) == alone == club.members_digest(CLUB, 3, 5)
    assert other.members_digest(Universe(of="same"), 0, 5) != club.members_digest(CLUB, 0, 5)
    assert club.members_digest(CLUB, 3, 4) != alone
    assert club.members_digest(Universe(), 0, 5) != alone


def test_intraday_membership_goes_by_the_day(tmp_path: Path) -> None:
    frame = bars(6).with_columns(
        timestamp=dt.datetime(2024, 1, 1, 22, tzinfo=dt.UTC)
        + (pl.col("timestamp") - dt.date(2024, 1, 1)).dt.total_days() * pl.duration(hours=1)
    )
    spells = pl.DataFrame(
        {"symbol": ["AA", "BB"], "start_date": [day(1), day(0)], "end_date": [None, day(1)]}
    )
    panel = Panel.build(frame, tmp_path / "panel").with_universe("club", spells)
    assert panel.members(CLUB).T.tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0] * 6]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"end_date": pl.lit(day(-9))}, "bad_spell"),
        ({"start_date": pl.lit(None, pl.Date)}, "bad_spell"),
        ({"symbol": pl.lit("")}, "null_key"),
        ({"start_date": pl.lit("soon")}, "unparseable"),
    ],
)
def test_spells_with_faults_are_refused(small: Panel, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        small.with_universe("club", SPELLS.with_columns(**changes))
    with pytest.raises(InputError, match="missing_column"):
        small.with_universe("club", SPELLS.drop("end_date"))
    with pytest.raises(InputError, match="is the universe of all assets"):
        small.with_universe("all", SPELLS)


def test_names_and_groups(club: Panel) -> None:
    frame = pl.DataFrame({"symbol": ["AA", "BB", "CC"], "sector": ["x", "w", "v"]})
    panel = club.with_static("sector", frame).with_static(
        "size", frame.select("symbol", size=pl.Series([2, 2, None]))
    )
    assert panel.expand(UniverseSpec(of="club")) == (CLUB,)
    groups = panel.expand(UniverseSpec(of="club", by="sector"))
    assert [group.label for group in groups] == ["club/sector=w", "club/sector=x"]  # CC never is in the club
    assert panel.members(groups[0]).T.tolist() == [[0] * 5, IN["BB"], [0] * 5]
    (two,) = panel.expand(UniverseSpec(by="size"))  # CC has no size: it is in no group
    assert two.value == "2" and panel.members(two).T.tolist() == [[1] * 5, [1] * 5, [0] * 5]
    singles = panel.expand(UniverseSpec(each="symbol"))
    assert [one.label for one in singles] == ["AA", "BB", "CC"]
    assert panel.members(singles[1]).T.tolist() == [[0] * 5, [1] * 5, [0] * 5]
    assert [one.symbol for one in panel.expand(UniverseSpec(of="club", each="symbol"))] == ["AA", "BB"]


def test_draws_are_the_same_everywhere(market: Panel) -> None:
    draws = market.expand(UniverseSpec(draw=5, size=10, seed=7))
    assert [draw.label for draw in draws[:2]] == ["draw 0 (10 names, seed 7)", "draw 1 (10 names, seed 7)"]
    names = [{market.symbols[a] for a in np.flatnonzero(market.members(draw).any(axis=0))} for draw in draws]
    assert [len(drawn) for drawn in names] == [10] * 5
    assert len(set(map(frozenset, names))) == 5
    assert sorted(names[0]) == ["BDO", "BHM", "DJK", "GIV", "HVG", "NZT", "QUW", "SHO", "VYG", "WIM"]
    again = market.expand(UniverseSpec(draw=2, size=11, seed=7))
    assert names[0] < {market.symbols[a] for a in np.flatnonzero(market.members(again[0]).any(axis=0))}
    other = market.expand(UniverseSpec(draw=1, size=10, seed=8))
    assert market.members_digest(other[0], 0, 300) != market.members_digest(draws[0], 0, 300)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"of": "clubs"}, "no universe 'clubs': did you mean 'club'"),
        ({"of": "clubs", "by": "sector"}, "no universe 'clubs'"),
        ({"by": "sectors"}, "no static column 'sectors'"),
        ({"of": "club", "draw": 1, "size": 3, "seed": 0}, "only 2 are ever in it"),
    ],
)
def test_what_is_not_there_is_said(club: Panel, spec: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        club.expand(UniverseSpec(**spec))


@pytest.mark.parametrize(
    "universe", [Universe(symbol="ZZ"), Universe(column="sector", value="z"), Universe(of="x")]
)
def test_universes_of_another_panel_are_refused(club: Panel, universe: Universe) -> None:
    panel = club.with_static("sector", pl.DataFrame({"symbol": ["AA"], "sector": ["x"]}))
    with pytest.raises(InputError, match="the panel has no"):
        panel.members(universe)


def test_the_real_index(real_panel: Panel) -> None:
    panel = real_panel.with_universe("sp500", real_file("sp500_membership.csv"))
    mask = panel.members(Universe(of="sp500"))
    for date, members in (("2005-06-01", 325), ("2010-06-01", 414), ("2015-06-01", 460), ("2017-11-01", 505)):
        assert mask[panel.bar_of(date)].sum() == members
    tally = panel.report.tally("survivorship")
    assert tally is not None and tally.count == 209 and tally.symbols == 206
    panel = panel.with_static("sector", real_file("sectors.csv"))
    groups = panel.expand(UniverseSpec(of="sp500", by="sector"))
    assert len(groups) == 11
    together = sum(panel.members(group).astype(int) for group in groups)
    assert (together <= mask).all() and together[-1].sum() == 503  # two have no sector
