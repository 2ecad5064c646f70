"""Sweep files that name a class of the user's."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError
from backtest_farm.sweep import Plan, load_sweep

MODULE = """
import backtest_farm as bf

class Own(bf.Strategy):
    lookback: int = 10
    n: int = 5
    word: str = "a"

    def signal(self, panel):
        return bf.factor.momentum(self.lookback)

@bf.step
def stepped(bar, params, out):
    out[0] = params.size

def function(): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module beside ``sweep.yaml``, which nothing else has."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"own_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def load(folder: Path, strategy: str, more: str = ""):
    file = folder / "sweep.yaml"
    file.write_text(f"panel: p\nstrategy:\n{strategy}\n{more}")
    return load_sweep(file)


def test_lists_are_axes_and_frozen_text_means_the_same(tmp_path, module) -> None:
    text = f"  class: {module}:Own\n  lookback: [5, 10]\n  n: {{start: 2, stop: 6, step: 2}}\n  word: [a, b]"
    spec = load(tmp_path, text, "where: lookback > n\n")
    assert type(spec.strategy).__module__ == module
    assert spec.strategy.n == bf.axis([2, 4, 6])
    plan = Plan(spec, (), {}, "", 0)
    again = Plan.from_json(plan.frozen_json())
    assert again.spec.strategy == spec.strategy
    assert again.sweep_id == plan.sweep_id
    assert str(tmp_path) in plan.frozen_json()


def test_blocks_and_classes_can_be_alternatives(tmp_path, module) -> None:
    text = (
        f"  - {{class: '{module}:Own', n: [1, 2]}}\n  - {{class: '{module}:stepped', size: [0.5, 1]}}\n"
        "  - {kind: TopN, n: 3, signal: {factor: rsi}}"
    )
    assert [type(each).__name__ for each in load(tmp_path, text).strategies] == ["Own", "stepped", "TopN"]


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("  class: {m}:Own\n  lookbak: 5", "sweep.yaml:4: strategy.lookbak: unknown key: did you mean 'look"),
        ("  class: {m}:Own\n  n: '5'", "sweep.yaml:4: strategy.n: '5' is not allowed: give a whole number"),
        ("  class: {m}:Own\n  n: [5, x]", "sweep.yaml:4: strategy.n[1]: 'x' is not allowed"),
        ("  class: {m}:Own\n  n: [5, 5]", "sweep.yaml:4: strategy.n[1]: 5 stands here twice"),
        ("  - class: {m}:Own\n    n: 0.5", "sweep.yaml:4: strategy[0].n: 0.5 is not allowed"),
        ("  class: {m}:Onw", "sweep.yaml:3: strategy.class: "),
        ("  class: {m}:Onw", "did you mean 'Own'?"),
        ("  class: {m}:function", "and no strategy: derive a class from bf.Strategy"),
        ("  class: {m}", "names no class: write package.module:Name"),
        ("  class: 5", "'5' names no class"),
        ("  class: missing_{m}:Own", "there is no module 'missing_{m}': put its file beside the sweep file"),
        ("  class: {m}:stepped", "sweep.yaml:2: strategy.size: is missing: give a whole number or"),
        ("  kind: TopN\n  n: 5", "sweep.yaml:2: strategy.signal: is missing: give a mapping with factor: "),
        ("  kind: TopN", "sweep.yaml:2: strategy.n: is missing"),
        ("  kind: TopN\n  n: 5\n  signal: null", "strategy.signal: is missing"),
        ("  kind: CrossOver\n  slots: 2\n  slow: 5", "strategy.fast: is missing: give a whole number"),
        ("  kind: Weights", "strategy.field: is missing: give text"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path, module, strategy, says) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, strategy.replace("{m}", module))
    assert says.replace("{m}", module) in str(caught.value)


def test_a_module_of_the_same_name_from_elsewhere_is_noticed(tmp_path, module) -> None:
    load(tmp_path, f"  class: {module}:Own")
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{module}.py").write_text(MODULE)
    with pytest.raises(InputError, match=r"other/.* is not read: .* was imported under its name"):
        load(other, f"  class: {module}:Own")
