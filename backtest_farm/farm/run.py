"""Running a sweep to its end, from wherever it stands."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable

from backtest_farm.errors import InputError, StoreError, nearest
from backtest_farm.farm.executor import Executor, InlineExecutor, SweepRequest
from backtest_farm.farm.harvest import Harvest, RunSummary
from backtest_farm.farm.interrupts import held_back
from backtest_farm.farm.loop import Pace, Running, collect, give_up, schedule
from backtest_farm.farm.progress import Progress, Status, choose_progress, duration
from backtest_farm.store import StudyStore

EXECUTORS = ("auto", "inline", "ray")
# Starting Ray takes about as long; below this it cannot pay.
INLINE_BELOW_SECONDS = 5.0


def run_sweep(
    request: SweepRequest,
    *,
    executor: str | Executor = "auto",
    workers: int | None = None,
    address: str | None = None,
    progress: bool | Progress = True,
    resume: bool = True,
    shard_seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RunSummary:
    """Run what the study at `request.store` still lacks.

    Parameters
    ----------
    request : SweepRequest
        The sweep.
    executor : {"auto", "inline", "ray"} or Executor
        Who runs the shards. ``auto`` takes Ray when `address` is given or the estimate for what is left is
        `INLINE_BELOW_SECONDS` or more. An executor that is passed in stays open.
    workers : int, optional
        Cores for Ray; all of them when not given.
    address : str, optional
        A Ray cluster; a local node is started when not given.
    progress : bool or Progress
        Whether to show progress on standard error, or what to tell instead.
    resume : bool
        Go on where the study stands; when False, a study that has rows is refused.
    shard_seconds : float, optional
        Seconds of work per Ray task instead of a calibrated value; results do not depend on it.
    clock : callable
        Seconds, never going back.

    Returns
    -------
    RunSummary

    Raises
    ------
    StoreError
        If the study belongs to another sweep, or is damaged.
    FarmError
        If atoms failed; all others are committed, unless most failed: then the run ends early.
    KeyboardInterrupt
        On Ctrl-C, after committing what had come in.
    """
    began = clock()
    faults = []
    if isinstance(executor, str) and executor not in EXECUTORS:
        faults.append(f"executor {executor!r} is not known: {nearest(executor, EXECUTORS)}")
    if executor == "inline" and address is not None:
        faults.append(f"address {address!r} makes no sense with the inline executor")
    if executor == "inline" and workers not in (None, 1):
        faults.append(f"{workers} workers make no sense with the inline executor")
    if workers is not None and workers < 1:
        faults.append(f"workers is {workers}, at least 1 is needed")
    if shard_seconds is not None and not shard_seconds > 0:
        faults.append(f"shard_seconds is {shard_seconds}, more than 0 is needed")
    if request.n_atoms < 1:
        faults.append(f"the sweep has {request.n_atoms} atoms, at least 1 is needed")
    if faults:
        raise InputError("this sweep cannot be run as asked", faults=faults)

    store = StudyStore.create(request.store, request.sweep_id, request.spec_json)
    request = dataclasses.replace(request, store=store.uri)
    display = choose_progress(progress)
    done = store.committed()
    if done and not resume:
        raise StoreError(
            f"{store.uri} holds {len(done)} of {request.n_atoms} atoms of this sweep already",
            hint="resume it, or give a new folder",
        )
    harvest = Harvest(store, request.n_trials, clock)
    summary = harvest.summary
    n_left = request.n_atoms - len(done)
    if not n_left:
        display.say(f"nothing to do: all {request.n_trials:,} trials are in {store.uri}")
        return summary

    status = Status(summary, clock)

    def enter(phase: str) -> None:
        status.phase = phase
        display.show(status)

    try:
        with contextlib.ExitStack() as undo:
            undo.callback(display.end)
            estimate = request.estimated_seconds * n_left / request.n_atoms
            runner = _choose_executor(executor, workers, address, estimate, enter)
            if runner is not executor:
                undo.callback(held_back()(runner.close))
            summary.executor, summary.workers = runner.name, runner.workers
            waiting = "" if runner.name == "inline" else "waiting for the first task"
            enter("; ".join(part for part in (waiting, request.note) if part))
            atoms = (atom for atom in range(request.n_atoms) if atom not in done)
            pace = Pace(n_left, runner.workers, runner.longest_shard, shard_seconds)
            running: Running = {}
            try:
                for receipts in schedule(request, atoms, runner, pace, running):
                    harvest.take(receipts)
                    if receipts or not status.phase:
                        status.moved()
                    display.show(status)
                    if give_up(len(harvest.errors), harvest.n_atoms_done):
                        break
            finally:
                with held_back():
                    harvest.take(collect(running, 0), last=True)
                    if runner is executor:
                        runner.cancel(running)  # it stays open for others; our own is closed, which ends all
    except KeyboardInterrupt:
        text = (
            f"interrupted: {summary.n_committed:,} of {request.n_trials:,} trials are committed "
            f"in {store.uri}; run the same sweep again to go on"
        )
        display.say(text)
        raise KeyboardInterrupt(text) from None
    summary.seconds = clock() - began
    error = harvest.error()
    if error is not None:
        raise error
    display.say(done_line(summary, store.uri))
    return summary


def done_line(summary: RunSummary, place: str) -> str:
    """Return one line about a finished run."""
    rate = summary.n_new / summary.seconds if summary.seconds > 0 else 0.0
    failed = f"{summary.n_failed:,} failed" if summary.n_failed else "none failed"
    return (
        f"done: {summary.n_committed:,} of {summary.n_trials:,} trials, {summary.n_new:,} new in "
        f"{duration(summary.seconds)} ({rate:,.0f}/s, {summary.executor}), {failed}, in {place}"
    )


def _choose_executor(
    wanted: str | Executor,
    workers: int | None,
    address: str | None,
    estimate: float,
    enter: Callable[[str], None],
) -> Executor:
    if not isinstance(wanted, str):
        return wanted
    if wanted == "ray" or (wanted == "auto" and (address is not None or estimate >= INLINE_BELOW_SECONDS)):
        enter("starting Ray" if address is None else f"joining the Ray cluster at {address}")
        # Imported here: a run that needs no Ray must not pay for it.
        from backtest_farm.farm.ray.executor import RayExecutor

        return RayExecutor(workers, address)
    return InlineExecutor()
