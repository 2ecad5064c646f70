"""Hostile files: nobody dies of them, nobody is shown a traceback, and no panel changes without a word.

A mutated file of somebody else may be a good file with other values: it is read, or refused in words. In a
panel every changed byte of a snapshot or a block is found by ``panel check``; whoever reads the panel without
that gets the bars that were written, or an error.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from backtest_farm.errors import FarmError
from tests.soak import forks
from tests.soak.command import outcome, trouble
from tests.soak.mutation import mutated

TITLE = "hostile panels, Parquet and CSV files: deaths, tracebacks, silent changes"
CASES = 10_000

_CELLS = (
    "", "NaN", "inf", "-1", "1e999", "0", "9" * 400, "=1+1", "\x1b[31m", '"', '""', "'", "\\", "\u202e",
    "\ufeff", "2021-02-30", "2021-13-01", "99999-01-01", "0000-00-00", "1/2/3", "1970-01-01T00:00:00+99:99",
    "1,5", "1.234,5", "#N/A", "null", "A" * 5000, ",,,,", ";", "\t", "timestamp", "\0", "é", "[red]",
    "2021-01-04 24:61:61", "1e-400",
)  # fmt: skip


def cases() -> int:
    """After how many seeds the suite is complete."""
    return CASES


def one(seed: int) -> str | None:
    """Return what is wrong with a seed's file, looked at in a fork."""
    return forks.look(__name__, [seed]).get(seed)


def warm() -> None:
    """Load what the cases need."""
    import polars  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import backtest_farm.ingest.audit
    import backtest_farm.ingest.readers
    import backtest_farm.panel.writing  # noqa: F401

    outcome(["--version"], Path())


def prepare(template: Path) -> None:
    """Make the files that are then mutated, and a panel."""
    import polars as pl
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    days = np.arange(np.datetime64("2021-01-04"), np.datetime64("2021-03-05"))
    symbols = ["AAA", "BBB", "CCC", "DDD"]
    close = 100.0 + rng.normal(size=len(days) * 4)
    frame = pl.DataFrame(
        {
            "timestamp": np.repeat(days, 4), "symbol": symbols * len(days), "open": close + 0.1,
            "high": close + 1.0, "low": close - 1.0, "close": close, "volume": np.full(len(close), 1000),
        }
    )  # fmt: skip
    frame.write_csv(template / "plain.csv")
    text = (template / "plain.csv").read_text()
    (template / "semicolon.csv").write_text(text.replace(",", ";").replace(".", ","))
    (template / "wide16.csv").write_text(text, encoding="utf-16")
    (template / "quoted.csv").write_text(
        "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines())
    )
    frame.write_parquet(template / "polars.parquet")
    odd = frame.with_columns(
        pl.col("symbol").cast(pl.Categorical), pl.col("timestamp").cast(pl.Datetime("ns"))
    )
    pq.write_table(odd.to_arrow(), template / "snappy.parquet", compression="snappy", row_group_size=50)
    pq.write_table(
        frame.with_columns(tags=pl.lit([1, 2])).to_arrow(), template / "v1.parquet",
        compression="gzip", data_page_version="1.0", version="1.0", use_dictionary=False,
    )  # fmt: skip
    frame.filter(pl.col("timestamp") < days[30]).write_parquet(template / "early.parquet")
    for words in (
        ["panel", "build", "early.parquet", "panel"],
        ["panel", "append", "panel", "polars_late.parquet"],
    ):
        if words[1] == "append":
            frame.filter(pl.col("timestamp") >= days[30]).write_parquet(template / "polars_late.parquet")
        code, said = outcome(words, template)
        assert code == 0, said
    np.savez(template / "bars.npz", **_bars(template / "panel"))


def _bars(path: Path) -> dict[str, Any]:
    from backtest_farm import Panel

    panel = Panel.open(path)
    found = {name: np.array(panel[name]) for name in panel.fields}
    return found | {"timestamps": panel.timestamps.astype(np.int64), "symbols": np.array(panel.symbols)}


