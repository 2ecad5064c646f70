"""The recipes of docs/rules.md run as they are written, and what each of them is about happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from tests.contracts.tree import ROOT

PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
OPENING, *RECIPES = [
    (heading, block)
    for heading, text in re.findall(r"^#+ (.*)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE)
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]


def counted(*names: str) -> Callable[[Any], bool]:
    return lambda result: all(result.counters[name] > 0 for name in names)


HAPPENS: dict[str, Callable[[Any], bool]] = {
    "A score, a volatility filter, and stops that tighten": counted("atr_stop", "trailing"),
    "Exits that only look at closes": counted("stop_loss", "take_profit", "cooldown"),
    "Caps on names and sectors, and on turnover": counted("capped"),
    "Prices as they were traded, with splits and dividends": lambda result: (
        result.equity["dividends"].sum() > 0 and result.counters["fills"] > 0
    ),
    "Costs by asset": lambda result: result.fills["commission"].sum() > 0,
    "Price impact, and a share of the volume": lambda result: (
        result.fills["impact"].sum() > 0 and result.counters["no_volume"] > 0
    ),
    "A short book that pays for its loans": lambda result: result.equity["financing"].sum() != 0,
    "Stop trading in a drawdown": counted("drawdown_halt", "halted"),
    "Which trades a rule ended": lambda result: result.counters["trades"] > 0,
}
"""By heading: whether a recipe's result shows what it is about."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the recipes run: a panel, and the files that they name."""
    panel = bf.synthetic_panel(tmp_path / "panels" / "mine", n_bars=252, n_assets=60, seed=1)
    n_bars, n_assets = panel.shape
    rng = np.random.default_rng(0)
    # A score that changes slowly, so that positions live long enough to meet their stops.
    score = np.cumsum(rng.normal(size=panel.shape), axis=0)
    long = {"timestamp": np.repeat(panel.timestamps, n_assets), "symbol": [*panel.symbols] * n_bars}
    pl.DataFrame({**long, "ml_score": score.reshape(-1)}).write_csv(tmp_path / "scores.csv")
    vix = 20 + 8 * np.abs(rng.normal(size=n_bars))
    pl.DataFrame({"timestamp": panel.timestamps, "vix": vix}).write_csv(tmp_path / "vix.csv")
    once = {"timestamp": panel.timestamps[[100] * n_assets], "symbol": panel.symbols}
    pl.DataFrame({**once, "split": 2.0}).head(3).write_csv(tmp_path / "splits.csv")
    pl.DataFrame({**once, "dividend": 0.5}).write_csv(tmp_path / "dividends.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_heading_has_its_recipe() -> None:
    assert [heading for heading, _ in RECIPES] == [*HAPPENS]


@pytest.mark.parametrize(("heading", "code"), RECIPES)
def test_a_recipe_does_what_it_says(heading: str, code: str, folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(OPENING[1] + code, names)
    results = [each for each in names.values() if isinstance(each, bf.Result)]
    assert results
    for result in results:
        result.check_ledger()
        assert HAPPENS[heading](result)
