"""A few races, and that they would notice."""

from __future__ import annotations

from pathlib import Path

from backtest_farm.storage import LocalStorage
from backtest_farm.store import CommitLog
from tests.soak import races


def test_ten_races_make_ten_histories() -> None:
    found = {seed: races.race(seed) for seed in range(10)}
    assert {seed: one.wrong for seed, one in found.items() if one.wrong} == {}
    assert sum(one.winners > 1 for one in found.values()) >= 5, "they did race"


def test_a_double_commit_and_a_foreign_row_are_noticed(tmp_path: Path) -> None:
    spec = {"seed": 1, "per_atom": races.PER_ATOM, "error_rows": [], "impure": []}
    driver = races.Driver(spec, 3, mended=False)
    assert races._run([driver, driver], tmp_path) == [] == [*races._faults([driver], tmp_path)]
    other = races.Driver({**spec, "first_key": 1}, 3, mended=False)
    assert "other rows" in next(races._faults([other], tmp_path))
    log = CommitLog(LocalStorage(tmp_path))
    records = list(log.news())
    assert log.append({name: records[1][name] for name in ("kind", "sweep", "fragments")})
    assert "more than once" in next(races._faults([driver], tmp_path))


def test_what_a_driver_complains_about_is_told(tmp_path: Path) -> None:
    broken = races.Driver({"seed": 1, "per_atom": 2, "raises": [1], "impure": []}, 3, mended=False)
    assert any("1 of 3 atoms failed" in said for said in races._run([broken], tmp_path))
