"""``panel build``, ``append``, ``attach``, ``compact``, ``info`` and ``check``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest_farm.cli.answer import WRONG_INPUT, JsonFlag, Prose, answering
from backtest_farm.cli.tables import counted, pairs, shown, size, table
from backtest_farm.errors import InputError

if TYPE_CHECKING:
    from backtest_farm.ingest import Report
    from backtest_farm.panel import Panel

app = typer.Typer(
    help="Panels: prices and other fields on one grid of bars and assets.", no_args_is_help=True
)


class OnFault(StrEnum):
    """What a source with errors leads to."""

    strict = "strict"
    report = "report"


PanelPath = Annotated[str, typer.Argument(help="The panel's folder.")]
Source = Annotated[
    str,
    typer.Argument(
        help="A CSV or Parquet file (timestamp, symbol, open, high, low, close, ...), a folder of them, or a "
        "pattern in quotes: 'prices/*.csv'."
    ),
]
OnFaultOption = Annotated[
    OnFault, typer.Option(help="strict: any error refuses; report: leave out what is wrong, and list it.")
]

# How text is to be read: for build, append and check alike.
_READING = "How the source is written (found out when not given)"
DateFormat = Annotated[
    str | None,
    typer.Option(
        help="Of dates: %d/%m/%Y, or what a number means: excel, yyyymmdd, epoch_s, epoch_ms, epoch_us.",
        rich_help_panel=_READING,
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(help="Between the cells of a CSV line, such as ';'.", rich_help_panel=_READING),
]
Decimal = Annotated[str | None, typer.Option(help="The decimal mark: . or ,", rich_help_panel=_READING)]
Symbol = Annotated[
    str | None,
    typer.Option(help="The asset's name, when no column says it.", rich_help_panel=_READING),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        help="THEIRS=OURS: a column that is called otherwise, such as Last=close. Can be repeated.",
        rich_help_panel=_READING,
    ),
]
Zone = Annotated[
    str | None,
    typer.Option(help="Time zone of times without one, such as America/New_York.", rich_help_panel=_READING),
]


@app.command(epilog="Example: backtest-farm panel build prices.csv panels/us --date-format %d/%m/%Y")
def build(
    source: Source,
    path: Annotated[Path, typer.Argument(help="The folder the panel is written to.")],
    on_fault: OnFaultOption = OnFault.strict,
    ends: Annotated[
        str | None,
        typer.Option(help="Ends of life: a CSV or Parquet file with symbol, date, payout."),
    ] = None,
    calendar: Annotated[
        str | None,
        typer.Option(help="The exchange's calendar, such as XNYS: which sessions there should be."),
    ] = None,
    bars_per_year: Annotated[
        float | None, typer.Option(help="For annual figures; taken from the grid when not given.", min=1.0)
    ] = None,
    date_format: DateFormat = None,
    separator: Separator = None,
    decimal: Decimal = None,
    symbol: Symbol = None,
    column: Column = None,
    zone: Zone = None,
    json: JsonFlag = False,
) -> None:
    """Read prices, check them, and write a panel. Every fault is reported at once."""
    with answering(json) as answer:
        options = _reading(date_format, separator, decimal, symbol, column, zone)
        from backtest_farm.panel import Panel

        answer.note(f"reading {source}")
        panel = Panel.build(
            source,
            path,
            on_fault=on_fault.value,
            ends=ends,
            bars_per_year=bars_per_year,
            calendar=calendar,
            **options,
        )
        document = {**_description(panel), "report": panel.report.to_dict()}
        answer.give(document, *_reported(panel.report), _sentence(panel))


@app.command(epilog="Example: backtest-farm panel append panels/us today.csv")
def append(
    path: PanelPath,
    source: Annotated[str, typer.Argument(help="Later bars: a file, folder or pattern as for build.")],
    on_fault: OnFaultOption = OnFault.strict,
    date_format: DateFormat = None,
    separator: Separator = None,
    decimal: Decimal = None,
    symbol: Symbol = None,
    column: Column = None,
    zone: Zone = None,
    json: JsonFlag = False,
) -> None:
    """Add later bars, and new listings, to a panel. What was there stays as it is, byte for byte."""
    with answering(json) as answer:
        options = _reading(date_format, separator, decimal, symbol, column, zone)
        from backtest_farm.panel import Panel

        before = Panel.open(path)
        panel = before.append(source, on_fault=on_fault.value, **options)
        bars, assets = (now - then for now, then in zip(panel.shape, before.shape, strict=True))
        document = {
            **_description(panel),
            "new_bars": bars,
            "new_assets": assets,
            "report": panel.report.to_dict(),
        }
        added = f"added: {bars:,} bars, {assets:,} assets"
        answer.give(document, *_reported(panel.report), added, _sentence(panel))


@app.command(
    epilog="Example: backtest-farm panel attach panels/us --universe sp500=members.csv "
    "--static sector=sectors.csv --context vix=vix.csv"
)
def attach(
    path: PanelPath,
    field: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE with timestamp, symbol, NAME: one more field.")
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE with timestamp and one value: a series of the market.")
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE with symbol, NAME: one value an asset, such as its sector."),
    ] = None,
    universe: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE with symbol, start_date, end_date: members as of date."),
    ] = None,
    ends: Annotated[str | None, typer.Option(help="FILE with symbol, date, payout: ends of life.")] = None,
    available: Annotated[
        str | None,
        typer.Option(help="Of fields and contexts: the column that says when a value became known."),
    ] = None,
    lag: Annotated[
        str | None,
        typer.Option(help="Of fields and contexts: bars (3) or time (45d, 6h) until a value is known."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Add fields, market series, static columns, universes or ends of life to a panel."""
    with answering(json) as answer:
        asked = {"field": field, "context": context, "static": static, "universe": universe}
        parts = [
            (kind, *_named(f"--{kind}", "NAME=FILE", text))
            for kind, texts in asked.items()
            for text in texts or ()
        ]
        if not parts and ends is None:
            raise InputError("nothing to attach", hint="see: backtest-farm panel attach --help")
        known = {"available": available, "lag": int(lag) if lag and lag.isdecimal() else lag}
        if (available or lag) and not (field or context):
            raise InputError("--available and --lag are about fields and contexts, and none is attached")
        from backtest_farm.panel import Panel

        panel = Panel.open(path)
        said: list[Any] = []
        for kind, name, file in parts:
            before = panel.report
            more = known if kind in ("field", "context") else {}
            panel = getattr(panel, f"with_{kind}")(name, file, **more)
            # On stderr at once: what stands before a fault stays attached.
            answer.note(f"{kind} {name}: attached, from {file}")
            # A snapshot without a report of its own has that of the one before it.
            said += _reported(panel.report) if panel.report != before else []
        if ends is not None:
            panel = panel.with_ends(ends)
            answer.note(f"ends of life: attached, from {ends}")
        answer.give(_description(panel), *said, _sentence(panel))


