"""``study ls``, ``show``, ``top``, ``replay``, ``verify``, ``repair`` and the others; and ``report``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest_farm.cli.answer import JsonFlag, Prose, answering, plain
from backtest_farm.cli.tables import counted, leaderboard, pairs, size, table
from backtest_farm.cli.writing import check_export, write_frame
from backtest_farm.errors import FarmError, InputError

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.panel import Panel
    from backtest_farm.study import Study

app = typer.Typer(help="Studies: the results of sweeps.", no_args_is_help=True)

LEADER_METRICS = ("sharpe", "cagr", "max_drawdown", "turnover", "trades")
_FILLS_SHOWN = 5
_FAILURES_SHOWN = 10
_FILL_COLUMNS = ("timestamp", "symbol", "quantity", "price", "commission", "reason")
_SWEEP_COLUMNS = ("number", "sweep", "trials", "committed", "failed", "reused", "created")
_STUDY_COLUMNS = ("study", "sweeps", "trials", "committed", "failed", "best", "sharpe", "digest")
_ABOUT = (
    "key", "universe", "window_start", "window_end", "bars", "bars_per_year", "profile", "numerics",
    "status", "error", "digest",
)  # fmt: skip
_ID_SHOWN, _FEWEST_ID = 12, 5
"""Digits of a digest that people are shown, and how many at least stand for one rather than for a number."""

_CAUSES = (
    "The same trials on the same data gave other numbers: something outside the sweep plays in. In a",
    "strategy of one's own it is nearly always a random draw without a seed, the clock, the order of a set,",
    "a file or variable that changes, or state kept from one trial to the next. With built-in strategies it",
    "is the machine: memory, processor, or machines with unlike packages (study show lists hosts and",
    "versions). Mend the strategy, then run the sweep into a new folder. Here the results that came first",
    "stand, and the study stays flagged.",
)

StorePath = Annotated[str, typer.Argument(help="The study's folder.")]
TrialName = "A trial's number or key, as study top shows it"
MovedPanel = Annotated[
    str | None, typer.Option(help="Where the panel lies now, if it moved since the sweep.")
]
WhichSweep = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        help="One sweep of a study with several: its number or first digits, as study show lists them. The "
        "newest when not given.",
    ),
]


@app.command(epilog="Example: backtest-farm study top studies/momentum -n 10 --by calmar")
def top(
    store: StorePath,
    n: Annotated[int, typer.Option("-n", help="How many trials.", min=1)] = 20,
    by: Annotated[str, typer.Option(help="The metric to rank by, best first.")] = "sharpe",
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """The best trials of a study."""
    with answering(json) as answer:
        study = _opened(store, sweep)
        best = study.best(n, by=by)
        metrics = (by, *(name for name in LEADER_METRICS if name != by))
        counts = study.summary()
        committed, trials = counts["committed"], counts["trials"]
        document = {"store": store, "by": by, "digest": study.digest, "committed": committed, "trials": best}
        title = f"best {best.height:,} of {committed:,} trials by {by}"
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
    trial: Annotated[str, typer.Argument(help=f"{TrialName}.")],
    fills: Annotated[Path | None, typer.Option(help="Write all fills to this .csv or .parquet file.")] = None,
    equity: Annotated[
        Path | None, typer.Option(help="Write the equity curve to this .csv or .parquet file.")
    ] = None,
    trades: Annotated[
        Path | None, typer.Option(help="Write the round trips to this .csv or .parquet file.")
    ] = None,
    panel: MovedPanel = None,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """Run one trial of a study again, check it against the stored digest, and show what it did."""
    with answering(json) as answer:
        exports = {"fills": fills, "equity": equity, "trades": trades}
        for name, file in exports.items():
            check_export(f"--{name}", file)
        study = _opened(store, sweep)
        result = study.replay(_trial(trial), panel=_panel(panel))
        written = {name: file for name, file in exports.items() if file is not None}
        for name, file in written.items():
            write_frame(getattr(result, name), file)
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
            *_fill_tables(all_fills, answer.width),
            f"\ndigest: {result.digest}, equal to the stored one",
            *(plain(f"{name} written to {file}") for name, file in written.items()),
        ]
        answer.give(document, *parts)


@app.command(name="ls", epilog="Example: backtest-farm study ls studies")
def list_(
    folder: Annotated[Path, typer.Argument(help="A folder with studies in it.")] = Path("studies"),
    json: JsonFlag = False,
) -> None:
    """The studies in a folder: how far they are, and their best trial."""
    with answering(json) as answer:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder", hint="name the one that holds your studies")
        rows = [_listed(place) for place in sorted(path.parent for path in folder.glob("*/sweeps"))]
        title = f"{counted(len(rows), 'study', 'studies')} in {folder}, each by its newest sweep"
        unread = [
            plain(f"{row['study']} cannot be read: {row['error']}")
            for row in rows
            if row["error"] is not None
        ]
        read = [row for row in rows if row["error"] is None]
        answer.give(
            {"folder": folder, "studies": rows},
            table(read, _STUDY_COLUMNS, width=answer.width, title=title),
            *unread,
        )


def _listed(place: Path) -> dict[str, Any]:
    """Return one row of ``study ls``."""
    row: dict[str, Any] = {**dict.fromkeys(_STUDY_COLUMNS), "study": place.name, "error": None}
    try:
        study = _opened(str(place), None)
        counts = study.summary()
        best = study.best(1)
    except FarmError as error:
        # One that is damaged, or that an older version wrote, does not hide the others.
        return {**row, "error": error.message}
    leader = best.row(0, named=True) if best.height else {}
    return {
        **row,
        "sweeps": study.sweeps().height,
        "trials": counts["trials"],
        "committed": counts["committed"],
        "failed": counts["committed"] - counts["ok"],
        "best": leader.get("trial"),
        "sharpe": leader.get("sharpe"),
        "digest": counts["digest"][:_ID_SHOWN],
    }


@app.command(epilog="Example: backtest-farm study show studies/momentum 417")
def show(
    store: StorePath,
    trial: Annotated[str | None, typer.Argument(help=f"{TrialName}; the whole study without it.")] = None,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """What a study holds, or one of its trials: parameters, metrics, counters."""
    with answering(json) as answer:
        study = _opened(store, sweep)
        if trial is not None:
            row = study.trial(_trial(trial))
            answer.give(row, *_trial_parts(row, study, store))
            return
        counts, sweeps, failures = study.summary(), study.sweeps(), study.failures()
        provenance = study.provenance()
        document = {
            "summary": counts,
            "sweeps": sweeps,
            "failures": failures,
            "provenance": provenance,
        }
        rows = [
            {**row, "sweep": row["sweep"][:_ID_SHOWN], "created": row["created"][:16].replace("T", " ")}
            for row in sweeps.to_dicts()
        ]
        kinds = ("ok", "error", "crashed", "timeout", "oom")
        states = ", ".join(f"{counts[name]:,} {name}" for name in kinds if counts[name])
        facts = {
            "panel": f"{provenance['panel'].get('path')}, snapshot {provenance['panel'].get('snapshot')}",
            "sweep": counts["sweep"],
            "parameters": ", ".join(study.plan.columns) or "none: a single trial",
            "rows": f"{counts['committed']:,} of {counts['trials']:,} trials: {states}",
            "numerics": provenance["numerics"],
            "hosts": provenance["hosts"],
            "digest": counts["digest"],
        }
        if provenance["impure"]:
            n = counted(len(provenance["impure"]), "atom")
            facts["FLAGGED"] = f"{n} gave two results: backtest-farm study explain {store}"
        parts = [
            pairs(facts, title=store),
            table(
                rows, _SWEEP_COLUMNS, width=answer.width, title=f"\nhistory: {counted(len(rows), 'sweep')}"
            ),
        ]
        if failures.height:
            title = f"\nfirst {min(failures.height, _FAILURES_SHOWN):,} of {failures.height:,} failed trials"
            heads = ("trial", "status", "error", "universe")
            parts.append(
                table(failures.head(_FAILURES_SHOWN).to_dicts(), heads, width=answer.width, title=title)
            )
        answer.give(document, *parts)


def _trial_parts(row: Mapping[str, Any], study: Study, store: str) -> Iterator[Any]:
    """Yield a row of a study in four parts."""
    from backtest_farm.kernel.state import COUNTERS
    from backtest_farm.kernel.summary import METRICS

    about = {name: row[name] for name in _ABOUT if row[name] is not None}
    yield pairs(about, title=f"trial {row['trial']} of {store}")
    if study.plan.columns:
        yield pairs({name: row[name] for name in study.plan.columns}, title="\nparameters")
    yield pairs({name: row[name] for name in METRICS}, title="\nmetrics")
    happened = {name: row[name] for name in COUNTERS if row[name] and name not in METRICS}
    if happened:
        yield pairs(happened, title="\nwhat happened how often")


@app.command(epilog="Example: backtest-farm study export studies/momentum trials.parquet")
def export(
    store: StorePath,
    file: Annotated[Path, typer.Argument(help="A .parquet, .csv or .arrow file, or a .delta table.")],
    kind: Annotated[
        str | None,
        typer.Option("--format", help="parquet, csv, arrow or delta, where FILE does not end in it."),
    ] = None,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """Write all rows of a study to one file."""
    with answering(json) as answer:
        named = file if kind is None else file.with_name(f"{file.name}.{kind}")
        check_export("FILE", named, (".parquet", ".csv", ".arrow", ".delta"))
        rows = _opened(store, sweep).export(file, kind)
        answer.give({"store": store, "file": file, "rows": rows}, plain(f"{rows:,} rows written to {file}"))


@app.command(epilog="Example: backtest-farm study diff studies/momentum 417 12")
def diff(
    store: StorePath,
    a: Annotated[str | None, typer.Argument(help=f"{TrialName}; whole studies without it.")] = None,
    b: Annotated[str | None, typer.Argument(help="The trial to compare it with.")] = None,
    other: Annotated[
        str | None, typer.Option(help="The study of B, or the one to compare with; this one if not given.")
    ] = None,
    panel: MovedPanel = None,
    other_panel: Annotated[str | None, typer.Option(help="The same for the other study.")] = None,
    sweep: WhichSweep = None,
    other_sweep: Annotated[str | None, typer.Option(help="One sweep of the other study.")] = None,
    json: JsonFlag = False,
) -> None:
    """What differs between two trials, down to decisions and the profit of each symbol; or two studies."""
    with answering(json) as answer:
        from backtest_farm.cli.differing import studies_parts, trials_parts

        study = _opened(store, sweep)
        against = _opened(other or store, other_sweep) if other or other_sweep else None
        one, two = (None if name is None else _trial(name) for name in (a, b))
        found = study.diff(one, two, against, panel=_panel(panel), other_panel=_panel(other_panel))
        parts = trials_parts if "trials" in found else studies_parts
        document = {name: found[name] for name in found if not name.startswith("only in")}
        answer.give(document, *parts(found, answer.width))


@app.command(epilog="Example: backtest-farm study verify studies/momentum --sample 20")
def verify(
    store: StorePath,
    sample: Annotated[
        int, typer.Option(help="Run so many trials again and compare their digests.", min=0)
    ] = 0,
    panel: MovedPanel = None,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """Read every file of a study, check it against its hash, and run some trials again."""
    with answering(json) as answer:
        found = _opened(store, sweep).verify(sample=sample, panel=_panel(panel))
        shown = {
            **{name: f"{found[name]:,}" for name in ("sweeps", "commits", "fragments", "rows")},
            "read": size(found["bytes"]),
            "run again": f"{counted(len(found['replayed']), 'trial')}, each with the stored digest"
            if sample
            else "none (--sample 20 runs some trials again)",
            "unused": f"{found['unused']:,} files that no commit counts",
            "quarantine": f"{found['quarantined']:,} damaged files that were set aside",
        }
        answer.give(found, pairs(shown, title=f"{store}: everything is as it was written"))


@app.command(epilog="Example: backtest-farm study repair studies/momentum --dry-run")
def repair(
    store: StorePath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json: JsonFlag = False,
) -> None:
    """Mend a damaged study: keep what holds, set aside what does not. Nothing is deleted."""
    from backtest_farm.study import Study

    with answering(json) as answer:
        done = Study.repair(store, dry_run=dry_run)
        said = {
            "damage in the log": done["fault"] or "none",
            "set aside": [*done["set_aside"][:_FAILURES_SHOWN], *["..."][: len(done["set_aside"]) - 10]]
            or "nothing",
            "rows kept": f"{done['rows']:,}, of them {done['rebuilt']:,} found again in their files",
            "rows lost": f"{done['lost']:,}: the next run of their sweep makes them again"
            if done["lost"]
            else "none",
            **({"cannot be read": done["unread"]} if done["unread"] else {}),
        }
        done_so = "repaired, but for what cannot be read" if done["unread"] else "repaired"
        title = f"{store}: what a repair would do" if dry_run else f"{store}: {done_so}"
        if not (done["fault"] or done["set_aside"] or done["rebuilt"] or done["lost"] or done["unread"]):
            title = f"{store}: there is nothing to repair"
        answer.give({"store": store, "dry_run": dry_run, **done}, pairs(said, title=title))


@app.command(epilog="Example: backtest-farm study explain studies/momentum")
def explain(store: StorePath, json: JsonFlag = False) -> None:
    """Where two runs of the same trials gave two results, and what usually causes that."""
    with answering(json) as answer:
        found = _opened(store, None).explain()
        heads = ("sweep", "atom", "trial", "column", "counts", "other", "trials")
        if not found:
            answer.give({"store": store, "impure": []}, plain(f"{store}: no trials gave two results"))
            return
        title = (
            f"{store}: {counted(len(found), 'atom')} gave two results; the first value that differs of each"
        )
        answer.give(
            {"store": store, "impure": found},
            table(found, heads, width=answer.width, title=title),
            Prose([" ".join(_CAUSES)]),
        )


@app.command(epilog="Example: backtest-farm study compact studies/momentum")
def compact(store: StorePath, json: JsonFlag = False) -> None:
    """Merge the small files of a finished study into few large ones. Its rows and its digest stay."""
    with answering(json) as answer:
        study = _opened(store, None)
        done = study.compact()
        before, after = (
            f"{counted(done[f'fragments_{when}'], 'fragment')} of {size(done[f'bytes_{when}'])}"
            for when in ("before", "after")
        )
        said = f"{before} are now {after}, {counted(done['removed'], 'file')} removed"
        said = said if done["removed"] else f"nothing to do: {after}"
        answer.give({"store": store, **done, "digest": study.digest}, Prose([f"{store}: {said}"]))


@app.command(epilog="Example: backtest-farm study shift studies/momentum --over fill")
def shift(
    store: StorePath,
    over: Annotated[str, typer.Option(help="The axis whose values are compared.")] = "fill",
    by: Annotated[str, typer.Option(help="The metric that ranks.")] = "sharpe",
    top: Annotated[int, typer.Option(help="How many leaders are followed.", min=1)] = 20,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """How much the ranking of trials moves with an assumption: rank correlation, and which leaders leave."""
    with answering(json) as answer:
        moved = _opened(store, sweep).ranking_shift(over, by, top)
        heads = ("from", "to", "trials", "rank_correlation", "top", "stay", "leave")
        rows = [{**row, "leave": ", ".join(map(str, row["leave"])) or "none"} for row in moved.to_dicts()]
        title = f"{store}: the ranking by {by} from one {over} to another"
        answer.give(
            {"store": store, "over": over, "by": by, "shift": moved},
            table(rows, heads, width=answer.width, title=title),
        )


def report(
    store: StorePath,
    out: Annotated[
        Path | None, typer.Option(help="The HTML file to write; <study>.html when not given.")
    ] = None,
    sweep: WhichSweep = None,
    json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML file about a study: leaderboard, heat maps, curves, failures."""
    with answering(json) as answer:
        target = out or Path(f"{Path(store).absolute().name}.html")
        check_export("--out", target, (".html",))
        answer.note(f"reading {store}")
        _opened(store, sweep).report(target)
        answer.give({"store": store, "file": target}, plain(f"written: {target}"))


