"""What differs between two trials, and between two studies."""

from __future__ import annotations

import datetime as dt
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest_farm.backtest import Result
from backtest_farm.engine.trials import PRICE_FIELDS
from backtest_farm.errors import InputError
from backtest_farm.kernel.state import COUNTERS
from backtest_farm.kernel.summary import METRICS
from backtest_farm.panel import Panel
from backtest_farm.store.spec_diff import spec_difference
from backtest_farm.strategy import Strategy
from backtest_farm.sweep import SweepSpec, inputs_key

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.study import Study

Where = Panel | str | os.PathLike[str] | None

_CELLS_AT_ONCE = 2**22
_NOT_AN_INPUT = {"panel", "keep", "universes", "zip", "where"}


class _Side(NamedTuple):
    """One of the two trials: where it stands, its row, all that decides its result, and what came out."""

    store: str
    row: dict[str, Any]
    inputs: dict[str, str]
    result: Result
    data: tuple[Panel, list[str], int]


def _side(study: Study, trial: int | str, where: Where) -> _Side:
    row, store = study.trial(trial), study.uri
    if row["status"] != "ok":
        raise InputError(
            f"trial {row['trial']} of {store} has no result: {row['status']}, {row['error'] or 'no message'}",
            hint="compare trials with status ok; study show lists the others with their reasons",
        )
    result = study.replay(row["trial"], panel=where)
    return _Side(store, row, _inputs(study, row), result, _reads(study, row, where))


def diff_trials(
    one: Study, a: int | str, other: Study, b: int | str, panel: Where, other_panel: Where
) -> dict[str, Any]:
    """Return what differs between trial `a` of one study and trial `b` of the other; see `Study.diff`."""
    x, y = _side(one, a, panel), _side(other, b, other_panel)
    results = x.result, y.result
    outcomes = [(name, x.row[name], y.row[name]) for name in dict.fromkeys([*METRICS, *COUNTERS])]
    names = dict.fromkeys([*x.inputs, *y.inputs])
    inputs = [(name, x.inputs.get(name), y.inputs.get(name)) for name in names]
    pnl, equity = _attributed(*results)
    return {
        "trials": [{"store": z.store, "trial": z.row["trial"], "key": z.row["key"]} for z in (x, y)],
        "same": x.row["digest"] == y.row["digest"],
        "inputs": _frame([line for line in inputs if line[1] != line[2]], "input a b"),
        "data": _frame(
            [] if x.inputs["data"] == y.inputs["data"] else changed_cells(x.data, y.data),
            "field symbol timestamp",
            "cells",
            "a b",
        ),
        "decision": first_difference(*results, ("quantity", "reason", "filled")),
        "fill": first_difference(*results, ("quantity", "reason", "filled", "price", "commission")),
        "bar": _first_bar(*results),
        "outcomes": _frame([line for line in outcomes if not _equal(*line[1:])], "name", floats="a b"),
        "pnl": pnl,
        "equity": equity,
    }


def _equal(x: Any, y: Any) -> bool:
    return x == y or (x != x and y != y)


def _frame(rows: list[tuple], texts: str, ints: str = "", floats: str = "") -> pl.DataFrame:
    import polars as pl

    kinds = zip((texts, ints, floats), (pl.String, pl.Int64, pl.Float64), strict=True)
    schema = {name: kind for names, kind in kinds for name in names.split()}
    return pl.DataFrame(rows, schema, orient="row", strict=False)


# ------------------------------------------------------------------------------------------- inputs


def _inputs(study: Study, row: Mapping[str, Any]) -> dict[str, str]:
    """Return all that decides the result of a trial, as texts by dotted path."""
    plan = study.plan
    spec: SweepSpec = plan.trial(row["trial"])
    members = {planned.universe.label: planned.digest for planned in plan.universes}
    return {
        **dict(_leaves("", spec.model_dump(mode="json", exclude=_NOT_AN_INPUT))),
        "universe": row["universe"],
        "members of the universe": members[row["universe"]][:12],
        "first bar": _moment(row["window_start"]),
        "last bar": _moment(row["window_end"]),
        "data": plan.data_digests[inputs_key(spec)][:12],
        "code of the strategy": plan.code_digest[:12],
        "numerics": row["numerics"],
    }


