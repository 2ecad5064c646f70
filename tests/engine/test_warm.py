"""Compiling the whole kernel ahead of its use; that one process does it is shown in tests/kernel."""

from __future__ import annotations

import numba
import pytest

from backtest_farm.engine import warm


@pytest.fixture
def runs(tmp_path, monkeypatch) -> list[str]:
    """A fresh cache folder; each time that everything is run adds to the list."""
    ran: list[str] = []
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(warm, "_run_everything", lambda: ran.append("everything"))
    return ran


def test_the_kernel_is_compiled_once_on_a_machine(runs) -> None:
    assert not warm.is_compiled()
    warm.compile_once()
    assert warm.is_compiled()
    warm.compile_once()
    assert runs == ["everything"]


def test_a_kernel_that_did_not_compile_is_not_marked(runs, monkeypatch) -> None:
    monkeypatch.setattr(warm, "_run_everything", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        warm.compile_once()
    assert not warm.is_compiled()


def test_a_folder_that_cannot_be_written_stops_nobody(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "missing"))
    warm.compile_once()
    assert runs == ["everything"] and not warm.is_compiled()
