"""Sweeps of the user's own classes: shared signals, keys, failures, and what is left when a class is gone."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError, StoreError
from tests.contracts.tree import ROOT

CALLS: Counter[int] = Counter()


class Counted(bf.Strategy):
    lookback: int = 10
    n: int = 5

    def signal(self, panel):
        CALLS[self.lookback] += 1
        return bf.factor.momentum(self.lookback)

    def portfolio(self):
        if self.n == 13:
            raise ValueError("thirteen")
        if self.n % 2:
            return bf.Quantiles(quantile=self.n / 100)
        return bf.TopN(n=self.n, rebalance=5)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal is there from other tests, but the compiled kernel is."""
    importlib.import_module("backtest_farm.kernel.jit")  # reads where that is kept
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "cache"))
    CALLS.clear()


def test_trials_that_share_a_signal_share_one_computation_of_it(small_panel, tmp_path, own_cache) -> None:
    strategy = Counted(lookback=bf.axis([10, 20]), n=bf.axis([2, 4, 5, 7, 13]))
    sweep = bf.Sweep(panel=small_panel, strategy=strategy, costs=bf.Costs(commission_bps=bf.axis([0, 5])))
    assert sweep.plan()["unique_factors"] == 2
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    assert CALLS == {10: 1, 20: 1}
    rows = study.trials().collect()
    assert study.plan.columns == ("lookback", "n", "costs.commission_bps")
    # Blocks of two kinds and a failure side by side: each trial is what it would be alone.
    failed = rows.filter(n=13)
    assert failed["status"].to_list() == ["error"] * 4
    assert "raised ValueError at test_own_sweeps.py:" in failed["error"][0]
    assert rows.filter(status="ok").height == 16
    for row in rows.filter(status="ok").iter_rows(named=True):
        signal = bf.factor.momentum(row["lookback"])
        n = row["n"]
        block = (
            bf.Quantiles(signal=signal, quantile=n / 100)
            if n % 2
            else bf.TopN(signal=signal, n=n, rebalance=5)
        )
        costs = bf.Costs(commission_bps=row["costs.commission_bps"])
        assert bf.run(small_panel, block, costs=costs).digest == row["digest"]
    assert study.verify(8)["replayed"]
    again = bf.Sweep(panel=small_panel, strategy=strategy, costs=sweep.spec.costs)
    assert again.run(tmp_path / "study", executor="inline", progress=False).summary()["executed"] == 0


class Fails(bf.Strategy):
    at: int = 0

    def on_bar(self, ctx):
        if ctx.bar == self.at:
            raise LookupError(f"bar {ctx.bar}")
        ctx.target({ctx.symbols[0]: 0.5})


@bf.step
def half(bar, params, out):
    if bar.t % params.every == 0:
        out[0] = 0.5


def test_bar_by_bar_a_failure_costs_its_own_trials(small_panel, tmp_path) -> None:
    sweep = bf.Sweep(
        panel=small_panel,
        strategy=bf.axis([Fails(at=bf.axis([3, 1000])), half(every=bf.axis([1, 5]))]),
        costs=bf.Costs(commission_bps=bf.axis([0, 5])),
    )
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().collect()
    assert rows["kind"].to_list() == [f"{__name__}:Fails"] * 4 + [f"{__name__}:half"] * 4
    assert rows["status"].to_list() == ["error"] * 2 + ["ok"] * 6
    assert rows["error"][0].startswith("InputError: on_bar() of ")
    assert "raised LookupError at test_own_sweeps.py:" in rows["error"][0]
    assert study.plan.n_atoms == 4, "on as many workers as there are parameters"
    assert rows["digest"][2] == rows["digest"][4], "the step decides the same on every bar"
    with pytest.raises(InputError, match="raised LookupError") as caught:
        study.replay(0)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_signal_that_raises_fails_its_trials_and_no_others(small_panel, tmp_path) -> None:
    class Steep(bf.Strategy):
        lookback: int = 1
        n: int = 2

        def signal(self, panel):
            if self.lookback == 2:
                raise RuntimeError("no data")
            return np.where(panel["close"] > 0, 1.0 / self.lookback, np.nan)

        def portfolio(self):
            return bf.TopN(n=self.n)

    strategy = Steep(lookback=bf.axis([1, 2]), n=bf.axis([2, 3]))
    study = bf.Sweep(panel=small_panel, strategy=strategy).run(tmp_path / "study", progress=False)
    assert study.trials().collect()["status"].to_list() == ["ok"] * 2 + ["error"] * 2
    assert study.summary()["executor"] == "inline"


def test_everything_that_a_class_can_read_is_part_of_its_keys(small_panel, tmp_path) -> None:
    def keys(panel: bf.Panel) -> list[str]:
        plan, *_ = bf.Sweep(panel=panel, strategy=Counted(n=bf.axis([2, 4])))._frozen()
        return plan.keys(range(2))

    copied = bf.Panel.build(small_panel.to_frame(), tmp_path / "panel", ends=None, bars_per_year=252)
    before = keys(copied)
    assert before == keys(copied)
    seen = [
        copied.with_field("unread", np.ones(copied.shape)),
        copied.with_context("unread", timed(copied)),
        copied.with_static("unread", named(copied)),
    ]
    assert len({before[0], *(keys(panel)[0] for panel in seen)}) == 4


def timed(panel: bf.Panel):
    import polars as pl

    return pl.DataFrame({"timestamp": panel.timestamps, "unread": 1.0})


def named(panel: bf.Panel):
    import polars as pl

    return pl.DataFrame({"symbol": panel.symbols, "unread": "x"})


