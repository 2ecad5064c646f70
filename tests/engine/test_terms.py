"""Every rule, limit, cost and event, by its name: from `bf.run`, from a sweep file, and in the keys."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

import backtest_farm as bf
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS
from backtest_farm.spec import Costs, Execution, Limits, Rules
from tests.engine.market import full_panel, static_columns

STRATEGY = {"kind": "Weights", "field": "wanted"}
BASE = {"costs.commission_bps": 2.0}


class Switch(NamedTuple):
    """A parameter's value without and with effect, what it needs beside, and what shows that it works: a
    counter, a column of bars or one of fills, not 0 with it. A name after ``no `` shows more without it."""

    off: Any
    on: Any
    shows: str
    beside: dict[str, Any] = {}  # noqa: RUF012 -- never changed


TRAIL, DRAWN = {"rules.trailing": 0.03}, {"rules.halt_drawdown": 0.01}
STOP, FEES = {"rules.stop_loss": 0.02}, {"costs.per_share": 0.05}
DEBT = {"limits.margin": 1.0}
SWITCHES = {
    "rules.stop_loss": Switch(0, 0.02, "stop_loss"),
    "rules.take_profit": Switch(0, 0.02, "take_profit"),
    "rules.trailing": Switch(0, 0.03, "trailing"),
    "rules.trailing_step": Switch(0, 0.01, "trailing", TRAIL),
    "rules.trailing_floor": Switch(0, 0.025, "trailing", {**TRAIL, "rules.trailing_step": 0.01}),
    "rules.atr_stop": Switch(0, 1.0, "atr_stop"),
    "rules.atr": Switch("atr", "atr_slow", "atr_stop", {"rules.atr_stop": 1.0}),
    "rules.max_bars": Switch(0, 3, "time_exit"),
    "rules.cooldown": Switch(0, 6, "cooldown", STOP),
    "rules.halt_drawdown": Switch(0, 0.01, "drawdown_halt"),
    "rules.halt_bars": Switch(None, 5, "halted", DRAWN),
    "rules.on": Switch("intrabar", "close", "stop_loss", STOP),
    "limits.positions": Switch(None, 3, "capped"),
    "limits.max_weight": Switch(None, 0.1, "capped"),
    "limits.group": Switch(None, 0.3, "capped"),
    "limits.group_by": Switch("sector", "region", "capped", {"limits.group": 0.3}),
    "limits.gross": Switch(None, 0.8, "capped"),
    "limits.net": Switch(None, 0.1, "capped"),
    "limits.turnover": Switch(None, 0.3, "capped"),
    "limits.over": Switch("scale", "reject", "over_limit", {"limits.gross": 1.5}),
    "limits.participation": Switch(0, 0.001, "no_volume"),
    "limits.carry": Switch(False, True, "no_volume", {"limits.participation": 0.001}),
    "limits.lot": Switch(0, 1000.0, "below_lot"),
    "limits.lot_rounding": Switch("nearest", "down", "below_lot", {"limits.lot": 1000.0}),
    "limits.min_notional": Switch(0, 100_000.0, "below_minimum"),
    "limits.band": Switch(0, 0.1, "in_band"),
    "limits.band_rel": Switch(0, 0.5, "in_band"),
    "limits.margin": Switch(0, 1.0, "no no_cash"),
    "limits.max_wait": Switch(5, 1, "expired"),
    "limits.afford": Switch("scale", "greedy", "no_cash"),
    "costs.commission_bps": Switch(0, "static:fee", "commission"),
    "costs.per_share": Switch(0, 0.01, "commission"),
    "costs.min_commission": Switch(0, 100.0, "commission"),
    "costs.max_commission_frac": Switch(0, "static:cap", "commission", FEES),
    "costs.half_spread_bps": Switch(0, 3.0, "spread"),
    "costs.slippage_bps": Switch(0, "static:fee", "slippage"),
    "costs.impact": Switch(0, 0.5, "impact"),
    "costs.sigma": Switch("sigma", "sigma_slow", "impact", {"costs.impact": 0.5}),
    "costs.adv": Switch("adv", "adv_slow", "impact", {"costs.impact": 0.5}),
    "costs.borrow_rate": Switch(0, "static:rate", "financing"),
    "costs.interest_rate": Switch(0, 0.04, "financing"),
    "costs.debit_rate": Switch(None, 0.2, "financing", DEBT),
    "events": Switch(False, True, "dividends"),
    "fill": Switch("next_open", "next_close", "fills"),
    "sizing": Switch("decision", "fill", "fills"),
    "cash": Switch(1_000_000.0, 5_000.0, "fills"),
}


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> bf.Panel:
    return full_panel(tmp_path_factory.mktemp("terms"))


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return parameters by dotted path as mappings in mappings."""
    parts: dict[str, Any] = {}
    for path, value in flat.items():
        owner, _, name = path.rpartition(".")
        (parts.setdefault(owner, {}) if owner else parts)[name] = value
    return parts