@app.command(epilog="Example: backtest-farm panel compact panels/us")
def compact(path: PanelPath, json: JsonFlag = False) -> None:
    """Write the many small blocks that appends leave as few large ones. Contents and digests stay."""
    with answering(json) as answer:
        from backtest_farm.panel import Panel

        before = Panel.open(path)
        after = before.compact()
        blocks = {f"blocks_{when}": len(one.slabs()) for when, one in (("before", before), ("after", after))}
        written = after.info()["bytes"] if after.snapshot != before.snapshot else 0
        document = {**_description(after), **blocks, "bytes_written": written}
        was, now = (counted(number, "block") for number in blocks.values())
        said = f"{was} are now {now} of {size(written)}; older snapshots keep their files"
        answer.give(document, Prose([said if written else f"nothing to do: {now}"]), _sentence(after))


@app.command(epilog="Example: backtest-farm panel info panels/us")
def info(path: PanelPath, json: JsonFlag = False) -> None:
    """What a panel holds: bars, assets, fields, universes, series, static columns, ends, snapshots."""
    with answering(json) as answer:
        from backtest_farm.panel import Panel

        said = Panel.open(path).info()
        answer.give(said, *_information(said, answer.width))


@app.command(epilog="Example: backtest-farm panel check prices.csv")
def check(
    path: Annotated[str, typer.Argument(help="A panel's folder, or a source as for build.")],
    date_format: DateFormat = None,
    separator: Separator = None,
    decimal: Decimal = None,
    symbol: Symbol = None,
    column: Column = None,
    zone: Zone = None,
    json: JsonFlag = False,
) -> None:
    """Check a built panel, or a source before it is built. Exit code 2 when errors are found."""
    with answering(json) as answer:
        options = _reading(date_format, separator, decimal, symbol, column, zone)
        from backtest_farm.panel.folder import PanelFolder

        if PanelFolder(path).names():
            from backtest_farm.panel import Panel

            panel = Panel.open(path)
            report, head = panel.check(), _sentence(panel)
            document = {"kind": "panel", **_description(panel)}
        else:
            from backtest_farm import ingest

            grid, report = ingest.read(path, "report", None, ingest.ReadOptions.of(**options))
            n_bars, n_assets = len(grid.timestamps), len(grid.symbols)
            text = f"{path}: {n_bars:,} bars x {n_assets:,} assets, fields {', '.join(grid.fields)}"
            head = Prose([text])
            document = {
                "kind": "source",
                "path": path,
                "n_bars": n_bars,
                "n_assets": n_assets,
                "fields": list(grid.fields),
            }
        found = _reported(report) or [Prose(["nothing to remark"])]
        answer.give({**document, "report": report.to_dict()}, *found, head)
        if report.errors:
            raise typer.Exit(WRONG_INPUT)


