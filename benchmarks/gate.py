"""Nothing is timed before it is equal: the package against the bare loop, and engines against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import bare
from benchmarks.cases import CASH, INVESTED, Case

EQUITY = 1e-9
"""The largest relative difference of final equity between the package and the bare loop."""

COUNTED = ("orders", "fills")


class UnequalError(Exception):
    """Two ways to compute the same thing gave different numbers, so no figure may be shown."""


class Outcome(NamedTuple):
    """What is compared, by trial: final equity (money) and counts, each of shape (n_trials,)."""

    equity: np.ndarray
    counts: Mapping[str, np.ndarray]


def check(name: str, ours: Outcome, theirs: Outcome, equity: float = EQUITY) -> None:
    """Compare two outcomes.

    Parameters
    ----------
    name : str
        What they are outcomes of.
    ours, theirs : Outcome
    equity : float
        The largest relative difference that is none.

    Raises
    ------
    UnequalError
        If final equity differs by more, is no number, or any count differs.
    """
    if ours.equity.shape != theirs.equity.shape:
        raise UnequalError(f"{name}: {ours.equity.size} trials against {theirs.equity.size}")
    apart = np.abs(ours.equity / theirs.equity - 1.0)
    if not (apart <= equity).all():
        at = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        raise UnequalError(
            f"{name}: final equity of trial {at} is {ours.equity[at]:.6f} against {theirs.equity[at]:.6f}, "
            f"{apart[at]:.3g} apart where {equity:g} is allowed"
        )
    for count in ours.counts.keys() & theirs.counts.keys():
        if (wrong := np.flatnonzero(ours.counts[count] != theirs.counts[count])).size:
            at = int(wrong[0])
            raise UnequalError(
                f"{name}: {count} of trial {at} are {ours.counts[count][at]:,} against "
                f"{theirs.counts[count][at]:,} ({wrong.size} trials differ)"
            )


def of_result(result: Any) -> Outcome:
    """Return the outcome of one backtest."""
    equity = np.array([CASH * (1.0 + result.metrics["total_return"])])
    return Outcome(equity, {name: np.array([result.counters[name]]) for name in COUNTED})


def of_study(study: Any) -> Outcome:
    """Return the outcomes of a study's trials, in order of their numbers.

    Raises
    ------
    UnequalError
        If a trial failed.
    """
    rows = study.trials().select("status", "total_return", *COUNTED).collect()
    if failed := int((rows["status"] != "ok").sum()):
        raise UnequalError(f"{failed} trials failed")
    equity = CASH * (1.0 + rows["total_return"].to_numpy())
    return Outcome(equity, {name: rows[name].to_numpy() for name in COUNTED})


def of_bare(outcomes: list[bare.Outcome]) -> Outcome:
    """Return the outcomes of trials that the bare loop ran."""
    counters = np.concatenate([each.counters for each in outcomes])
    equity = np.concatenate([each.equity for each in outcomes])
    return Outcome(equity, {name: counters[:, bare.COUNTERS.index(name)] for name in COUNTED})


def rankings(case: Case) -> list[bare.Ranks]:
    """Rank what a case ranks with the bare loop, one ranking a look-back."""
    values = case.fields["close"] if case.signal == "momentum" else case.fields["score"]
    step = case.schedules[0] if len(case.schedules) == 1 else 1
    return [bare.ranked(values, bars, max(case.numbers), step) for bars in case.lookbacks or (0,)]


def run_bare(
    case: Case, width: int = bare.LANES, ranks: list[bare.Ranks] | None = None
) -> list[bare.Outcome]:
    """Run all trials of a case with the bare loop, one outcome a look-back; ranks too unless they are given.

    Trials are in the package's order: look-back, then size, then schedule.
    """
    opens, closes = case.fields["open"], case.fields["close"]
    schedules = len(case.schedules)
    numbers = np.repeat(np.array(case.numbers, np.int64), schedules)
    every = np.tile(np.array(case.schedules, np.int64), len(case.numbers))
    fill = bare.SAME_CLOSE if case.trading.get("fill") == "same_close" else bare.NEXT_OPEN
    return [
        bare.advance(
            opens, closes, one, numbers, INVESTED / numbers, every,
            cash=CASH, commission_bps=case.bps[0], fill=fill, width=width,
        )
        for one in (rankings(case) if ranks is None else ranks)
    ]  # fmt: skip
