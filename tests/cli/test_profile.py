"""``--profile``: seconds by stage, and a file that Python's own reader of profiles takes."""

from __future__ import annotations

import pstats
import shutil
from pathlib import Path

import pytest

import backtest_farm as bf
from backtest_farm.cli.profiling import Profile
from tests.cli.conftest import ONE, Command


@pytest.fixture
def place(studied: Path, tmp_path: Path) -> Path:
    shutil.copytree(studied / "panel", tmp_path / "panel")
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "many.yaml").write_text(ONE.replace("n: 2", "n: [1, 2]"))
    return tmp_path


def test_run_shows_stages_and_writes_a_profile(place: Path, farm: Command) -> None:
    said = farm("run", "one.yaml", "--profile", "--json", cwd=place).document
    assert set(said["profile"]["seconds"]) >= {"loading", "simulation", "rest"}
    assert pstats.Stats(str(place / said["profile"]["file"])).total_calls > 0  # type: ignore[attr-defined]
    people = farm("run", "one.yaml", "--profile", cwd=place)
    for text in ("seconds by stage", "simulation", "one.prof"):
        assert text in people.out


def test_sweep_writes_its_profile_beside_the_store(place: Path, farm: Command) -> None:
    asked = "sweep", "many.yaml", "--executor", "inline", "--store", "studies/two"
    said = farm(*asked, "--profile", "--json", cwd=place).document
    assert said["profile"]["file"] == "studies/two.prof"
    names = {name for *_, name in pstats.Stats(str(place / "studies" / "two.prof")).stats}  # type: ignore[attr-defined]
    assert "run_sweep" in names
    assert {"loading", "simulation", "write", "rest"} <= set(said["profile"]["seconds"])


def test_without_the_flag_there_is_no_profile(place: Path, farm: Command) -> None:
    assert "profile" not in farm("run", "one.yaml", "--json", cwd=place).document
    assert "seconds by stage" not in farm("run", "one.yaml", cwd=place).out
    assert not list(place.glob("*.prof"))


def test_run_trades_by_all_that_the_file_says(place: Path, farm: Command) -> None:
    (place / "ruled.yaml").write_text(ONE + "rules: {max_bars: 2}\n")
    plain, ruled = (farm("run", f"{name}.yaml", "--json", cwd=place).document for name in ("one", "ruled"))
    assert plain["counters"]["time_exit"] == 0 < ruled["counters"]["time_exit"]
    study = bf.Sweep.load(place / "ruled.yaml").run(place / "ruled", executor="inline", progress=False)
    assert study.trial(0)["digest"] == ruled["digest"]


def test_seconds_of_stages_come_in_order_and_the_rest_is_what_they_leave(tmp_path: Path, monkeypatch) -> None:
    clock = iter([0.0, 2.0, 12.0])
    monkeypatch.setattr("backtest_farm.cli.profiling.time.perf_counter", lambda: next(clock))
    watch = Profile(True, tmp_path / "x" / "y.prof")
    with watch.running():
        pass
    found = watch.seconds({"write": 1.0, "simulation": 6.0, "signal": 3.0}, workers=2)
    assert list(found.items()) == [
        ("loading", 2.0), ("signal", 3.0), ("simulation", 6.0), ("write", 1.0), ("rest", 5.0)
    ]  # fmt: skip
    assert (tmp_path / "x" / "y.prof").exists()


def test_a_failing_run_still_leaves_its_profile(tmp_path: Path) -> None:
    watch = Profile(True, tmp_path / "z.prof")
    with pytest.raises(ValueError, match="on purpose"), watch.running():
        raise ValueError("on purpose")
    assert (tmp_path / "z.prof").exists()
