"""CSV files as people have them: read, and the report says what was inferred, or refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import Grid, ReadOptions, Report, read
from tests.ingest.bars import bars

HEAD = "Date,Ticker,Open,High,Low,Close,Volume\n"
DAYS = ("2024-01-02", "2024-01-25")
ROW = "10.5,11,10,10.7,1000"


def written(*dates: str, row: str = ROW) -> str:
    """A file of AA with a row for each of these dates."""
    return HEAD + "".join(f"{date},AA,{row}\n" for date in dates)


def read_text(folder: Path, content: str | bytes, **options: object) -> tuple[Grid, Report]:
    """Read a file with this content."""
    path = folder / "bars.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, options=ReadOptions.of(**options))


class Case(NamedTuple):
    content: str | bytes
    said: tuple[str, ...] = ()
    days: tuple[str, ...] = DAYS
    close: float = 10.7
    volume: float = 1000.0
    options: dict[str, object] = {}  # noqa: RUF012


READ = {
    "plain": Case(written(*DAYS)),
    "day first": Case(written("02/01/2024", "25/01/2024"), ("25/01/2024 is 25 January 2024",)),
    "month first": Case(written("1/2/2024", "1/25/2024"), ('"%m/%d/%Y": 1/25/2024 is 25 January 2024',)),
    "points": Case(written("2.1.2024", "25.1.2024"), ('date_format="%d/%m/%Y"',)),
    "short years": Case(written("02/01/24", "25/01/24"), ("25/01/24 is 25 January 2024",)),
    "year first": Case(written("2024/01/02", "2024/1/25")),
    "named month": Case(written("02-Jan-2024", "January 25 2024")),
    "digits": Case(written("20240102", "20240125")),
    "the same either way": Case(written("02/02/2024"), ("day and month are the same",), ("2024-02-02",)),
    "said": Case(
        written("02/01/2024", "03/01/2024"),
        days=("2024-02-01", "2024-03-01"),
        options={"date_format": "%m/%d/%Y"},
    ),
    "said exactly": Case(written("2024 002", "2024 025"), options={"date_format": "%Y %j"}),
    "workbook": Case(written("45293", "45316"), options={"date_format": "excel"}),
    "New York midnights": Case(
        written("2024-01-02 00:00:00-05:00", "2024-07-02 00:00:00-04:00"), days=("2024-01-02", "2024-07-02")
    ),
    "semicolons and decimal commas": Case(
        written(*DAYS).replace(",", ";").replace(".", ",").replace("1000", "1.000"),
        ("separator=';'", 'decimal=",": commas are decimal marks'),
    ),
    "tabs": Case(written(*DAYS).replace(",", "\t"), (r"separator='\t'",)),
    "thousands": Case(
        written(*DAYS, row='"1,010.5",1011,1010,1010.7,"1,000"'), ('decimal="."',), close=1010.7
    ),
    "blanks between thousands": Case(written(*DAYS, row="10.5,11,10,10.7,1 000 000"), volume=1e6),
    "said decimal": Case(
        written(*DAYS, row='10,11,10,10,"1,000"'), close=10.0, volume=1.0, options={"decimal": ","}
    ),
    "currency": Case(written(*DAYS, row="$10.5,11 €,£10,$10.7,1000"), ("currency signs are left out",)),
    "quotes": Case(written(*DAYS, row='"10.5","11","10","10.7","1000"')),
    "byte order mark": Case(b"\xef\xbb\xbf" + written(*DAYS).encode()),
    "UTF-16": Case(written(*DAYS).encode("utf-16")),
    "Windows-1252": Case(
        written(*DAYS).replace("Volume", "Größe,Volume").replace("10.7,", "10.7,1,").encode("cp1252"),
        ("text as Windows-1252",),
    ),
    "blank lines": Case(written(*DAYS).replace("\n2024-01-25", "\n\n,,,,,,\n2024-01-25") + "\n\n"),
    "separators at the ends": Case(written(*DAYS).replace("1000\n", "1000,\n")),
    "Windows lines": Case(written(*DAYS).replace("\n", "\r\n")),
    "old Macintosh lines": Case(written(*DAYS).replace("\n", "\r")),
    "Excel's first line": Case("sep=;\n" + written(*DAYS).replace(",", ";")),
    "remarks above": Case("# prices\n\n" + written(*DAYS)),
    "MetaTrader": Case(
        written(*DAYS).replace("Date", "<DATE>").replace("Close", "<CLOSE>").replace(",", "\t"),
        (r"separator='\t'",),
    ),
    "own names": Case(
        written(*DAYS).replace("Close", "Last").replace("Ticker", "Kürzel"),
        options={"columns": {"Last": "close", "Kürzel": "symbol"}},
    ),
    "one asset": Case(written(*DAYS).replace("Ticker,", "").replace("AA,", ""), options={"symbol": "AA"}),
}


@pytest.mark.parametrize("name", READ)
def test_files_that_are_understood(tmp_path: Path, name: str) -> None:
    case = READ[name]
    grid, report = read_text(tmp_path, case.content, **case.options)
    np.testing.assert_array_equal(grid.timestamps, np.array(case.days, "M8[D]"))
    assert grid.symbols == ("AA",)
    assert set(grid.fields["close"].ravel()) == {case.close}
    assert set(grid.fields["volume"].ravel()) == {case.volume}
    # Nothing is inferred in silence, and nothing is said to be that was not.
    assert len(report.notes) == len(case.said) and report.errors == ()
    for said in case.said:
        assert any(said in note.value for note in report.notes if note.value)


REFUSED = {
    "ambiguous days": (
        written("02/01/2024", "03/04/2024"),
        'can be read in more than one way: 02/01/2024 is 2 January 2024 (date_format="%d/%m/%Y") or '
        '1 February 2024 (date_format="%m/%d/%Y"), and no other date decides it',
    ),
    "both orders": (
        written("25/01/2024", "01/26/2024"),
        "25/01/2024 has the day first and 01/26/2024 the month; there are as many of either",
    ),
    "workbook": (written("45293", "45294"), 'from 1900 (date_format="excel")'),
    "ambiguous thousands": (
        written("2024-01-02", row='10,11,10,10,"1,234"'),
        'volume 1,234 is 1234 (decimal=".") or 1.234 (decimal=",")',
    ),
    "no header": (
        written(*DAYS).partition("\n")[2],
        "missing_header: bars.csv = 2024-01-02, AA, 10.5, 11: the first line holds values, not names",
    ),
    "other names": (
        written(*DAYS).replace("Close", "Last"),
        "missing_column: bars.csv = close: no such column: add it, or say which one holds it, such as "
        'columns={"Last": "close"}; found: Date, Ticker, Open, High, Low, Last, Volume',
    ),
    "no symbol": (
        written(*DAYS).replace("Ticker,", "").replace("AA,", ""),
        'name a single asset: symbol="..."',
    ),
    "closes alone": ("Date,AA,BB\n2024-01-02,1,2\n", 'give one for each: {"open": frame, "close": frame}'),
    "doubled columns": (
        written(*DAYS).replace("Volume", "close"),
        "duplicate_column: bars.csv = close: Close, close:",
    ),
    "unquoted decimal commas": (
        written("2024-01-02", row="10,5,11,0,10,0,10,7,1000"),
        "ragged_row: bars.csv row 2 = 11 cells for 7 columns: 2024-01-02,AA,10,5,11",
    ),
    "a cut last line": (
        written("2024-01-02") + "2024-01-03,AA,1",
        "row 3 = 3 cells for 7 columns: 2024-01-03,AA,1",
    ),
    "an open quote": (
        written("2024-01-02") + '2024-01-03,"AA,1,1,1,1,1',
        "row 3 = a quote is open at its end",
    ),
    "identical rows": (
        written("2024-01-02", "2024-01-02"),
        "row 3 2024-01-02 AA: an earlier row has the same "
        "timestamp and symbol: keep one of them; the other one, row 2, is identical",
    ),
    "contradicting rows": (
        written("2024-01-02") + f"2024-01-02,AA,{ROW.replace('10.7', '10.8')}\n",
        "the other one, row 2, has close 10.7 (here 10.8)",
    ),
    "times without a zone": (written("2024-01-02 09:30"), 'say it for all of them (zone="America/New_York")'),
    "times of an abbreviated zone": (written("2024-01-02 09:30 EST"), "unparseable: bars.csv row 2"),
    "after blank lines": (
        written("2024-01-02").replace("\n2", "\n\n\n2").replace("10.7", "ten"),
        "row 4 2024-01-02 AA = close ten",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused_in_words_that_help(tmp_path: Path, name: str) -> None:
    content, says = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read_text(tmp_path, content)
    assert says in str(caught.value).replace(f"{tmp_path}/", "")


def test_empty_cells_have_many_names(tmp_path: Path) -> None:
    grid, report = read_text(tmp_path, written("2024-01-02") + "2024-01-03,AA,N/A,-,#N/A,null,--\n")
    assert np.isnan([values[1, 0] for values in grid.fields.values()]).all()
    assert report.counts["missing_cell"] == 4


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("1704205800", "2024-01-02T14:30"),
        ("1704205800000", "2024-01-02T14:30"),
        ("1704205800000000000", "2024-01-02T14:30"),
        ("2024-01-02 09:30:00 -0500", "2024-01-02T14:30"),
        ("2024-01-02T14:30:00.5Z", "2024-01-02T14:30:00.5"),
        ("2 Jan 2024 2:30 pm UTC", "2024-01-02T14:30"),
    ],
)
def test_moments(tmp_path: Path, stamp: str, moment: str) -> None:
    grid, report = read_text(tmp_path, written(stamp))
    assert grid.timestamps.tolist() == [np.datetime64(moment, "us").item()]
    assert bool(report.notes) == stamp.isdigit()


def test_times_of_a_zone_that_was_said(tmp_path: Path) -> None:
    grid, _ = read_text(tmp_path, written("2024-01-02 09:30", "2024-07-02 09:30"), zone="America/New_York")
    assert [str(moment)[11:16] for moment in grid.timestamps] == ["14:30", "13:30"]
    with pytest.raises(InputError, match="row 2 2024-11-03 01:30 AA = timestamp 2024-11-03 01:30"):
        read_text(tmp_path, written("2024-11-03 01:30"), zone="America/New_York")  # which is twice


def test_a_day_and_a_time_in_columns_of_their_own(tmp_path: Path) -> None:
    text = written("2024-01-02,14:30:00Z").replace("Date", "<DATE>,<TIME>")
    grid, report = read_text(tmp_path, text)
    assert grid.timestamps.tolist() == [np.datetime64("2024-01-02T14:30", "us").item()]
    assert "put together from <DATE> and <TIME>" in str(report.notes[0].value)


def test_a_long_file_is_read_in_blocks_of_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backtest_farm.ingest.csv_text.BLOCK_BYTES", 60)
    days = [str(np.datetime64("2024-01-01") + t) for t in range(40)]
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(
        gzip.compress(written(*days).replace("2024-02-05,AA,10.5", "2024-02-05,AA,oops").encode())
    )
    with pytest.raises(InputError, match="row 37 2024-02-05 AA = open oops"):
        read(path)
    grid, _ = read(path, "report")
    assert grid.shape == (40, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"date_fmt": "x"}, "did you mean 'date_format'"),
        ({"date_format": "dd/mm/yyyy"}, "reads no day, month and year"),
        ({"separator": ";;"}, "is not one plain character"),
        ({"decimal": "'"}, "is neither '.' nor ','"),
        ({"separator": ",", "decimal": ","}, "are both ','"),
        ({"symbol": " "}, "symbol is empty"),
        ({"zone": "EST5"}, "zone 'EST5' is not known"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ReadOptions.of(**options)


def test_an_asset_cannot_be_named_where_a_column_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has a column of symbols \(Ticker\)"):
        read_text(tmp_path, written(*DAYS), symbol="AA")


def test_a_source_without_any_field_is_refused() -> None:
    with pytest.raises(InputError, match="missing_column: 2"):
        read(bars().select("timestamp", "symbol"), "report")


def test_an_option_about_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'Close'"):
        read_text(tmp_path, written(*DAYS), columns={"Closed": "close"})


def test_a_cell_that_no_csv_has_and_a_damaged_gzip_are_refused_in_words(tmp_path: Path) -> None:
    odd = tmp_path / "odd.csv"
    odd.write_bytes(b"timestamp,symbol,open,close\n2024-01-02,A\rB,1,1,1\n")
    packed = tmp_path / "packed.csv.gz"
    whole = gzip.compress(b"timestamp,symbol,open,close\n" + b"2024-01-02,A,1,1\n" * 500)
    packed.write_bytes(whole[:30] + bytes(20) + whole[50:])
    for path in (odd, packed):
        with pytest.raises(InputError, match=f"{path} cannot be read"):
            read(path)