def register(app: typer.Typer) -> None:
    """Add the verb that stands outside ``study`` to the tree."""
    app.command(epilog="Example: backtest-farm report studies/momentum --out momentum.html")(report)


def _opened(store: str, sweep: str | None) -> Study:
    from backtest_farm.study import Study

    # A sweep's number has few digits; more are the first ones of its id, even without any letter.
    number = sweep is not None and sweep.isdecimal() and len(sweep) < _FEWEST_ID
    return Study.open(store, int(sweep) if sweep is not None and number else sweep)


def _panel(path: str | None) -> Panel | None:
    from backtest_farm.panel import Panel

    return None if path is None else Panel.open(path)


def _trial(name: str) -> int | str:
    # Keys have 32 characters, numbers far fewer.
    return int(name) if name.isdecimal() and len(name) < _ID_SHOWN else name


def _fill_tables(fills: pl.DataFrame, width: int) -> list[Any]:
    parts = [("all", fills)]
    if fills.height > 2 * _FILLS_SHOWN:
        parts = [
            (f"first {_FILLS_SHOWN} of", fills.head(_FILLS_SHOWN)),
            (f"last {_FILLS_SHOWN} of", fills.tail(_FILLS_SHOWN)),
        ]
    return [
        table(part.to_dicts(), _FILL_COLUMNS, width=width, title=f"\n{words} {fills.height:,} fills")
        for words, part in parts
    ]
