"""Factor fields: the same bytes however they are cut, kept once a node, and never from the future."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm import factor
from backtest_farm.errors import InputError
from backtest_farm.factors import fields, stored
from backtest_farm.factors.fields import factor_field
from backtest_farm.panel import Panel, synthetic_panel
from tests.factors.held import HeldPanel, market

EVERY = {
    "momentum": factor.momentum(10, 2),
    "reversal": factor.reversal(3),
    "volatility": factor.volatility(9),
    "sma_ratio": factor.sma_ratio(3, 12),
    "ema_ratio": factor.ema_ratio(3, 12),
    "rsi": factor.rsi(5),
    "beta": factor.beta(11, "index"),
    "mean": factor.mean("score", 6),
    "atr": factor.atr(5),
    "zscore": factor.zscore("score"),
    "zscore over time": factor.zscore("close", 8),
    "rank": factor.rank("score"),
    "field": factor.field("score"),
    "expr": factor.expr("close / open - 1"),
    "expr over time": factor.expr(
        pl.col("close").rolling_mean(5) / pl.col("context:index").shift(2), lookback=4
    ),
}
every = pytest.mark.parametrize("chosen", EVERY.values(), ids=EVERY)


def values(panel, chosen, stop: int | None = None) -> np.ndarray:
    return factor_field(panel, chosen, stop or panel.shape[0]).values


def test_every_factor_is_tried_here() -> None:
    assert {chosen.factor for chosen in EVERY.values()} == set(factor.__all__)


@every
@pytest.mark.parametrize("pieces", [1, 7, 50])
def test_pieces_change_no_byte(chosen, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = market(n_assets=19)
    whole = values(panel, chosen).tobytes()
    monkeypatch.setenv("BACKTEST_FARM_CACHE", os.environ["BACKTEST_FARM_CACHE"] + "-pieces")
    across = chosen.factor in ("rank", "field") or chosen == factor.zscore("score")
    monkeypatch.setattr(fields, "PIECE_BYTES", 8 * pieces * panel.shape[1 if across else 0])
    assert values(panel, chosen).tobytes() == whole


@every
def test_a_value_never_depends_on_later_bars(chosen) -> None:
    panel, cut = market(), 130
    other = market(seed=1)
    for name, given in other.fields.items():
        given[:cut] = panel.fields[name][:cut]
    other.contexts["index"][:cut] = panel.contexts["index"][:cut]
    one, two = values(panel, chosen), values(other, chosen)
    assert one[:cut].tobytes() == two[:cut].tobytes()
    assert one[cut:].tobytes() != two[cut:].tobytes()
    # Nor on whether there are later ones: appended bars leave the old values as they were.
    assert values(panel, chosen, cut).tobytes() == one[:cut].tobytes()
    assert np.isfinite(one[:cut]).mean() > 0.3


@every
def test_float32_fields_are_widened(chosen) -> None:
    panel = market()
    narrow = {name: given.astype(np.float32) for name, given in panel.fields.items()}
    wide = {name: given.astype(np.float64) for name, given in narrow.items()}
    one = values(HeldPanel(panel.contexts, **narrow), chosen)
    assert one.dtype == np.float64
    assert one.tobytes() == values(HeldPanel(panel.contexts, **wide), chosen).tobytes()


@every
def test_warmup_is_the_first_bar_with_a_value(chosen) -> None:
    rng = np.random.default_rng(0)
    close = np.exp(rng.normal(0, 0.02, (40, 3)).cumsum(axis=0))
    prices = {"open": close * 2, "high": close * 3, "low": close, "close": close, "score": close}
    panel = HeldPanel({"index": close[:, 0] * 2}, **prices)
    first = int(np.isfinite(values(panel, chosen)).any(axis=1).argmax())
    assert first == (
        chosen.warmup if chosen.factor != "expr" else {True: 4, False: 0}["rolling" in chosen.sql.lower()]
    )


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Panel]:
    """One market, built from its rows in several orders, and in two parts."""
    held, folder = market(n_bars=80), tmp_path_factory.mktemp("panels")
    rows, moment = table(held), held.timestamps[50]
    index = pl.DataFrame({"timestamp": held.timestamps, "index": held.contexts["index"]}).drop_nans()

    def built(name: str, some: pl.DataFrame) -> Panel:
        return Panel.build(some, folder / name).with_context("index", index)

    first = built("parts", rows.filter(pl.col("timestamp") < moment))
    rest = rows.filter(pl.col("timestamp") >= moment)
    return {
        "straight": built("straight", rows),
        "shuffled": built("shuffled", rows.sample(fraction=1.0, shuffle=True, seed=4)),
        "backwards": built("backwards", rows.reverse()),
        "first": first,
        "appended": first.append(rest).with_context("index", index),
    }


def table(panel: HeldPanel) -> pl.DataFrame:
    """The bars of a panel as a table, without those that are missing."""
    n_bars, n_assets = panel.shape
    close = panel.fields["close"].reshape(-1)
    parts = {"open": 1.01, "high": 1.02, "low": 0.99, "close": 1.0}
    bars = {name: close * part for name, part in parts.items()} | {"score": panel.fields["score"].reshape(-1)}
    keys = {"timestamp": panel.timestamps.repeat(n_assets), "symbol": list(panel.symbols) * n_bars}
    return pl.DataFrame({**keys, **bars}).filter(pl.col("close").is_not_nan())


@every
def test_the_order_of_input_rows_changes_nothing(chosen, panels: dict[str, Panel]) -> None:
    want = values(panels["straight"], chosen)
    assert np.isfinite(want).sum() > 30
    assert values(panels["shuffled"], chosen).tobytes() == want.tobytes()
    assert values(panels["backwards"], chosen).tobytes() == want.tobytes()


@every
def test_bars_appended_to_a_panel_leave_old_values_alone(chosen, panels: dict[str, Panel]) -> None:
    old = values(panels["first"], chosen)
    n_bars, n_assets = old.shape
    longer = values(panels["appended"], chosen)
    assert longer.shape[0] > n_bars == 50
    assert np.ascontiguousarray(longer[:50, :n_assets]).tobytes() == old.tobytes()
    assert longer.tobytes() == values(panels["straight"], chosen).tobytes()


def files(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_built_once_and_mapped_from_then_on(cache: Path) -> None:
    panel = market()
    first = factor_field(panel, factor.momentum(10, 2), 150)
    again = factor_field(panel, factor.momentum(10, 2), 150)
    assert (first.fresh, again.fresh) == (True, False)
    assert first.values.tobytes() == again.values.tobytes()
    for field in (first, again):
        assert field.values.shape == (150, panel.shape[1])
        assert not field.values.flags.writeable
        assert field.values.ctypes.data % 64 == 0
        assert isinstance(field.values.base, np.memmap) or isinstance(field.values.base.base, np.memmap)
    (file,) = files(cache)
    assert file.stat().st_size == 64 + first.values.nbytes
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "other", [factor.momentum(11, 2), factor.momentum(10, 3), factor.reversal(10), factor.expr("close")]
)
def test_another_factor_is_another_field(other) -> None:
    panel = market()
    factor_field(panel, factor.momentum(10, 2), 150)
    assert factor_field(panel, other, 150).fresh
    assert factor_field(panel, factor.momentum(10, 2), 149).fresh


def test_the_key_names_what_is_read_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, chosen = market(), factor.momentum(10, 2)
    factor_field(panel, chosen, 150)
    panel.fields["score"][3, 3] = 77.0
    panel.contexts["index"][10] = 1.0
    panel.fields["close"][150:] = 1.0
    assert not factor_field(panel, chosen, 150).fresh
    panel.fields["close"][149, 0] = 1.0
    assert factor_field(panel, chosen, 150).fresh
    # Rankings hold asset ids: another symbol at an id is another field, whatever its values.
    panel.symbols = ("A", *panel.symbols[1:])
    assert factor_field(panel, chosen, 150).fresh
    monkeypatch.setattr(fields, "RESULT_EPOCH", -1)
    assert factor_field(panel, chosen, 150).fresh


def test_a_version_of_polars_is_part_of_an_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = market()
    factor_field(panel, factor.expr("close"), 150)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    assert factor.expr("close").versions == {"polars": "0.1"}
    assert factor_field(panel, factor.expr("close"), 150).fresh


@pytest.mark.parametrize("damage", ["a value", "the hash", "cut", "empty", "gone"])
def test_a_damaged_file_is_built_again(cache: Path, damage: str) -> None:
    panel, chosen = market(), factor.momentum(10, 2)
    want = factor_field(panel, chosen, 150).values.tobytes()
    (file,) = files(cache)
    good = file.read_bytes()
    bad = bytearray(good)
    bad[5 if damage == "the hash" else len(bad) // 2] ^= 1
    file.write_bytes({"cut": good[:-8], "empty": b""}.get(damage, bytes(bad)))
    if damage == "gone":
        file.unlink()
    again = factor_field(panel, chosen, 150)
    assert again.fresh
    assert again.values.tobytes() == want
    assert file.read_bytes() == good


def test_a_field_in_use_outlives_its_file(cache: Path) -> None:
    got = factor_field(market(), factor.field("score"), 150).values
    want = got.tobytes()
    for file in files(cache):
        file.unlink()
    assert got.tobytes() == want


@pytest.mark.parametrize("why", ["no folder", "no space", "no lock", "somebody else's"])
def test_without_a_cache_it_is_computed_in_memory(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    panel, chosen = market(), factor.momentum(10, 2)
    want = factor_field(panel, chosen, 150).values.tobytes()
    (tmp_path / "file").write_text("")

    def refuse(*_: object) -> None:
        raise OSError(28, "no")

    if why == "no folder":
        monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "file" / "below"))
    else:
        monkeypatch.setenv("BACKTEST_FARM_CACHE", str(tmp_path / "other"))
        target = {"no space": (os, "posix_fallocate"), "no lock": (stored, "FileLock")}
        if why in target:
            monkeypatch.setattr(*target[why], refuse)
        else:
            monkeypatch.setattr(os, "getuid", lambda: -5)
    for _ in range(2):
        field = factor_field(panel, chosen, 150)
        assert field.fresh
        assert field.values.tobytes() == want
        assert not field.values.flags.writeable
    assert not (tmp_path / "other").exists() or files(tmp_path / "other" / "factors") == []


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    with pytest.raises(InputError, match="looks ahead"):
        factor_field(market(), factor.expr(pl.col("close").shift(-1)), 150)
    assert files(cache) == []


def test_the_oldest_go_when_the_cache_is_full(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = market()
    for lookback in range(2, 6):
        factor_field(panel, factor.reversal(lookback), 150)
        (newest,) = [path for path in files(cache) if path.stat().st_mtime_ns > 10**18]
        os.utime(newest, (lookback, lookback))
    monkeypatch.setattr(stored, "CACHE_BYTES", 2 * files(cache)[0].stat().st_size)
    factor_field(panel, factor.reversal(6), 150)
    assert len(files(cache)) == 2
    assert [factor_field(panel, factor.reversal(n), 150).fresh for n in (6, 5, 2)] == [False, False, True]


_BUILD = """
from backtest_farm import Panel, factor
panel = Panel.open(sys.argv[2])
print(sum(factor_field(panel, factor.reversal(lookback), 100).fresh for lookback in range(2, 30)))
"""


def finished(program: subprocess.Popen) -> list[str]:
    out, errors = program.communicate(timeout=240)
    assert program.returncode == 0, errors
    return out.splitlines()


def test_of_several_processes_one_builds(tmp_path: Path, start: Callable) -> None:
    panel = synthetic_panel(tmp_path / "panel", n_bars=120, n_assets=20, seed=1)
    racers = [start(_BUILD, panel.path) for _ in range(2)]
    assert sum(int(finished(racer)[0]) for racer in racers) == 28


_BYTES = """
import hashlib
from tests.factors.held import market
from tests.factors.test_fields import EVERY
panel = market()
for name, chosen in EVERY.items():
    print(name, hashlib.sha256(factor_field(panel, chosen, 190).values.tobytes()).hexdigest())