def alone(panel: bf.Panel, flat: dict[str, Any]) -> bf.Result:
    return bf.run(panel, bf.Weights(field="wanted"), **nested({**BASE, **flat}))


def swept(panel: bf.Panel, flat: dict[str, Any], folder) -> bf.Study:
    """Write a sweep file and run it."""
    path = folder / "sweep.yaml"
    content = {"panel": str(panel.path), "strategy": STRATEGY, "keep": {"equity": {"top": 0}}}
    path.write_text(yaml.safe_dump({**content, **nested({**BASE, **flat})}))
    return bf.Sweep.load(path).run(folder / "study", executor="inline", progress=False)


def amount(result: bf.Result, name: str) -> float:
    """How much there is of a counter or a column."""
    if name in COUNTERS:
        return result.counters[name]
    frame = result.equity if name in BAR_COLUMNS else result.fills
    return float(frame[name].abs().sum())


def test_nothing_is_left_out() -> None:
    models = {"costs": Costs, "limits": Limits, "rules": Rules}
    known = {f"{owner}.{name}" for owner, model in models.items() for name in model.model_fields}
    assert {*SWITCHES} == known | {*Execution.model_fields}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_works_from_both_doors(panel, name, tmp_path) -> None:
    switch = SWITCHES[name]
    off, on = (alone(panel, {**switch.beside, name: value}) for value in (switch.off, switch.on))
    assert off.digest != on.digest
    less, more, shows = (
        (on, off, switch.shows[3:]) if switch.shows.startswith("no ") else (off, on, switch.shows)
    )
    assert amount(more, shows) > 0
    if not switch.beside and shows != "fills":
        assert amount(more, shows) != amount(less, shows)
    for result in (off, on):
        result.check_ledger()
    study = swept(panel, {**switch.beside, name: [switch.off, switch.on]}, tmp_path)
    rows = study.trials().collect()
    assert rows["status"].to_list() == ["ok", "ok"]
    assert rows["digest"].to_list() == [off.digest, on.digest]


def test_axes_over_everything_that_is_read(panel, tmp_path) -> None:
    axes = {
        "rules.atr_stop": [0, 1.0],
        "limits.participation": [0, 0.001],
        "costs.impact": [0, 0.5],
        "limits.group": [None, 0.3],
        "events": [False, True],
    }
    study = swept(panel, axes, tmp_path)
    rows = study.trials().collect()
    assert rows.height == rows["digest"].n_unique() == rows["key"].n_unique() == 32
    for row in rows.iter_rows(named=True):
        chosen = {name: row[name] for name in axes}
        assert alone(panel, chosen).digest == row["digest"]
        again = study.replay(row["trial"])
    assert_frame_equal(again.trades, alone(panel, chosen).trades)
    assert bf.Sweep.load(tmp_path / "sweep.yaml").plan()["trials"] == 32
    assert {tuple(row) for row in rows.select(*axes).rows()} == {*itertools.product(*axes.values())}
    assert study.verify(sample=3)["rows"] == 32


def test_rules_or_none_and_two_sets_of_costs(panel, tmp_path) -> None:
    path = tmp_path / "sweep.yaml"
    rules = [None, {"stop_loss": [0.02, 0.05]}, {"max_bars": 3, "on": "close"}]
    costs = [{"commission_bps": 5.0}, {"commission_bps": "static:fee", "impact": 0.5}]
    content = {"panel": str(panel.path), "strategy": STRATEGY, "rules": rules, "costs": costs}
    path.write_text(yaml.safe_dump(content))
    study = bf.Sweep.load(path).run(tmp_path / "study", executor="inline", progress=False)
    have = sorted(study.trials().collect()["digest"].to_list())
    chosen = [None, {"stop_loss": 0.02}, {"stop_loss": 0.05}, {"max_bars": 3, "on": "close"}]
    want = [
        bf.run(panel, bf.Weights(field="wanted"), rules=one, costs=two).digest
        for one, two in itertools.product(chosen, costs)
    ]
    assert have == sorted(want)
    assert len(set(have)) == 8


