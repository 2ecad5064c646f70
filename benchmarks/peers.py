"""``python -m benchmarks.peers``: the same cases on other engines, each in its own environment.

An engine that trades otherwise gets no figure: final equity and the number of fills must be equal first,
under the profile that is named after it. One process each, one thread, CPU time. Targets are worked out here
and handed over, so that what other engines would need to rank is not in their time; it is in ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import gate
from benchmarks.__main__ import PAGE, ROOT, own_cache
from benchmarks.cases import ALL, CASH, Case
from benchmarks.measure import Figure, figure, machine, ratio, side_by_side

HERE = Path(__file__).parent
RUNNERS = ROOT / "tests" / "peers" / "runners"
EQUITY = 1e-6
"""The largest relative difference of final equity that is none: engines round on the way."""

PATIENCE = 60
"""CPU seconds after which an engine's case is not repeated."""

VOLUME = 1e9


AT_THE_CLOSE = frozenset({"ml4t", "backtrader"})
"""Engines that fill on the next bar unless they are told otherwise."""


class Try(NamedTuple):
    """A case on an engine.

    Attributes
    ----------
    peer, case : str
    trials : int
        How many trials of a sweep it is measured on, evenly spread; 0 for a single backtest.
    bars : int
        How many bars it is measured on, where all of them take too long; 0 for all.
    chunk : int
        How many trials it takes in one call; 0 where it takes one.
    target : float
        How many times as fast we should be.
    """

    peer: str
    case: str
    trials: int = 0
    bars: int = 0
    chunk: int = 0
    target: float | None = None


TRIES = (
    Try("vectorbt", "W1", target=50),
    Try("vectorbt", "W2", target=85),
    Try("vectorbt", "W3", trials=20, chunk=5, target=1200),
    Try("vectorbt", "W4", trials=200, chunk=100, target=350),
    Try("ml4t", "W1", target=700),
    Try("ml4t", "W2", target=700),
    Try("ml4t", "W3", trials=2),
    Try("bt", "W1"),
    Try("bt", "W2"),
    Try("bt", "W3", trials=2),
    Try("zipline", "W1"),
    Try("zipline", "W2"),
    Try("backtrader", "W1"),
    Try("backtrader", "W2"),
    Try("backtrader", "W3", trials=1, bars=504),
    Try("backtesting", "W4", trials=10),
)


class Timed(NamedTuple):
    """What an engine did and how long it took: CPU seconds of all that it traded, by run."""

    outcome: gate.Outcome
    seconds: list[float]


