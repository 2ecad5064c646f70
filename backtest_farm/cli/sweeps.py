"""``sweep``: the main job."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from backtest_farm.cli.answer import JsonFlag, answering, plain

FAILED_TRIALS = 1
LEADERS = 10


class Executor(StrEnum):
    """Where trials run."""

    auto = "auto"
    inline = "inline"
    ray = "ray"


def register(app: typer.Typer) -> None:
    """Add the verb to the tree."""
    app.command(epilog="Example: backtest-farm sweep sweep.yaml --store studies/momentum")(sweep)


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
    json: JsonFlag = False,
) -> None:
    """Run every trial of a sweep file that the study does not hold yet."""
    with answering(json) as answer:
        from backtest_farm.sweep import load_sweep

        # Read before the engine is imported: a wrong file is answered in a fraction of a second.
        spec = load_sweep(file)
        from backtest_farm.study import Sweep

        where = store or str(Path("studies") / file.stem)
        study = Sweep.of(spec).run(
            store=where,
            executor=executor.value,
            resume=resume,
            workers=workers,
            address=address,
            progress=True,
        )
        summary = study.summary()
        follow_up = f"next: backtest-farm study top {where}"
        answer.give(summary, *map(plain, summary_lines(summary)), plain(follow_up))
        if failed(summary):
            raise typer.Exit(FAILED_TRIALS)


def failed(summary: Mapping[str, Any]) -> int:
    """How many of a study's trials have no result."""
    return int(summary["trials"]) - int(summary["ok"])


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what a run of a sweep did."""
    trials, executed, reused = summary["trials"], summary["executed"], summary["reused"]
    lines = [f"{trials:,} trials: {executed:,} run, {reused:,} already there, {failed(summary):,} failed"]
    if executed:
        seconds = summary["seconds"]
        rate = f", {executed / seconds:,.0f} trials a second" if seconds > 0 else ""
        built, factors = summary["rank_builds"], summary["factors"]
        builds = f"{built:,} of {factors:,} factors computed and ranked"
        if built < factors:
            builds += ", the others were in this machine's cache or in the study"
        lines.append(f"{builds}; {seconds:,.1f} s{rate}")
        stages = ", ".join(f"{stage} {spent:,.1f}" for stage, spent in summary["stage_seconds"].items())
        lines.append(f"seconds of all workers by stage: {stages}")
    lines.append(f"store: {summary['store']}")
    lines.append(f"digest: {summary['digest']}")
    return lines
