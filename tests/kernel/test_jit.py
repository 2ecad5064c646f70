"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backtest_farm.kernel import jit


@pytest.mark.parametrize("variable", ["BACKTEST_FARM_CACHE", "NUMBA_CACHE_DIR"])
def test_the_folder_is_private_and_named_by_what_the_code_depends_on(variable, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    folder = jit.code_cache_folder()
    assert folder.is_relative_to(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(jit, "_sources_digest", lambda: "other sources")
    assert jit.code_cache_folder() != folder, "code of other sources must never be found"


def test_a_cache_that_cannot_be_written_is_a_temporary_one(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "file"))
    folder = jit.code_cache_folder()
    assert folder.is_dir() and not folder.is_relative_to(tmp_path)
    folder.rmdir()


_WARM = """
from backtest_farm.engine.warm import compile_once, is_compiled
from backtest_farm.kernel.book import advance
was = is_compiled()
compile_once()
print(was, is_compiled(), sum(advance.stats.cache_hits.values()), sum(advance.stats.cache_misses.values()))
"""


def test_one_process_compiles_for_all(tmp_path) -> None:
    env = {**os.environ, "BACKTEST_FARM_CACHE": str(tmp_path)}
    env.pop("NUMBA_CACHE_DIR", None)
    racers = [
        subprocess.Popen([sys.executable, "-c", _WARM], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(racer.communicate(timeout=200)[0].split() for racer in racers)
    assert [racer.returncode for racer in racers] == [0, 0]
    assert [line[:2] for line in said] == [["False", "True"]] * 2
    assert sum(int(line[3]) for line in said) == 1, f"compiled more than once: {said}"
    assert list(Path(tmp_path, "numba").iterdir())
