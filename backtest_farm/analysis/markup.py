"""Writing HTML and SVG in which nothing that users named can become markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from backtest_farm.errors import plain


class Markup(str):
    """Text that is markup already. Everything else is escaped where it meets markup."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as markup: escaped unless it is markup, nothing for None."""
    if isinstance(value, Markup):
        return value
    return Markup("" if value is None else html.escape(plain(value)))


def joined(*parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(text, parts)))


def each(template: str, rows: Iterable[Sequence[object]]) -> Markup:
    """Return the template once a row, its ``{}`` filled with the row's escaped values."""
    return Markup("".join(template.format(*map(text, row)) for row in rows))


@cache
def shipped(file: str) -> str:
    """Return a text file of this room."""
    return resources.files(__package__).joinpath(file).read_text(encoding="utf-8")


def part(name: str, /, **values: object) -> Markup:
    """Return a part of ``parts.html``, its ``{name}`` filled with escaped values."""
    written = shipped("parts.html").split(f"<!-- part: {name} -->\n", 1)[1].split("<!-- part: ", 1)[0]
    return Markup(re.sub(r"\{(\w+)\}", lambda found: text(values[found[1]]), written.rstrip("\n")))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[int] = (0,)) -> Markup:
    """Return a table; columns at `words` hold text, the others numbers."""
    kinds = [' class="words"' if at in words else "" for at in range(len(heads))]
    head = "".join(
        f'<th scope="col"{kind}>{text(name)}</th>' for kind, name in zip(kinds, heads, strict=True)
    )
    row = "<tr>" + "".join(f"<td{kind}>{{}}</td>" for kind in kinds) + "</tr>"
    return part("table", head=Markup(head), rows=each(row, rows))


def data_block(name: str, content: Any) -> Markup:
    """Return JSON for the page's script, in which no character can end the element."""
    written = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="data-{name}">{written}</script>')
