"""``demo``: a panel, a sweep of over a thousand trials on local Ray, and a leaderboard."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backtest_farm.cli.answer import Answer, JsonFlag, answering, plain
from backtest_farm.cli.studies import LEADER_METRICS
from backtest_farm.cli.sweeps import FAILED_TRIALS, LEADERS, failed, summary_lines
from backtest_farm.cli.tables import leaderboard
from backtest_farm.errors import InputError

if TYPE_CHECKING:
    from backtest_farm.panel import Panel

# The longest look-back is 252 bars and the largest portfolio 50 names: below these there is nothing to see.
_FEWEST_BARS = 400
_FEWEST_ASSETS = 60

SWEEP_FILE = """\
# Written by: backtest-farm demo --assets {assets} --bars {bars} --seed {seed}
#
# A sweep file says what is tried. A list where one value could stand is an axis; the sweep runs every
# combination: 8 look-backs x 3 skips x 4 sizes x 3 schedules x 4 commissions = 1,152 trials.
# Copy this file, change the copy, and run it:   backtest-farm sweep copy.yaml

panel: {panel}                 # a folder made by `backtest-farm panel build`, relative to this file

strategy:
  kind: TopN                   # hold the n names with the highest signal, in equal parts
  signal:
    factor: momentum           # close[t - skip] / close[t - lookback] - 1, in bars
    lookback: [42, 63, 84, 105, 126, 168, 210, 252]
    skip: [0, 5, 21]
  n: [10, 20, 30, 50]
  rebalance: [5, 10, 21]       # every so many bars

costs:
  commission_bps: [0, 5, 10, 20]   # of the traded notional, 1 bps = 0.01 %

fill: next_open                # decided on a bar's close, traded at the next bar's open
"""


def register(app: typer.Typer) -> None:
    """Add the verb to the tree."""
    app.command(epilog="Example: backtest-farm demo --assets 100 --bars 1000")(demo)


def demo(
    dir: Annotated[Path, typer.Option(help="Everything the demo makes goes in here.")] = Path(
        "backtest_farm_demo"
    ),
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core when not given.", min=1)
    ] = None,
    assets: Annotated[int, typer.Option(help="Assets in the synthetic panel.", min=_FEWEST_ASSETS)] = 500,
    bars: Annotated[int, typer.Option(help="Bars in the synthetic panel.", min=_FEWEST_BARS)] = 2520,
    seed: Annotated[int, typer.Option(help="Another seed is another market.", min=0)] = 0,
    json: JsonFlag = False,
) -> None:
    """Build a demo panel, sweep over a thousand trials on local Ray, and print the leaderboard."""
    with answering(json) as answer:
        from backtest_farm.study import Sweep

        started = time.perf_counter()
        sweep_file, store = dir / "sweep.yaml", dir / "study"
        panel = _panel(answer, dir, assets=assets, bars=bars, seed=seed)
        text = SWEEP_FILE.format(panel=panel.path.name, assets=assets, bars=bars, seed=seed)
        _write_sweep_file(sweep_file, text)
        panel_ready = time.perf_counter()
        study = Sweep.load(sweep_file).run(store=str(store), executor="ray", workers=workers, progress=True)
        swept = time.perf_counter()
        best, summary = study.best(LEADERS, by="sharpe"), study.summary()
        seconds = {
            "panel": panel_ready - started,
            "sweep": swept - panel_ready,
            "leaderboard": time.perf_counter() - swept,
        }
        follow_up = _follow_up(sweep_file, store, int(best["trial"][0]) if best.height else 0)
        document = {
            "panel": panel.path,
            "sweep_file": sweep_file,
            "summary": summary,
            "leaderboard": best,
            "seconds": seconds,
            "next": list(follow_up.values()),
        }
        answer.give(
            document,
            leaderboard(
                best,
                study.plan.columns,
                LEADER_METRICS,
                width=answer.width,
                title=f"best {best.height} of {summary['trials']:,} trials",
            ),
            *map(plain, summary_lines(summary)),
            "seconds: " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items()),
            f"\nThe sweep file, with comments: {plain(sweep_file)}. What to type next:",
            *(f"  {purpose + ':':<24}  {plain(command)}" for purpose, command in follow_up.items()),
        )
        if failed(summary):
            raise typer.Exit(FAILED_TRIALS)


def _panel(answer: Answer, folder: Path, *, assets: int, bars: int, seed: int) -> Panel:
    """Open the demo panel of this shape and seed, or build it."""
    from backtest_farm.panel import Panel, synthetic_panel
    from backtest_farm.panel.folder import PanelFolder

    # The name says all that the content depends on, and a panel appears only when it is complete.
    path = folder / f"panel-{assets}x{bars}-seed{seed}"
    if PanelFolder(path).names():
        answer.note(f"panel: {path} (already there)")
        return Panel.open(path)
    answer.note(f"panel: building {assets:,} assets x {bars:,} bars in {path}")
    folder.mkdir(parents=True, exist_ok=True)
    return synthetic_panel(path, n_bars=bars, n_assets=assets, seed=seed)


def _write_sweep_file(path: Path, text: str) -> None:
    """Write the demo's sweep file, but never over one that somebody has changed."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{path} is not what this demo would write: it was changed, or made with other options",
            hint=f"run it with: backtest-farm sweep {shlex.quote(str(path))}; or give another --dir",
        )
    path.write_text(text, encoding="utf-8")


def _follow_up(sweep_file: Path, store: Path, trial: int) -> dict[str, str]:
    where = shlex.quote(str(store))
    return {
        "more of the leaderboard": f"backtest-farm study top {where} -n 50 --by calmar",
        "one trial in detail": f"backtest-farm study replay {where} {trial} --fills fills.csv",
        "your own prices": "backtest-farm panel build prices.csv panels/mine",
        "a sweep of your own": f"backtest-farm sweep {shlex.quote(str(sweep_file))} --store studies/mine",
    }
