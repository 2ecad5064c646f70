"""The examples of classes of one's own in docs/strategies.md run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import backtest_farm as bf
from tests.contracts.tree import ROOT

PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
FILES = {
    name: text
    for text, name in re.findall(
        r"^```(?:python|yaml)\n(# ([a-z_]+\.\w+).*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a panel and every file of the page."""
    place = tmp_path_factory.mktemp("own")
    bf.synthetic_panel(place / "panels" / "mine", n_bars=420, n_assets=30, seed=1)
    for name, text in FILES.items():
        (place / name).write_text(text)
    return place


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_these_files() -> None:
    assert {"momentum.py", "run.py", "own.yaml", "look_ahead.py", "rebound.py", "breakout.py"} <= set(FILES)


@pytest.mark.parametrize("script", ["run.py", "look_ahead.py"])
def test_a_script_runs(script: str, folder: Path) -> None:
    run(folder, script)


def test_the_check_for_looking_ahead_can_fail(folder: Path, tmp_path: Path) -> None:
    later = "return past - np.nan_to_num(past).mean(axis=0)"
    for name in ("momentum.py", "look_ahead.py"):
        (tmp_path / name).write_text(FILES[name].replace("return past", later))
    (tmp_path / "panels").symlink_to(folder / "panels")
    with pytest.raises(AssertionError, match="was taken from a later one"):
        run(tmp_path, "look_ahead.py")


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith(".yaml")])
def test_a_sweep_file_runs(file: str, folder: Path) -> None:
    code = f"import backtest_farm as bf; bf.Sweep.load('{file}').run('studies/{file}', progress=False)"
    assert run(folder, "-c", f"{code}; print(bf.Study.open('studies/{file}').summary()['ok'])") == "4\n"


def test_the_other_classes_trade(folder: Path) -> None:
    code = "import backtest_farm as bf, rebound; p = bf.Panel.open('panels/mine')"
    assert int(run(folder, "-c", f"{code}; print(bf.run(p, rebound.Rebound()).counters['trades'])")) > 20