def examine(seed: int, template: Path, room: Path) -> str | None:
    """Mutate one thing, use it, and say what is wrong with what came of that."""
    rng = Random(seed)
    match rng.choices(("csv", "parquet", "panel"), (5, 1, 4))[0]:
        case "csv":
            return _foreign(rng, template, room, "csv")
        case "parquet":
            return _foreign(rng, template, room, "parquet")
        case _:
            return _own(rng, template, room)


def _foreign(rng: Random, template: Path, room: Path, kind: str) -> str | None:
    source = rng.choice(sorted(template.glob(f"*.{kind}")))
    text = source.read_bytes()
    changed = _other_cells(rng, text) if kind == "csv" and rng.random() < 0.5 else mutated(rng, text, True)
    name = f"bad.{kind}"
    if kind == "csv" and rng.random() < 0.1:
        name, changed = "bad.csv.gz", gzip.compress(changed, 1)
        changed = mutated(rng, changed) if rng.random() < 0.5 else changed
    (room / name).write_bytes(changed)
    fault = ["--on-fault", rng.choice(("strict", "report"))]
    commands = [["panel", "build", name, "made", *fault], ["panel", "check", name]]
    if rng.random() < 0.4:
        shutil.copytree(template / "panel", room / "panel")
        commands += [
            ["panel", "append", "panel", name, *fault],
            *(
                ["panel", "attach", "panel", f"--{what}", f"x={name}"]
                for what in ("field", "context", "static", "universe")
            ),
            ["panel", "attach", "panel", "--ends", name],
        ]
    words = rng.choice(commands)
    code, said = outcome(words, room)
    return trouble(words, code, said)


def _other_cells(rng: Random, text: bytes) -> bytes:
    encoding = "utf-16" if text.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    lines = text.decode(encoding).splitlines()
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = 0 if rng.random() < 0.2 else rng.randrange(len(lines))
        separator = ";" if ";" in lines[at] else ","
        cells = lines[at].split(separator)
        cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
        match rng.randrange(8):
            case 0:
                cells.pop(rng.randrange(len(cells)))
            case 1:
                cells.append(rng.choice(_CELLS))
            case 2:
                lines.insert(at, lines[rng.randrange(len(lines))])
        lines[at] = separator.join(cells)
    return rng.choice(("\n", "\n", "\r\n", "\r")).join(lines).encode(encoding, "replace")


def _own(rng: Random, template: Path, room: Path) -> str | None:
    shutil.copytree(template / "panel", room / "panel")
    files = sorted(path for path in (room / "panel").rglob("*.*") if path.is_file())
    path = rng.choice(files)
    text = path.read_bytes()
    path.write_bytes(
        _other_json(rng, text) if path.suffix == ".json" and rng.random() < 0.5 else mutated(rng, text)
    )
    needed = path.parent.name == "blocks" or path == max((room / "panel" / "snapshots").iterdir())
    words = ["panel", "check", "panel"]
    code, said = outcome(words, room)
    wrong = trouble(words, code, said)
    if wrong is None and needed and code == 0:
        return f"a changed {path.relative_to(room)} passes panel check"
    if wrong is None:
        words = rng.choice(
            (["panel", "info", "panel"], ["panel", "compact", "panel"], ["panel", "append", "panel", "x.csv"])
        )
        wrong = trouble(words, *outcome(words, room))
    if wrong is not None:
        return wrong
    try:
        found = _bars(room / "panel")
    except FarmError:
        return None
    with np.load(template / "bars.npz") as whole:
        same = set(found) == set(whole) and all(
            np.array_equal(found[name], whole[name], equal_nan=found[name].dtype.kind == "f")
            for name in found
        )
    return None if same else f"after a change of {path.relative_to(room)} other bars are read, without a word"


def _other_json(rng: Random, text: bytes) -> bytes:
    """Change one value somewhere in a document that stays a document."""
    document = json.loads(text)
    where, places = document, []
    while isinstance(where, dict | list) and where:
        key = rng.choice([*where] if isinstance(where, dict) else range(len(where)))
        places.append((where, key))
        where = where[key]
    above, key = rng.choice(places or [(document, "x")])
    above[key] = rng.choice(
        (None, -1, 2**70, 1e308, "", "x" * 999, [], {}, [[[]]], True, "../../etc", "\0", rng.random())
    )
    return json.dumps(document, separators=(",", ":")).encode()
