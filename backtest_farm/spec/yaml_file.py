"""Reading YAML files by the rules of YAML 1.2, with the line of every key for messages.

``on`` and ``no`` are text, ``1e-3`` is a number, repeated keys are refused, anchors may be used.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from backtest_farm.errors import InputError
from backtest_farm.spec.wording import Place, shown

MAX_BYTES = 2**19
"""How large a file may be: reading one takes seconds even so."""

MAX_VALUES = 1_000_000
"""How large a file may be that is small only by its aliases."""

MAX_ALIASES = 1_000
"""How many aliases a file may have, by what looks like one."""

MAX_DEPTH = 100
"""How deep brackets may be nested."""

_MAX_INTEGER = 2**63
_SHOWN = 200  # of what a parser says, which may repeat all of what it was given
_ALIAS = re.compile(r"(?:^|[\s,\[{])\*[^\s,]")
_OTHER_VERSION = re.compile(r"^%YAML\s+(?!1\.2\s*$)", re.MULTILINE)
_HINTS = {"\\t": "indent with spaces: YAML does not allow tabs", "duplicate key": "write each key once"}


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
            pairs = node.value if isinstance(node, MappingNode) else []
            keys = {key.value: (key, value) for key, value in pairs if isinstance(key.value, str)}
            if isinstance(part, int):
                # An index counts in a list, or in the list of {axis: [...]}.
                items = keys["axis"][1] if "axis" in keys else node
                if not isinstance(items, SequenceNode) or part >= len(items.value):
                    break
                marked = node = items.value[part]
            elif part in keys:
                marked, node = keys[part]
            else:
                break
            line = marked.start_mark.line
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
        raise InputError(f"{path}:{line}: only YAML 1.2 is read", hint="remove the %YAML line")
    # Asked for first: the reader takes a long time to give up.
    if sum(1 for _ in _ALIAS.finditer(text)) > MAX_ALIASES:
        raise InputError(f"{path} has more than {MAX_ALIASES:,} aliases")
    if max(accumulate((each in "[{") - (each in "]}") for each in text), default=0) > MAX_DEPTH:
        raise InputError(f"{path}: brackets are nested too deeply")
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        root = yaml.compose(text)
        if _written_out(root, {}) > MAX_VALUES:
            raise InputError(
                f"{path}: with its aliases written out the file has more than {MAX_VALUES:,} values",
                hint="an alias of aliases grows fast, and one within its own anchor has no end",
            )
        content = None if root is None else yaml.constructor.construct_document(root)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", error))
        raise InputError(
            f"{path}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {problem[:_SHOWN]}",
            hint=next((hint for sign, hint in _HINTS.items() if sign in problem), None),
        ) from None
    except RecursionError:
        raise InputError(f"{path}: brackets are nested too deeply") from None
    if not isinstance(content, dict):
        kind = {type(None): "empty", list: "a list"}.get(type(content), "a single value")
        raise InputError(
            f"{path}:{root.start_mark.line + 1 if root else 1}: the top level is {kind}, not a mapping",
            hint="write key: value lines; a sweep file needs at least panel and strategy",
        )
    return YamlFile(path, content, root)


def _written_out(node: Node | None, sizes: dict[Node | None, float]) -> float:
    """Return how many values a part of a file has when every alias is what it stands for."""
    if node not in sizes:
        sizes[node] = math.inf  # met again within itself
        inside = node.value if isinstance(node, (SequenceNode, MappingNode)) else ()
        parts = (part for each in inside for part in (each if isinstance(each, tuple) else (each,)))
        sizes[node] = 1 + sum(_written_out(part, sizes) for part in parts)
    return sizes[node]


class _Constructor(SafeConstructor):
    """Gives a line to what cannot be a date, a number or text, such as ``2017-13-01``."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and abs(value) > _MAX_INTEGER:
                raise ValueError("a whole number of more than 64 bits")
            if isinstance(value, str):
                value.encode()  # halves of surrogate pairs can be written, and nothing else takes them
                if "\0" in value:
                    raise ValueError("a NUL cannot stand in text")
            return value
        except ValueError as error:
            raise ConstructorError(None, None, f"{shown(node.value)}: {error}", node.start_mark) from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # No more than that is read: a path may also lead to something without an end.
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(
                f"{path} has more than {MAX_BYTES >> 10} KiB",
                hint="write long axes as {start: ..., stop: ..., step: ...}, and data into files of its own",
            )
        return text.decode("utf-8-sig")
    except FileNotFoundError:
        names = ", ".join(sorted(file.name for file in path.parent.glob("*.y*ml"))[:10])
        raise InputError(f"{path} does not exist", hint=f"YAML files there: {names or 'none'}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="give a file of UTF-8 text") from None
