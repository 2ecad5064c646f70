"""``sweep``, the main job; ``plan``, what it would cost; ``run``, a single backtest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest_farm.cli.answer import JsonFlag, Prose, answering, plain
from backtest_farm.cli.profiling import Profile, ProfileFlag
from backtest_farm.cli.tables import pairs, size, span, table
from backtest_farm.cli.writing import check_export, check_figure, write_frame
from backtest_farm.errors import InputError

if TYPE_CHECKING:
    from backtest_farm.sweep import SweepSpec

FAILED_TRIALS = 1
LEADERS = 10
_VALUES_SHOWN = 8
_TRADES_SHOWN = 5
_TRADE_COLUMNS = ("symbol", "side", "quantity", "entry_timestamp", "exit_timestamp", "pnl", "reason")

Limit = Annotated[
    int | None,
    typer.Option(help="Refuse a grid of more trials than this (10 million when not given).", min=1),
]


class Executor(StrEnum):
    """Where trials run."""

    auto = "auto"
    inline = "inline"
    ray = "ray"


def register(app: typer.Typer) -> None:
    """Add the verbs to the tree."""
    app.command(epilog="Example: backtest-farm sweep sweep.yaml --store studies/momentum")(sweep)
    app.command(epilog="Example: backtest-farm plan sweep.yaml --workers 8")(plan)
    app.command(epilog="Example: backtest-farm run strategy.yaml --fills fills.csv --plot equity.png")(run)


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep file (YAML).")],
    store: Annotated[
        str | None, typer.Option(help="The study's folder; studies/<name of the file> when not given.")
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="inline: this process; ray: local or --address; auto: by estimated time.")
    ] = Executor.auto,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core when not given.", min=1)
    ] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster (host:port).")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from what the study already holds.")] = True,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="Add this sweep to a study of other ones; rows they share are taken over."
        ),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again whose status is not ok.")
    ] = False,
    dedup: Annotated[bool, typer.Option(help="Take over equal trials instead of running them again.")] = True,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Kill what takes longer than these seconds; a trial that does gets status timeout."
        ),
    ] = None,
    limit: Limit = None,
    profile: ProfileFlag = False,
    json: JsonFlag = False,
) -> None:
    """Run every trial of a sweep file that the study does not hold yet."""
    with answering(json) as answer:
        where = store or str(Path("studies") / file.stem)
        # A store may be a URI: its profile then lies in the folder that one is in.
        watch = Profile(profile, Path(f"{file.stem}.prof" if "://" in where else f"{where}.prof"))
        from backtest_farm.sweep import load_sweep

        # Read before the engine is imported: a wrong file is answered in a fraction of a second.
        bound = {} if limit is None else {"limit": limit}
        spec = load_sweep(file, **bound)
        from backtest_farm.study import Sweep

        asked = Sweep.of(spec, **bound)
        with watch.running():
            study = asked.run(
                store=where,
                executor=executor.value,
                resume=resume,
                extend=extend,
                retry_failed=retry_failed,
                dedup=dedup,
                workers=workers,
                address=address,
                deadline=deadline,
                progress=True,
            )
        summary = study.summary()
        quoted = shlex.quote(where)
        follow_up = [f"next: backtest-farm study top {quoted}"]
        if failed(summary):
            follow_up = [
                f"what failed: backtest-farm study show {quoted}",
                f"again: backtest-farm sweep {shlex.quote(str(file))} --store {quoted} --retry-failed",
            ]
        spent, at_once = summary["stage_seconds"], max(1, summary["workers"])
        answer.give(
            summary | watch.document(spent, at_once),
            *map(plain, summary_lines(summary)),
            *watch.parts(spent, answer.width, at_once),
            *map(plain, follow_up),
        )
        if failed(summary):
            raise typer.Exit(FAILED_TRIALS)


def plan(
    file: Annotated[Path, typer.Argument(help="The sweep file (YAML).")],
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core when not given.", min=1)
    ] = None,
    limit: Limit = None,
    json: JsonFlag = False,
) -> None:
    """Say how many trials a sweep file means and what they would cost. Runs nothing."""
    with answering(json) as answer:
        from backtest_farm.sweep import load_sweep

        bound = {} if limit is None else {"limit": limit}
        spec = load_sweep(file, **bound)
        from backtest_farm.study import Sweep

        counts = Sweep.of(spec, **bound).plan(workers=workers)
        axes = _axes(spec, counts["points"])
        answer.give(
            {**counts, "axes": {axis["axis"]: axis["values"] for axis in axes}},
            *([table(axes, list(axes[0]), width=answer.width, title="axes")] if axes else []),
            pairs(_estimated(counts), title=f"{file}: {counts['trials']:,} trials"),
            Prose(counts["notices"]),
            plain(f"next: backtest-farm sweep {shlex.quote(str(file))}"),
        )


def _axes(spec: SweepSpec, points: int) -> list[dict[str, Any]]:
    """Return the axes of a sweep: name, how many values, and the first of them."""
    from backtest_farm.spec import UniverseSpec
    from backtest_farm.sweep.space import Space

    space = Space(spec)
    values = {name: [each for each in space.values[name] if each is not None] for name in space.columns}
    # A name stands for itself; what the other entries stand for, the panel decides.
    universes = points // (space.points // len(spec.universes))
    names = [each.of if each == UniverseSpec(of=each.of) else "..." for each in spec.universes]
    rows = [{"axis": name, "values": len(every), "": _listed(every)} for name, every in values.items()]
    if universes > 1:
        rows = [row for row in rows if row["axis"] != "universe"]
        rows.insert(0, {"axis": "universe", "values": universes, "": ", ".join(dict.fromkeys(names))})
    return rows


def _listed(values: Sequence[Any]) -> str:
    texts = [f"{each:g}" if isinstance(each, float) else str(each) for each in values[:_VALUES_SHOWN]]
    return ", ".join([*texts, "..."] if len(values) > _VALUES_SHOWN else texts)


def _estimated(counts: Mapping[str, Any]) -> dict[str, str]:
    """Return a plan's numbers in words."""
    holes = counts["points"] - counts["trials"]
    grid = [f"{counts['points']:,} points"]
    grid += [f"where leaves out {holes:,}"] if holes else []
    grid += [f"{counts['duplicates']:,} equal to others, not run again"] if counts["duplicates"] else []
    here = "in this process" if counts["executor"] == "inline" else f"on {counts['workers']} workers of Ray"
    cpu = f" ({span(counts['cpu_seconds'])} of CPU)" if counts["workers"] > 1 else ""
    from backtest_farm.engine.warm import is_compiled

    first = "" if is_compiled() else "; before that the kernel is compiled, once on this machine"
    return {
        "grid": ", ".join(grid),
        "work": f"{counts['unique_factors']:,} signals, {counts['unique_rankings']:,} rankings, "
        f"{counts['portfolio_passes']:,} portfolios over {counts['n_bars']:,} bars",
        "window": f"{counts['first_bar']} to {counts['last_bar']}",
        "orders": f"about {_rough(counts['orders'])}",
        "time": f"{span(counts['seconds'])} {here}{cpu}, with nothing cached{first}",
        "memory": f"{size(counts['memory_per_worker_bytes'])} a worker",
        "results": f"{size(counts['result_bytes'])} on disk",
        "sweep": counts["sweep_id"],
    }


