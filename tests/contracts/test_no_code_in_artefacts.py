"""Data never becomes code: no artefact holds any, and nothing in the package would run what it read.

The two exceptions are numba's machine code, which lies under seal in a private folder, and the pipes to the
package's own child processes.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from backtest_farm.cli.app import run
from backtest_farm.kernel.code_cache import code_cache_folder
from tests.cli.conftest import SWEEP, prices
from tests.contracts.tree import PACKAGE

RUNS_CODE = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "runpy"}
ALLOWED = {
    "kernel/code_cache.py": "machine code, sealed",
    "farm/worker.py": "a pipe to its own child",
    "farm/quarantine.py": "a pipe to its own child",
}
CALLS = {"eval", "exec", "compile", "__import__"}
ID = re.compile(r"\.?[a-z0-9][a-z0-9._-]*")


def _imports(tree: ast.AST) -> set[str]:
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


def _faults(source: str) -> list[str]:
    """What in a module could make code of data."""
    tree = ast.parse(source)
    found = sorted(_imports(tree) & RUNS_CODE)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                found.append(f"{node.func.id}() in line {node.lineno}")
            found += [
                f"{key.arg} in line {node.lineno}"
                for key in node.keywords
                if key.arg in ("allow_pickle", "shell")
                or (key.arg == "typ" and ast.unparse(key.value) != "'safe'")
            ]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "np.load(f, allow_pickle=True)",
        "YAML(typ='unsafe')",
    ],
)
def test_what_runs_data_is_noticed(source) -> None:
    assert _faults(source)


def test_nothing_in_the_package_runs_data() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    assert set(ALLOWED) <= set(modules)
    faults = {name: _faults(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    assert {name: what for name, what in faults.items() if what and name not in ALLOWED} == {}
    assert all(faults[name] == ["pickle"] for name in ALLOWED)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> Path:
    """A panel, a study with its curves, a compacted one, and the node's cache, made by the command line."""
    folder = tmp_path_factory.mktemp("artefacts")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        code_cache_folder()  # chosen when it was imported: the kernel is not compiled for these few trials
        patched.setenv("BACKTEST_FARM_CACHE", str(folder / "cache"))
        (folder / "prices.csv").write_text(prices())
        (folder / "members.csv").write_text("symbol,start_date,end_date\nAAA,2021-01-01,\nCCC,2021-01-01,\n")
        (folder / "sweep.yaml").write_text(SWEEP + "universes: [all, few]\n")
        for command in (
            "panel build prices.csv panel",
            "panel attach panel --universe few=members.csv",
            "sweep sweep.yaml --store study --executor inline",
            "study compact study",
        ):
            assert run(command.split()) == 0, command
    for given in folder.glob("*.*"):
        given.unlink()
    return folder


def _kind(path: Path) -> str:
    text = path.read_bytes()
    for magic, kind in {b"PAR1": "parquet", b"ARROW1": "arrow"}.items():
        if text.startswith(magic) and text.endswith(magic):
            return kind
    if not text:
        return "empty"
    if "factors" in path.parts:
        return "numbers"  # a hash and what it stands over, which is never parsed
    json.loads(text)
    return "json"


def test_every_artefact_is_of_a_kind_that_cannot_run(artefacts) -> None:
    files = [path for path in artefacts.rglob("*") if path.is_file()]
    kinds = {_kind(path) for path in files}
    assert kinds == {"parquet", "arrow", "json", "empty", "numbers"}


def test_every_name_is_made_of_plain_letters(artefacts) -> None:
    names = {path.name for path in artefacts.rglob("*")}
    assert len(names) > 20
    assert [name for name in names if not ID.fullmatch(name)] == []
