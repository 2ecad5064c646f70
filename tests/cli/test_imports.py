"""What a verb loads: help loads nothing, so it is quick; a wrong file is answered before the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from backtest_farm.cli.app import app
from tests.cli.conftest import environment

ROOMS = {"analysis", "cache", "engine", "factors", "farm", "identity", "ingest", "kernel", "panel", "spec",
         "storage", "store", "strategy", "study", "sweep"}  # fmt: skip
BIG = {"numpy", "polars", "pyarrow", "numba", "ray", "pandas", "ruamel", "fastparquet", "plotly"}
TELL = """\
import atexit, json, sys
target = sys.argv.pop(1)
atexit.register(lambda: open(target, "w").write(json.dumps(sorted(sys.modules))))
from backtest_farm.cli import main
main()
"""


EVERY_HELP = """\
import contextlib, io, json, sys
from backtest_farm.cli.app import run
found = {}
for verb in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        assert run([*verb.split(), "--help"]) == 0
    found[verb] = sorted(sys.modules)
print(json.dumps(found))
"""


def verbs(group: object = None, words: tuple[str, ...] = ()) -> list[str]:
    """Every verb of the tree, as it is typed."""
    node = typer.main.get_command(app) if group is None else group
    below = getattr(node, "commands", {})
    if not below:
        return [" ".join(words)]
    return [verb for word, each in below.items() for verb in verbs(each, (*words, word))]


def short(modules: list[str]) -> set[str]:
    """Names of packages, and of the package's own rooms as ``.room``."""
    names = [name.split(".") for name in modules]
    own = {f".{parts[1]}" for parts in names if parts[0] == "backtest_farm" and len(parts) > 1}
    return own | {parts[0] for parts in names}


def loaded(folder: Path, *words: str) -> set[str]:
    """What a command loads."""
    target = folder / "modules.json"
    subprocess.run(
        [sys.executable, "-c", TELL, str(target), *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=120,
    )
    return short(json.loads(target.read_text()))


def test_all_verbs_are_found() -> None:
    assert {"demo", "run", "plan", "panel append", "study verify", "report", "doctor"} <= set(verbs())


def test_help_loads_no_room_and_no_big_package() -> None:
    # A process without rooms is up in a third of a second; numpy alone would double that.
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP, json.dumps(["", *verbs()])],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found = {verb: short(modules) for verb, modules in json.loads(done.stdout).items()}
    assert all(".cli" in names for names in found.values())
    needless = BIG | {f".{room}" for room in ROOMS} | {"pydantic"}
    assert {verb: names & needless for verb, names in found.items() if names & needless} == {}


def test_a_wrong_sweep_file_is_answered_before_the_engine_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("panel: x\nstrategy: {kind: TopM}\n")
    for verb in ("sweep", "plan", "run"):
        found = loaded(tmp_path, verb, "wrong.yaml")
        assert ".sweep" in found
        assert found & {"polars", "pyarrow", "numba", "ray", ".engine", ".farm"} == set()


def test_a_wrong_option_is_answered_before_anything_is_read(tmp_path: Path) -> None:
    assert loaded(tmp_path, "panel", "build", "a.csv", "p", "--column", "Last") & BIG == set()


def test_panel_info_loads_no_frames_and_no_kernel(studied: Path) -> None:
    found = loaded(studied, "panel", "info", "panel")
    assert ".panel" in found
    assert found & {"polars", "pyarrow", "numba", "ray", ".kernel"} == set()


@pytest.mark.parametrize("line", ["study top study", "plan sweep.yaml", "study ls ."])
def test_reading_and_planning_load_no_ray_and_no_figures(line: str, studied: Path) -> None:
    found = loaded(studied, *line.split())
    assert ".study" in found
    assert found & {"ray", "plotly", "vl_convert"} == set()
