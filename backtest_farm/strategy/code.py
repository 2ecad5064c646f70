"""Classes that users write: found by name, and known by their code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import marshal
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import digest, digest_bytes

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def search_in(*folders: str | Path) -> None:
    """Let modules be imported from some folders too, after all others."""
    sys.path += [each for each in map(str, folders) if each not in sys.path and Path(each).is_dir()]


def hidden(kind: type, folder: Path) -> tuple[str, str] | None:
    """Return the file in a folder that a class seems to come from, and the one that it does come from."""
    top = kind.__module__.partition(".")[0]
    beside, file = folder / f"{top}.py", getattr(sys.modules.get(top), "__file__", None)
    if file is None or not beside.is_file() or beside.samefile(file):
        return None
    return str(beside), file


def find(name: str) -> Any:
    """Import what ``package.module:Name`` names.

    Raises
    ------
    InputError
        If there is no such module or name, or the import fails.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise InputError(f"{name!r} names no class", hint="write package.module:Name")
    top = module_name.partition(".")[0]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in (module_name, top):
            raise InputError(f"importing {module_name} needs {error.name}, which is not installed") from error
        raise InputError(
            f"there is no module {module_name!r}",
            hint="put its file beside the sweep file, or its folder on PYTHONPATH",
        ) from None
    except Exception as error:
        raise InputError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [each for each, value in vars(found).items() if isinstance(value, type)]
            where = getattr(module, "__file__", None) or module_name
            raise InputError(f"{where} has no {attribute!r}: {nearest(part, known)}")
        found = getattr(found, part)
    return found


def folder_of(module_name: str) -> str | None:
    """Return the folder from which a module can be imported; None where it stands in no file."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if file is None or module_name == "__main__":
        return None
    return str(Path(file).absolute().parents[module_name.count(".") + (Path(file).stem == "__init__")])


def code_digest(kind: type, defined: float) -> str:
    """Return the hash of a class's code: its module's file and those of the user's modules that it imports.

    What stands in no file, as in a notebook, is known by the text of its functions, and of the functions and
    plain constants beside them that they name.

    Parameters
    ----------
    kind : type
    defined : float
        When the class was made, as ``time.time()`` has it.

    Raises
    ------
    InputError
        If a file was changed since: the code that is running is no longer what the file says.
    """
    files = _files(kind.__module__)
    if changed := [path for path in files.values() if path.stat().st_mtime > defined]:
        raise InputError(
            f"{changed[0]} was changed after it was imported, so what runs is not what it says",
            hint="start Python anew (in a notebook: restart the kernel)",
        )
    return digest({name: digest_bytes(path.read_bytes()) for name, path in files.items()} or _texts(kind))


def _files(module_name: str) -> dict[str, Path]:
    """Return the files of a module and of the user's modules that it imports, by name."""
    found: dict[str, Path] = {}
    todo = [module_name]
    while todo:
        name = todo.pop()
        path = None if name in found else _file(name, module_name.partition(".")[0])
        if path is None:
            continue
        found[name] = path
        todo.append(name.rpartition(".")[0])
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                todo += [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                todo += [base, *(f"{base}.{each.name}" for each in node.names)]
    return found


def _file(name: str, top: str) -> Path | None:
    """Return the file of a module if it is the user's: in the package of the class, or in no library."""
    mine = name.partition(".")[0]
    # Asked of the topmost package alone, which is found without importing it.
    if not name or (mine != top and (mine == _PACKAGE or f"{_place(mine)}".startswith(_LIBRARIES))):
        return None
    place = _place(name)
    return place if place is not None and place.suffix == ".py" and place.is_file() else None


def _place(name: str) -> Path | None:
    """Return the file of a module, or the folder of a package without one."""
    module = sys.modules.get(name)
    try:
        spec = None if module else importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    file = getattr(module, "__file__", None) or (spec and spec.origin)
    folders = [*(getattr(module, "__path__", None) or (spec and spec.submodule_search_locations) or ())]
    return Path(file or folders[0]).absolute() if file or folders else None


def _texts(kind: type) -> dict[str, str]:
    """Return the text of a class that stands in no file, and of what it names beside it."""
    found: dict[str, str] = {}
    todo: list[tuple[str, Any]] = [(kind.__qualname__, kind)]
    while todo:
        name, value = todo.pop()
        for within in ("__func__", "fget", "py_func"):  # methods, properties, compiled functions
            value = getattr(value, within, value)
        if name in found:
            continue
        if isinstance(value, (int, float, str, bool)):
            found[name] = repr(value)
        elif getattr(value, "__module__", None) != kind.__module__:
            continue
        elif isinstance(value, FunctionType):
            found[name] = _text(value)
            todo += [(each, value.__globals__.get(each)) for each in names_in(value.__code__)]
        elif isinstance(value, type):
            found[name] = ""
            inside = [each for each in vars(value).items() if not each[0].startswith(("__", "spec_"))]
            todo += [(f"{name}.{each}", part) for each, part in inside]
            todo += [(base.__qualname__, base) for base in value.__bases__]
    return found


def _text(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return marshal.dumps(function.__code__).hex()


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of all attributes and globals that a function's code mentions, functions in it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
