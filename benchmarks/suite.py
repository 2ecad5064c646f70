"""What `make bench` measures: each function takes a `Bench` and yields figures, equality first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import gate
from benchmarks.cases import ALL, LADDER, Case, w3_hundredfold
from benchmarks.measure import (
    Figure,
    cpu_seconds,
    figure,
    private_bytes,
    processes,
    rate,
    ratio,
    side_by_side,
    watched,
)

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "us_equities_daily.parquet"
QUICK_LOOKBACKS = 4
ROOM = 512 * 2**20
"""Private memory that a long panel must be walked in."""


@dataclass
class Bench:
    """How to measure.

    Attributes
    ----------
    folder : Path
        Panels and studies go there.
    cache : Path
        The node's cache of this run: compiled kernels and rankings.
    quick : bool
        Small cases and few runs: to see that all of it works.
    scale : float
        Part of the 100,000 trials of W3x100.
    """

    folder: Path
    cache: Path
    quick: bool = False
    scale: float = 1.0
    _panels: dict[tuple, Any] = field(default_factory=dict)
    _studies: int = 0

    def runs(self, usual: int) -> int:
        return max(2, usual // 5) if self.quick else usual

    def case(self, name: str) -> Case:
        """Return a case, cut down where it has to be quick."""
        case = w3_hundredfold(self.scale) if name == "W3x100" else ALL[name]
        if not self.quick:
            return case
        cut: dict[str, Any] = {"n_bars": max(2, case.n_bars // 10)} if case.asset_bars > 2_000_000 else {}
        return replace(case, lookbacks=case.lookbacks[:QUICK_LOOKBACKS], pairs=min(case.pairs, 500), **cut)

    def panel(self, case: Case) -> Any:
        """Return the case's panel, built at the first call; cases with the same data share one."""
        if case.kind not in self._panels:
            self._panels[case.kind] = case.panel(self.folder / f"panel-{len(self._panels)}")
        return self._panels[case.kind]

    def place(self) -> Path:
        """Return a new folder for a study."""
        self._studies += 1
        return self.folder / f"study-{self._studies}"

    def study(self, case: Case, executor: Any = "inline") -> Any:
        return case.sweep(self.panel(case)).run(self.place(), executor=executor, progress=False)


def single(bench: Bench) -> Iterator[Figure]:
    """One backtest at a time: W1, W2, small ones, and what a run costs that has nothing to do."""
    import backtest_farm as bf

    for name in ("W1", "W2", "10 x 252", "50 x 1,260", "100 x 2,520"):
        case = bench.case(name)
        panel, strategy, terms = bench.panel(case), case.strategy(), case.terms()

        def ours(_: int, panel=panel, strategy=strategy, terms=terms) -> Any:
            return bf.run(panel, strategy, **terms)

        def bare_loop(_: int, case=case) -> Any:
            return gate.run_bare(case)

        known = gate.rankings(case)

        def bare_walk(_: int, case=case, known=known) -> Any:
            return gate.run_bare(case, ranks=known)

        gate.check(name, gate.of_result(ours(0)), gate.of_bare(bare_loop(0)))
        # The package remembers a ranking by a field; so the bare loop is timed with and without its own.
        calls: dict[str, Callable[[int], Any]] = {
            "bf.run": ours,
            "bare loop": bare_loop,
            "bare loop, ranking given": bare_walk,
        }
        runs = side_by_side([*calls.values()], bench.runs(60))
        mine, bare, walk = (
            figure(name, what, "ms", [1e3 * each for each in values])
            for what, values in zip(calls, runs, strict=True)
        )
        yield from (mine, bare, walk)
        yield ratio(name, "bf.run over the bare loop", mine, bare, "less", 1.0)
        yield ratio(name, "bf.run over the bare loop, ranking given", mine, walk, "less")
    tiny = Case("fixed", "2 bars x 10", 2, 10)
    panel, strategy, terms = bench.panel(tiny), tiny.strategy(), tiny.terms()
    (seconds,) = side_by_side([lambda _: bf.run(panel, strategy, **terms)], bench.runs(100))
    yield figure("fixed", "bf.run of 2 bars x 10", "ms", [1e3 * each for each in seconds], target=0.35)


