"""Classes that users write: found by name, and known by their code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from pydantic.fields import FieldInfo

from backtest_farm.errors import InputError, nearest
from backtest_farm.identity import canonical_json, digest, digest_bytes
from backtest_farm.spec import Spec

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
    except (Exception, SystemExit) as error:
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

    What stands in no file, as in a notebook, is known by the text of its functions, and by all that they
    name: functions, constants, arrays, the user's modules. What cannot be known is refused.

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
    known = {name: digest_bytes(path.read_bytes()) for name, path in files.items()}
    # A class made by a function differs with what the function was given.
    return digest({**known, **(_texts(kind) if not known or "<locals>" in kind.__qualname__ else {})})


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
    """Return the text of a class that stands in no file, or in a function, and of all that it names."""
    found: dict[str, str] = {}
    todo: list[tuple[str, Any]] = [(kind.__qualname__, kind)]
    while todo:
        name, value = todo.pop()
        for within in ("__func__", "fget", "py_func"):  # methods, properties, compiled functions
            value = getattr(value, within, value)
        if name in found or _is_a_librarys(value):
            continue
        found[name] = type(value).__qualname__
        if isinstance(value, (int, float, str, bytes, type(None))):
            found[name] = repr(value)
        elif isinstance(value, ModuleType):
            files = _files(value.__name__)
            found |= {name: digest_bytes(path.read_bytes()) for name, path in files.items()}
        elif isinstance(value, FunctionType):
            found[name] = _text(value)
            known = {
                each: value.__globals__[each]
                for each in names_in(value.__code__)
                if each in value.__globals__
            }
            cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
            inside = {each: cell.cell_contents for each, cell in cells.items() if each != "__class__"}
            todo += [*known.items(), *((f"{name}.{each}", part) for each, part in inside.items())]
            todo += [(f"{name}.defaults", value.__defaults__), (f"{name}.named", value.__kwdefaults__)]
        elif isinstance(value, type):
            parts = [
                each
                for each in vars(value).items()
                if not each[0].startswith(("__", "spec_", "_abc", "model_"))
            ]
            todo += [(f"{name}.{each}", part) for each, part in parts]
            todo += [(base.__qualname__, base) for base in value.__bases__]
        elif isinstance(value, (tuple, list, set, frozenset)):
            each = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            todo += [(f"{name}[{at}]", part) for at, part in enumerate(each)]
        elif isinstance(value, Mapping):
            todo += [(f"{name}[{key!r}]", part) for key, part in value.items()]
        elif isinstance(value, partial):
            todo += [(f"{name}.call", value.func), (f"{name}.args", (value.args, value.keywords))]
        elif isinstance(value, (np.ndarray, np.generic)):
            found[name] = f"{value.dtype}{value.shape}{digest_bytes(value.tobytes())}"
        elif isinstance(value, Spec):
            found[name] = canonical_json(value.model_dump(mode="json"))
        elif isinstance(value, FieldInfo):
            todo.append((f"{name}.default", value.default))
        else:
            raise InputError(
                f"{kind.__qualname__} reads {name}, a {type(value).__qualname__}: whether that changes "
                "cannot be seen, so that old results could be taken for new ones",
                hint="make it in signal(), give it as a parameter, or move the class into a file",
            )
    return found


def _is_a_librarys(value: Any) -> bool:
    """Return whether a module, class or function is part of a library, which the user does not change."""
    if isinstance(value, BuiltinFunctionType | np.ufunc):
        return True
    if not isinstance(value, ModuleType | FunctionType | type):
        return False
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    top = name.partition(".")[0]
    return top in (_PACKAGE, "builtins") or f"{_place(top)}".startswith(_LIBRARIES)


def _text(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return _bytes_of(function.__code__)


def _bytes_of(code: CodeType) -> str:
    """Return what a function's code does, where its text is not kept: the same whenever it is asked."""
    constants = (_bytes_of(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return f"{code.co_code.hex()} {code.co_names} {' '.join(constants)}"


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of all attributes and globals that a function's code mentions, functions in it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
