"""Imports: cheap at the door, pointing down inside, and nothing that is not declared."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.contracts.tree import PACKAGE, ROOT, project

# What must stay unloaded until a call needs it: the cluster, compiled code, and the big frame libraries.
_HEAVY = ("ray", "numba", "llvmlite", "polars", "pyarrow", "fastparquet", "pandas", "backtest_farm.kernel")

# The import name where it differs from the distribution's.
_IMPORT_NAMES = {"ruamel.yaml": "ruamel"}
# Halves of a declared package that are pinned by it, version for version.
_COMES_WITH = {"llvmlite": "numba", "pydantic_core": "pydantic"}


def loaded_by(statement: str) -> set[str]:
    """The names of all modules that a fresh interpreter holds after `statement`."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("statement", ["import backtest_farm", "import backtest_farm.cli.app"])
def test_the_doors_are_light(statement: str) -> None:
    heavy = loaded_by(statement) & set(_HEAVY)
    assert heavy == set(), f"`{statement}` loads {sorted(heavy)}: import them where they are first used"


def test_one_backtest_never_loads_ray() -> None:
    assert "ray" not in loaded_by("import backtest_farm as bf; bf.run; bf.Panel; bf.Study; bf.Sweep; bf.TopN")


def test_measuring_loaded_modules_can_fail() -> None:
    assert "pyarrow" in loaded_by("import pyarrow")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Hold the package below `root` against the contracts of its pyproject.toml."""
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run([program, "--no-logo", "--no-cache"], cwd=root, capture_output=True, text=True)


def test_imports_point_down() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("kernel/jit.py", "from backtest_farm.panel import Panel", "Imports point down only"),
        ("store/fragment.py", "def f(): import backtest_farm.factors", "Imports point down only"),
        ("study/study.py", "import ray", "Only farm.ray imports ray"),
        ("panel/layout.py", "import fastparquet", "Only panel/footer.py imports fastparquet"),
        ("ingest/readers.py", "import pandas", "The package never needs pandas"),
    ],
)
def test_a_planted_import_is_noticed(file: str, planted: str, contract: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / PACKAGE.name / file).open("a") as source:
        source.write(f"\n{planted}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), done.stdout


def test_every_import_is_a_declared_dependency() -> None:
    declared = {Requirement(line).name for line in project()["dependencies"]}
    allowed = (
        {_IMPORT_NAMES.get(name, name) for name in declared}
        | set(sys.stdlib_module_names)
        | {"backtest_farm"}
    )
    used: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                used.setdefault(name.partition(".")[0], []).append(str(file.relative_to(ROOT)))
    undeclared = {name: files for name, files in used.items() if _COMES_WITH.get(name, name) not in allowed}
    assert undeclared == {}
    unused = {_IMPORT_NAMES.get(name, name) for name in declared} - set(used)
    assert unused == set(), f"declared in pyproject.toml but imported nowhere: {sorted(unused)}"
