"""Fuzzed sweep files and command lines: each is understood, or refused in words with a documented code."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import typer

from backtest_farm.cli.app import app
from tests.soak import forks
from tests.soak.command import outcome, trouble
from tests.soak.mutation import mutated

TITLE = "fuzzed sweep files and command lines: tracebacks, other exit codes, deaths"
CASES = 100_000
SPECS = (
    """\
panel: panel
strategy: {kind: TopN, signal: {factor: momentum, lookback: [5, 10], skip: 0}, n: [1, 2], rebalance: 5}
costs: {commission_bps: [0, 10]}
""",
    """\
panel: panel
universes: [all, few, {by: tag, of: few}, {draw: 2, size: 3, seed: 1}, {each: symbol}]
window: {start: auto, end: 2021-03-31}
strategy:
  kind: TopN
  signal:
    - {factor: momentum, lookback: [6, 12], skip: [0, 2]}
    - {factor: sma_ratio, fast: [3, 4], slow: [6, 9]}
  n: {start: 1, stop: 3, step: 1}
  weight: equal
  rebalance: [5, 10, month_end]
costs: {commission_bps: [0, 5], half_spread_bps: [0, 1], slippage_bps: 1, borrow_rate: 0.01}
zip: [[costs.commission_bps, costs.half_spread_bps]]
where: "n < signal.lookback or signal.fast < signal.slow"
fill: next_open
sizing: decision
cash: 1_000_000
limits: {lot: 1, lot_rounding: down, band: 0.002, max_wait: 5, max_weight: 0.5, participation: 0.05}
rules: {stop_loss: [0, 0.1], trailing: 0.15, max_bars: 120, cooldown: 5}
profile: default
keep: {equity: {top: 2, by: calmar}}
""",
    """\
panel: panel
strategy:
  - {kind: TopN, signal: {factor: rsi, lookback: [7, 14]}, n: [1, 2]}
  - {kind: CrossOver, fast: 3, slow: [6, 9], slots: 2}
  - {kind: TopN, signal: {factor: expr, sql: "close / open - 1"}, n: 1}
costs: &c
  - {commission_bps: 10}
  - {per_share: 0.005, min_commission: 1.0, half_spread_bps: 2}
events: [true, false]
""",
)

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 5e-324, 10**18, 2**63, -(2**63), 10**30, "", " ", "x",
    "all", "auto", "momentum", "TopN", "n", "5", "on", "2021-02-30", "2021-03-01", ".inf", ".nan", "-.inf",
    "~", "=", "<<", "*a", "&a 1", "!!python/name:os.system", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]",
    "!!timestamp 2021-01-01", "../../etc/passwd", "/dev/null", "panel/", "s3://x/y", "file:///x", "a:b:c",
    "os:system", "this:s", "%s{}{0}$x`id`", "[red]x[/red]", "\x1b[31m", "\u202e", "é" * 50, "x" * 3000,
    "close + ", "close / 0", "close.rolling(", "n < n < n", "not " * 60 + "n", "(" * 300, "n ** n ** n",
    "9" * 30, "0x" + "f" * 30, "1e400", "static:tag", "static:", "month_end", [], {}, [[]], [None], [1, 1],
    [1, "a"], {"axis": []}, {"axis": [1, 2]}, {"start": 0, "stop": 1, "step": 0},
    {"start": 0, "stop": 1e18, "step": 1}, {"start": 1, "stop": -5, "step": -0.1}, {"kind": "TopN"},
    {"factor": "x"}, {"by": "tag"}, {"each": "symbol"}, {"draw": 10**6, "size": 10**6, "seed": 1}, {None: 1},
    {1: 2}, {"a": {"b": {"c": {}}}},
)  # fmt: skip

VERBS = (
    ("plan",), ("sweep",), ("run",), ("report",), ("panel",), ("study",),
    *(("panel", verb) for verb in ("build", "append", "attach", "compact", "info", "check")),
    *(("study", verb) for verb in ("top", "replay", "ls", "show", "export")),
    *(("study", verb) for verb in ("verify", "repair", "explain", "compact", "diff", "shift")),
)  # fmt: skip
"""Not demo and doctor, which are long, and never Ray: a cluster in each fork proves nothing about words."""

OPTIONS = (
    "--json", "--help", "--store", "--workers", "--limit", "--resume", "--no-resume", "--extend",
    "--retry-failed", "--dedup", "--no-dedup", "--profile", "--by", "-n", "--sweep", "--equity", "--fills",
    "--trades", "--plot", "--report", "--out", "--on-fault", "--ends", "--calendar", "--bars-per-year",
    "--date-format", "--separator", "--decimal", "--symbol", "--column", "--zone", "--field", "--context",
    "--static", "--universe", "--available", "--lag", "--sample", "--dry-run", "--snapshot", "--deadline",
    "--version", "-h", "--", "-", "--nope", "--json=1", "--limit=x", "-n-1",
)  # fmt: skip
WORDS = (
    "spec.yaml", "panel", "study", "prices.csv", "members.csv", "none", "", ".", "..", "-", "0", "1", "-1",
    "3", "99999999", "1e9", "nan", "inf", "x=y", "x=prices.csv", "tag=tags.csv", "few=members.csv", "=",
    "a=b=c", "strict", "report", "sharpe", "NYSE", "XNYS", "UTC", "Mars/X", "%d/%m/%Y", "excel", ";", ",,",
    "\t", "out.csv", "out.parquet", "out.svg", "out.html", "out", "none/out.csv", "s3://b/p", "ftp://x",
    "*.csv", "[", "[red]", "\x1b[31m", "\u202e", "\udcff", "é", "x" * 300, "x" * 5000, "000001", "trials",
    "5d", "-5d", "1000000w", "{}", "%s", "--", "2021-01-01", "inline",
)  # fmt: skip


def cases() -> int:
    """After how many seeds the suite is complete."""
    return CASES


def one(seed: int) -> str | None:
    """Return what is wrong with a seed's command, run in a fork."""
    return forks.look(__name__, [seed]).get(seed)