def trades(bench: Bench) -> Iterator[Figure]:
    """Round trips of one backtest."""
    import backtest_farm as bf

    case = bench.case("trades")
    panel, strategy, terms = bench.panel(case), case.strategy(), case.terms()
    seconds = []
    for _ in range(bench.runs(30) + 1):
        result = bf.run(panel, strategy, **terms)
        began = time.process_time()
        assert result.trades.height == result.counters["trades"]
        seconds.append(time.process_time() - began)
    yield figure(
        "trades", f"round trips of {case.says}", "ms", [1e3 * each for each in seconds[1:]], target=1.0
    )


def w3(bench: Bench) -> Iterator[Figure]:
    """The sweep of a thousand trials in one process, against the bare loop in both orders."""
    case = bench.case("W3")
    gate.check("W3", gate.of_study(bench.study(case)), gate.of_bare(gate.run_bare(case)))
    stages: list[float] = []

    def ours(turn: int) -> None:
        summary = bench.study(case.fresh(1 + turn)).summary()
        if summary["rank_builds"] != len(case.lookbacks):
            raise gate.UnequalError(f"W3 built {summary['rank_builds']} rankings, not {len(case.lookbacks)}")
        stages.append(sum(summary["stage_seconds"].values()))

    def again(turn: int) -> None:
        bench.study(case.fresh(1 + turn))

    def wide(turn: int) -> None:
        gate.run_bare(replace(case, lookbacks=case.fresh(1 + turn).lookbacks))

    def narrow(turn: int) -> None:
        gate.run_bare(replace(case, lookbacks=case.fresh(1 + turn).lookbacks), width=1)

    seconds = side_by_side([ours, again, wide, narrow], bench.runs(7))
    names = "sweep", "sweep, rankings in the cache", "bare loop, bars outside", "bare loop, trial by trial"
    mine, cached, bare, slow = (
        figure("W3", f"{what}, CPU", "s", values) for what, values in zip(names, seconds, strict=True)
    )
    inside = figure("W3", "stages of the worker", "s", stages[-len(seconds[0]) :])
    yield rate("W3", "sweep in one process, rankings included", "trials/s per core", case.trials, mine)
    yield rate("W3", "inside a worker, rankings included", "trials/s per core", case.trials, inside, 2300)
    yield rate("W3", "sweep in one process, rankings in the cache", "trials/s per core", case.trials, cached)
    yield rate("W3", "bare loop, bars outside", "trials/s per core", case.trials, bare)
    yield rate("W3", "bare loop, trial by trial", "trials/s per core", case.trials, slow)
    yield ratio("W3", "sweep in one process over the bare loop", mine, bare, "less")
    # Workers count stages by the clock on the wall: on a busy machine this one is too large.
    yield ratio("W3", "worker over the bare loop", inside, bare, "less", 1.3)


def ladder(bench: Bench) -> Iterator[Figure]:
    """W3 with one feature more at a time; rankings are in the cache."""
    cases = [bench.case(name) for name in LADDER]
    inside: dict[str, list[float]] = {case.name: [] for case in cases}

    def call(case: Case) -> Callable[[int], None]:
        def run(_: int) -> None:
            summary = bench.study(case).summary()
            inside[case.name].append(sum(summary["stage_seconds"].values()))
            if summary["ok"] != case.trials:
                raise gate.UnequalError(f"{case.name}: {case.trials - summary['ok']} trials failed")

        return run

    for case in cases:
        bench.study(case)
    side_by_side([call(case) for case in cases], bench.runs(5))
    found = {
        name: figure(name, "stages of the worker", "s", values[1:] or values)
        for name, values in inside.items()
    }
    targets = {"W3 rules": (2.5, 1300.0), "W3 shorts": (3.5, 900.0)}
    for case in cases:
        most, least = targets.get(case.name, (None, None))
        yield rate(case.name, case.says, "trials/s per core", case.trials, found[case.name], least)
        if case.name != "W3":
            yield ratio(case.name, "over plain W3", found[case.name], found["W3"], "less", most)