def test_a_class_of_a_notebook_runs_here_and_is_refused_elsewhere(small_panel, tmp_path) -> None:
    class Local(Counted):
        pass

    sweep = bf.Sweep(panel=small_panel, strategy=Local(n=bf.axis([2, 4])))
    for how in ({"executor": "ray"}, {"address": "localhost:1"}):
        with pytest.raises(InputError, match=r"Local can run in this process alone[\s\S]*into a file"):
            sweep.run(tmp_path / "study", progress=False, **how)
    assert sweep.run(tmp_path / "study", progress=False).summary()["ok"] == 2


# ----------------------------------------------------------------------- files, and other processes

MODULE = """
import backtest_farm as bf
import {helper}

class Own(bf.Strategy):
    lookback: int = 10
    n: int = 5

    def signal(self, panel):
        return bf.factor.momentum(self.lookback * {helper}.FACTOR)

    def portfolio(self):
        return bf.TopN(n=self.n)
"""


class Folder:
    """A sweep file beside its class, and processes that use it from anywhere."""

    def __init__(self, place: Path, panel: bf.Panel) -> None:
        self.place, name = place, uuid.uuid4().hex[:8]
        self.module, self.helper = place / f"own_{name}.py", place / f"helper_{name}.py"
        self.module.write_text(MODULE.format(helper=f"helper_{name}"))
        self.helper.write_text("FACTOR = 1\n")
        self.file = place / "sweep.yaml"
        strategy = f"{{class: '{self.module.stem}:Own', lookback: [10, 20], n: [2, 4]}}"
        self.file.write_text(f"panel: {panel.path}\nstrategy: {strategy}\n")

    def run(self, code: str) -> str:
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        store = f"study, file, store = bf.Study.open, {str(self.file)!r}, {str(self.place / 'study')!r}"
        done = subprocess.run(
            [sys.executable, "-B", "-W", "error", "-c", f"import backtest_farm as bf\n{store}\n{code}"],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        return done.stdout or done.stderr

    def sweep(self, how: str = "") -> str:
        told = "s['executed'], s['reused'], s['ok']"
        run = f"bf.Sweep.load(file).run(store, executor='inline', progress=False{how})"
        return self.run(f"s = {run}.summary(); print({told})")


@pytest.fixture
def folder(tmp_path: Path, small_panel) -> Folder:
    return Folder(tmp_path, small_panel)


def test_a_file_names_a_class_beside_it(folder) -> None:
    assert folder.sweep() == "4 0 4\n"
    assert folder.sweep() == "0 4 4\n"
    assert folder.run("print(study(store).verify(4)['replayed'])") == "[0, 1, 2, 3]\n", (
        "found again by its folder"
    )


def test_changed_code_makes_other_trials(folder) -> None:
    folder.sweep()
    folder.helper.write_text("FACTOR = 2\n")
    assert "strategy.class.code" in folder.sweep()
    assert folder.sweep(", extend=True") == "4 0 4\n"
    told = folder.run(
        "old = study(store, 1); print(old.trials().collect().height, old.plan.columns); old.replay(0)"
    )
    assert told.startswith("4 ('lookback', 'n')\n"), "the older sweep can be read"
    told = folder.run("study(store, 1).replay(0)")
    assert "Own cannot run again: its code has changed since" in told


def test_a_study_outlives_its_class(folder) -> None:
    folder.sweep()
    digest = folder.run("print(study(store).digest)")
    folder.module.unlink()
    assert folder.run("print(study(store).digest)") == digest
    told = folder.run(
        "s = study(store); print(s.best(1)['n'][0] in (2, 4), s.plan.keys([0]) == [s.trial(0)['key']])"
    )
    assert told == "True True\n"
    told = folder.run("study(store).replay(0)")
    assert f"Own cannot run again: there is no module '{folder.module.stem}'" in told
    told = folder.run("study(store).verify(sample=1)")
    assert "trials cannot run again" in told and "every file is as it was written" in told
    assert "there is no module" in folder.sweep()


def test_a_script_runs_its_own_class_and_goes_on_where_it_stood(folder, small_panel) -> None:
    script = folder.place / "script.py"
    text = MODULE.format(helper=folder.helper.stem)
    script.write_text(
        f"{text}\nsweep = bf.Sweep(panel={str(small_panel.path)!r}, strategy=Own(n=bf.axis([2, 4])))\n"
        f"s = sweep.run({str(folder.place / 'script-study')!r}, progress=False).summary()\n"
        "print(s['executed'], s['reused'], s['ok'])\n"
    )

    def run() -> str:
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder.place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        return done.stdout or done.stderr

    assert [run(), run()] == ["2 0 2\n", "0 2 2\n"]
    with pytest.raises(InputError, match="__main__:Own cannot run again"):
        bf.Study.open(folder.place / "script-study").replay(0)


def test_another_class_on_the_same_study_is_refused(small_panel, tmp_path) -> None:
    bf.Sweep(panel=small_panel, strategy=Counted(n=2)).run(tmp_path / "s", executor="inline", progress=False)
    with pytest.raises(StoreError):
        bf.Sweep(panel=small_panel, strategy=half(every=2)).run(
            tmp_path / "s", executor="inline", progress=False
        )


def test_ray_runs_a_class_from_a_file_beside_the_sweep_file(folder, ray_executor, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    sweep = bf.Sweep.load(folder.file)
    study = sweep.run(folder.place / "ray", executor=ray_executor, progress=False)
    assert study.summary()["executor"] == "ray"
    assert study.summary()["ok"] == 4
    inline = sweep.run(folder.place / "inline", executor="inline", progress=False)
    assert study.digest == inline.digest
