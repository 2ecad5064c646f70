"""The frame of the long suites: it goes on, remembers what failed, and says where it stands."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from types import ModuleType

import pytest

from tests.soak import long
from tests.soak.__main__ import SUITES, main

HERE = __name__
TITLE = "seeds that are no multiple of 7"


def cases() -> int:
    return 30


def one(seed: int) -> str | None:
    if seed == 666:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 13:
        raise ValueError("unlucky")
    return "a multiple" if seed % 7 == 0 else None


def test_it_goes_on_and_remembers(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(long, "EVERY_SECONDS", 0.0)
    clock = itertools.count(0.0, 1.0).__next__
    run = {"processes": 1, "folder": tmp_path, "clock": clock}
    assert not long.run("sevens", HERE, minutes=0.5, seed=10, **run)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "sevens: seeds that are no multiple of 7; from seed 10"
    assert said[-1] == "sevens: FAILED"
    assert "  seed 13: ValueError: unlucky  (again: python -m tests.soak sevens --only 13)" in said
    assert sum("seeds looked at" in line for line in said) > 2, "partial tables"
    state = json.loads((tmp_path / "sevens.json").read_text())
    assert 5 < state["done"] < 30 and state["next"] == 10 + state["done"]
    assert set(state["failures"]) >= {"13", "14"}
    assert not long.run("sevens", HERE, **run)
    state = json.loads((tmp_path / "sevens.json").read_text())
    assert (state["done"], state["next"]) == (30, 40)
    assert set(state["failures"]) == {"13", "14", "21", "28", "35"}
    assert "30 of 30       5" in capsys.readouterr().out


def test_what_was_mended_is_forgotten(tmp_path) -> None:
    long.Progress(next=40, done=30, failures={"15": "was wrong once"}).save(tmp_path / "sevens.json")
    assert long.run("sevens", HERE, processes=1, folder=tmp_path)
    assert json.loads((tmp_path / "sevens.json").read_text())["failures"] == {}


def test_a_process_that_dies_is_a_failure(tmp_path) -> None:
    assert not long.run("sevens", HERE, seed=665, minutes=1.0, processes=1, folder=tmp_path)
    assert "died" in json.loads((tmp_path / "sevens.json").read_text())["failures"]["666"]


def test_a_suite_without_an_end_needs_minutes(tmp_path, monkeypatch) -> None:
    endless = ModuleType("endless")
    endless.TITLE, endless.one = "", one  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "endless", endless)
    with pytest.raises(SystemExit, match="no end"):
        long.run("endless", "endless", folder=tmp_path)


def test_one_seed_alone(monkeypatch, capsys) -> None:
    monkeypatch.setitem(SUITES, "sevens", HERE)
    assert main(["sevens", "--only", "14"]) == 1
    assert main(["sevens", "--only", "15"]) == 0
    assert capsys.readouterr().out == "seed 14: a multiple\nseed 15: well\n"
