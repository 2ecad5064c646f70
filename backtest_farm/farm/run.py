"""Running a sweep to its end, from wherever it stands."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backtest_farm.errors import InputError, StoreError, nearest
from backtest_farm.farm.executor import Executor, SweepRequest
from backtest_farm.farm.harvest import Harvest
from backtest_farm.farm.inline import InlineExecutor
from backtest_farm.farm.interrupts import held_back
from backtest_farm.farm.loop import COMMIT_EVERY, Pace, commit_due, give_up, schedule
from backtest_farm.farm.progress import Progress, choose_progress, duration
from backtest_farm.store import StudyStore

EXECUTORS = ("auto", "inline", "ray")
# Starting Ray takes about as long; below this it cannot pay.
INLINE_BELOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run went.

    Attributes
    ----------
    n_trials, n_committed, n_new, n_failed : int
        Trials of the sweep, those in the study now, those that this run added, and rows whose status is not
        ``ok`` among all that are in the study.
    seconds : float
        Wall time of the run.
    executor : str
        ``inline``, ``ray``, or ``none`` when there was nothing to do.
    workers : int
        Shards that ran at the same time.
    counters : dict
        Events counted by the atoms of this run.
    stage_seconds : dict
        CPU seconds of this run by stage, summed over workers.
    """

    n_trials: int
    n_committed: int
    n_new: int
    n_failed: int
    seconds: float
    executor: str
    workers: int
    counters: dict[str, int] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)


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
    _check(request, executor, workers, address, shard_seconds)
    store = StudyStore.create(request.store, request.sweep_id, request.spec_json)
    request = dataclasses.replace(request, store=store.uri)
    display = choose_progress(progress)
    done = store.committed()
    if done and not resume:
        raise StoreError(
            f"{store.uri} holds {len(done)} of {request.n_atoms} atoms of this sweep already",
            hint="resume it, or give a new folder",
        )
    harvest = Harvest(store, f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}", clock)
    n_before, n_left = harvest.n_committed, request.n_atoms - len(done)

    def summary(name: str, n_workers: int) -> RunSummary:
        return RunSummary(
            n_trials=request.n_trials,
            n_committed=harvest.n_committed,
            n_new=harvest.n_committed - n_before,
            n_failed=harvest.n_failed,
            seconds=clock() - began,
            executor=name,
            workers=n_workers,
            counters=dict(harvest.counters),
            stage_seconds=dict(harvest.stage_seconds),
        )

    if not n_left:
        display.say(f"nothing to do: all {request.n_trials:,} trials are in {store.uri}")
        return summary("none", 0)

    estimate = request.estimated_seconds * n_left / request.n_atoms
    display.begin(request.n_trials, harvest.n_committed)
    runner: Executor | None = None
    try:
        runner = _choose_executor(executor, workers, address, estimate)
        pace = Pace(runner.workers, runner.longest_shard, estimate, n_left, shard_seconds)
        atoms = (atom for atom in range(request.n_atoms) if atom not in done)

        def wait_seconds() -> float:
            if not harvest.n_waiting:
                return COMMIT_EVERY
            return max(0.01, harvest.last_commit + COMMIT_EVERY - clock())

        try:
            for outcomes in schedule(request, atoms, runner, pace, wait_seconds):
                harvest.take(outcomes)
                if commit_due(harvest.n_waiting, clock(), harvest.last_commit):
                    harvest.commit()
                display.moved(harvest.n_committed, harvest.n_failed)
                if give_up(len(harvest.errors), harvest.n_atoms_done):
                    break
        finally:
            with held_back():
                harvest.take(runner.wait(0))
                harvest.commit()
    except KeyboardInterrupt:
        display.end()
        text = (
            f"interrupted: {harvest.n_committed:,} of {request.n_trials:,} trials are committed "
            f"in {store.uri}; run the same sweep again to go on"
        )
        display.say(text)
        raise KeyboardInterrupt(text) from None
    finally:
        display.end()
        if runner is not None:
            with held_back():
                runner.cancel() if runner is executor else runner.close()
    error = harvest.error()
    if error is not None:
        raise error
    result = summary(runner.name, runner.workers)
    display.say(done_line(result, store.uri))
    return result


def done_line(summary: RunSummary, place: str) -> str:
    """Return one line about a finished run."""
    rate = summary.n_new / summary.seconds if summary.seconds > 0 else 0.0
    failed = f"{summary.n_failed:,} failed" if summary.n_failed else "none failed"
    return (
        f"done: {summary.n_committed:,} of {summary.n_trials:,} trials, {summary.n_new:,} new in "
        f"{duration(summary.seconds)} ({rate:,.0f}/s, {summary.executor}), {failed}, in {place}"
    )


def _choose_executor(
    wanted: str | Executor, workers: int | None, address: str | None, estimate: float
) -> Executor:
    if not isinstance(wanted, str):
        return wanted
    if wanted == "ray" or (wanted == "auto" and (address is not None or estimate >= INLINE_BELOW_SECONDS)):
        # Imported here: a run that needs no Ray must not pay for it.
        from backtest_farm.farm.ray.executor import RayExecutor

        return RayExecutor(workers, address)
    return InlineExecutor()


def _check(
    request: SweepRequest,
    executor: str | Executor,
    workers: int | None,
    address: str | None,
    shard_seconds: float | None,
) -> None:
    faults = []
    if isinstance(executor, str) and executor not in EXECUTORS:
        faults.append(f"executor {executor!r} is not known: {nearest(executor, EXECUTORS)}")
    if executor == "inline" and address is not None:
        faults.append(f"address {address!r} makes no sense with the inline executor")
    if workers is not None and workers < 1:
        faults.append(f"workers is {workers}, at least 1 is needed")
    if shard_seconds is not None and not shard_seconds > 0:
        faults.append(f"shard_seconds is {shard_seconds}, more than 0 is needed")
    if request.n_atoms < 1:
        faults.append(f"the sweep has {request.n_atoms} atoms, at least 1 is needed")
    if faults:
        raise InputError("this sweep cannot be run as asked", faults=faults)