"""


def test_interpreted_gives_the_same_bytes(tmp_path: Path, start: Callable) -> None:
    interpreted = finished(start(_BYTES, NUMBA_DISABLE_JIT="1"))
    panel = market()
    assert interpreted == [
        f"{name} {hashlib.sha256(values(panel, chosen, 190).tobytes()).hexdigest()}"
        for name, chosen in EVERY.items()
    ]


_SMALL = """
import resource
import numpy as np
from backtest_farm.factors import fields
from tests.factors.held import HeldPanel, market
from tests.factors.test_fields import EVERY

fields.PIECE_BYTES = 2**19
n_bars, n_assets = 1000, 6000
close = np.memmap(sys.argv[2], np.float64, "r", shape=(n_bars, n_assets))
panel = HeldPanel({"index": np.linspace(1, 2, n_bars)}, close=close, open=close, score=close)
panel.digest = lambda *_: "0"
for name, chosen in EVERY.items():  # compiled and imported before memory is counted
    factor_field(market(), chosen, 20)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + 44 * 2**20,) * 2)
try:
    np.ones((n_bars, n_assets))
except MemoryError:
    print("limited")
for name in ("momentum", "beta", "rank", "expr"):
    field = factor_field(panel, EVERY[name], n_bars)
    print(field.fresh, int(np.isfinite(field.values[::100]).sum()))
"""


def test_memory_does_not_grow_with_the_panel(tmp_path: Path, start: Callable) -> None:
    """48 MB a field, with 44 MB to compute in."""
    rng = np.random.default_rng(0)
    with (tmp_path / "close").open("wb") as file:
        for _ in range(10):
            rng.uniform(1, 2, (100, 6000)).tofile(file)
    limited, *built = finished(start(_SMALL, tmp_path / "close"))
    assert limited == "limited"
    assert [line.split()[0] for line in built] == ["True"] * 4
    assert all(int(line.split()[1]) > 45_000 for line in built), built
