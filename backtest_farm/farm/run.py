"""Running a sweep to its end, from wherever it stands."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable, Iterator

from backtest_farm.errors import InputError, StoreError, nearest
from backtest_farm.farm.backlog import Backlog
from backtest_farm.farm.executor import Executor, InlineExecutor, quickest, worker_faults
from backtest_farm.farm.harvest import Harvest, RunSummary
from backtest_farm.farm.interrupts import held_back, terminable
from backtest_farm.farm.loop import Pace, Running, collect, schedule
from backtest_farm.farm.progress import Progress, Status, duration
from backtest_farm.farm.worker import Receipt, SweepRequest
from backtest_farm.store import StudyStore, recover
from backtest_farm.sweep import Plan

_SILENT = Progress()
EXECUTORS = ("auto", "inline", "ray")
# Seconds that an interrupted run leaves to what is under way.
DRAIN = 3.0


def run_sweep(
    plan: Plan,
    place: str | os.PathLike[str],
    *,
    job: str = "backtest_farm.farm.job:open_job",
    estimate: Callable[[], float] = float,
    note: str = "",
    executor: str | Executor = "auto",
    workers: int | None = None,
    address: str | None = None,
    display: Progress = _SILENT,
    resume: bool = True,
    extend: bool = False,
    retry_failed: bool = False,
    dedup: bool = True,
    shard_seconds: float | None = None,
    deadline: float | None = None,
    check_data: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> RunSummary:
    """Run what the study at `place` still lacks.

    Parameters
    ----------
    plan : Plan
        The sweep.
    place : str or path
        The study's folder or URI.
    job : str
        ``package.module:function`` that turns the frozen sweep into a `worker.Job`.
    estimate : callable
        About how many CPU seconds the whole sweep takes; asked only when the choice of an executor needs it.
    note : str
        What people should know while they wait for the first rows.
    executor : {"auto", "inline", "ray"} or Executor
        Who runs the shards. ``auto`` takes Ray when `address` or `deadline` is given, or when what is left is
        estimated to end sooner on its workers, its start included. An executor that is passed in stays open.
    workers : int, optional
        Cores for Ray; all of them when not given.
    address : str, optional
        A Ray cluster; a local node is started when not given.
    display : Progress
        Whom to tell how it goes.
    resume : bool
        Go on where the study stands; when False, a study that has rows of this sweep is refused.
    extend : bool
        Add the sweep to a study that holds others.
    retry_failed : bool
        Run trials again whose status is not ``ok``.
    dedup : bool
        Copy rows of equal trials, of other sweeps in the study and of this one, instead of running them;
        results do not depend on it.
    shard_seconds : float, optional
        Seconds of work per Ray task instead of a calibrated value; results do not depend on it.
    deadline : float, optional
        Seconds after which an atom's process is killed; trials that exceed them alone become rows with status
        ``timeout``. Not for the inline executor.
    check_data : callable
        Raises `PanelError` if the data is not what it was; asked when a worker is lost.
    clock : callable
        Seconds, never going back.

    Returns
    -------
    RunSummary

    Raises
    ------
    StoreError
        If the study belongs to another sweep, or is damaged; or at the end, if an atom gave two results: all
        others are committed.
    FarmError
        If atoms failed; all others are committed, unless most failed: then the run ends early.
    PanelError
        If the data changed meanwhile: what was committed before stands.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after committing what had come in.
    """
    began = clock()
    faults = worker_faults(workers)
    if executor not in EXECUTORS and not hasattr(executor, "submit"):
        faults.append(f"executor {executor!r} is not known: {nearest(str(executor), EXECUTORS)}")
    if executor == "inline" and address is not None:
        faults.append(f"address {address!r} makes no sense with the inline executor")
    if executor == "inline" and workers not in (None, 1):
        faults.append(f"{workers} workers make no sense with the inline executor")
    for name, given in (("shard_seconds", shard_seconds), ("deadline", deadline)):
        if given is not None and not (isinstance(given, int | float) and given > 0):
            faults.append(f"{name} is {given!r}: give a number of seconds above 0, or nothing")
    if deadline is not None and (executor == "inline" or isinstance(executor, InlineExecutor)):
        faults.append("a deadline needs Ray: the inline executor cannot stop a strategy that hangs")
    if plan.n_atoms < 1:
        faults.append(f"the sweep has {plan.n_atoms} atoms, at least 1 is needed")
    if faults:
        raise InputError("this sweep cannot be run as asked", faults=faults)

    spec_json = plan.frozen_json()
    store = StudyStore.create(place, plan.sweep_id, spec_json, plan.n_trials, extend=extend)
    # Others may run on the same study; nobody may compact it meanwhile.
    with store.hold():
        if store.committed() and not resume:
            raise StoreError(
                f"{store.uri} holds {len(store.committed())} of {plan.n_atoms} atoms of this sweep already",
                hint="resume it, or give a new folder",
            )
        for line in recover(store, plan).lines():
            display.say(line)
        backlog = Backlog(store, plan, dedup, retry_failed)
        request = SweepRequest(spec_json, plan.sweep_id, store.uri, job, backlog.statuses, deadline)
        harvest = Harvest(store, plan.n_trials, backlog, clock)
        summary = harvest.summary
        if not backlog:
            if error := harvest.error():
                raise error
            display.say(f"nothing to do: all {plan.n_trials:,} trials are in {store.uri}")
            return summary

        status = Status(summary, clock)

        def enter(phase: str) -> None:
            status.phase = phase
            display.show(status)

        try:
            with contextlib.ExitStack() as undo:
                undo.enter_context(terminable())
                undo.callback(display.end)
                runner = _choose_executor(
                    "ray" if executor == "auto" and deadline is not None else executor,
                    workers,
                    address,
                    lambda: estimate() * backlog.share_to_run(),
                    enter,
                )
                if runner is not executor:
                    undo.callback(held_back()(runner.close))
                summary.executor, summary.workers = runner.name, runner.workers
                waiting = "" if runner.name == "inline" else "waiting for the first task"
                enter("; ".join(part for part in (waiting, note) if part))
                pace = Pace(len(backlog), runner.workers, runner.longest_shard, shard_seconds)
                running: Running = {}

                def lost(why: str) -> None:
                    # A mapped file that is cut kills its readers: trying again would kill more of them.
                    check_data()
                    if not summary.n_lost:
                        display.say(f"a worker was lost ({why.partition(':')[0]}); what it had is done again")
                    summary.n_lost += 1
                    if status.phase:
                        enter("looking for the trials that end their worker")

                def batches() -> Iterator[list[Receipt]]:
                    yield from schedule(request, backlog.originals(), runner, pace, running, lost)
                    # Duplicates copy what is committed.
                    harvest.take((), last=True)
                    yield from schedule(request, backlog.duplicates(), runner, pace, running, lost)

                try:
                    for receipts in batches():
                        harvest.take(receipts)
                        if receipts or not status.phase:
                            status.moved()
                        display.show(status)
                        if harvest.hopeless():
                            break
                finally:
                    with held_back():
                        harvest.take(collect(running, 0)[0], last=True)
                        # Our own executor is closed, which ends all. One that stays open for others gets a
                        # little time; what takes longer writes rows that the next run finds. Cancelling a
                        # Ray task that ends at the same moment makes Ray abort this very process ("Tried to
                        # complete task that was not pending").
                        if runner is executor:
                            concurrent.futures.wait(running, DRAIN)
        except StoreError as broken:
            # A full disk, a place that cannot be reached: what stands in the study stays.
            said = f"{summary.n_committed:,} of {plan.n_trials:,} trials are committed in {store.uri}"
            hint = "mend that, then run the same sweep again: it goes on from there"
            raise StoreError(
                broken.message,
                faults=broken.faults,
                hint=f"{broken.hint}; {hint}; {said}" if broken.hint else f"{hint}; {said}",
            ) from broken
        except KeyboardInterrupt as stop:
            text = (
                f"interrupted: {summary.n_committed:,} of {plan.n_trials:,} trials are committed "
                f"in {store.uri}; run the same sweep again to go on"
            )
            display.say(text)
            raise type(stop)(text) from None
        summary.seconds = clock() - began
        if error := harvest.error():
            raise error
        display.say(done_line(summary, store.uri))
        return summary


def done_line(summary: RunSummary, place: str) -> str:
    """Return one line about a finished run."""
    rate = summary.n_new / summary.seconds if summary.seconds > 0 else 0.0
    failed = f"{summary.n_failed:,} failed" if summary.n_failed else "none failed"
    copied = summary.n_reused + summary.n_duplicates
    new = f"{summary.n_new:,} new" + (f", {copied:,} of them copied," if copied else "")
    return (
        f"done: {summary.n_committed:,} of {summary.n_trials:,} trials, {new} in "
        f"{duration(summary.seconds)} ({rate:,.0f}/s, {summary.executor}), {failed}, in {place}"
    )


def _choose_executor(
    wanted: str | Executor,
    workers: int | None,
    address: str | None,
    seconds_left: Callable[[], float],
    enter: Callable[[str], None],
) -> Executor:
    if not isinstance(wanted, str):
        return wanted
    if wanted == "auto":
        wanted = "ray" if address is not None else quickest(seconds_left(), workers).executor
    if wanted == "inline":
        return InlineExecutor()
    enter("starting Ray" if address is None else f"joining the Ray cluster at {address}")
    # Imported here: a run that needs no Ray must not pay for it.
    from backtest_farm.farm.ray.executor import RayExecutor

    return RayExecutor(workers, address)
