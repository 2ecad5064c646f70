"""``panel build``, ``append``, ``attach``, ``info`` and ``check`` on small files, wrong ones included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest_farm.panel import Panel
from tests.cli.conftest import Command, prices

EUROPEAN = """\
Datum;Kürzel;Open;High;Low;Letzter;Stück
05/01/2021;AAA;1.234,50;1.240,00;1.230,00;1.238,25;100
13/01/2021;AAA;1.238,00;1.250,00;1.236,00;1.249,75;100
"""


@pytest.fixture
def panel(farm: Command, tmp_path: Path) -> Path:
    """A folder with a panel of its own, for tests that add to it."""
    (tmp_path / "prices.csv").write_text(prices())
    built = farm("panel", "build", "prices.csv", "panel", cwd=tmp_path)
    assert built.code == 0, built.err
    return tmp_path


def test_build_takes_what_only_the_owner_knows(farm: Command, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(EUROPEAN)
    refused = farm("panel", "build", "prices.csv", "panel", cwd=tmp_path)
    assert refused.code == 2
    names = ["Datum=timestamp", "Kürzel=symbol", "Letzter=close", "Stück=volume"]
    columns = [word for name in names for word in ("--column", name)]
    line = ["--separator", ";", "--decimal", ",", "--date-format", "%d/%m/%Y", *columns, "--json"]
    built = farm("panel", "build", "prices.csv", "panel", *line, cwd=tmp_path)
    assert built.code == 0, built.err
    assert (built.document["first"], built.document["last"]) == ("2021-01-05", "2021-01-13")
    assert "volume" in built.document["fields"]
    checked = farm("panel", "check", "prices.csv", *line, cwd=tmp_path)
    assert checked.code == 0, checked.err
    assert checked.document["n_bars"] == 2


def test_build_takes_a_pattern_or_a_folder_of_files_named_by_symbol(farm: Command, tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    lines = prices().splitlines()
    for symbol in ("AAA", "CCC"):
        own = [line.replace(f",{symbol},", ",") for line in lines if f",{symbol}," in line]
        text = "\n".join([lines[0].replace(",symbol,", ","), *own])
        (folder / f"{symbol}.csv").write_text(text + "\n")
    for source, name in (("prices/*.csv", "one"), ("prices", "two")):
        built = farm("panel", "build", source, name, "--json", cwd=tmp_path)
        assert built.code == 0, built.err
        assert (built.document["n_assets"], built.document["n_bars"]) == (2, 80)


def test_a_pattern_without_quotes_is_2_and_says_so(farm: Command, tmp_path: Path) -> None:
    done = farm("panel", "build", "a.csv", "b.csv", "c.csv", "panel", cwd=tmp_path)
    assert done.code == 2
    assert "quotes" in done.err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--column", "Last", "THEIRS=OURS"),
        ("--column", "Last=close", "Last"),
        ("--date-format", "%d of May", "date_format"),
        ("--decimal", "x", "decimal"),
        ("--separator", ";;", "separator"),
        ("--zone", "Mars/Olympus", "zone"),
        ("--calendar", "XNYZ", "XNY"),
        ("--ends", "nowhere.csv", "nowhere.csv"),
        ("--bars-per-year", "0", "bars-per-year"),
    ],
)
def test_build_refuses_options_that_cannot_be_meant(
    option: str, value: str, said: str, farm: Command, tmp_path: Path
) -> None:
    (tmp_path / "prices.csv").write_text(prices())
    done = farm("panel", "build", "prices.csv", "panel", option, value, cwd=tmp_path)
    assert done.code == 2, done.err
    assert said in done.err
    assert "internal error" not in done.err
    assert not (tmp_path / "panel").exists()


def test_build_by_a_calendar_counts_sessions_without_bars(farm: Command, tmp_path: Path) -> None:
    kept = [line for line in prices().splitlines() if not line.startswith("2021-02-03")]
    (tmp_path / "prices.csv").write_text("\n".join(kept) + "\n")
    done = farm("panel", "build", "prices.csv", "panel", "--calendar", "XNYS", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    kinds = {tally["kind"] for tally in done.document["report"]["tallies"]}
    assert "session_without_bars" in kinds
    assert farm("panel", "info", "panel", "--json", cwd=tmp_path).document["calendar"] == "XNYS"


def test_append_adds_bars_and_listings_and_refuses_old_ones(farm: Command, panel: Path) -> None:
    (panel / "later.csv").write_text(
        "timestamp,symbol,open,high,low,close,volume\n"
        "2021-06-01,AAA,10,11,9,10,5\n2021-06-01,NEW,10,11,9,10,5\n"
    )
    done = farm("panel", "append", "panel", "later.csv", "--json", cwd=panel)
    assert done.code == 0, done.err
    said = done.document
    assert (said["new_bars"], said["new_assets"], said["n_bars"], said["n_assets"]) == (1, 1, 81, 5)
    again = farm("panel", "append", "panel", "later.csv", cwd=panel)
    assert again.code == 2
    assert "overlapping_bar" in again.err
    people = farm("panel", "append", "panel", "nothing.csv", cwd=panel)
    assert people.code == 2
    assert "nothing.csv" in people.err


def test_attach_adds_everything_and_info_tells_it(farm: Command, panel: Path) -> None:
    days = [line.partition(",")[0] for line in prices().splitlines() if ",AAA," in line]
    (panel / "vix.csv").write_text("timestamp,vix\n" + "".join(f"{day},20\n" for day in days))
    (panel / "sectors.csv").write_text("symbol,sector\nAAA,Energy\nCCC,Utilities\nZZZ,Energy\n")
    (panel / "members.csv").write_text("symbol,start_date,end_date\nAAA,2020-01-01,\nZZZ,2020-01-01,\n")
    (panel / "score.csv").write_text(f"timestamp,symbol,score\n{days[0]},AAA,1.5\n")
    (panel / "ends.csv").write_text(f"symbol,date,payout\nDDD,{days[-1]},\n")
    attached = [
        "--context", "vix=vix.csv", "--static", "sector=sectors.csv", "--universe", "index=members.csv",
        "--field", "score=score.csv", "--ends", "ends.csv",
    ]  # fmt: skip
    done = farm("panel", "attach", "panel", *attached, cwd=panel)
    assert done.code == 0, done.err
    assert "symbol_not_in_panel" in done.out
    assert "survivorship" in done.out
    # What the prices were found to be was told when they were built.
    assert "zero_volume" not in done.out

    info = farm("panel", "info", "panel", "--json", cwd=panel).document
    assert "score" in info["fields"]
    assert info["contexts"] == ["vix"]
    assert info["statics"]["sector"] == {"values": 2, "missing": 2}
    assert info["universes"]["index"]["members_last"] == 1
    people = farm("panel", "info", "panel", cwd=panel)
    assert people.code == 0, people.err
    for word in ("score", "vix", "sector", "index", "2021-01-01", "1 (50%)", "newest of 6"):
        assert word in people.out


def test_values_that_are_known_later_are_seen_later(farm: Command, panel: Path) -> None:
    days = [line.partition(",")[0] for line in prices().splitlines() if ",AAA," in line]
    (panel / "reports.csv").write_text(
        f"timestamp,symbol,eps,filed\n{days[0]},AAA,1.5,{days[3]}\n{days[4]},AAA,2.5,{days[9]}\n"
    )
    words = ("panel", "attach", "panel", "--field", "eps=reports.csv", "--available", "filed", "--lag", "1")
    done = farm(*words, cwd=panel)
    assert done.code == 0, done.err
    eps = Panel.open(panel / "panel")["eps"][:, 0]
    assert np.flatnonzero(np.isfinite(eps))[0] == 4
    assert np.flatnonzero(eps == 2.5)[0] == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to attach"),
        (("--context", "vix"), "NAME=FILE"),
        (("--context", "vix=nowhere.csv"), "nowhere.csv"),
        (("--static", "close=prices.csv"), "duplicate_key"),
        (("--ends", "ends.csv", "--lag", "1"), "--lag"),
        (("--context", "vix=prices.csv", "--lag", "soon"), "soon"),
        (("--field", "volume=prices.csv"), "volume"),
        (("--universe", "all=prices.csv"), "all"),
    ],
)
def test_attach_refuses_what_does_not_fit(
    words: tuple[str, ...], said: str, studied: Path, farm: Command
) -> None:
    done = farm("panel", "attach", "panel", *words, cwd=studied)
    assert done.code == 2, done.err
    assert said in done.err
    assert "internal error" not in done.err


def test_check_of_a_panel_whose_file_was_damaged_is_2(farm: Command, panel: Path) -> None:
    file = max((panel / "panel").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    done = farm("panel", "check", "panel", cwd=panel)
    assert done.code == 2, done.out
    assert "damaged_file" in done.out + done.err


@pytest.mark.parametrize("verb", ["info", "append", "attach"])
def test_a_folder_that_holds_no_panel_is_2(verb: str, farm: Command, tmp_path: Path) -> None:
    more = {"info": (), "append": ("x.csv",), "attach": ("--ends", "x.csv")}[verb]
    done = farm("panel", verb, ".", *more, cwd=tmp_path)
    assert done.code == 2, done.err
    assert "internal error" not in done.err


def test_compact_makes_one_block_of_many(panel: Path, farm: Command) -> None:
    rows = prices(n_bars=86).splitlines()
    days = sorted({line.partition(",")[0] for line in rows[1:]})[80:]
    for at, day in enumerate(days):
        (panel / f"{at}.csv").write_text(
            "\n".join([rows[0], *(line for line in rows if line.startswith(day))])
        )
        assert farm("panel", "append", "panel", f"{at}.csv", cwd=panel).code == 0
    before = Panel.open(panel / "panel")
    done = farm("panel", "compact", "panel", "--json", cwd=panel)
    assert done.code == 0, done.err
    assert (done.document["blocks_before"], done.document["blocks_after"]) == (7, 1)
    assert done.document["bytes_written"] > 0
    after = Panel.open(panel / "panel")
    assert after.snapshot == done.document["snapshot"] != before.snapshot
    assert after.digest(["close"], 86) == before.digest(["close"], 86)
    again = farm("panel", "compact", "panel", cwd=panel)
    assert (again.code, again.out.startswith("nothing to do: 1 block\n")) == (0, True), again.err
    assert farm("panel", "check", "panel", cwd=panel).code == 0


def test_a_panel_is_no_source(panel: Path, farm: Command) -> None:
    for line in ("panel build panel other", "panel build panel panel", "panel append panel panel"):
        done = farm(*line.split(), cwd=panel)
        assert done.code == 2
        assert "panel is a panel already, and no source of bars" in done.err
        assert "panel append PATH SOURCE" in done.err and "fault" not in done.err
    assert not (panel / "other").exists()


def test_a_panel_that_is_there_is_not_built_over(panel: Path, farm: Command) -> None:
    (panel / "other.csv").write_text(prices(n_bars=70))
    done = farm("panel", "build", "other.csv", "panel", cwd=panel)
    assert done.code == 2
    assert "already holds a panel with other content" in done.err
    for way in ("panel append PATH SOURCE", "another path", "remove the folder"):
        assert way in done.err
