"""Hostile files and fuzzed words: the few that the usual tests have time for, and what they would notice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.soak import forks, fuzz, hostile
from tests.soak.command import outcome, trouble
from tests.soak.mutation import mutated

HOSTILE = 500
FUZZED = 2_000


@pytest.mark.parametrize(("suite", "cases"), [(hostile, HOSTILE), (fuzz, FUZZED)], ids=["hostile", "fuzz"])
@pytest.mark.timeout(1_000)
def test_nobody_dies_and_nobody_sees_a_traceback(suite, cases) -> None:
    wrong = forks.look(suite.__name__, range(cases))
    assert wrong == {}, f"to see one again: python -m tests.soak NAME --only {min(wrong)}"


def _case(seed: int) -> str | None:
    match seed:
        case 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 2:
            raise SystemExit(3)
        case 3:
            time.sleep(100)
        case 4:
            return bytes(5 << 30).hex()
        case 5:
            return "is wrong"
    return None


def test_a_fork_that_dies_hangs_or_eats_memory_is_one_wrong_case(monkeypatch) -> None:
    monkeypatch.setattr(forks, "TIMEOUT_S", 1.0)
    wrong = forks.forked(_case, range(7))
    assert wrong == {
        1: f"died (code {-signal.SIGSEGV})",
        2: "raised SystemExit: 3",
        3: "was not done after 1 s",
        4: "raised MemoryError: ",
        5: "is wrong",
    }


def test_tracebacks_and_codes_that_nothing_documents_are_trouble() -> None:
    assert trouble(["x"], 0, "fine") is trouble(["x"], 2, "Error: no") is None
    for code, said in ((1, ""), (3, "disk"), (0, "Traceback (most recent call last)"), (2, "internal error")):
        assert trouble(["x"], code, said)
    assert outcome(["panel", "info", "nowhere"], Path())[0] == 2


def test_a_mutation_changes_something_and_can_be_made_again() -> None:
    text = bytes(range(256)) * 8
    for seed in range(200):
        changed = mutated(Random(seed), text, near_end=True)
        assert changed != text
        assert changed == mutated(Random(seed), text, near_end=True)
    assert mutated(Random(1), b"")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """The files that are mutated."""
    folder = tmp_path_factory.mktemp("template")
    hostile.prepare(folder)
    return folder


def test_a_check_that_does_not_look_is_noticed(template, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("backtest_farm.panel.block.Block.check_bytes", lambda block: None)
    monkeypatch.setattr("backtest_farm.panel.block.Block.check_size", lambda block: None)
    monkeypatch.setattr("backtest_farm.panel.block.Block._check_once", lambda block: None)
    found = []
    for seed in range(30):
        found.append(hostile._own(Random(seed), template, tmp_path / str(seed)))
    assert any(wrong and "passes panel check" in wrong for wrong in found)


def test_other_bars_are_noticed(template, tmp_path, monkeypatch) -> None:
    whole = hostile._bars(template / "panel")
    monkeypatch.setattr(hostile, "_bars", lambda path: whole | {"close": whole["close"] + 1e-9})
    said = {hostile._own(Random(seed), template, tmp_path / str(seed)) for seed in range(3)}
    assert any("other bars are read" in str(wrong) for wrong in said)
