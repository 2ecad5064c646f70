"""``panel build`` and ``panel check``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from backtest_farm.cli.answer import WRONG_INPUT, JsonFlag, answering, plain

app = typer.Typer(
    help="Panels: prices and other fields on one grid of bars and assets.", no_args_is_help=True
)


class OnFault(StrEnum):
    """What a source with errors leads to."""

    strict = "strict"
    report = "report"


@app.command(epilog="Example: backtest-farm panel build prices.csv panels/us --ends delistings.csv")
def build(
    source: Annotated[
        str, typer.Argument(help="A CSV or Parquet file: timestamp, symbol, open, high, low, close, ...")
    ],
    path: Annotated[Path, typer.Argument(help="The folder the panel is written to.")],
    on_fault: Annotated[
        OnFault, typer.Option(help="strict: any error refuses; report: leave out what is wrong, and list it.")
    ] = OnFault.strict,
    ends: Annotated[
        str | None,
        typer.Option(help="Ends of life: a CSV or Parquet file with symbol, date, payout."),
    ] = None,
    bars_per_year: Annotated[
        float | None, typer.Option(help="For annual figures; taken from the grid when not given.", min=1.0)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Read prices, check them, and write a panel. Every fault is reported at once."""
    with answering(json) as answer:
        from backtest_farm.panel import Panel

        answer.note(f"reading {source}")
        panel = Panel.build(source, path, on_fault=on_fault.value, ends=ends, bars_per_year=bars_per_year)
        document = {**_description(panel), "report": panel.report.to_dict()}
        answer.give(document, _sentence(panel), *map(plain, panel.report.lines()))


@app.command(epilog="Example: backtest-farm panel check prices.csv")
def check(
    path: Annotated[str, typer.Argument(help="A panel's folder, or a CSV or Parquet file.")],
    json: JsonFlag = False,
) -> None:
    """Check a built panel, or a source before it is built. Exit code 2 when errors are found."""
    with answering(json) as answer:
        from backtest_farm.panel import Panel
        from backtest_farm.panel.folder import PanelFolder

        if PanelFolder(path).names():
            panel = Panel.open(path)
            report, head = panel.check(), _sentence(panel)
            document = {"kind": "panel", **_description(panel)}
        else:
            from backtest_farm import ingest

            grid, report = ingest.read(path, "report", None)
            n_bars, n_assets = len(grid.timestamps), len(grid.symbols)
            head = plain(f"{path}: {n_bars:,} bars x {n_assets:,} assets, fields {', '.join(grid.fields)}")
            document = {
                "kind": "source",
                "path": path,
                "n_bars": n_bars,
                "n_assets": n_assets,
                "fields": list(grid.fields),
            }
        answer.give({**document, "report": report.to_dict()}, head, *map(plain, report.lines()))
        if report.errors:
            raise typer.Exit(WRONG_INPUT)


def _description(panel: Any) -> dict[str, Any]:
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


def _sentence(panel: Any) -> str:
    said = _description(panel)
    span = f"{said['first']} to {said['last']}"
    return plain(
        f"{said['path']}: {said['n_bars']:,} bars x {said['n_assets']:,} assets, {span}, "
        f"fields {', '.join(said['fields'])}, snapshot {said['snapshot']}"
    )