def w4(bench: Bench) -> Iterator[Figure]:
    """Ten thousand pairs of averages on one asset."""
    case = bench.case("W4")
    stages: list[float] = []

    def ours(turn: int) -> None:
        stages.append(sum(bench.study(case.fresh(turn)).summary()["stage_seconds"].values()))

    (seconds,) = side_by_side([ours], bench.runs(3))
    whole, inside = (
        figure("W4", "sweep, CPU", "s", seconds),
        figure("W4", "stages", "s", stages[-len(seconds) :]),
    )
    yield rate("W4", "sweep in one process", "trials/s per core", case.trials, whole)
    yield rate("W4", "inside a worker", "trials/s per core", case.trials, inside, 90_000)


def ray(bench: Bench) -> Iterator[Figure]:
    """W3x100 on local Ray: two warm workers against one, and what driver and workers need."""
    from backtest_farm.farm.ray.executor import RayExecutor

    case = bench.case("W3x100")
    warm = bench.case("W3")
    digests, found = set(), {}
    for workers in (1, 2):
        executor = RayExecutor(workers, None)
        try:
            bench.study(warm, executor)
            before, helpers = time.process_time(), _helpers()
            with watched("ray::") as memory:
                study = bench.study(case, executor)
            driver, others = time.process_time() - before, _helpers()
        finally:
            executor.close()
        summary = study.summary()
        if summary["ok"] != case.trials:
            raise gate.UnequalError(f"W3x100: {case.trials - summary['ok']} trials failed")
        digests.add(study.digest)
        found[workers] = summary["seconds"]
        which = f"{workers} worker" + "s" * (workers > 1)
        yield figure("W3x100", f"{which}: {case.trials:,} trials", "s", [summary["seconds"]])
        target = 5000.0 if workers == 2 else None
        yield figure(
            "W3x100", f"{which}: rate", "trials/s", [case.trials / summary["seconds"]], "more", target
        )
        yield figure("W3x100", f"{which}: driver's CPU", "s", [driver])
        spent = sum(others.values()) - sum(helpers.values())
        yield figure("W3x100", f"{which}: raylet's and head's CPU", "s", [spent])
        held = [(each[0], max(each), each[-1]) for each in memory.values() if len(each) > 1]
        if held:
            grown = max(most - first for first, most, _ in held) / 2**20
            yield figure(
                "W3x100", f"{which}: a worker's private memory over its warm start", "MB", [grown], target=64
            )
        yield figure(
            "W3x100", f"{which}: driver's private memory", "MB", [private_bytes() / 2**20], target=500
        )
    if len(digests) != 1:
        raise gate.UnequalError(f"W3x100 differs between 1 and 2 workers: {sorted(digests)}")
    gain = found[1] / found[2] / 2
    yield figure("W3x100", "efficiency of 2 workers against 1", "", [gain], "more", 0.9)


def _helpers() -> dict[int, float]:
    """Return CPU seconds of Ray's own processes below this one, without workers."""
    return {
        pid: cpu_seconds(pid)
        for pid, command in processes().items()
        if not command.startswith("ray::") and any(name in command for name in ("raylet", "gcs_server"))
    }


FIRST = """
import sys
place, panel, workers, modules = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
import backtest_farm as bf
sweep = bf.Sweep(
    panel=panel, strategy=bf.TopN(signal=bf.factor.momentum(20), n=bf.axis([5, 10]), rebalance=5)
)
chosen = {"executor": "ray", "workers": workers} if workers else {"executor": "inline"}
sweep.run(place, progress=False, **chosen)
with open(modules, "w") as file:
    file.write("\\n".join(name for name, module in sys.modules.items() if getattr(module, "__file__", None)))
"""
"""A process that runs a sweep of two trials, and writes down what it has imported."""

