"""Trials that raise, abort, hang or eat the memory, among healthy ones, on Ray."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from backtest_farm.store import StudyStore
from tests.farm.cases import FakeSweep, run, sweep
from tests.soak.kills import node

TITLE = "1 %, half and all of 1,000 trials raise, abort, hang or eat the memory: exactly those flagged"
N_TRIALS, PER_ATOM = 1000, 50
DEADLINE = 3.0
"""Seconds; enough for 50 healthy trials on a machine with much else to do."""
HOWS = {"raises": "error", "SIGABRT": "crashed", "hang": "timeout", "eat": "oom"}
"""What bad trials do, and the status that they get."""
SHARES = (0.01, 0.5, 1.0)


def cases() -> int:
    """Return after how many seeds every way to fail was seen with every share of bad trials."""
    return len(HOWS) * len(SHARES)


def one(seed: int) -> str | None:
    """Run a sweep with bad trials, and say which are not as they should be."""
    how = [*HOWS][seed % len(HOWS)]
    return with_bad(how, round(N_TRIALS * SHARES[seed // len(HOWS) % len(SHARES)]), seed)


def with_bad(how: str, n_bad: int, seed: int) -> str | None:
    """Run 1,000 trials of which some are bad in one way."""
    bad = sorted(Random(seed).sample(range(N_TRIALS), n_bad))
    spec = {"error_rows": bad} if how == "raises" else {"ends": dict.fromkeys(map(str, bad), how)}
    with tempfile.TemporaryDirectory() as name:
        healthy = _sweep(Path(name) / "healthy")
        run(healthy)
        want = _rows(healthy)
        odd = _sweep(Path(name) / "odd", **spec)
        run(odd, executor=node(), deadline=DEADLINE if how == "hang" else None)
        have = _rows(odd)
    flagged = [number for number, row in have.items() if row["status"] != "ok"]
    if flagged != bad or {have[number]["status"] for number in bad} != {HOWS[how]}:
        wrongly = len({*flagged} - {*bad})
        return f"{how}: flagged are {len(flagged)} instead of {n_bad}, of them {wrongly} wrongly"
    if any(have[number] != row for number, row in want.items() if number not in bad):
        return f"{how}: a healthy trial has another row"
    return None


def _sweep(store: Path, **spec) -> FakeSweep:
    return sweep(store, N_TRIALS // PER_ATOM, per_atom=PER_ATOM, **spec)


def _rows(one: FakeSweep) -> dict[int, dict]:
    rows = [row for table in StudyStore.open(one.store).tables() for row in table.to_pylist()]
    found = {row["trial"]: row for row in rows}
    assert [*found] == list(range(N_TRIALS)) and len(rows) == N_TRIALS
    return found
