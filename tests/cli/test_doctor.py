"""``doctor``: what it finds, and what it says when something is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_a_machine_that_is_well_is_0(farm: Command, tmp_path: Path) -> None:
    done = farm("doctor", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    states = {row["check"]: row["state"] for row in done.document["checks"]}
    assert {"ray", "cores", "cache folder", "kernel", "loopback ports"} <= set(states)
    assert set(states.values()) <= {"ok", "warning"}


def test_a_cache_folder_that_cannot_be_written_is_3_and_says_how_to_mend_it(
    farm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("backtest_farm.cache.cache_root", lambda: tmp_path / "file" / "cache")
    done = farm("doctor", cwd=tmp_path)
    assert done.code == 3
    assert "error    cache folder" in done.out
    assert "BACKTEST_FARM_CACHE" in done.out


def test_a_package_that_is_missing_is_3_and_named(
    farm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backtest_farm.cli.doctor.PACKAGES", ("no-such-package",))
    done = farm("doctor", cwd=tmp_path)
    assert done.code == 3
    assert "no-such-package" in done.out
    assert "pip install" in done.out


def test_a_kernel_that_does_not_run_is_3(
    farm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ImportError("llvmlite is of another version")

    monkeypatch.setattr("backtest_farm.engine.warm.compile_once", broken)
    done = farm("doctor", "--json", cwd=tmp_path)
    assert done.code == 3
    (kernel,) = [row for row in done.document["checks"] if row["check"] == "kernel"]
    assert (kernel["state"], "llvmlite" in kernel["found"]) == ("error", True)