class Told(bf.Strategy):
    """Decides after each bar by a field."""

    def on_bar(self, ctx):
        ctx.target(ctx["wanted"][-1])


@pytest.mark.parametrize("on", ["intrabar", "close"])
@pytest.mark.parametrize("fill", ["next_open", "next_close"])
def test_deciding_bar_by_bar_meets_the_same_terms(panel, fill, on) -> None:
    names = ("stop_loss", "trailing", "atr_stop", "max_bars", "cooldown", "halt_drawdown", "halt_bars")
    rules = {**dict(zip(names, (0.03, 0.05, 1.5, 9, 3, 0.05, 4), strict=True)), "on": on}
    limits = {"gross": 1.0, "group": 0.5, "turnover": 0.5, "participation": 0.002, "carry": True}
    costs = {"impact": 0.3, "borrow_rate": "static:rate", "interest_rate": 0.03}
    settings = {"rules": rules, "limits": limits, "costs": costs, "events": True, "fill": fill}
    table, told = (bf.run(panel, each, **settings) for each in (panel["wanted"], Told()))
    assert told.digest == table.digest
    assert_frame_equal(told.trades, table.trades)
    for name in ("stop_loss", "time_exit", "cooldown", "capped", "no_volume", "fills"):
        assert told.counters[name] > 5, f"{name} is not at work"


# ------------------------------------------------------------------------------------------- keys
READS = {
    "high": ("rules", [None, {"stop_loss": 0.02}]),
    "low": ("rules", [None, {"stop_loss": 0.02}]),
    "atr": ("rules", [None, {"atr_stop": 1.0}]),
    "volume": ("limits.participation", [0, 0.001]),
    "sigma": ("costs.impact", [0, 0.5]),
    "adv": ("costs.impact", [0, 0.5]),
    "split": ("events", [False, True]),
    "dividend": ("events", [False, True]),
    "sector": ("limits.group", [None, 0.3]),
    "fee": ("costs.commission_bps", [5.0, "static:fee"]),
    "rate": ("costs.borrow_rate", [0.02, "static:rate"]),
}


def with_another(panel: bf.Panel, name: str, folder) -> bf.Panel:
    """Return a panel that differs in one number of a field, or one value of a static column."""
    statics = static_columns()
    if name in statics:
        statics[name][3] = statics[name][4]
    frame = panel.to_frame().drop("split", "dividend")
    if name in frame.columns:
        at = int(np.flatnonzero(frame[name].is_not_null())[-5])
        nudge = pl.when(pl.int_range(pl.len()) == at).then(0.99 if name == "low" else 1.01).otherwise(1.0)
        frame = frame.with_columns(pl.col(name) * nudge)
    ended = np.flatnonzero(panel.ends.bar < panel.shape[0])
    ends = pl.DataFrame(
        {
            "symbol": [panel.symbols[a] for a in ended],
            "date": panel.timestamps[panel.ends.bar[ended]],
            "payout": [None] * len(ended),
        },
        schema_overrides={"payout": pl.Float64},
    )
    other = bf.Panel.build(frame, folder / "other", ends=ends)
    for field in ("split", "dividend"):
        values = panel[field].copy()
        if name == field:
            values[-5, 3] = 1.01
        other = other.with_field(field, values)
    for column, values in statics.items():
        other = other.with_static(column, pl.DataFrame({"symbol": panel.symbols, column: values}))
    return other


@pytest.mark.parametrize("name", READS)
def test_what_a_trial_reads_is_in_its_key_and_nothing_else(panel, name, tmp_path) -> None:
    path, values = READS[name]
    found = []
    for at, one in enumerate(
        (panel, with_another(panel, name, tmp_path), with_another(panel, "", tmp_path / "same"))
    ):
        folder = tmp_path / str(at)
        folder.mkdir()
        study = swept(one, {path: values}, folder)
        rows = study.trials().collect()
        found.append(rows["key"].to_list())
        assert rows["status"].unique().to_list() == ["ok"]
    assert found[0] == found[2], "the same content elsewhere"
    without, reading = zip(found[0], found[1], strict=True)
    assert without[0] == without[1]
    assert reading[0] != reading[1]