def _rough(number: float) -> str:
    for unit, worth in (("thousand million", 1e9), ("million", 1e6)):
        if number >= worth:
            return f"{number / worth:,.1f} {unit}"
    return f"{float(f'{number:.2g}'):,.0f}"


def run(
    file: Annotated[Path, typer.Argument(help="A sweep file without axes.")],
    equity: Annotated[
        Path | None, typer.Option(help="Write the curve to this .csv or .parquet file.")
    ] = None,
    fills: Annotated[Path | None, typer.Option(help="Write all fills to this .csv or .parquet file.")] = None,
    trades: Annotated[
        Path | None, typer.Option(help="Write the round trips to this .csv or .parquet file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this .png, .svg or .html file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file about it.")] = None,
    profile: ProfileFlag = False,
    json: JsonFlag = False,
) -> None:
    """Run one backtest: a sweep file in which every parameter has one value."""
    with answering(json) as answer:
        watch = Profile(profile, Path(f"{file.stem}.prof"))
        from backtest_farm.spec import Trading, has_axes
        from backtest_farm.sweep import load_sweep

        frames = {"equity": equity, "fills": fills, "trades": trades}
        for name, target in frames.items():
            check_export(f"--{name}", target)
        check_figure("--plot", plot)
        check_export("--report", report, (".html",))
        spec = load_sweep(file)
        if axes := has_axes(spec):
            raise InputError(
                f"{file} has axes ({', '.join(axes)}), so it means many backtests",
                hint=f"give one value for each; or run all: backtest-farm sweep {shlex.quote(str(file))}",
            )
        if len(spec.universes) != 1:
            raise InputError(f"{file} names {len(spec.universes)} universes", hint="name one, or use sweep")
        from backtest_farm.backtest import run as run_once
        from backtest_farm.panel import Panel
        from backtest_farm.study.sweep import window_notices

        panel = Panel.open(spec.panel)
        for notice in window_notices(panel, spec.window):
            answer.note(notice)
        with watch.running():
            result = run_once(
                panel,
                spec.strategy,
                start=spec.window.start,
                end=spec.window.end,
                universe=spec.universes[0].model_dump(exclude_none=True),
                **{name: getattr(spec, name) for name in Trading.model_fields if name != "window"},
            )
        written = {name: target for name, target in frames.items() if target is not None}
        for name, target in written.items():
            write_frame(getattr(result, name), target)
        if plot is not None:
            result.plot(plot)
            written["plot"] = plot
        if report is not None:
            result.report(report)
            written["report"] = report
        document = {
            "file": file,
            "status": result.status,
            "look_ahead": result.look_ahead,
            "digest": result.digest,
            "metrics": result.metrics,
            "counters": result.counters,
            "timings": result.timings,
            "written": written,
            **watch.document(result.timings),
        }
        happened = {
            name: count for name, count in result.counters.items() if count and name not in result.metrics
        }
        parts: list[Any] = [pairs(result.metrics, title=f"{file}")]
        if happened:
            parts.append(pairs(happened, title="\nwhat happened how often"))
        if last := result.trades.tail(_TRADES_SHOWN).to_dicts():
            title = f"\nlast {len(last)} of {result.trades.height:,} trades"
            parts.append(table(last, _TRADE_COLUMNS, width=answer.width, title=title))
        if result.look_ahead:
            parts.append(Prose(["look-ahead: fills use a price that their decision has seen"]))
        if result.status != "ok":
            parts.append(Prose([f"status {result.status}: equity was not a finite number"]))
        parts.append(f"digest: {result.digest}")
        parts += watch.parts(result.timings, answer.width)
        parts += [plain(f"{name} written to {target}") for name, target in written.items()]
        answer.give(document, *parts)
        if result.status != "ok":
            raise typer.Exit(FAILED_TRIALS)


def failed(summary: Mapping[str, Any]) -> int:
    """How many of a study's trials have no result."""
    return int(summary["trials"]) - int(summary["ok"])


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what a run of a sweep did."""
    counts = [f"{summary['executed']:,} run", f"{summary['reused']:,} already there"]
    if summary["duplicates"]:
        counts.append(f"{summary['duplicates']:,} equal to others and copied")
    lines = [f"{summary['trials']:,} trials: {', '.join(counts)}, {failed(summary):,} failed"]
    if summary["executed"]:
        seconds = summary["seconds"]
        rate = f", {summary['executed'] / seconds:,.0f} trials a second" if seconds > 0 else ""
        built = (
            f"{summary['factor_builds']:,} signals computed, {summary['rank_builds']:,} rankings made, "
            f"{summary['rank_reuses']:,} taken from this machine's cache"
        )
        lines.append(f"{built}; {seconds:,.1f} s{rate}")
        stages = ", ".join(f"{stage} {spent:,.1f}" for stage, spent in summary["stage_seconds"].items())
        lines.append(f"seconds of all workers by stage: {stages}")
    lines.append(f"store: {summary['store']}")
    lines.append(f"digest: {summary['digest']}")
    return lines
