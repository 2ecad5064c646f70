"""Stopped half-way: what is committed is a whole prefix, nothing lives on, and the rest can be run."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from backtest_farm.farm import InlineExecutor
from backtest_farm.farm.interrupts import Terminated, as_it_was, held_back, terminable
from backtest_farm.store import StudyStore
from tests.farm.cases import PER_ATOM, Driver, FakeSweep, executions, fragments, run, sweep

N_ATOMS = 120


def resume_and_compare(tmp_path: Path, request: FakeSweep, executor) -> None:
    """Resume what was stopped mid-work; in the end all must be as if nothing had happened."""
    store = Path(request.store)
    committed = len(fragments(store))
    assert 0 < committed < N_ATOMS, "the stop did not land mid-work"
    assert sum(table.num_rows for table in StudyStore.open(store).tables()) == committed * PER_ATOM
    counted = tmp_path / "counted"
    counted.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARM_TEST_EXECUTIONS", str(counted))
        summary = run(request, executor=executor)
    # What its workers had finished beside that was taken in.
    assert 0 < summary.n_new <= (N_ATOMS - committed) * PER_ATOM
    if executor == "inline":
        assert executions(counted).total() == N_ATOMS - committed
    run(sweep(tmp_path / "whole", N_ATOMS), executor="inline")
    assert fragments(store) == fragments(tmp_path / "whole")


def request_in(tmp_path: Path, executor: str) -> FakeSweep:
    return sweep(tmp_path / "s", N_ATOMS, seconds=0.02 if executor == "inline" else 0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_stop_inline(tmp_path: Path, number: signal.Signals, code: int) -> None:
    request = request_in(tmp_path, "inline")
    driver = Driver(request, "inline", tmp_path)
    driver.wait_until_committed()
    driver.process.send_signal(number)
    out, err = driver.process.communicate(timeout=10)
    assert (driver.process.returncode, out.strip()) == (code, "False"), err
    committed = len(fragments(tmp_path / "s"))
    assert re.search(rf"interrupted: {committed * PER_ATOM} of 480 trials .* run the same sweep again", err)
    assert "Traceback" not in err
    assert driver.survivors() == []
    resume_and_compare(tmp_path, request, "inline")


def test_ctrl_c_ray(tmp_path: Path, ray_executor) -> None:
    request = request_in(tmp_path, "ray")
    driver = Driver(request, "ray", tmp_path)
    driver.wait_until_committed()
    # As a terminal does it: the signal goes to every process of the group, Ray's too.
    began = time.monotonic()
    os.killpg(driver.process.pid, signal.SIGINT)
    out, err = driver.process.communicate(timeout=20)
    took = time.monotonic() - began
    assert (driver.process.returncode, out.strip()) == (130, "True"), err
    committed = len(fragments(tmp_path / "s"))
    lines = err.splitlines()
    assert lines[-1].startswith(f"interrupted: {committed * PER_ATOM} of 480 trials are committed")
    assert all("trials" in line for line in lines), "only our lines are on the terminal"
    assert took < 10
    assert driver.survivors() == []
    assert not (tmp_path / "home" / ".ray").exists()
    resume_and_compare(tmp_path, request, ray_executor)


def test_sigterm_twice_ray(tmp_path: Path, ray_executor) -> None:
    request = request_in(tmp_path, "ray")
    driver = Driver(request, "ray", tmp_path)
    driver.wait_until_committed()
    driver.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    driver.process.send_signal(signal.SIGINT)
    _, err = driver.process.communicate(timeout=20)
    assert driver.process.returncode in (143, 130) and "Traceback" not in err, err
    assert driver.survivors() == []
    resume_and_compare(tmp_path, request, ray_executor)


def test_sigterm_while_ray_starts(tmp_path: Path) -> None:
    driver = Driver(request_in(tmp_path, "ray"), "ray", tmp_path)
    while not driver.process.stderr.readline().startswith("starting Ray"):
        assert driver.process.poll() is None
    # Some of its processes are there by then, and none of ours.
    while not driver.survivors(timeout=0, spare=r".*driver\.py"):
        time.sleep(0.01)
    driver.process.send_signal(signal.SIGTERM)
    _, err = driver.process.communicate(timeout=20)
    assert driver.process.returncode == 143, err
    assert err.splitlines()[-1].startswith("interrupted: 0 of 480 trials") and "Traceback" not in err
    assert driver.survivors() == []


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_kill_9_of_the_driver(tmp_path: Path, executor: str, ray_executor) -> None:
    request = request_in(tmp_path, executor)
    driver = Driver(request, executor, tmp_path)
    driver.wait_until_committed()
    driver.process.kill()
    driver.process.communicate(timeout=20)
    # Ray's two agents wait a minute for a head that is gone, idle; nothing else may live on.
    assert driver.survivors(spare=r"ray::(DashboardAgent|RuntimeEnvAgent)") == []
    resume_and_compare(tmp_path, request, "inline" if executor == "inline" else ray_executor)


def test_kill_9_while_a_study_is_extended_with_rows_it_has_and_twins(tmp_path: Path) -> None:
    """What was copied before the kill and after it, and what was run, make one sweep."""
    run(sweep(tmp_path / "s", 30))
    # Atoms 0 to 9 repeat the last ten of the first sweep; the last two repeat atoms of their own sweep.
    spec = {"first_key": 20 * PER_ATOM, "twins": {str(N_ATOMS - 2): 50, str(N_ATOMS - 1): 3}}
    request = sweep(tmp_path / "s", N_ATOMS, seconds=0.02, **spec)
    driver = Driver(request, "inline", tmp_path)
    driver.wait_until_committed(n_records=5)
    driver.process.kill()
    driver.process.communicate(timeout=20)
    committed = StudyStore.open(tmp_path / "s").committed()
    assert 0 < len(committed) < N_ATOMS, "the stop did not land mid-work"
    summary = run(request)
    left = range(len(committed), N_ATOMS - 2)
    assert (summary.n_executed, summary.n_reused, summary.n_duplicates) == (
        sum(PER_ATOM for atom in left if atom >= 10),
        sum(PER_ATOM for atom in left if atom < 10),
        2 * PER_ATOM,
    )
    run(sweep(tmp_path / "whole", N_ATOMS, **spec), dedup=False)
    assert fragments(tmp_path / "s") == fragments(tmp_path / "whole")


def test_a_signal_waits_for_the_end_of_a_commit() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("body")
    assert done == ["body"]
    with held_back():
        done.append("quiet")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_is_a_wish_to_stop_where_nobody_minds_it() -> None:
    with pytest.raises(Terminated), terminable(), held_back():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
        with as_it_was():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated), as_it_was():
            sys.exit(15)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1, 1], "a handler of somebody else is left alone, and put back"


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def body() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_an_interrupt_inside_an_atom_loses_that_shard_only(tmp_path: Path) -> None:
    class Interrupting(InlineExecutor):
        n_shards = 0

        def submit(self, request, atoms):
            self.n_shards += 1
            if self.n_shards == 6:
                raise KeyboardInterrupt
            return super().submit(request, atoms)

    request = sweep(tmp_path / "s")
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: \d+ of 160 trials"):
        run(request, executor=Interrupting(), shard_seconds=1e-6)
    assert sorted(fragments(tmp_path / "s")) == [0, 1, 2, 3, 4]