def warm() -> None:
    """Load all packages and the kernel."""
    import pyarrow.parquet  # noqa: F401

    from backtest_farm.engine import warm as compiled

    compiled.compile_once()
    compiled._run_everything()
    outcome(["--version"], Path())


def prepare(template: Path) -> None:
    """Make a panel and a small study."""
    from tests.cli.conftest import prices

    (template / "prices.csv").write_text(prices())
    (template / "members.csv").write_text("symbol,start_date,end_date\nAAA,2021-01-01,\nCCC,2021-01-01,\n")
    (template / "tags.csv").write_text("symbol,tag\nAAA,x\nB[red],y\nCCC,y\nDDD,x\n")
    (template / "spec.yaml").write_text(SPECS[0])
    for words in (
        "panel build prices.csv panel",
        "panel attach panel --universe few=members.csv --static tag=tags.csv",
        "sweep spec.yaml --store study --executor inline",
    ):
        code, said = outcome(words.split(), template)
        assert code == 0, said


def examine(seed: int, template: Path, room: Path) -> str | None:
    """Run one fuzzed command and say what is wrong with how it ended."""
    rng = Random(seed)
    folder = room / "here"
    if rng.random() < 0.7:
        folder.mkdir()
        (folder / "panel").symlink_to(template / "panel")  # which is only read
        (folder / "spec.yaml").write_bytes(_spec(rng))
        verb = rng.choices(("plan", "run", "sweep"), (6, 1, 1))[0]
        words = [verb, "spec.yaml", *(["--json"] if rng.random() < 0.3 else [])]
        words += {
            "plan": [],
            "run": [],
            "sweep": ["--store", "new", "--executor", "inline", "--limit", "20"],
        }[verb]
    else:
        shutil.copytree(template, folder)
        words = _words(rng)
    return trouble(words, *outcome(words, folder))


def _spec(rng: Random) -> bytes:
    """A sweep file that is not what it was: other values, other keys, other bytes."""
    from ruamel.yaml import YAML

    text = rng.choice(SPECS)
    if rng.random() < 0.3:
        return _letters(rng, text)
    tree = YAML(typ="safe", pure=True).load(text)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _change(rng, tree)
    written = _flow(tree)
    return written.encode("utf-8", "surrogatepass") if rng.random() < 0.9 else _letters(rng, written)


def _letters(rng: Random, text: str) -> bytes:
    """Change letters; most of what comes of that is still text."""
    changed = mutated(rng, text.encode())
    return changed if rng.random() < 0.1 else changed.decode("utf-8", "ignore").replace("\0", "").encode()


def _change(rng: Random, tree: Any) -> None:
    above, places = tree, []
    while isinstance(above, dict | list) and above:
        key = rng.choice([*above] if isinstance(above, dict) else range(len(above)))
        places.append((above, key))
        above = above[key]
    if not places:  # nothing is left
        return
    above, key = places[-1] if rng.random() < 0.6 else rng.choice(places)
    odd = deepcopy(rng.choice(ODD))
    match rng.randrange(6):
        case 0 if isinstance(above, dict):
            other = f"{key}x" if rng.random() < 0.5 else rng.choice(("n", "of", "axis", "start"))
            above[other] = above.pop(key)
        case 1:
            del above[key]
        case 2:
            above[key] = [above[key], odd]
        case 3 if isinstance(above, dict):
            above[rng.choice(("kind", "signal", "filter", "universe", "where", "zip", "seed"))] = odd
        case _:
            above[key] = odd


def _flow(value: Any) -> str:
    """Write a tree as YAML in braces, short text bare: what it means is left to the reader."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"? {_flow(key)}\n: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if (
        isinstance(value, str)
        and value[:1] not in tuple("!&*.<~=")
        and (len(value) > 4 or not value.isalnum())
    ):
        return json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _words(rng: Random) -> list[str]:
    words = [*rng.choice(VERBS)]
    if rng.random() < 0.7:  # what most verbs want first
        words.append({"panel": "panel", "study": "study", "report": "study"}.get(words[0], "spec.yaml"))
    own = _own_options(tuple(words[:2]))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
        if rng.random() < 0.8:
            words.append(rng.choice(own if rng.random() < 0.9 else OPTIONS))
            words += [rng.choice(WORDS)] * (rng.random() < 0.6)
        else:
            words.append(rng.choice(WORDS))
    if rng.random() < 0.1:
        rng.shuffle(words)
    return [*words, *(["--executor", "inline"] if words[0] == "sweep" else [])]


def _own_options(words: tuple[str, ...]) -> list[str]:
    """The options that a verb has, and that end well: no cluster is started or looked for."""
    node: Any = typer.main.get_command(app)
    for word in words:
        node = getattr(node, "commands", {}).get(word, node)
    own = [option for parameter in node.params for option in parameter.opts if option.startswith("-")]
    return [option for option in own if option not in ("--executor", "--address")] or ["--help"]
