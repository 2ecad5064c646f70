"""``study top`` and ``study replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest_farm.cli.answer import JsonFlag, answering, plain
from backtest_farm.cli.tables import leaderboard, pairs, table
from backtest_farm.errors import InputError

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(help="Studies: the results of sweeps.", no_args_is_help=True)

LEADER_METRICS = ("sharpe", "cagr", "max_drawdown", "turnover", "trades")
_FILLS_SHOWN = 5
_FILL_COLUMNS = ("timestamp", "symbol", "quantity", "price", "commission", "reason")

StorePath = Annotated[str, typer.Argument(help="The study's folder.")]


@app.command(epilog="Example: backtest-farm study top studies/momentum -n 10 --by calmar")
def top(
    store: StorePath,
    n: Annotated[int, typer.Option("-n", help="How many trials.", min=1)] = 20,
    by: Annotated[str, typer.Option(help="The metric to rank by, best first.")] = "sharpe",
    json: JsonFlag = False,
) -> None:
    """The best trials of a study."""
    with answering(json) as answer:
        from backtest_farm.study import Study

        study = Study.open(store)
        best = study.best(n, by=by)
        metrics = (by, *(name for name in LEADER_METRICS if name != by))
        counts = study.summary()
        committed, trials = counts["committed"], counts["trials"]
        document = {"store": store, "by": by, "digest": study.digest, "committed": committed, "trials": best}
        title = f"best {best.height} of {committed:,} trials by {by}"
        if committed < trials:
            title += f" (unfinished: {trials - committed:,} of {trials:,} trials have not run yet)"
        elif best.height < min(n, committed):
            title += f" (the others have no {by}: they failed, or never traded)"
        answer.give(
            document,
            leaderboard(best, study.plan.columns, metrics, width=answer.width, title=title),
            f"digest: {study.digest}",
        )


@app.command(epilog="Example: backtest-farm study replay studies/momentum 417 --fills fills.csv")
def replay(
    store: StorePath,
    trial: Annotated[str, typer.Argument(help="A trial's number or key, as study top shows it.")],
    fills: Annotated[Path | None, typer.Option(help="Write all fills to this .csv or .parquet file.")] = None,
    equity: Annotated[
        Path | None, typer.Option(help="Write the equity curve to this .csv or .parquet file.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run one trial of a study again, check it against the stored digest, and show what it did."""
    with answering(json) as answer:
        from backtest_farm.study import Study

        exports = {"fills": fills, "equity": equity}
        for name, file in exports.items():
            _check_export(name, file)
        study = Study.open(store)
        result = study.replay(int(trial) if trial.isdecimal() else trial)
        written = {name: file for name, file in exports.items() if file is not None}
        for name, file in written.items():
            _export(getattr(result, name), file)
        all_fills = result.fills
        document = {
            "store": store,
            "trial": trial,
            "digest": result.digest,
            "digest_matches": True,  # replay raises otherwise
            "metrics": result.metrics,
            "n_fills": all_fills.height,
            "first_fills": all_fills.head(_FILLS_SHOWN),
            "last_fills": all_fills.tail(_FILLS_SHOWN),
            "written": written,
        }
        parts = [
            pairs(result.metrics, title=f"trial {trial} of {store}"),
            f"digest: {result.digest}, equal to the stored one",
            *_fill_tables(all_fills, answer.width),
            *(plain(f"{name} written to {file}") for name, file in written.items()),
        ]
        answer.give(document, *parts)


def _fill_tables(fills: pl.DataFrame, width: int) -> list[Any]:
    parts = [("all", fills)]
    if fills.height > 2 * _FILLS_SHOWN:
        parts = [
            (f"first {_FILLS_SHOWN} of", fills.head(_FILLS_SHOWN)),
            (f"last {_FILLS_SHOWN} of", fills.tail(_FILLS_SHOWN)),
        ]
    return [
        table(part.iter_rows(named=True), _FILL_COLUMNS, width=width, title=f"{words} {fills.height:,} fills")
        for words, part in parts
    ]


def _check_export(name: str, file: Path | None) -> None:
    if file is None:
        return
    if file.suffix not in {".csv", ".parquet"}:
        raise InputError(
            f"--{name} {file}: cannot tell the format from {file.suffix or 'no suffix'!r}",
            hint="name a file that ends in .csv or .parquet",
        )
    if not file.absolute().parent.is_dir():
        raise InputError(
            f"--{name} {file}: the folder {file.absolute().parent} does not exist", hint="make it first"
        )


def _export(frame: pl.DataFrame, file: Path) -> None:
    if file.suffix == ".csv":
        frame.write_csv(file)
    else:
        frame.write_parquet(file)
