"""Each profile against the engine that it is named after, run from its real package on real prices.

Not a part of the usual tests: ``make peers`` runs it, and docs/peers.md says what it found.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

import backtest_farm as bf
from tests.peers.cases import CASES, REAL, PeerCase
from tests.peers.compare import Account, difference
from tests.peers.environments import PACKAGES, MissingPeerError, python_of
from tests.peers.table import ROWS, Row

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not REAL.exists(),
        reason="put us_equities_daily.parquet into ../shared/data beside the repository to run this",
    ),
]

MANY = ("monthly momentum", "weekly long/short", "crossovers")
WHOLE_SHARES = bf.Limits(lot=1, lot_rounding="down")


class Match(NamedTuple):
    """One case in one engine, and what we are asked for to mean the same."""

    peer: str
    case: str
    own_sizes: bool = False  # whether the engine turns weights into quantities itself, where it can do both
    free: bool = False  # without costs
    ends: bool = True  # whether our panel knows of ends of life; without, a position stays at its last price
    limits: bf.Limits | None = None

    def __str__(self) -> str:
        more = {"own sizes": self.own_sizes, "no costs": self.free, "held at its last price": not self.ends}
        return ", ".join([f"{self.peer}: {self.case}", *(text for text, on in more.items() if on)])


MATCHES = [
    *(Match(peer, case) for peer in ("vectorbt", "bt", "zipline", "backtrader", "ml4t") for case in MANY),
    *(Match("backtrader", case, own_sizes=True, limits=WHOLE_SHARES) for case in MANY),
    *(Match("bt", case, own_sizes=True, free=True) for case in MANY),
    *(Match(peer, "end of life") for peer in ("vectorbt", "bt", "zipline")),
    *(Match(peer, "end of life", ends=False) for peer in ("backtrader", "ml4t")),
    *(Match(peer, "short of cash") for peer in PACKAGES),
    *(Match("backtesting", case) for case in ("one stock", "one stock, both sides")),
]

CANNOT = {
    ("backtesting", "monthly momentum"): "trades one asset at a time",
    ("backtesting", "weekly long/short"): "trades one asset at a time",
    ("backtesting", "crossovers"): "trades one asset at a time: see 'one stock'",
    ("backtesting", "end of life"): "trades one asset at a time, whose end is the end of the run",
    ("backtrader", "end of life, paid out"): "has no end of life: the position stays at its last price",
    ("ml4t", "end of life, paid out"): "has no end of life: the position stays at its last price",
}


@cache
def case_of(name: str, free: bool) -> PeerCase:
    case = CASES[name]()
    return replace(case, commission_bps=0.0, slippage_bps=0.0) if free else case


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("peers")


@cache
def panel_of(name: str, ends: bool, folder: Path) -> bf.Panel:
    case = case_of(name, False)
    rows = {"symbol": [*case.ends], "date": [str(day) for day in case.ends.values()]}
    known = pl.DataFrame(rows) if ends and case.ends else None
    panel = bf.Panel.build(case.frame, folder / f"{name} {ends}".replace("/", " "), ends=known)
    assert panel.symbols == case.symbols
    return panel


def ours(match: Match, folder: Path, profile: str) -> tuple[bf.Result, Account]:
    case = case_of(match.case, match.free)
    panel = panel_of(match.case, match.ends, folder)
    deciding = np.isfinite(case.weights).any(axis=1, keepdims=True)
    result = bf.run(
        panel,
        case.weights,
        cash=case.cash,
        costs=bf.Costs(commission_bps=case.commission_bps, slippage_bps=case.slippage_bps),
        limits=match.limits,
        keep_mask=np.isnan(case.weights) & deciding,
        profile=profile,
    )
    fills = result.fills
    assets = np.array([panel.symbols.index(symbol) for symbol in fills["symbol"]])
    columns = (fills[name].to_numpy() for name in ("quantity", "price"))
    return result, Account(fills["bar"].to_numpy(), assets, *columns, result.equity["equity"].to_numpy())


@cache
def theirs(peer: str, name: str, own_sizes: bool, free: bool, folder: Path) -> Account:
    python, _ = python_of(peer)
    stem = f"{peer} {name} {own_sizes} {free}".replace("/", " ")
    source, out = folder / f"{stem}.npz", folder / f"{stem} done.npz"
    case_of(name, free).save(source, percent=own_sizes)
    script = Path(__file__).parent / "runners" / f"in_{peer}.py"
    done = subprocess.run([python, script, source, out], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{peer} could not trade {name}:\n{done.stderr[-3000:]}"
    found = np.load(out)
    return Account(**{field: found[field] for field in ("bars", "assets", "quantities", "prices", "equity")})


def account_of(match: Match, folder: Path) -> Account:
    """Return what the engine did, or skip and say so in the table."""
    try:
        return theirs(match.peer, match.case, match.own_sizes, match.free, folder)
    except MissingPeerError as error:
        ROWS.append(Row(match.peer, match.case, match.peer, *("-" * 4), f"skipped: {error}"))
        pytest.skip(f"{match.peer} is not here: {error}")


@pytest.mark.parametrize("match", MATCHES, ids=str)
def test_a_profile_trades_as_its_engine_does(match: Match, folder: Path) -> None:
    other = account_of(match, folder)
    result, mine = ours(match, folder, match.peer)
    found = difference(mine, other)
    faults = found.faults()
    case = str(match).partition(": ")[2]
    numbers = (f"{value:.0e}" for value in (found.quantity, found.price, found.equity))
    engine = f"{match.peer} {python_of(match.peer)[1]}"
    ROWS.append(Row(engine, case, result.profile, str(found.fills), *numbers, "; ".join(faults) or "equal"))
    assert faults == []
    assert found.fills >= 9
    # Where cash binds the engines choose among orders by rules of their own, so only one order may be short.
    assert match.case == "short of cash" or result.counters["no_cash"] == 0

    shifted = other.prices.copy()
    shifted[len(shifted) // 2] *= 1.0 + 1e-8
    assert difference(mine, replace(other, prices=shifted)).faults() != [], "a shifted price must be noticed"


@pytest.mark.parametrize("peer", PACKAGES)
def test_the_default_profile_is_none_of_them(peer: str, folder: Path) -> None:
    match = Match(peer, "short of cash")
    assert difference(ours(match, folder, "default")[1], account_of(match, folder)).faults() != []


@pytest.mark.parametrize(("peer", "case"), CANNOT)
def test_what_an_engine_cannot_express_is_told(peer: str, case: str) -> None:
    ROWS.append(Row(peer, case, "-", *("-" * 4), f"not compared: {CANNOT[peer, case]}"))
    assert Match(peer, case) not in MATCHES
