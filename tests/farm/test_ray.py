"""Ray: the same rows as inline, a private node, and workers that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backtest_farm.errors import FarmError, PanelError, PlatformError
from backtest_farm.farm.ray import executor as ray_room
from backtest_farm.farm.ray.environment import ray_environment
from backtest_farm.store import StudyStore
from tests.farm.cases import Driver, executions, fragments, run, sweep


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    folder = tmp_path / "executions"
    folder.mkdir()
    return folder


def test_inline_and_ray_write_the_same_fragments(tmp_path: Path, ray_executor, counted: Path) -> None:
    run(sweep(tmp_path / "inline"), executor="inline")
    for i, shard_seconds in enumerate((None, 1e-6, 60.0)):
        store = tmp_path / f"ray{i}"
        request = sweep(store, executions=str(counted)) if i == 0 else sweep(store)
        summary = run(request, executor=ray_executor, shard_seconds=shard_seconds)
        assert (summary.executor, summary.workers, summary.n_committed) == ("ray", 2, 160)
        assert fragments(store) == fragments(tmp_path / "inline")
    assert set(executions(counted).values()) == {1}
    pids = {file.name.split("-")[1] for file in counted.iterdir()}
    assert str(os.getpid()) not in pids


def test_an_atom_that_raises_costs_that_atom(tmp_path: Path, ray_executor) -> None:
    with pytest.raises(FarmError, match=r"1 of 40 atoms failed, 156 trials[\s\S]*atom 7: ValueError"):
        run(sweep(tmp_path / "s", raises=[7]), executor=ray_executor)
    assert len(fragments(tmp_path / "s")) == 39


def test_a_job_that_cannot_open_keeps_its_kind_across_processes(tmp_path: Path, ray_executor) -> None:
    with pytest.raises(PanelError, match="panels/us is not there"):
        run(sweep(tmp_path / "s", no_panel=True), executor=ray_executor)


def test_a_worker_killed_mid_work_is_replaced(tmp_path: Path, ray_executor, counted: Path) -> None:
    request = sweep(tmp_path / "s", 60, seconds=0.05, executions=str(counted))
    killed: list[int] = []
    committed: list[int] = []

    def kill_one() -> None:
        end = time.monotonic() + 60
        while len(list((tmp_path / "s" / "log").glob("*.json"))) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        latest = max(counted.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        killed.append(int(latest.name.split("-")[1]))
        committed.append(len(fragments(tmp_path / "s")))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = run(request, executor=ray_executor, shard_seconds=0.5)
    killer.join()
    assert len(killed) == 1 and 0 < committed[0] < 60, "the kill did not land mid-work"
    assert summary.n_committed == 240
    again = [atom for atom, n in executions(counted).items() if n > 1]
    assert 0 < len(again) < 30, "the kill landed mid-work: its shard, and no more, ran again"
    run(sweep(tmp_path / "inline", 60), executor="inline")
    assert fragments(tmp_path / "s") == fragments(tmp_path / "inline")


def test_of_an_atom_that_always_kills_each_trial_is_a_row(
    tmp_path: Path, ray_executor, capfd: pytest.CaptureFixture
) -> None:
    summary = run(sweep(tmp_path / "s", 12, kill_always=[5]), executor=ray_executor, shard_seconds=1e-6)
    assert (summary.n_committed, summary.n_failed, summary.n_lost) == (48, 4, 2)
    statuses = StudyStore.open(tmp_path / "s").rows(5)["status"].to_pylist()
    assert statuses == ["oom"] * 4, "as when the system kills for memory"
    assert capfd.readouterr() == ("", ""), "the terminal is ours"


def test_data_that_goes_missing_ends_the_sweep_in_its_own_words(tmp_path: Path, ray_executor) -> None:
    data = tmp_path / "prices"
    data.touch()
    committed = []

    def check_data() -> None:
        committed.append(1)
        raise PanelError("prices is missing")

    # SIGBUS is how a process ends that reads a mapped file after its end.
    request = sweep(tmp_path / "s", 60, seconds=0.02, data=str(data), ends={"200": "SIGBUS"})
    with pytest.raises(PanelError, match="prices is missing"):
        run(request, executor=ray_executor, shard_seconds=1e-6, check_data=check_data)
    assert len(committed) == 1 and 0 < len(fragments(tmp_path / "s")) < 60
    request = sweep(tmp_path / "t", 200, seconds=0.02, data=str(data))
    killer = threading.Timer(1.0, data.unlink)
    killer.start()
    with pytest.raises(PanelError, match=r"prices is missing, but the snapshot needs it"):
        run(request, executor=ray_executor, shard_seconds=0.05)
    assert 0 < len(fragments(tmp_path / "t")) < 200
    killer.join()


def test_a_cluster_is_joined_by_its_address_and_left_running(tmp_path: Path, ray_executor) -> None:
    import ray

    request = sweep(tmp_path / "s")
    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    driver = Driver(request, f"ray@{address}", tmp_path, RAY_AUTH_TOKEN=token)
    out, err = driver.process.communicate(timeout=60)
    assert (driver.process.returncode, out.strip()) == (0, "True"), err
    last = err.splitlines()[-1]
    waited = [line.partition(";")[0] for line in err.splitlines()[:2]]
    assert waited == [f"joining the Ray cluster at {address}", "waiting for the first task"]
    assert last.startswith("done: 160 of 160 trials") and "/s, ray)" in last
    run(sweep(tmp_path / "again"), executor=ray_executor)
    assert fragments(tmp_path / "s") == fragments(tmp_path / "again")


def test_the_node_is_private_and_quiet(ray_executor, ray_home: Path) -> None:
    import grpc
    import ray

    assert not (ray_home / ".ray").exists(), "a token file was left"
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert os.environ["RAY_AUTH_TOKEN"] not in commands
    # Its ports are open to the network; whoever has no token, or another one, learns nothing.
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        for headers in ((), (("authorization", f"Bearer {'0' * 64}"),)):
            with pytest.raises(grpc.RpcError) as refused:
                ask(b"", timeout=10, metadata=headers)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert ask(b"", timeout=10, metadata=(("authorization", f"Bearer {os.environ['RAY_AUTH_TOKEN']}"),))


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    with ray_environment(own_node=True):
        token = os.environ["RAY_AUTH_TOKEN"]
        assert {"RAY_worker_niceness": "0"}.items() <= dict(os.environ).items()
    assert dict(os.environ) == before
    with ray_environment(own_node=True):
        assert os.environ["RAY_AUTH_TOKEN"] == token, "Ray keeps the first one it has read"
    with ray_environment(own_node=False):
        assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-user")
    monkeypatch.setenv("RAY_worker_niceness", "3")
    with ray_environment(own_node=True):
        mine = {"RAY_AUTH_TOKEN": "of-the-user", "RAY_worker_niceness": "3"}
        assert mine.items() <= dict(os.environ).items()
    with ray_environment(own_node=False):
        assert os.environ["RAY_AUTH_MODE"] == "token"


def test_without_ray_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    before = dict(os.environ)
    with pytest.raises(PlatformError, match=r"Ray is not installed[\s\S]*pip install[\s\S]*inline"):
        ray_room.RayExecutor(2)
    assert dict(os.environ) == before


class BrokenRay:
    """Fails to start."""

    def __init__(self) -> None:
        self.stopped = 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **_) -> None:
        raise RuntimeError("no port\nlong story")

    def shutdown(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (None, r"could not start on this machine: RuntimeError: no port[\s\S]*inline"),
        ("10.0.0.9:6379", r"10.0.0.9:6379 cannot be reached[\s\S]*RAY_AUTH_TOKEN"),
    ],
)
def test_a_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch, address: str | None, text: str) -> None:
    broken = BrokenRay()
    monkeypatch.setattr(ray_room, "_import_ray", lambda: broken)
    with pytest.raises(PlatformError, match=text):
        ray_room.RayExecutor(2, address)
    assert broken.stopped == 1