BARE = """
import contextlib, importlib, sys
workers, modules = int(sys.argv[3]), open(sys.argv[4]).read().split()
from backtest_farm.farm.ray.environment import ray_environment
with ray_environment(own_node=True) if workers else contextlib.nullcontext():
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if workers:
        import ray
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        ray.get(ray.remote(lambda: importlib.import_module("backtest_farm.farm.job") and 1).remote())
    print("done", flush=True)
"""
"""A process that imports the same, starts Ray, and runs one task that imports what a worker needs."""


def first_trial(bench: Bench) -> Iterator[Figure]:
    """How long until the first trial is committed, over a bare script; wall clock, whole processes."""
    panel = bench.panel(bench.case("W3"))
    modules = bench.folder / "modules.txt"
    for workers, target in ((0, 0.5), (1, 2.0)):
        over = []
        # The first turn fills caches and says what is imported.
        for turn in range(bench.runs(5) + 1):
            place = bench.place()
            given = str(place), str(panel.path), str(workers), str(modules)
            whole = _until(FIRST, given, partial(_committed, place))
            bare = _until(BARE, given, None)
            over += [whole - bare] if turn else []
        how = "on Ray" if workers else "inline"
        yield figure("first trial", f"committed {how}, over a bare script", "s", over, target=target)


def _until(script: str, arguments: Sequence[str], seen: Callable[[], bool] | None) -> float:
    """Run a script, and return the seconds until something is seen, or until it prints."""
    began = time.perf_counter()
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if seen is None:
            process.stdout.readline()
            found = time.perf_counter() - began
        else:
            while not seen() and process.poll() is None:
                time.sleep(0.002)
            found = time.perf_counter() - began
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(f"a measured script failed:\n{said[-2000:]}")
    return found


def _committed(place: Path) -> bool:
    """Whether a study's log holds a commit of rows."""
    return any('"kind":"rows"' in text.read_text() for text in place.glob("log/*.json"))


def wide(bench: Bench) -> Iterator[Figure]:
    """3,000 assets x 5,000 days: from a field, and with the factor computed."""
    import backtest_farm as bf

    for name, target in (("wide", 60e6), ("wide momentum", 20e6)):
        case = bench.case(name)
        panel, terms = bench.panel(case), case.terms()
        result = bf.run(panel, case.strategy(), **terms)
        gate.check(name, gate.of_result(result), gate.of_bare(gate.run_bare(case)))
        case.forget()

        def ours(turn: int, case=case, panel=panel, terms=terms) -> None:
            bf.run(panel, case.fresh(1 + turn).strategy(), **terms)

        (seconds,) = side_by_side([ours], bench.runs(5))
        found = figure(name, "bf.run, CPU", "s", seconds)
        yield rate(name, case.says, "asset-bars/s", case.asset_bars, found, target)


LONG = """
import resource, sys, time
import backtest_farm as bf
from benchmarks.cases import ALL
from dataclasses import replace
case = replace(ALL["long"], n_bars=int(sys.argv[2]))
limit = int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
panel, strategy, terms = bf.Panel.open(sys.argv[1]), case.strategy(), case.terms()
for _ in range(int(sys.argv[4]) + 1):
    began = time.process_time()
    result = bf.run(panel, strategy, **terms)
    print(time.process_time() - began, result.digest, flush=True)
"""


def long(bench: Bench) -> Iterator[Figure]:
    """A million minutes, with all the memory there is and in half a gibibyte of private memory."""
    case = bench.case("long")
    panel = bench.panel(case)
    case.forget()
    digests = set()
    for what, room in (("", 0), (", private memory limited to 512 MiB", ROOM)):
        done = _python(LONG, str(panel.path), str(case.n_bars), str(room), str(bench.runs(5)))
        rows = [line.split() for line in done.splitlines()]
        digests |= {digest for _, digest in rows}
        found = figure("long", "bf.run, CPU", "s", [float(seconds) for seconds, _ in rows[1:]])
        yield rate("long", case.says + what, "asset-bars/s", case.asset_bars, found, 50e6)
    if len(digests) != 1:
        raise gate.UnequalError(f"long runs differ: {sorted(digests)}")


