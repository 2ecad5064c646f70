"""Where compiled kernels are kept, and that nothing damaged is ever run."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from backtest_farm.kernel import code_cache
from backtest_farm.kernel.jit import jit

FLIPS = 25


@pytest.mark.parametrize("variable", ["BACKTEST_FARM_CACHE", "NUMBA_CACHE_DIR"])
def test_the_folder_is_private_and_named_by_what_the_code_depends_on(variable, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    folder = code_cache.code_cache_folder()
    assert folder.is_relative_to(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(code_cache, "_sources_digest", lambda: "other sources")
    assert code_cache.code_cache_folder() != folder, "code of other sources must never be found"


def test_a_cache_that_cannot_be_written_is_a_temporary_one(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "file"))
    folder = code_cache.code_cache_folder()
    assert folder.is_dir() and not folder.is_relative_to(tmp_path)
    assert "compiled for this process alone" in caplog.text
    folder.rmdir()


def _opened_to_all(folder: Path) -> None:
    folder.chmod(0o770)


def _somebody_elses(folder: Path) -> None:
    os.chown(folder, 12345, -1)


def _a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize("happens", [_opened_to_all, _somebody_elses, _a_link])
def test_a_folder_that_others_could_write_to_is_never_used(happens, tmp_path, monkeypatch, caplog) -> None:
    if happens is _somebody_elses and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = code_cache.code_cache_folder()
    (folder / "planted.nbc").write_bytes(b"code")
    happens(folder)
    assert code_cache.code_cache_folder() == folder
    assert [*folder.iterdir()] == [], "nothing of the old folder may be found in the new one"
    assert code_cache._is_private(folder)
    assert len(caplog.records) == 1 and "set aside" in caplog.text
    assert len([*tmp_path.rglob("planted.nbc")]) == 1


def thrice(x):
    """Return three times x."""
    return x * 3.0


def _fresh(monkeypatch, folder: Path):
    """Return the function as a new process has it: without any code yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return jit(thrice)


def _loads(compiled) -> int:
    assert compiled(2.0) == 6.0
    return sum(compiled.stats.cache_hits.values())


def test_a_file_with_any_bit_flipped_is_never_run_and_is_replaced(tmp_path, monkeypatch, caplog) -> None:
    assert _loads(_fresh(monkeypatch, tmp_path)) == 0
    (file,) = tmp_path.rglob("*.nbc")
    for flip in range(FLIPS):
        assert _loads(_fresh(monkeypatch, tmp_path)) == 1, f"after flip {flip - 1} the file was not replaced"
        damaged = bytearray(file.read_bytes())
        damaged[random.Random(flip).randrange(len(damaged))] ^= 1 << flip % 8
        file.write_bytes(damaged)
        assert _loads(_fresh(monkeypatch, tmp_path)) == 0, f"flip {flip} was not noticed"
    assert len(caplog.records) == FLIPS
    assert all("is damaged: the function is compiled anew" in record.message for record in caplog.records)


@pytest.mark.parametrize("left", [0, 1, 64, 1000])
def test_a_file_that_was_cut_is_replaced(left, tmp_path, monkeypatch) -> None:
    _loads(_fresh(monkeypatch, tmp_path))
    (file,) = tmp_path.rglob("*.nbc")
    file.write_bytes(file.read_bytes()[:left])
    assert _loads(_fresh(monkeypatch, tmp_path)) == 0
    assert _loads(_fresh(monkeypatch, tmp_path)) == 1


def test_a_whole_file_under_another_name_is_not_run(tmp_path, monkeypatch) -> None:
    compiled = _fresh(monkeypatch, tmp_path)
    assert compiled(2.0) == compiled(2) == 6.0
    whole, other = tmp_path.rglob("*.nbc")
    whole.write_bytes(other.read_bytes())
    again = _fresh(monkeypatch, tmp_path)
    assert again(2.0) == again(2) == 6.0
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_full_disk_costs_the_cache_and_nothing_else(tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert _loads(_fresh(monkeypatch, tmp_path)) == 0
    monkeypatch.undo()
    assert _loads(_fresh(monkeypatch, tmp_path)) == 0
    assert _loads(_fresh(monkeypatch, tmp_path)) == 1


_RACER = """
import sys
sys.path.insert(0, ".")
from tests.kernel.test_code_cache import jit, thrice
compiled = jit(thrice)
assert compiled(2.0) == 6.0
print(sum(compiled.stats.cache_misses.values()))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_of_several_processes_one_compiles(damaged, tmp_path) -> None:
    env = {**os.environ, "BACKTEST_FARM_CACHE": str(tmp_path)}
    env.pop("NUMBA_CACHE_DIR", None)

    def race(n: int) -> list[str]:
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", _RACER],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(n)
        ]
        said = [racer.communicate(timeout=100)[0].strip() for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * n
        return sorted(said)

    if damaged:
        assert race(1) == ["1"]
        (file,) = tmp_path.rglob("*.nbc")
        file.write_bytes(file.read_bytes()[:-1])
    assert race(3) == ["0", "0", "1"]