def _reading(
    date_format: str | None,
    separator: str | None,
    decimal: str | None,
    symbol: str | None,
    column: Sequence[str] | None,
    zone: str | None,
) -> dict[str, Any]:
    """Return the options of `backtest_farm.ingest.ReadOptions` that were given."""
    columns = dict(_named("--column", "THEIRS=OURS", text) for text in column or ())
    given = {
        "date_format": date_format,
        # A shell hands \\t over as two characters.
        "separator": "\t" if separator in ("\\t", "tab") else separator,
        "decimal": decimal,
        "symbol": symbol,
        "columns": columns or None,
        "zone": zone,
    }
    return {name: value for name, value in given.items() if value is not None}


def _named(option: str, form: str, text: str) -> tuple[str, str]:
    # A column may have = in its name, a file too: the first one parts them.
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise InputError(f"{option} {text}: this is not {form}", hint=f"write {option} {form}")
    return name, value


def _reported(report: Report) -> list[Prose]:
    lines = report.lines()
    return [Prose(lines)] if lines else []


def _description(panel: Panel) -> dict[str, Any]:
    n_bars, n_assets = panel.shape
    return {
        "path": str(panel.path),
        "snapshot": panel.snapshot,
        "n_bars": n_bars,
        "n_assets": n_assets,
        "first": panel.timestamps[0].item(),
        "last": panel.timestamps[-1].item(),
        "fields": list(panel.fields),
        "bars_per_year": panel.bars_per_year,
    }


def _sentence(panel: Panel) -> Prose:
    said = _description(panel)
    span = f"{shown('first', said['first'])} to {shown('last', said['last'])}"
    text = (
        f"{said['path']}: {said['n_bars']:,} bars x {said['n_assets']:,} assets, {span}, "
        f"fields {', '.join(said['fields'])}, snapshot {said['snapshot']}"
    )
    return Prose([text])


def _information(said: Mapping[str, Any], width: int) -> Iterator[Any]:
    """Yield what `Panel.info` says, for people."""
    first, last = (shown(name, said[name]) for name in ("first", "last"))
    yearly = shown("bars_per_year", said["bars_per_year"])
    blocks = f" in {said['blocks']:,} blocks" if said["blocks"] > 1 else ""
    facts = {
        "bars": f"{said['n_bars']:,}, {first} to {last}, {yearly} a year",
        "assets": f"{said['n_assets']:,}, {said['ends']:,} with an end of life",
        "fields": ", ".join(said["fields"]),
        "contexts": ", ".join(said["contexts"]) or "none",
        "calendar": said["calendar"] or "none: its own bars",
        "on disk": f"{size(said['bytes'])}{blocks}",
        "snapshot": f"{said['snapshot']}, the newest of {len(said['snapshots'])}",
    }
    yield pairs(facts, title=said["path"])
    if said["statics"]:
        rows = [{"static column": name, **counts} for name, counts in said["statics"].items()]
        yield table(rows, list(rows[0]), width=width, title="\nstatic columns: values, assets without one")
    if said["universes"]:
        rows = [
            {
                "universe": name,
                "first bar": counts["members_first"],
                "last bar": counts["members_last"],
                "spells": counts["spells"],
                "without prices": f"{counts['lacking']:,} ({counts['lacking_share']:.0%})",
            }
            for name, counts in said["universes"].items()
        ]
        yield table(rows, list(rows[0]), width=width, title="\nuniverses: members, spells of membership")