def _moment(bar: dt.date) -> str:
    return str(bar).removesuffix(" 00:00:00")


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, below)
    elif value is not None:
        yield path, str(value)


def _reads(study: Study, row: Mapping[str, Any], where: Where) -> tuple[Panel, list[str], int]:
    """Return the panel of a trial, the fields it reads, and the first bar that it does not see."""
    ref = study.plan.panel_ref
    panel = Panel.open(ref["path"], ref["snapshot"]) if where is None else where
    panel = panel if isinstance(panel, Panel) else Panel.open(panel)
    spec = study.plan.trial(row["trial"])
    strategy = spec.strategy
    # What a class of the user's reads, nobody knows.
    known = () if isinstance(strategy, Strategy) else (*PRICE_FIELDS, *strategy.fields, *spec.reads.fields)
    return panel, sorted({*(known or panel.fields)}), panel.bar_of(row["window_end"]) + 1


def changed_cells(one: tuple[Panel, list[str], int], other: tuple[Panel, list[str], int]) -> list[tuple]:
    """Return one row a field that differs between two panels: how many cells, and the first of them.

    Parameters
    ----------
    one, other : (Panel, list of str, int)
        The panel, the fields to look at, and how many of its bars.

    Returns
    -------
    list of tuple
        field, symbol, timestamp, cells, value here, value there. Bars and symbols that only one of the panels
        has come first, as rows ``bars`` and ``symbols``, with how many there are on both sides.
    """
    (left, fields, stop), (right, more, end) = one, other
    moments, at, there = np.intersect1d(left.timestamps[:stop], right.timestamps[:end], return_indices=True)
    symbols, rows, columns = np.intersect1d(left.symbols, right.symbols, return_indices=True)
    found: list[tuple] = [
        (name, None, None, n_one + n_other - 2 * both, float(n_one), float(n_other))
        for name, n_one, n_other, both in (
            ("bars", stop, end, len(moments)),
            ("symbols", len(left.symbols), len(right.symbols), len(symbols)),
        )
        if n_one + n_other > 2 * both
    ]
    bars = max(1, _CELLS_AT_ONCE // max(1, len(symbols)))
    for name in sorted({*fields} & {*more}):
        cells, first = 0, None
        for start in range(0, len(moments), bars):
            part = slice(start, start + bars)
            x, y = (
                panel.read(name, int(seen[part][0]), int(seen[part][-1]) + 1)[seen[part] - seen[part][0]][
                    :, held
                ]
                for panel, seen, held in ((left, at, rows), (right, there, columns))
            )
            differs = ~((x == y) | (np.isnan(x) & np.isnan(y)))
            cells += int(differs.sum())
            if first is None and differs.any():
                t, a = (int(each[0]) for each in np.nonzero(differs))
                moment = _moment(moments[start + t].astype("datetime64[us]").item())
                first = str(symbols[a]), moment, float(x[t, a]), float(y[t, a])
        if first is not None:
            found.append((name, *first[:2], cells, *first[2:]))
    return found


# ---------------------------------------------------------------------------------------- decisions


def first_difference(one: Result, other: Result, by: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the first decision whose fills differ, None where all are equal.

    Decisions are compared as the ledgers tell them, in order of their bars: all that one decision bought or
    sold of one symbol. An order that never filled leaves no trace there, only in the counters.

    Parameters
    ----------
    one, other : Result
    by : tuple of str
        What makes a difference: quantity, price, commission, reason, filled.

    Returns
    -------
    dict
        ``timestamp`` of the decision, ``symbol``, ``differs`` (names of `by`), and of both sides, as ``a``
        and ``b``, None where nothing was filled: ``filled`` (timestamp of the first fill), ``quantity`` (of
        all fills), ``price`` (average), ``commission``, ``reason`` of the last; ``position`` (units) and
        ``weight`` (of equity) at the end of the bar of the first fill.
    """
    left, right = _decisions(one), _decisions(other)
    # Stable: symbols of one bar stay in the order of the ledger that has them first.
    for decided, symbol in sorted(dict.fromkeys([*left, *right]), key=lambda made: str(made[0])):
        x, y = left.get((decided, symbol)), right.get((decided, symbol))
        differs = [name for name in by if x is None or y is None or x[name] != y[name]]
        if differs:
            sides = {"a": _with_position(one, symbol, x), "b": _with_position(other, symbol, y)}
            return {"timestamp": decided, "symbol": symbol, "differs": differs, **sides}
    return None


def _decisions(result: Result) -> dict[tuple[Any, str], dict[str, Any]]:
    """Return what each decision did with each symbol, by the decision's time and the symbol."""
    moments = result.equity["timestamp"].to_list()
    found: dict[tuple[Any, str], dict[str, Any]] = {}
    paid: dict[tuple[Any, str], float] = defaultdict(float)
    for fill in result.fills.iter_rows(named=True):
        place = moments[max(fill["decision_bar"], 0)], fill["symbol"]
        made = found.setdefault(place, {"filled": fill["timestamp"], "quantity": 0.0, "commission": 0.0})
        made["quantity"] += fill["quantity"]
        made["commission"] += fill["commission"]
        made["reason"] = fill["reason"]
        paid[place] += fill["quantity"] * fill["price"]
        # A single fill's price as it is: through the sum it would be rounded.
        made["price"] = (
            paid[place] / made["quantity"] if "price" in made and made["quantity"] else fill["price"]
        )
    return found


def _with_position(result: Result, symbol: str, made: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what a decision did, and what its symbol's position was after it."""
    if made is None:
        return None
    moment = made["filled"]
    held = result.positions.filter(timestamp=moment, symbol=symbol)
    quantity, value = held.select("quantity", "value").row(0) if held.height else (0.0, 0.0)
    equity = result.equity.filter(timestamp=moment)["equity"].item()
    return {**made, "position": quantity, "weight": value / equity if equity else None}


def _first_bar(one: Result, other: Result) -> dict[str, Any] | None:
    """Return the first bar on which the curves differ, and in what; None where they are equal."""
    import polars as pl

    # As texts: days of one panel may be moments of the other.
    curves = [side.equity.cast({"timestamp": pl.String}) for side in (one, other)]
    both = curves[0].join(curves[1], on="timestamp", suffix="_other", maintain_order="left")
    for row in both.iter_rows(named=True):
        names = [name for name in one.equity.columns[1:] if not _equal(row[name], row[f"{name}_other"])]
        if names:
            sides = {"a": row["equity"], "b": row["equity_other"]}
            return {"timestamp": row["timestamp"], "differs": names, **sides}
    return None


# -------------------------------------------------------------------------------------- attribution


def _attributed(one: Result, other: Result) -> tuple[pl.DataFrame, dict[str, float]]:
    """Return the difference of final equity (b less a) by symbol, and its other parts.

    The frame has the columns of `Result.pnl`, largest differences first; ``starting_cash``, ``interest``, the
    totals of the frame (``symbols``) and ``rounding`` make the ``difference``. Nothing else moves equity; so
    ``rounding``, what is left, is that of float64 sums.
    """
    import polars as pl

    numbers = one.pnl.columns[1:]
    both = one.pnl.join(other.pnl, on="symbol", how="full", suffix="_b", coalesce=True, nulls_equal=True)
    filled = both.with_columns(pl.exclude("symbol").fill_null(0.0))
    moved = filled.select("symbol", **{name: pl.col(f"{name}_b") - pl.col(name) for name in numbers})
    by_symbol = moved.drop_nulls("symbol").filter(pl.any_horizontal(pl.col(numbers) != 0))
    ends = [result.equity["equity"][-1] for result in (one, other)]
    parts = {
        "starting_cash": other.cash - one.cash,
        "symbols": by_symbol["total"].sum(),
        "interest": moved.filter(pl.col("symbol").is_null())["total"].sum(),
    }
    difference = ends[1] - ends[0]
    equity = {"a": ends[0], "b": ends[1], "difference": difference, **parts}
    largest = by_symbol.sort([pl.col("total").abs(), "symbol"], descending=[True, False])
    return largest, {**equity, "rounding": difference - sum(parts.values())}


# ------------------------------------------------------------------------------------------ studies


def diff_studies(one: Study, other: Study) -> dict[str, Any]:
    """Return what differs between two studies; see `Study.diff`."""
    import polars as pl

    columns = [name for name in one.plan.columns if name in other.plan.columns]
    asked = ["trial", "key", "status", "digest", "universe", "fold", *columns, *METRICS]
    left, right = (study.trials().select(asked).collect() for study in (one, other))
    # An axis may hold 5 here and 5.0 or "auto" there.
    unlike = {name: (left.schema[name], right.schema[name]) for name in columns}
    kinds: dict[Any, Any] = {
        name: pl.Float64 if all(kind.is_numeric() for kind in both) else pl.String
        for name, both in unlike.items()
        if both[0] != both[1]
    }
    left, right = left.cast(kinds), right.cast(kinds)
    by_key = _pairs(left, right, ["key"])
    rest = left.join(right, on="key", how="anti"), right.join(left, on="key", how="anti")
    by_parameters = _pairs(*rest, ["universe", "fold", *columns])
    pairs = pl.concat([by_key, by_parameters], how="diagonal")
    alone = [
        part.join(by_parameters, left_on="trial", right_on=name, how="anti").select("trial", "key", *columns)
        for part, name in zip(rest, ("trial", "trial_b"), strict=True)
    ]
    same = pl.col("digest") == pl.col("digest_b"), pl.col("status") == pl.col("status_b")
    changed = pairs.remove(*same)
    return {
        "stores": [one.uri, other.uri],
        "inputs": spec_difference(one.plan.frozen_json(), other.plan.frozen_json()),
        "counts": {
            "a": left.height,
            "b": right.height,
            "equal": by_key.filter(*same).height,
            "different": by_key.remove(*same).height,
            "equal by parameters": by_parameters.filter(*same).height,
            "different by parameters": by_parameters.remove(*same).height,
            "only in a": alone[0].height,
            "only in b": alone[1].height,
        },
        "matched by": ["universe", "fold", *columns],
        "changed": changed.select("trial", "trial_b", "key", "key_b", "status", "status_b"),
        "only in a": alone[0],
        "only in b": alone[1],
        "metrics": _metric_changes(changed),
    }


def _pairs(left: pl.DataFrame, right: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """Return the rows of two studies side by side that are alone, each in its study, with what `on` names."""
    import polars as pl

    # Trials of two universes with equal members have equal keys, and equal rows: one of them is enough.
    single = [
        part.unique("key", keep="first", maintain_order=True)
        if on == ["key"]
        else part.filter(pl.struct(on).is_unique())
        for part in (left, right)
    ]
    # A column that is matched by stands in the pairs once for each side too.
    beside = single[1].with_columns(pl.all().name.suffix("_b"))
    return single[0].join(
        beside, left_on=on, right_on=[f"{name}_b" for name in on], nulls_equal=True, coalesce=False
    )


def _metric_changes(changed: pl.DataFrame) -> pl.DataFrame:
    """Return one row a metric that changed in any pair: in how many, by how much on average and at most."""
    import polars as pl

    rows = []
    for name in METRICS:
        moved = changed.select(
            "trial", "trial_b", pl.col(name).alias("a"), pl.col(f"{name}_b").alias("b")
        ).with_columns((pl.col("b") - pl.col("a")).alias("by"))
        moved = moved.drop_nans("by").drop_nulls("by").filter(pl.col("by") != 0)
        if moved.height:
            most = moved.sort([pl.col("by").abs(), "trial"], descending=[True, False]).row(0, named=True)
            ends = most["a"], most["b"]
            where = name, most["trial"], most["trial_b"]
            rows.append((*where, moved.height, moved["by"].mean(), most["by"], *ends))
    return _frame(rows, "metric", "trial trial_b changed", "mean_change largest a b")


def diff(
    study: Study,
    a: int | str | None,
    b: int | str | None,
    other: Any,
    panel: Where = None,
    other_panel: Where = None,
) -> dict[str, Any]:
    """Compare two trials, or two studies where no trial is named; see `Study.diff`."""
    from backtest_farm.study import Study

    if isinstance(other, str | os.PathLike):
        other = Study.open(other)
    if a is None and b is None and other is not None:
        return diff_studies(study, other)
    if a is None or (b is None and other is None):
        raise InputError(
            "there is nothing to compare with", hint="name two trials, or another study, or both"
        )
    where = panel if other is None and other_panel is None else other_panel
    return diff_trials(study, a, other or study, a if b is None else b, panel, where)
