"""Hand-computed ledgers: loading them, and comparing one with the outcome of a run.

``load_all()`` reads ``ledgers/*.yaml``; ``compare(ledger, outcome)`` raises ``AssertionError`` naming the
ledger, the bar, the column, what was expected and what was got. An outcome is anything with the attributes
``bars``, ``quantity``, ``fills``, ``counters``, ``metrics`` and (where a ledger lists trades) ``trades``; the
slow reference and the kernel are compared by the same function.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = Path(__file__).parent / "ledgers"
TOLERANCE = 1e-9

FILL_NUMBERS = ("quantity", "base", "price", "commission", "spread", "slippage", "impact")
FILL_MONEY = frozenset({"commission", "spread", "slippage", "impact"})
BAR_COLUMNS = ("equity", "cash", "gross", "net", "turnover", "costs", "financing", "dividends", "positions")
BAR_MONEY = frozenset({"equity", "cash", "costs", "financing", "dividends"})
COUNTERS = (
    "orders",
    "replaced",
    "no_price",
    "expired",
    "no_cash",
    "cancelled",
    "halted",
    "bust",
    "stale_bars",
    "unfilled_at_end",
    "below_lot",
    "below_minimum",
    "in_band",
    "stop_loss",
    "atr_stop",
    "trailing",
    "take_profit",
    "time_exit",
    "drawdown_halt",
    "cooldown",
    "capped",
    "over_limit",
    "no_volume",
)
METRICS = (
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "max_drawdown",
    "calmar",
    "skew",
    "kurtosis",
    "turnover",
    "exposure",
    "costs",
    "orders",
    "fills",
    "trades",
    "win_rate",
    "profit_factor",
    "avg_bars_held",
)
CASE_NUMBERS = (
    "cash",
    "bars_per_year",
    "risk_free",
    "margin",
    "lot",
    "band",
    "band_rel",
    "min_notional",
    "stop_loss",
    "take_profit",
    "trailing",
    "trailing_step",
    "trailing_floor",
    "atr_stop",
    "halt_drawdown",
    "max_weight",
    "group_cap",
    "gross",
    "net",
    "turnover",
    "participation",
    "interest_rate",
    "debit_rate",
)
CASE_PER_ASSET = (  # a number, or a list of one per asset
    "commission_bps",
    "half_spread_bps",
    "slippage_bps",
    "per_share",
    "min_commission",
    "max_commission_frac",
    "impact",
    "borrow_rate",
)
CASE_COUNTS = ("max_wait", "max_bars", "cooldown", "halt_bars", "positions")
CASE_WORDS = ("sizing", "fill", "kind", "afford", "lot_rounding", "rules_on", "over")
CASE_FLAGS = ("keep", "member")
CASE_FLOATS = ("open", "close", "high", "low", "volume", "sigma", "adv", "atr", "split", "dividend")
CASE_TABLES = (*CASE_FLOATS, *CASE_FLAGS, "targets")
CASE_NAMES = frozenset(
    {*CASE_NUMBERS, *CASE_PER_ASSET, *CASE_COUNTS, *CASE_WORDS, *CASE_TABLES, "ends", "groups", "carry"}
)
EXPECT_NAMES = frozenset({"fills", "equity", "cash", "quantity", "counters", "metrics", "bars", "trades"})
FILL_NAMES = frozenset({"decision_bar", "bar", "asset", "reason", *FILL_NUMBERS})
TRADE_NAMES = frozenset({"asset", "entry_bar", "exit_bar", "bars_held", "pnl"})
TRADE_NUMBERS = ("quantity", "entry_price", "exit_price", "mfe", "mae")
TRADE_EXTRAS = frozenset({"side", "reason", *TRADE_NUMBERS})  # a ledger may leave them out
INSIDE = ("stop_loss", "atr_stop", "trailing", "take_profit")


@dataclass(frozen=True)
class Ledger:
    """One ledger.

    ``case`` has the argument names of ``Case``: floats are floats, NaN is NaN, ``ends`` maps an int to
    ``(int, float)``.
    """

    name: str
    title: str
    rule: str
    working: str
    case: dict[str, Any]
    expect: dict[str, Any] = field(repr=False)

    @property
    def start_cash(self) -> float:
        return self.case.get("cash", 1_000_000.0)

    @property
    def n_bars(self) -> int:
        return len(self.case["open"])

    @property
    def n_assets(self) -> int:
        return len(self.case["open"][0])


def load(path: Path) -> Ledger:
    """The ledger of one file; a misspelt name is an error, so that nothing is left out by accident."""
    raw = YAML(typ="safe", pure=True).load(path)
    _names(path.stem, "ledger", raw, frozenset({"title", "rule", "case", "working", "expect"}))
    _names(path.stem, "case", raw["case"], CASE_NAMES)
    expect = raw["expect"]
    _names(path.stem, "expect", expect, EXPECT_NAMES)
    _names(path.stem, "expect.bars", expect.get("bars", {}), frozenset(BAR_COLUMNS))
    _names(path.stem, "expect.counters", expect["counters"], frozenset(COUNTERS))
    _names(path.stem, "expect.metrics", expect.get("metrics", {}), frozenset(METRICS))
    for fill in expect["fills"]:
        _names(path.stem, "fill", fill, FILL_NAMES)
        assert set(fill) >= FILL_NAMES - {"impact"}, (
            f"{path.stem}: fill {fill} lacks {FILL_NAMES - {'impact'} - set(fill)}"
        )
    for trade in expect.get("trades", []):
        _names(path.stem, "trade", trade, TRADE_NAMES | TRADE_EXTRAS)
        assert set(trade) >= TRADE_NAMES, f"{path.stem}: trade {trade} lacks {TRADE_NAMES - set(trade)}"

    case = dict(raw["case"])
    for key in (key for key in CASE_FLOATS if key in case):
        case[key] = [[float(x) for x in row] for row in case[key]]
    case["targets"] = [None if row is None else [float(x) for x in row] for row in case["targets"]]
    for key in CASE_FLAGS:
        if key in case:  # written as 1 and 0
            case[key] = [[bool(x) for x in row] for row in case[key]]
    for key in CASE_NUMBERS:
        if key in case:
            case[key] = float(case[key])
    for key in CASE_PER_ASSET:
        if key in case:
            value = case[key]
            case[key] = [float(x) for x in value] if isinstance(value, list) else float(value)
    if "ends" in case:
        case["ends"] = {
            int(asset): (int(bar), float(payout)) for asset, (bar, payout) in case["ends"].items()
        }

    ledger = Ledger(path.stem, raw["title"], raw["rule"], raw["working"], case, expect)
    n, m = ledger.n_bars, ledger.n_assets
    for key in (key for key in CASE_TABLES if key in case):
        assert len(case[key]) == n and all(row is None or len(row) == m for row in case[key]), (
            f"{path.stem}: case.{key} is not {n} x {m}"
        )
    for key in ("equity", "cash"):
        assert len(expect[key]) == n, f"{path.stem}: expect.{key} has not {n} bars"
    for key, values in expect.get("bars", {}).items():
        assert len(values) == n, f"{path.stem}: expect.bars.{key} has not {n} bars"
    assert len(expect["quantity"]) == n and all(len(row) == m for row in expect["quantity"]), (
        f"{path.stem}: expect.quantity is not {n} x {m}"
    )
    return ledger


def load_all() -> list[Ledger]:
    """All ledgers, by file name."""
    return [load(path) for path in sorted(FOLDER.glob("*.yaml"))]


def close_enough(expected: float, got: float, unit: float = 1.0) -> bool:
    """Equal to 1e-9, relative or in units of ``unit``; NaN equals NaN, and an infinity only itself."""
    expected, got = float(expected), float(got)
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    if math.isinf(expected) or math.isinf(got):
        return expected == got
    return abs(expected - got) <= TOLERANCE * max(abs(expected), unit)


def compare(ledger: Ledger, outcome: Any) -> None:
    """Raise ``AssertionError`` at the first difference.

    In this order: fills, cash, quantity, equity, further bar columns, counters, trades, metrics.
    """
    expect, unit = ledger.expect, ledger.start_cash

    for i in range(max(len(expect["fills"]), len(outcome.fills))):
        if i >= len(expect["fills"]):
            _fail(ledger, outcome.fills[i].bar, f"fill {i}", "no further fill", outcome.fills[i])
        want = expect["fills"][i]
        if i >= len(outcome.fills):
            _fail(ledger, want["bar"], f"fill {i}", want, "no further fill")
        have = outcome.fills[i]
        for column in ("bar", "decision_bar", "asset", "reason"):
            if want[column] != getattr(have, column):
                _fail(ledger, want["bar"], f"fill {i} {column}", want[column], getattr(have, column))
        for column in FILL_NUMBERS:
            if not close_enough(
                want.get(column, 0.0), getattr(have, column), unit if column in FILL_MONEY else 1.0
            ):
                _fail(ledger, want["bar"], f"fill {i} {column}", want.get(column, 0.0), getattr(have, column))

    _series(ledger, "cash", expect["cash"], outcome.bars["cash"], unit)
    if len(outcome.quantity) != ledger.n_bars:
        _fail(ledger, "all", "quantity", f"{ledger.n_bars} bars", f"{len(outcome.quantity)} bars")
    for t, (want_row, have_row) in enumerate(zip(expect["quantity"], outcome.quantity, strict=True)):
        if len(have_row) != ledger.n_assets:
            _fail(ledger, t, "quantity", f"{ledger.n_assets} assets", f"{len(have_row)} assets")
        for a, (want_q, have_q) in enumerate(zip(want_row, have_row, strict=True)):
            if not close_enough(want_q, have_q):
                _fail(ledger, t, f"quantity of asset {a}", want_q, have_q)
            if want_q == 0 and have_q != 0:
                _fail(ledger, t, f"quantity of asset {a}", "exactly 0", have_q)
    _series(ledger, "equity", expect["equity"], outcome.bars["equity"], unit)
    for column, values in expect.get("bars", {}).items():
        _series(ledger, column, values, outcome.bars[column], unit if column in BAR_MONEY else 1.0)
    for column in ("financing", "dividends"):
        if column not in expect.get("bars", {}):
            _series(ledger, column, [0.0] * ledger.n_bars, outcome.bars[column], unit)

    for name in sorted({*COUNTERS, *outcome.counters}):
        if expect["counters"].get(name, 0) != outcome.counters.get(name, 0):
            _fail(
                ledger,
                "all",
                f"counter {name}",
                expect["counters"].get(name, 0),
                outcome.counters.get(name, 0),
            )

    if "trades" in expect:
        if len(expect["trades"]) != len(outcome.trades):
            _fail(ledger, "all", "number of trades", len(expect["trades"]), len(outcome.trades))
        for i, (want, have) in enumerate(zip(expect["trades"], outcome.trades, strict=True)):
            for column in ("asset", "entry_bar", "exit_bar", "bars_held", "side", "reason"):
                if column in want and want[column] != getattr(have, column):
                    _fail(
                        ledger, want["exit_bar"], f"trade {i} {column}", want[column], getattr(have, column)
                    )
            for column in (column for column in TRADE_NUMBERS if column in want):
                if not close_enough(want[column], getattr(have, column)):
                    _fail(
                        ledger, want["exit_bar"], f"trade {i} {column}", want[column], getattr(have, column)
                    )
            if not close_enough(want["pnl"], have.pnl, unit):
                _fail(ledger, want["exit_bar"], f"trade {i} pnl", want["pnl"], have.pnl)

    for name, value in expect.get("metrics", {}).items():
        if name not in outcome.metrics:
            _fail(ledger, "all", f"metric {name}", value, "not there")
        if not close_enough(value, outcome.metrics[name], unit if name == "costs" else 1.0):
            _fail(ledger, "all", f"metric {name}", value, outcome.metrics[name])


def rebuild(ledger: Ledger) -> None:
    """Check a ledger against itself.

    Its fills, splits, dividends and financing rebuild cash and quantity of every bar, their bases the prices,
    their prices the costs. No simulation: nothing here knows how an order comes to be or what an equity is.
    """
    expect, case = ledger.expect, ledger.case
    bases = case["open" if case.get("fill", "next_open") == "next_open" else "close"]
    earliest = 0 if case.get("fill") == "same_close" else 1
    fills = expect["fills"]
    if [f["bar"] for f in fills] != sorted(f["bar"] for f in fills):
        _fail(ledger, "all", "order of the fills", "by bar", [f["bar"] for f in fills])
    cash, held = ledger.start_cash, [0.0] * ledger.n_assets
    for t in range(ledger.n_bars):
        costs = dividends = 0.0
        cash -= expect.get("bars", {}).get("financing", [0.0] * ledger.n_bars)[t]
        for a in range(ledger.n_assets):
            held[a] *= _event(case, "split", t, a, 1.0)
            dividends += held[a] * _event(case, "dividend", t, a, 0.0)
        cash += dividends
        if not close_enough(
            dividends, expect.get("bars", {}).get("dividends", [0.0] * ledger.n_bars)[t], ledger.start_cash
        ):
            _fail(ledger, t, "dividends (rebuilt)", dividends, expect["bars"]["dividends"][t])
        for i, f in enumerate(fills):
            if f["bar"] != t:
                continue
            a, q, base, price = f["asset"], f["quantity"], f["base"], f["price"]
            is_inside = f["reason"] in INSIDE and case.get("rules_on", "intrabar") == "intrabar"
            is_early = is_inside or f["reason"] in ("delisting", "membership")
            latest = t - (1 if is_early else earliest)
            if not f["decision_bar"] <= latest:
                _fail(ledger, t, f"fill {i} decision_bar", f"<= {latest}", f["decision_bar"])
            if f["reason"] == "delisting":
                wants = {"price": base, "commission": 0.0, "spread": 0.0, "slippage": 0.0}
            else:
                spread, slip = _of(case, "half_spread_bps", a) / 1e4, _of(case, "slippage_bps", a) / 1e4
                impact = _impact(case, t, a, abs(q))
                total = spread + slip + impact
                shrink = min(1.0, 0.5 / total) if total > 0 else 1.0
                wants = {
                    "base": base if is_inside else bases[t][a],  # the level is not known here
                    "price": base * (1 + math.copysign(total * shrink, q)),
                    "commission": _commission(case, a, abs(q), abs(q) * price),
                    "spread": spread * shrink * abs(q) * base,
                    "slippage": slip * shrink * abs(q) * base,
                    "impact": impact * shrink * abs(q) * base,
                }
            for column, want in wants.items():
                if not close_enough(
                    want, f.get(column, 0.0), ledger.start_cash if column in FILL_MONEY else 1.0
                ):
                    _fail(ledger, t, f"fill {i} {column} (rebuilt)", want, f.get(column, 0.0))
            costs += f["commission"] + f["spread"] + f["slippage"] + f.get("impact", 0.0)
            cash -= q * price + f["commission"]
            held[a] += q
        if not close_enough(cash, expect["cash"][t], ledger.start_cash):
            _fail(ledger, t, "cash (rebuilt)", cash, expect["cash"][t])
        for a in range(ledger.n_assets):
            if not close_enough(held[a], expect["quantity"][t][a]):
                _fail(ledger, t, f"quantity of asset {a} (rebuilt)", held[a], expect["quantity"][t][a])
        if "costs" in expect.get("bars", {}) and not close_enough(
            costs, expect["bars"]["costs"][t], ledger.start_cash
        ):
            _fail(ledger, t, "costs (rebuilt)", costs, expect["bars"]["costs"][t])


def _of(case: Mapping[str, Any], name: str, asset: int) -> float:
    value = case.get(name, 0.0)
    return value[asset] if isinstance(value, list) else value


def _event(case: Mapping[str, Any], name: str, t: int, asset: int, nothing: float) -> float:
    value = case[name][t][asset] if name in case else nothing
    return nothing if math.isnan(value) else value


def _impact(case: Mapping[str, Any], t: int, asset: int, size: float) -> float:
    k = _of(case, "impact", asset)
    if k == 0:
        return 0.0
    adv = case["adv"][t - 1][asset] * _event(case, "split", t, asset, 1.0)
    fraction = k * case["sigma"][t - 1][asset] * math.sqrt(size / adv)
    return 0.0 if math.isnan(fraction) else fraction


def _commission(case: Mapping[str, Any], asset: int, size: float, notional: float) -> float:
    variable = _of(case, "per_share", asset) * size + _of(case, "commission_bps", asset) / 1e4 * notional
    cap = _of(case, "max_commission_frac", asset) * notional
    return min(max(variable, _of(case, "min_commission", asset)), cap if cap > 0 else math.inf)


def _series(ledger: Ledger, column: str, want: list[float], have: Any, unit: float) -> None:
    if len(have) != ledger.n_bars:
        _fail(ledger, "all", column, f"{ledger.n_bars} bars", f"{len(have)} bars")
    for t, (want_x, have_x) in enumerate(zip(want, have, strict=True)):
        if not close_enough(want_x, have_x, unit):
            _fail(ledger, t, column, want_x, have_x)


def _names(name: str, where: str, got: Mapping[str, Any], allowed: frozenset[str]) -> None:
    unknown = set(got) - allowed
    assert not unknown, f"{name}: unknown names in {where}: {sorted(unknown)}"


def _fail(ledger: Ledger, bar: Any, column: str, expected: Any, got: Any) -> None:
    raise AssertionError(f"ledger {ledger.name}, bar {bar}, {column}: expected {expected!r}, got {got!r}")
