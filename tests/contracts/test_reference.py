"""The reference pages are complete, and their examples work."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import typer
from pydantic import BaseModel

import backtest_farm as bf
from backtest_farm.cli.app import app
from backtest_farm.factors.spec import FACTORS
from backtest_farm.ingest import ReadOptions
from backtest_farm.ingest.report import KINDS
from backtest_farm.kernel.state import COUNTERS, REASONS
from backtest_farm.kernel.summary import METRICS
from backtest_farm.spec import Costs, Limits, Rules, UniverseSpec, Window
from backtest_farm.spec.profiles import PROFILES
from backtest_farm.strategy import AnyStrategy, ContextFilter
from backtest_farm.sweep import SweepSpec, load_sweep
from tests.contracts.tree import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(language: str) -> list[Any]:
    """All blocks of a language, with their places as names of tests."""
    found = []
    for path in PAGES:
        parts = re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(text, id=f"{path.name}-{at}") for at, text in enumerate(parts)]
    return found


def built_in(language: str) -> list[Any]:
    """The blocks that need no module of the user's; test_own_strategies runs the others."""
    return [each for each in blocks(language) if "class:" not in each.values[0]]


def words(text: str) -> set[str]:
    """What stands between backticks, cut into names."""
    return {name for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"[A-Za-z_]\w*", code)}


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a sweep file can hold, from one on."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(kind):
        yield from models(part)


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# ---------------------------------------------------------------------------------------- sweep_file.md


def test_every_key_of_a_sweep_file_is_in_its_reference() -> None:
    keys = {name for model in models(SweepSpec) for name in model.model_fields}
    assert {"panel", "lookback", "afford", "seed", "allow_short", "by"} <= keys
    assert keys - words(page("sweep_file.md")) == set()


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("Top level", set(SweepSpec.model_fields)),
        ("Universes", set(UniverseSpec.model_fields)),
        ("Window", set(Window.model_fields)),
        ("Costs", set(Costs.model_fields)),
        ("Limits", set(Limits.model_fields)),
        ("Rules", set(Rules.model_fields)),
    ],
)
def test_the_table_of_a_mapping_has_its_keys(heading: str, known: set[str]) -> None:
    text = section(page("sweep_file.md"), heading)
    assert known - words(text) == set()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert {*rows} <= known | {"all", "sp500"}, "a key that does not exist"


def test_every_strategy_is_in_the_reference_with_its_own_keys() -> None:
    text = section(page("sweep_file.md"), "Strategy")
    for model in get_args(AnyStrategy):
        kind = model.model_fields["kind"].default
        (row,) = re.findall(rf"^\| `{kind}` \| (.*) \|$", text, re.MULTILINE)
        assert words(row) == set(model.model_fields) - {"kind"}
        assert f"## `{kind}`" in page("strategies.md")
    assert set(ContextFilter.model_fields) <= words(text)


# ------------------------------------------------------------------------------------------ other pages


def test_every_factor_is_in_its_page_with_its_parameters() -> None:
    text = page("factors.md")
    for name, model in FACTORS.items():
        rows = re.findall(rf"^\| `{name}` \(([^|]*)\) \|", text, re.MULTILINE)
        assert rows, name
        assert set().union(*map(words, [f"{row}" for row in rows])) == set(model.model_fields) - {"factor"}


def test_every_kind_of_finding_is_in_the_page_of_panels() -> None:
    assert set(KINDS) - words(page("panels.md")) == set()


def test_every_option_for_reading_is_in_the_page_of_panels() -> None:
    known = words(page("panels.md"))
    assert set(ReadOptions.__dataclass_fields__) <= known
    build = typer.main.get_command(app).commands["panel"].commands["build"]  # type: ignore[attr-defined]
    options = {option for parameter in build.params for option in parameter.opts if option.startswith("--")}
    assert {option for option in options - {"--json"} if f"`{option}" not in page("panels.md")} == set()


def test_every_column_of_a_study_is_in_its_page() -> None:
    assert {*METRICS, *COUNTERS} - words(page("studies.md")) == set()
    assert {*METRICS, *COUNTERS} - words(page("accounting.md")) == set()


def test_every_reason_and_profile_is_in_the_contract() -> None:
    text = page("accounting.md")
    assert set(REASONS) - words(section(text, "What comes out")) == set()
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| (none|1, `down`) \| `(\w+)` \|$",
        section(text, "Profiles"),
        re.MULTILINE,
    )
    known = {
        name: (name, each.fill, each.sizing, "1, `down`" if each.lot else "none", each.afford)
        for name, each in PROFILES.items()
    }
    assert rows == [*known.values()]


def test_every_verb_stands_in_a_page_as_it_is_typed() -> None:
    def verbs(node: Any, name: str) -> Iterator[str]:
        below = getattr(node, "commands", {})
        for word, each in below.items():
            yield from verbs(each, f"{name} {word}")
        if not below:
            yield name

    text = "\n".join(path.read_text() for path in PAGES)
    assert [name for name in verbs(typer.main.get_command(app), "backtest-farm") if name not in text] == []


def test_links_between_pages_lead_somewhere() -> None:
    lost = []
    for path in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                lost.append(f"{path.name}: {target}")
    assert lost == []


# --------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("text", built_in("yaml"))
def test_a_sweep_file_of_a_page_is_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(text)
    assert load_sweep(file).strategies


@pytest.mark.parametrize("text", blocks("python"))
def test_python_of_a_page_can_be_read(text: str) -> None:
    ast.parse(text)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a panel that has all that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    made = bf.synthetic_panel(folder / "panels" / "mine", n_bars=420, n_assets=80, seed=1)
    stamps = made.timestamps
    spells = {"symbol": made.symbols[:60], "start_date": [str(stamps[0])] * 60, "end_date": None}
    level = 25 + 15 * np.sin(np.arange(len(stamps)) / 20)
    made = made.with_universe("sp500", pl.DataFrame(spells))
    made = made.with_context("vix", pl.DataFrame({"timestamp": stamps, "vix": level}))
    for name in ("ml_score", "split", "dividend", "atr", "sigma", "adv", "sigma21", "adv21"):
        made = made.with_field(name, np.ones(made.shape))
    for name in ("fee", "half_spread"):
        made = made.with_static(name, pl.DataFrame({"symbol": made.symbols, name: 1.0}))
    return folder


@pytest.mark.parametrize("text", built_in("yaml"))
def test_a_sweep_file_of_a_page_can_be_planned(text: str, panel: Path) -> None:
    file = panel / "example.yaml"
    file.write_text(text)
    assert bf.Sweep.load(file).plan()["trials"] >= 1
