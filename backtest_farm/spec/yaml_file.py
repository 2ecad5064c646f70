"""Reading YAML files by the rules of YAML 1.2, with the line of every key for messages.

``on`` and ``no`` are text, ``1e-3`` is a number, repeated keys are refused, anchors may be used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from backtest_farm.errors import InputError
from backtest_farm.spec.faults import Place

_OTHER_VERSION = re.compile(r"^%YAML\s+(?!1\.2\s*$)", re.MULTILINE)


@dataclass(frozen=True)
class YamlFile:
    """The content of a file and where each part of it stands.

    Attributes
    ----------
    path : Path
        The file.
    content : dict
        Its top-level mapping, as plain Python values.
    """

    path: Path
    content: dict[str, Any]
    _root: Node

    def line_of(self, where: Place) -> int:
        """Return the line of a key, counted from 1, or of the closest part of the file above it."""
        node, line = self._root, self._root.start_mark.line
        for part in where:
            node = (
                _below(node, "axis") or node
                if isinstance(part, int) and isinstance(node, MappingNode)
                else node
            )
            if isinstance(node, MappingNode):
                key = next((key for key, _ in node.value if key.value == str(part)), None)
                line = key.start_mark.line if key is not None else line
            found = _below(node, part)
            if found is None:
                break
            node = found
            line = node.start_mark.line if isinstance(part, int) else line
        return line + 1


def read_yaml(path: str | Path) -> YamlFile:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, is not YAML, repeats a key, or is not a mapping; with the line.
    """
    path = Path(path)
    text = _text(path)
    if other := _OTHER_VERSION.search(text):
        line = text.count("\n", 0, other.start()) + 1
        raise InputError(
            f"{path}:{line}: files are read by the rules of YAML 1.2", hint="remove the %YAML line"
        )
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        root = yaml.compose(text)
        content = None if root is None else yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{at}: not valid YAML: {error.problem or error.context}", hint=_hint(error)
        ) from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: brackets are nested too deeply") from None
    if content is None:
        raise InputError(f"{path} is empty", hint="a sweep file needs at least the keys panel and strategy")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise InputError(
            f"{path}:{root.start_mark.line + 1}: the top level is {kind}, not a mapping",
            hint="write key: value lines",
        )
    return YamlFile(path, content, root)


class _Constructor(SafeConstructor):
    """Gives a line to what dates and numbers raise when they cannot be built, such as ``2017-13-01``."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise ConstructorError(None, None, f"{node.value!r}: {error}", node.start_mark) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", hint=_neighbours(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _neighbours(path: Path) -> str:
    folder = path.parent
    names = sorted(file.name for file in folder.glob("*.y*ml")) if folder.is_dir() else []
    return f"YAML files in {folder}: {', '.join(names[:10]) or 'none'}"


def _hint(error: MarkedYAMLError) -> str | None:
    problem = str(error.problem)
    if "\\t" in problem:
        return "indent with spaces: YAML does not allow tabs"
    if "duplicate key" in problem:
        return "write each key once"
    return None


def _below(node: Node, part: int | str) -> Node | None:
    if isinstance(node, MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None
