"""What the figures become: lines on a terminal, a JSON file, a line of history, a table in the docs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, same_machine

NOTABLE = 1.1
"""A median that is worse by more than this factor, with runs that do not overlap, is slower."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["date", "machine", "options", "figures"],
    "additionalProperties": False,
    "properties": {
        "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
        "machine": {
            "type": "object",
            "required": ["processor", "cores", "memory_gib", "system", "python", "packages", "load"],
            "properties": {"packages": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "options": {"type": "object"},
        "figures": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["case", "what", "unit", "median", "low", "high", "runs", "better", "target"],
                "additionalProperties": False,
                "properties": {
                    "case": {"type": "string"},
                    "what": {"type": "string"},
                    "unit": {"type": "string"},
                    "median": {"type": "number"},
                    "low": {"type": "number"},
                    "high": {"type": "number"},
                    "runs": {"type": "integer", "minimum": 1},
                    "better": {"enum": ["more", "less"]},
                    "target": {"type": ["number", "null"]},
                },
            },
        },
    },
}
"""JSON Schema of a run: what ``--json`` writes, and a line of the history."""


def document(
    figures: Iterable[Figure], machine: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a run as `SCHEMA` has it."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "date": now,
        "machine": dict(machine),
        "options": dict(options),
        "figures": [each.as_json() for each in figures],
    }


def number(value: float) -> str:
    """Write a number with three or four digits that matter."""
    if value == 0.0 or not abs(value) < float("inf"):
        return f"{value:g}"
    if abs(value) >= 1e7:
        return f"{value / 1e6:,.0f} M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def line(one: Figure) -> str:
    """Return a figure as a line of text."""
    spread = f"  ({number(one.low)} to {number(one.high)})" if one.runs > 1 else ""
    sign = {"more": ">=", "less": "<="}[one.better]
    aim = "" if one.target is None else f"  target {sign} {number(one.target)}"
    verdict = {None: "", True: "  met", False: "  NOT MET"}[one.met]
    return f"{one.case:<14} {one.what}: {number(one.median)} {one.unit}{spread}{aim}{verdict}"


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return all runs of a history, oldest first; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(text) for text in path.read_text().splitlines() if text.strip()]


def slower(run: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which figures of a run are worse than the last ones of the same machine, taken in the same way."""
    found = []
    for one in run["figures"]:
        key = one["case"], one["what"]
        last = None
        for entry in history:
            if same_machine(entry["machine"], run["machine"]) and entry["options"] == run["options"]:
                same = (each for each in entry["figures"] if (each["case"], each["what"]) == key)
                last = next(((each, entry["date"]) for each in same), last)
        if last is None:
            continue
        before, date = last
        if one["better"] == "less":
            factor = one["median"] / before["median"] if before["median"] else 1.0
            apart = one["low"] > before["high"]
        else:
            factor = before["median"] / one["median"] if one["median"] else float("inf")
            apart = one["high"] < before["low"]
        if factor > NOTABLE and apart:
            found.append(
                f"slower: {one['case']}: {one['what']}: {number(one['median'])} {one['unit']}, "
                f"was {number(before['median'])} on {date[:10]} ({factor:.2f} times)"
            )
    return found


def table(run: Mapping[str, Any]) -> str:
    """Return a run as a Markdown table with its date and machine."""
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    rows = [
        f"{run['date'][:10]}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}, {versions}; load at the start {machine['load']}.",
        "",
        "| case | what | median | spread | target |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for each in run["figures"]:
        one = Figure(**each)
        spread = f"{number(one.low)} – {number(one.high)}" if one.runs > 1 else "one run"
        sign = {"more": "≥", "less": "≤"}[one.better]
        aim = "" if one.target is None else f"{sign} {number(one.target)}{'' if one.met else ' (not met)'}"
        rows.append(f"| {one.case} | {one.what} | {number(one.median)} {one.unit} | {spread} | {aim} |")
    return "\n".join(rows)


def replace_block(text: str, name: str, content: str) -> str:
    """Return a page with what stands between the marks of a block replaced.

    Raises
    ------
    ValueError
        If the page has no such block.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended):
        raise ValueError(f"the page has no block between {first} and {last}")
    return f"{before}{first}\n\n{content}\n\n{last}{after}"
