"""What ``study diff`` shows: two trials, or two studies, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backtest_farm.cli.answer import Prose
from backtest_farm.cli.tables import counted, pairs, table

_SYMBOLS_SHOWN = 10
_PAIRS_SHOWN = 10
_SIDE = ("", "filled", "quantity", "price", "commission", "reason", "position", "weight")


def trials_parts(found: Mapping[str, Any], width: int) -> Iterator[Any]:
    """Yield the screen of two trials."""
    a, b = (f"trial {one['trial']} of {one['store']}" for one in found["trials"])
    said = "have equal results, bar by bar" if found["same"] else "differ"
    yield Prose([f"a: {a}", f"b: {b}", f"They {said}."])
    if found["inputs"].height:
        yield table(
            found["inputs"].to_dicts(), ("input", "a", "b"), width=width, title="\ninputs that differ"
        )
    else:
        yield Prose(
            ["", "No input differs: parameters, costs, window, universe, data and code are the same."]
        )
    if found["data"].height:
        heads = ("field", "cells", "timestamp", "symbol", "a", "b")
        yield table(found["data"].to_dicts(), heads, width=width, title="\ndata that differ, and where first")
    if found["same"]:
        return
    decision, fill = found["decision"], found["fill"]
    yield from _difference("decision", decision, width)
    if fill and (
        decision is None or (fill["timestamp"], fill["symbol"]) != (decision["timestamp"], decision["symbol"])
    ):
        yield from _difference("fill", fill, width)
    if found["decision"] is None:
        yield Prose(["", "Every decision filled alike; what never filled shows only in the counters."])
    if bar := found["bar"]:
        yield Prose(["", f"first bar that differs: {bar['timestamp']}, in {', '.join(bar['differs'])}"])
    rows = found["outcomes"].to_dicts()
    yield table(rows, ("name", "a", "b"), width=width, title="\nmetrics and counters that differ")
    yield from _equity(found, width)


def _difference(what: str, first: Mapping[str, Any] | None, width: int) -> Iterator[Any]:
    if first is None:
        return
    rows = [{"": side, **(first[side] or dict.fromkeys(_SIDE[1:]))} for side in ("a", "b")]
    title = f"\nfirst {what} that differs: {first['symbol']}, decided {first['timestamp']}, "
    yield table(rows, _SIDE, width=width, title=title + "in " + ", ".join(first["differs"]))


def _equity(found: Mapping[str, Any], width: int) -> Iterator[Any]:
    equity, by_symbol = found["equity"], found["pnl"]
    shown = by_symbol.head(_SYMBOLS_SHOWN)
    rows = shown.to_dicts()
    if by_symbol.height > shown.height:
        rest = by_symbol.tail(-_SYMBOLS_SHOWN).drop("symbol").sum().row(0, named=True)
        rows.append({"symbol": f"({by_symbol.height - shown.height} others)", **rest})
    title = (
        f"\nwhere the difference of final equity comes from (b less a): {counted(by_symbol.height, 'symbol')}"
    )
    yield table(rows, by_symbol.columns, width=width, title=title)
    told = {name.replace("_", " "): f"{value:,.2f}" for name, value in equity.items()}
    told["rounding"] = f"{equity['rounding']:.1e}"
    wide = max(map(len, told.values()))
    yield pairs({name: text.rjust(wide) for name, text in told.items()}, title="\nfinal equity")


def studies_parts(found: Mapping[str, Any], width: int) -> Iterator[Any]:
    """Yield the screen of two studies."""
    yield Prose([f"{side}: {store}" for side, store in zip("ab", found["stores"], strict=True)])
    if found["inputs"]:
        yield Prose(["", "what the sweeps differ in (a -> b):", *(f"    {line}" for line in found["inputs"])])
    yield pairs(found["counts"], title="\ntrials")
    matched = found["counts"]["equal by parameters"] + found["counts"]["different by parameters"]
    if matched:
        by = ", ".join(found["matched by"])
        yield Prose(
            ["", f"{matched:,} trials whose keys are not in the other study were found there by {by}"]
        )
    if found["counts"]["different"]:
        yield Prose(["", "Equal keys with different results: something outside the sweep played in."])
    changed = found["changed"]
    if changed.height:
        rows = found["metrics"].to_dicts()
        title = f"\nhow far metrics moved in {counted(changed.height, 'pair')} with different results"
        yield table(rows, found["metrics"].columns, width=width, title=title)
        ends = ("trial", "trial_b", "status", "status_b")
        shown = changed.head(_PAIRS_SHOWN).to_dicts()
        yield table(shown, ends, width=width, title=f"\nfirst {len(shown)} of {changed.height:,} such pairs")
        first = changed.row(0, named=True)
        a, b = found["stores"]
        yield Prose(
            ["", f"study diff {a} {first['trial']} {first['trial_b']} --other {b} compares two of them"]
        )