def _python(script: str, *arguments: str, **environment: str) -> str:
    """Run a script in a process of its own, and return what it prints."""
    command = [sys.executable, "-c", script, *arguments]
    known = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=known)
    if done.returncode:
        raise RuntimeError(f"a measured script failed:\n{done.stderr[-2000:]}")
    return done.stdout


def panels(bench: Bench) -> Iterator[Figure]:
    """Opening a panel and reading its first field; building one from a file of daily bars."""
    import backtest_farm as bf

    case = bench.case("W3")
    path = bench.panel(case).path

    def opened(_: int) -> None:
        values = bf.Panel.open(path).read("close", 0, case.n_bars)
        if values.flags.owndata:
            raise gate.UnequalError("the panel's field was copied, not mapped")

    (seconds,) = side_by_side([opened], bench.runs(50), time.perf_counter)
    yield figure("panel", "open and first field", "ms", [1e3 * each for each in seconds], target=5.0)
    if not REAL.exists():
        return
    import polars as pl

    rows = pl.scan_parquet(REAL).select(pl.len()).collect().item()
    walls, spent = [], []
    for _ in range(bench.runs(3) + 1):
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            bf.Panel.build(REAL, Path(folder) / "panel", on_fault="report")
            walls.append(time.perf_counter() - wall)
            spent.append(time.process_time() - cpu)
    says = f"build from {rows:,} rows of Parquet"
    yield rate("panel", f"{says}, wall clock", "rows/s", rows, figure("", "", "s", walls[1:]), 1e6)
    yield rate("panel", f"{says}, CPU of all threads", "rows/s", rows, figure("", "", "s", spent[1:]))


COMPILE = """
import json, sys, time
import backtest_farm as bf
from benchmarks.cases import ALL
import backtest_farm.study
import backtest_farm.backtest
panel, found = bf.Panel.open(sys.argv[1]), {}
for name in sys.argv[2:]:
    case = ALL[name].small()
    few = {"W1": "bf.run", "W3": "plain", "W3 rules": "rules", "W3 shorts": "rules and shorts"}[name]
    from dataclasses import replace
    one = replace(case, lookbacks=case.lookbacks[:1], numbers=(4,), schedules=(1,))
    began = time.process_time()
    bf.run(panel, one.strategy(), **one.terms())
    found[few] = time.process_time() - began
print(json.dumps(found))
"""
"""First backtests of a process, by kind: seconds of CPU after the imports."""


def compiling(bench: Bench) -> Iterator[Figure]:
    """The first backtest of a kind with an empty cache, and in a second process."""
    case = ALL["W3 rules"].small()
    path = str(case.panel(bench.folder / "compile").path)
    kinds = ("W3", "W3 rules", "W3 shorts")
    cold: list[dict[str, float]] = []
    warm: list[dict[str, float]] = []
    for _ in range(1 if bench.quick else 2):
        with tempfile.TemporaryDirectory(dir=bench.folder) as empty:
            cold.append(json.loads(_python(COMPILE, path, *kinds, BACKTEST_FARM_CACHE=empty)))
            warm += [json.loads(_python(COMPILE, path, *kinds, BACKTEST_FARM_CACHE=empty)) for _ in range(2)]
    for kind in cold[0]:
        yield figure(
            "compile",
            f"first backtest, nothing cached: {kind}",
            "s",
            [each[kind] for each in cold],
            target=10.0,
        )
        yield figure(
            "compile",
            f"first backtest of a second process: {kind}",
            "s",
            [each[kind] for each in warm],
            target=0.6,
        )


