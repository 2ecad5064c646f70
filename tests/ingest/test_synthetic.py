"""The synthetic market: the same bytes for the same seed, and every event often enough to test with."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest

from backtest_farm.errors import InputError
from backtest_farm.ingest import NO_END, Grid, synthetic_grid
from backtest_farm.ingest.grid import lives
from backtest_farm.ingest.synthetic import HORIZON, SECTORS, SyntheticMarket
from tests.ingest.bars import survey


@pytest.fixture(scope="module")
def market() -> Grid:
    return synthetic_grid(2520, 500, 0)


def content(grid: Grid) -> str:
    whole = hashlib.sha256(repr((grid.symbols, grid.statics)).encode())
    for values in (grid.timestamps, *grid.ends, *grid.fields.values()):
        whole.update(values.tobytes())
    return whole.hexdigest()


def test_a_seed_is_a_market() -> None:
    assert content(synthetic_grid(300, 40, 7)) == content(synthetic_grid(300, 40, 7))
    assert content(synthetic_grid(300, 40, 7)) != content(synthetic_grid(300, 40, 8))


@pytest.mark.parametrize("n_bars", [1, 20, 22, 97])
def test_blocks_of_any_size_make_the_same_market(monkeypatch: pytest.MonkeyPatch, n_bars: int) -> None:
    monkeypatch.setattr("backtest_farm.ingest.synthetic._CELLS", 700)
    made = SyntheticMarket(97, 60, 3)
    monkeypatch.undo()
    whole = synthetic_grid(97, 60, 3)
    assert (made.ends.bar != NO_END).any(), "no life ends, so that no payout is compared"
    for size in {n_bars, 5}:  # twice, as a market can be made again
        blocks = list(made.blocks(size))
        assert [first for first, _ in blocks] == list(range(0, 97, size))
        fields = {name: np.concatenate([fields[name] for _, fields in blocks]) for name in made.fields}
        again = Grid(made.timestamps, made.symbols, fields, made.statics, made.ends)
        assert content(again) == content(whole)


def test_a_market_of_any_length_is_made_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backtest_farm.ingest.synthetic._CELLS", 2**15)
    peaks = []
    for n_bars in (2_000, 6_000):  # 5 and 14 MB a field
        tracemalloc.start()
        for _first, fields in SyntheticMarket(n_bars, 300).blocks(100):
            del fields
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 9e6 and peaks[1] - peaks[0] < 1e6, peaks


def test_global_random_state_is_not_touched() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    synthetic_grid(10, 5, 1)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_every_event_occurs_often(market: Grid) -> None:
    report = survey(market, "market")
    ended = market.ends.bar != NO_END
    close = market.fields["close"]
    last = close[np.where(ended, market.ends.bar, 0), np.arange(500)]
    ratio = market.ends.payout / last
    events = {
        "late listings": report.counts["late_listing"],
        "gap bars": report.counts["gap"],
        "names with gaps": report.tally("gap").symbols,  # type: ignore[union-attr]
        "ends of life": int(ended.sum()),
        "moves beyond 5 sigma": int((np.abs(standard(np.diff(np.log(close), axis=0))) > 5).sum()),
        "wild days": int((np.abs(np.nanmean(np.diff(np.log(close), axis=0), axis=1)) > 0.02).sum()),
    }
    rare = {
        "busts": int((ratio < 0.1).sum()),
        "takeovers": int((ratio >= 1).sum()),
        "marks": int(np.isnan(ratio[ended]).sum()),
    }
    print(events, rare)
    assert min(events.values()) >= 20, events
    assert min(rare.values()) >= 5, rare


def standard(values: np.ndarray) -> np.ndarray:
    return (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)


def test_bars_are_sound(market: Grid) -> None:
    counts = survey(market, "market").counts
    assert set(counts) <= {"gap", "late_listing"}  # so: brackets hold, no shifts, no unknown ends
    present = ~np.isnan(market.fields["close"])
    for name, values in market.fields.items():
        np.testing.assert_array_equal(~np.isnan(values), present, err_msg=name)
    for name in ("open", "high", "low", "close", "volume"):
        assert (market.fields[name][present] > 0).all()


def test_an_end_of_life_is_the_last_bar(market: Grid) -> None:
    last = lives(market.fields["close"]).last
    ended = market.ends.bar != NO_END
    np.testing.assert_array_equal(market.ends.bar[ended], last[ended])
    assert (last[~ended] == 2519).all()


def test_the_market_moves_together_and_the_score_has_a_small_edge(market: Grid) -> None:
    close = market.fields["close"]
    daily = np.nan_to_num(np.diff(np.log(close), axis=0))
    common = daily.mean(axis=1)
    assert 0.10 < common.std() * 252**0.5 < 0.35  # market volatility a year
    calm = np.abs(common[:-1])
    assert np.corrcoef(calm, np.abs(common[1:]))[0, 1] > 0.1  # regimes last
    sector = np.array([SECTORS.index(str(name)) for name in market.statics["sector"]])
    own = np.corrcoef((daily - common[:, None]).T)
    same = sector[:, None] == sector[None, :]
    np.fill_diagonal(same, False)
    assert own[same].mean() > own[~same & ~np.eye(500, dtype=bool)].mean() + 0.02
    ahead = np.log(close[HORIZON:] / close[:-HORIZON])
    score = market.fields["score"][:-HORIZON]
    links = [
        np.corrcoef(score[t][both], ahead[t][both])[0, 1]
        for t in range(0, len(ahead), HORIZON)
        if (both := ~np.isnan(score[t]) & ~np.isnan(ahead[t])).sum() > 2
    ]
    assert 0.02 < np.mean(links) < 0.10
    assert np.mean(links) > 4 * np.std(links) / len(links) ** 0.5


def test_asset_ids_say_nothing_about_fate(market: Grid) -> None:
    ended = market.ends.bar != NO_END
    assert abs(np.corrcoef(np.arange(500), ended)[0, 1]) < 0.15  # about 3 sigma
    assert list(market.symbols) == sorted(market.symbols)


@pytest.mark.parametrize(("n_bars", "n_assets"), [(1, 1), (2, 3), (5, 40), (30, 1)])
def test_small_markets(n_bars: int, n_assets: int) -> None:
    grid = synthetic_grid(n_bars, n_assets, 1)
    assert grid.shape == (n_bars, n_assets)


def test_an_empty_market_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        synthetic_grid(0, 5)