def chosen(case: Case, count: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Return some trials of a sweep, evenly spread: the number of each, and its values of the axes."""
    if case.signal == "crossover":
        values = [(fast, slow, 0) for fast, slow in case.crossings]
    else:
        values = [
            (bars, number, every)
            for bars in case.lookbacks for number in case.numbers for every in case.schedules
        ]  # fmt: skip
    at = np.unique(np.linspace(0, len(values) - 1, count + 2).astype(int)[1:-1])
    return [(int(each), values[each]) for each in at]


def profile_of(peer: str) -> str:
    """Return the profile under which a case means the same on an engine and here.

    All fill at the close of the decision, where they can: on the next bar cash binds, and engines cut buys by
    different rules.
    """
    return f"{peer}+fill=same_close" if peer in AT_THE_CLOSE else peer


def saved(case: Case, weights: np.ndarray, path: Path, peer: str) -> Path:
    """Write what a runner reads."""
    from tests.peers.cases import PeerCase

    opens, closes = case.fields["open"], case.fields["close"]
    if peer == "backtrader":
        # It fills at the close only when the next bar comes: one more, on which nothing moves.
        opens, closes = np.vstack([opens, closes[-1:]]), np.vstack([closes, closes[-1:]])
        weights = np.vstack([weights, np.full((1, closes.shape[1]), np.nan)])
    if peer == "zipline":
        # It cannot order on its calendar's first day: one more, on which nothing moves.
        opens, closes = np.vstack([opens[:1], opens]), np.vstack([opens[:1], closes])
        weights = np.vstack([np.full((1, closes.shape[1]), np.nan), weights])
    if peer == "ml4t":
        # Its own way from sets of weights to orders passes changes over; single targets become orders as
        # asked.
        before = np.zeros(closes.shape[1])
        for row in weights:
            row[(row == 0.0) & (before == 0.0)] = np.nan
            before = np.where(np.isnan(row), before, row)
    prices = {
        "open": opens,
        "high": np.maximum(opens, closes),
        "low": np.minimum(opens, closes),
        "close": closes,
        "volume": np.full(opens.shape, VOLUME),
    }
    days = sessions(len(closes))
    asked = PeerCase(days, case.symbols, prices, weights, cash=CASH, commission_bps=case.bps[0])
    asked.save(path, at_the_close=peer in AT_THE_CLOSE)
    return path


def sessions(count: int) -> np.ndarray:
    """Return days on which the New York exchange was open: one engine refuses others."""
    import exchange_calendars  # type: ignore[import-untyped]

    found = exchange_calendars.get_calendar("XNYS", start="1999-12-01", end="2029-12-31").sessions
    return found.to_numpy()[21 : 21 + count].astype("M8[D]") if count + 21 <= len(found) else _weekdays(count)


def _weekdays(count: int) -> np.ndarray:
    return np.busday_offset(np.datetime64("1980-01-01"), np.arange(count), roll="forward")


def theirs(one: Try, case: Case, folder: Path) -> Timed:
    """Let an engine trade a case, or some trials of it."""
    from tests.peers.environments import python_of

    python, _ = python_of(one.peer)
    if one.chunk:
        return _sweep(python, one, case, folder)
    equity, fills, seconds = [], [], []
    trials: Sequence[tuple[int, ...]] = (
        [values for _, values in chosen(case, one.trials)] if one.trials else [()]
    )
    for values in trials:
        source = saved(case, case.weights(*values), folder / "case.npz", one.peer)
        out = folder / "done.npz"
        runner = RUNNERS / f"in_{one.peer}.py"
        patience = PATIENCE if not one.trials else PATIENCE / len(trials) / 2
        said = _run([python, HERE / "peer_runner.py", runner, source, out, patience])
        done = dict(np.load(out))
        equity.append(float(done["equity"][-1]))
        fills.append(len({*zip(done["bars"].tolist(), done["assets"].tolist(), strict=True)}))
        seconds.append(said["again"])
    outcome = gate.Outcome(np.array(equity), {"fills": np.array(fills)})
    # Of several trials the sum: what all of them take.
    runs = min(map(len, seconds))
    return Timed(outcome, [sum(each[at] for each in seconds) for at in range(runs)])


def _sweep(python: Path, one: Try, case: Case, folder: Path) -> Timed:
    targets = np.stack([case.weights(*values) for _, values in chosen(case, one.trials)])
    source, out = folder / "case.npz", folder / "done.npz"
    days = _weekdays(case.n_bars).astype(np.int64)
    rates: dict[str, Any] = {"cash": CASH, "commission_bps": case.bps[0]}
    np.savez(source, days=days, price_close=case.fields["close"], targets=targets, **rates)
    said = _run([python, HERE / f"peer_sweep_{one.peer}.py", source, out, one.chunk])
    done = dict(np.load(out))
    return Timed(gate.Outcome(done["equity"], {"fills": done["orders"]}), said["again"])


def _run(command: Sequence[object]) -> dict[str, Any]:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise gate.UnequalError(f"it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(one: Try, case: Case, folder: Path) -> tuple[Timed, int]:
    """Trade a case under the engine's profile; return also how many trials the time is of."""
    import backtest_farm as bf

    panel = case.panel(folder / "panel")
    if not one.trials:
        strategy, terms = case.strategy(), case.terms(profile=profile_of(one.peer))
        result = bf.run(panel, strategy, **terms)
        found = gate.of_result(result)
        (seconds,) = side_by_side([lambda _: bf.run(panel, strategy, **terms)], 30)
        return Timed(gate.Outcome(found.equity, {"fills": found.counts["fills"]}), seconds), 1
    studies = []

    def sweep(turn: int) -> None:
        some = case.fresh(turn) if turn and case.lookbacks else case
        studies.append(some.sweep(panel, profile=profile_of(one.peer)).run(
            folder / f"study-{turn}", executor="inline", progress=False
        ))  # fmt: skip

    side_by_side([sweep], 3)
    inside = [sum(each.summary()["stage_seconds"].values()) for each in studies]
    found = gate.of_study(studies[0])
    at = [number for number, _ in chosen(case, one.trials)]
    outcome = gate.Outcome(found.equity[at], {"fills": found.counts["fills"][at]})
    return Timed(outcome, inside[1:] or inside), case.trials


def measured(one: Try, folder: Path) -> Iterator[Figure]:
    """Compare, then yield an engine's time, ours, and how many times as fast we are."""
    from tests.peers.environments import PACKAGES, python_of

    case = ALL[one.case] if not one.bars else replace(ALL[one.case], n_bars=one.bars)
    mine, count = ours(one, case, folder)
    other = theirs(one, case, folder)
    gate.check(f"{one.peer}, {one.case}", mine.outcome, other.outcome, EQUITY)
    named = f"{PACKAGES[one.peer]} {python_of(one.peer)[1]}"
    scale, unit = (1e3, "ms") if not one.trials else (1e3, "ms a trial")
    parts = [f"{one.trials} of {case.trials:,} trials"] if one.trials else []
    parts += [f"{one.bars:,} of {ALL[one.case].n_bars:,} bars"] if one.bars else []
    of = f" ({', '.join(parts)})" if parts else ""
    theirs_each = figure(
        one.case, f"{named}{of}", unit, [scale * each / max(1, one.trials) for each in other.seconds]
    )
    ours_each = figure(
        one.case,
        f"ours, profile {profile_of(one.peer)}",
        unit,
        [scale * each / count for each in mine.seconds],
    )
    yield theirs_each
    yield ours_each
    yield ratio(one.case, f"{named} over ours", theirs_each, ours_each, "more", one.target)


def main() -> int:
    """Measure all engines that are there; return 1 if one traded otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", help="engines or cases: vectorbt W1")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "benchmarks-peers.json")
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{PAGE.name}")
    options = parser.parse_args()
    own_cache()
    from benchmarks.report import document, line, replace_block, table
    from tests.peers.environments import MissingPeerError

    asked = {*(options.only or ())}
    peers, cases = {one.peer for one in TRIES}, {one.case for one in TRIES}
    if unknown := asked - peers - cases:
        parser.error(f"{', '.join(sorted(unknown))}: known are {', '.join(sorted(peers | cases))}")
    facts, figures, faults = machine(), [], 0
    for one in TRIES:
        if (asked & peers and one.peer not in asked) or (asked & cases and one.case not in asked):
            continue
        with tempfile.TemporaryDirectory(prefix="backtest-farm-peers-") as folder:
            try:
                for each in measured(one, Path(folder)):
                    figures.append(each)
                    print(line(each), flush=True)
            except MissingPeerError as error:
                print(f"{one.peer}, {one.case}: not installed: {error}", flush=True)
            except gate.UnequalError as error:
                faults += 1
                print(f"{one.peer}, {one.case}: no figure: {error}", flush=True)
    run = document(figures, facts, {"only": sorted(asked)})
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(run, indent=1) + "\n")
    if options.docs:
        PAGE.write_text(replace_block(PAGE.read_text(), "peers", table(run)))
    print(f"{len(figures)} figures; all of them in {options.json}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