class _Unsynced:
    """The calls of `os`, but nothing waits for the disk: for what is only read afterwards."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, handle: int) -> None:
        pass


def store(bench: Bench) -> Iterator[Figure]:
    """A large study: to open it, to run it again in vain, to rank it; and what commits cost a sweep."""
    import polars as pl

    import backtest_farm as bf
    from backtest_farm.storage import LocalStorage
    from backtest_farm.store import CommitLog, Fragment, StudyStore, write_fragment
    from backtest_farm.store.history import History

    n = 10 if bench.quick else 100
    panel = bf.synthetic_panel(bench.folder / "store-panel", n_bars=400, n_assets=20, seed=1)
    strategy = bf.TopN(
        signal=bf.factor.momentum(bf.axis(list(range(101, n + 101))), skip=bf.axis(list(range(1, n + 1)))),
        n=bf.axis(list(range(1, 11))),
        rebalance=bf.axis(list(range(1, 11))),
    )
    sweep = bf.Sweep(panel=panel, strategy=strategy, keep={"equity": {"top": 0}})
    plan, place = sweep._frozen()[0], bench.place()
    says = f"{plan.n_atoms:,} fragments, {plan.n_trials:,} trials"
    whole = bench.place()
    bf.Sweep(panel=panel, strategy=strategy.model_copy(update={"signal": bf.factor.momentum(2, skip=1)})).run(
        whole, executor="inline", progress=False
    )
    rows = next(StudyStore.open(whole).tables())
    storage = LocalStorage(place, _Unsynced())
    StudyStore.create(place, plan.sweep_id, plan.frozen_json(), plan.n_trials)
    log = CommitLog(storage)
    [*log.news()]
    for atom in plan.atoms():
        numbers = plan.atom(atom).numbers
        for column, values in (("trial", numbers), ("key", [f"{each:032x}" for each in numbers])):
            rows = rows.set_column(rows.column_names.index(column), column, [values])
        one: Fragment = write_fragment(storage, plan.sweep_id, atom, rows)
        log.append({"kind": "rows", "sweep": plan.sweep_id, "fragments": [one._asdict()]})

    def opened(_: int) -> Any:
        return StudyStore.open(place).committed()

    def again(_: int) -> None:
        if sweep.run(place, executor="inline", progress=False)._run.n_executed:
            raise gate.UnequalError("a finished sweep ran something")

    def timed(what: str, call: Callable[[int], Any], target: float, runs: int = 5) -> Figure:
        (seconds,) = side_by_side([call], bench.runs(runs), time.perf_counter)
        return figure("store", f"{what}: {says}", "s", seconds, target=target)

    yield timed("open, a record each", opened, 5.0)
    history = History(storage)
    history.refresh()
    history.log.checkpoint(history.state())
    yield timed("open from a checkpoint", opened, 2.0)
    yield timed("a finished sweep run again", again, 5.0)
    study = bf.Study.open(place)

    def ranked(_: int) -> Any:
        return study.trials().filter(pl.col("sharpe") > 0).sort("sharpe", descending=True).head(20).collect()

    began = time.perf_counter()
    ranked(0)
    yield figure("store", f"first check of all files: {says}", "s", [time.perf_counter() - began])
    yield timed("filter and rank", ranked, 1.0)
    yield from _overhead(bench)


def _overhead(bench: Bench) -> Iterator[Figure]:
    """What hashing, writing and committing take of a sweep of about a minute."""
    from backtest_farm.store import StudyStore

    case, spent = bench.case("W3" if bench.quick else "W3x100"), [0.0]

    def timed(name: str) -> Any:
        real = getattr(StudyStore, name)

        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*given, **named)
            finally:
                spent[0] += time.perf_counter() - began

        return mock.patch.object(StudyStore, name, call)

    with timed("commit"), timed("put_note"):
        summary = bench.study(case).summary()
    share = 100 * (spent[0] + summary["stage_seconds"]["write"]) / summary["seconds"]
    says = f"hash, write and commit: {case.trials:,} trials in {summary['seconds']:.0f} s, one process"
    yield figure("store", says, "% of the sweep", [share], target=3.0)


SECTIONS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "single": single,
    "trades": trades,
    "W3": w3,
    "ladder": ladder,
    "W4": w4,
    "ray": ray,
    "first": first_trial,
    "wide": wide,
    "long": long,
    "panel": panels,
    "compile": compiling,
    "store": store,
}
