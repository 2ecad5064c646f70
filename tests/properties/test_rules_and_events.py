"""Relations of rules, constraints, volume caps, impact, rates, splits and dividends, on the kernel itself.

What must be the same bytes is compared as bytes, over a tile in which everything happens; closed forms stand
in `test_closed_forms.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest_farm.engine.tile import (
    Market,
    TileResult,
    listed_targets,
    market,
    ranked_targets,
    run_tile,
    terms,
)
from backtest_farm.kernel import state
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS, FILL_VALUES, Events, Targets, Terms, frozen
from tests.kernel.mixed import (
    KINDS,
    N_ASSETS,
    N_BARS,
    SHAPE,
    TAGS,
    UNITS,
    mixed_market,
    mixed_targets,
    mixed_terms,
)
from tests.properties.tiles import counted, keys_of, of_bar, of_fill

MONEY = ("equity", "cash", "costs", "financing", "dividends")
FILL_MONEY = ("base", "price", "commission", "spread", "slippage", "impact")
RNG = np.random.default_rng(23)
SCORE = RNG.normal(0.1, 1.0, SHAPE)
WEIGHTS = np.where(np.abs(SCORE) > 1.2, 0.08 * SCORE, np.nan)
WEIGHTS[::9] = np.nan
DAILY = np.ones((1, N_BARS), np.uint8)
SOMETIMES = (np.arange(N_BARS) % 5 == 0).astype(np.uint8)[None]
COSTS = {"commission_bps": 7.0, "half_spread_bps": 3.0, "impact": 0.3, "borrow_rate": 0.05}
FILLS = pytest.mark.parametrize("fill", [state.NEXT_OPEN, state.NEXT_CLOSE, state.SAME_CLOSE])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def window() -> Market:
    return mixed_market()


def ran(window: Market, targets: Targets, trials: Terms | None = None, **settings) -> TileResult:
    """Run trials, or one of these settings, with everything recorded."""
    trials = terms(1, **{"cash": 1e6, **COSTS, **settings}) if trials is None else trials
    return run_tile(window, trials, targets, record_bars=True, fill_rows=100)


def same(left: TileResult, right: TileResult, *but: str) -> bool:
    """Whether two tiles are the same bytes; counters named in `but` may differ."""
    assert int(left.record.used[0]) > 100, "too little happens to prove anything"
    counters = [at for at, name in enumerate(COUNTERS) if name not in but]
    pairs = (
        (keys_of(left), keys_of(right)),
        (left.record.values[: left.record.used[0]], right.record.values[: right.record.used[0]]),
        (left.record.bars, right.record.bars),
        (left.counters[counters], right.counters[counters]),
    )
    alike = all(np.array(one).tobytes() == np.array(two).tobytes() for one, two in pairs)
    return alike and (left.digests == right.digests or bool(but))


# ------------------------------------------------------------------------------- the tile of everything
@EVERY_KIND
def test_twice_the_money(window, kind) -> None:
    one = ran(window, mixed_targets(kind), mixed_terms(kind))
    two = ran(mixed_market(2.0), mixed_targets(kind, 2.0), mixed_terms(kind, money=2.0))
    for name in BAR_COLUMNS:
        scale = 2.0 if name in MONEY else 1.0
        np.testing.assert_array_equal(of_bar(two, name), scale * of_bar(one, name), name)
    assert (keys_of(two) == keys_of(one)).all()
    for name in FILL_VALUES:
        scale = 2.0 if name in FILL_MONEY else 1.0
        assert (of_fill(two, name) == scale * of_fill(one, name)).all(), name
    assert (two.counters == one.counters).all()


@EVERY_KIND
def test_raw_prices_with_splits_are_adjusted_prices_without(window, kind) -> None:
    """Splits change units and nothing else: of positions, levels, orders that wait, volumes and dividends."""
    trials = mixed_terms(kind)
    # Commissions by share and lots hang on units.
    costs, limits = trials.costs.copy(), trials.limits.copy()
    costs[:, :, state.PER_SHARE], limits[:, 3] = 0.0, 0.0
    trials = trials._replace(costs=frozen(costs), limits=frozen(limits))
    raw = ran(window, mixed_targets(kind), trials)
    adjusted = ran(mixed_market(adjusted=True), mixed_targets(kind, adjusted=True), trials)
    np.testing.assert_array_equal(raw.counters, adjusted.counters)
    np.testing.assert_array_equal(keys_of(raw), keys_of(adjusted))
    for name in BAR_COLUMNS:
        atol = 1e-9 * (1e6 if name in MONEY else 1.0)
        np.testing.assert_allclose(of_bar(raw, name), of_bar(adjusted, name), 1e-9, atol, err_msg=name)
    units = UNITS[keys_of(raw)[:, 2], keys_of(raw)[:, 3]]
    assert (units != 1.0).sum() > 100
    np.testing.assert_allclose(of_fill(raw, "price") * units, of_fill(adjusted, "price"), 1e-9)
    assert counted(raw, "no_volume") and counted(raw, "atr_stop") and counted(raw, "no_price")


def with_stranger(window: Market, trials: Terms, targets: Targets, at: int) -> tuple[Market, Terms, Targets]:
    """Put an asset that nobody ever wants at column `at`, with prices and events of its own."""
    (slab,) = window.slabs
    own = np.abs(np.sin(np.arange(N_BARS)))[:, None] + 0.5
    tables = {name: table for name, table in slab._asdict().items() if isinstance(table, np.ndarray)}
    wider = {name: frozen(np.insert(table, [at], own, axis=1)) for name, table in tables.items()}
    moved = window.events.asset + (window.events.asset >= at)
    new = [(0, state.JOINS, 0.0), (9, state.SPLIT, 2.0), (9, state.DIVIDEND, 3.0), (30, state.LEAVES, 0.0)]
    bars, kinds, amounts = (np.array(column) for column in zip(*new, strict=True))
    columns = [
        np.concatenate(pair)
        for pair in zip(
            (window.events.bar, window.events.kind, moved, window.events.amount),
            (bars, kinds, np.full(len(new), at), amounts),
            strict=True,
        )
    ]
    order = np.lexsort((columns[2], -columns[1], columns[0]))
    events = Events(*(frozen(column[order], column.dtype) for column in columns))
    costs = np.insert(trials.costs, [at], 0.5, axis=1)
    trials = trials._replace(costs=frozen(costs), group=frozen(np.insert(trials.group, at, 1), np.int64))
    ids = frozen(targets.ids + (targets.ids >= at), np.int32)
    wider_slab = slab._replace(**wider)
    return replace(window, slabs=(wider_slab,), events=events), trials, targets._replace(ids=ids)


@EVERY_KIND
@pytest.mark.parametrize("at", [0, 13, N_ASSETS])
def test_an_asset_that_nobody_wants(window, kind, at) -> None:
    targets, trials = mixed_targets(kind), mixed_terms(kind)
    base = run_tile(window, trials, targets)
    stranger, trials, targets = with_stranger(window, trials, targets, at)
    assert run_tile(stranger, trials, targets).digests == base.digests


@EVERY_KIND
def test_bars_after_the_window(window, kind) -> None:
    cut = 110
    whole = ran(window, mixed_targets(kind), mixed_terms(kind))
    part = ran(mixed_market(n_bars=cut), mixed_targets(kind, n_bars=cut), mixed_terms(kind))
    assert part.record.bars.tobytes() == whole.record.bars[:cut].tobytes()
    early = keys_of(whole)[:, 2] < cut
    assert keys_of(part).tobytes() == keys_of(whole)[early].tobytes()


@EVERY_KIND
def test_twice_the_rates_in_a_year_of_twice_the_bars(window, kind) -> None:
    trials = mixed_terms(kind)
    costs = trials.costs.copy()
    costs[:, :, state.BORROW] *= 2.0
    double = trials._replace(costs=frozen(costs), interest=frozen(2.0 * trials.interest))
    slabs = tuple(slab._replace(bars_per_year=2.0 * slab.bars_per_year) for slab in window.slabs)
    targets = mixed_targets(kind)
    assert same(ran(window, targets, trials), ran(replace(window, slabs=slabs), targets, double))


@EVERY_KIND
def test_half_of_twice_the_volume(window, kind) -> None:
    trials = mixed_terms(kind)
    half = trials._replace(volume=frozen(trials.volume * [0.5, 1.0]))
    slabs = tuple(slab._replace(volume=frozen(2.0 * slab.volume)) for slab in window.slabs)
    targets = mixed_targets(kind)
    base = ran(window, targets, trials)
    assert counted(base, "no_volume") > 100
    assert same(base, ran(replace(window, slabs=slabs), targets, half))


def test_equal_costs_of_all_assets_are_one_number(window) -> None:
    targets = mixed_targets("weights")
    numbers = {
        "commission_bps": 5.0, "per_share": 0.01, "min_commission": 30.0, "max_commission_frac": 0.0008,
        "half_spread_bps": 3.0, "slippage_bps": 2.0, "impact": 0.5, "borrow_rate": 0.2,
    }  # fmt: skip
    wide = {name: np.full((1, N_ASSETS), number) for name, number in numbers.items()}
    base = ran(window, targets, **numbers)
    assert same(base, ran(window, targets, **wide))
    for name, table in wide.items():
        assert same(base, ran(window, targets, **{**numbers, name: table}))
        assert not same(base, ran(window, targets, **{**numbers, name: 1.5 * table})), f"{name} does nothing"


# ------------------------------------------------------------------------------- what never binds
@FILLS
@pytest.mark.parametrize("on_close", [0, 1])
def test_rules_that_never_bind(window, fill, on_close) -> None:
    far = {
        "stop_loss": 50.0, "take_profit": 50.0, "trailing": 50.0, "atr_stop": 1e6, "max_bars": 10**9,
        "cooldown": 7, "halt_drawdown": 0.999, "halt_bars": 3, "on_close": on_close,
    }  # fmt: skip
    targets = listed_targets(WEIGHTS, DAILY)
    base = ran(window, targets, fill=fill)
    assert same(base, ran(window, targets, fill=fill, rules=far))
    for name in ("stop_loss", "take_profit", "trailing", "max_bars", "halt_drawdown"):
        near = {**far, name: 2 if name == "max_bars" else 0.04}
        assert not same(base, ran(window, targets, fill=fill, rules=near)), f"{name} does nothing"


@pytest.mark.parametrize("reject", [0, 1])
def test_targets_within_all_caps_stay_as_they_are(window, reject) -> None:
    rows = np.where(np.abs(SCORE) > 1.2, np.clip(0.02 * SCORE, -0.05, 0.05), np.nan)
    keep = RNG.random(SHAPE) < 0.02
    targets = listed_targets(rows, SOMETIMES, keep)
    caps = {"positions": 25, "max_weight": 0.1, "group": 0.5, "gross": 1.5, "net": 1.0, "turnover": 1.5}
    base = ran(window, targets)
    capped = ran(window, targets, caps={**caps, "reject": reject}, group=TAGS)
    assert counted(capped, "capped") == counted(capped, "over_limit") == 0
    assert same(base, capped)
    counter = "over_limit" if reject else "capped"
    tight = {"positions": 4, "max_weight": 0.03, "group": 0.02, "gross": 0.05, "net": 0.01, "turnover": 0.01}
    for name, cap in tight.items():
        bound = ran(window, targets, caps={**caps, name: cap, "reject": reject}, group=TAGS)
        assert counted(bound, counter) > 5, f"{name} does nothing"


def test_caps_twice_are_caps_once(window) -> None:
    """Caps on what was capped before: the table that the caps make, with and without them."""
    largest = np.sort(np.abs(np.nan_to_num(WEIGHTS)), axis=1)[:, -3][:, None]
    cases = {
        "max_weight": (0.11, np.clip(WEIGHTS, -0.11, 0.11)),
        "positions": (3, np.where(np.abs(WEIGHTS) >= largest, WEIGHTS, np.nan)),
    }
    everyone = replace(window, events=state.new_events(np.full(N_ASSETS, 2**62), np.full(N_ASSETS, np.nan)))
    for name, (cap, table) in cases.items():
        plain = ran(everyone, listed_targets(table, SOMETIMES))
        once = ran(everyone, listed_targets(WEIGHTS, SOMETIMES), caps={name: cap})
        twice = ran(everyone, listed_targets(table, SOMETIMES), caps={name: cap})
        assert counted(once, "capped") > 10
        assert counted(twice, "capped") == 0
        assert same(plain, twice)
        assert same(once, twice, "capped")


def test_one_group_of_all_assets_is_the_whole(window) -> None:
    targets, everybody = listed_targets(WEIGHTS, SOMETIMES), np.zeros(N_ASSETS, np.int64)
    by_group = ran(window, targets, caps={"group": 0.2}, group=everybody)
    assert counted(by_group, "capped") > 10
    assert same(by_group, ran(window, targets, caps={"gross": 0.2}))
    assert same(ran(window, targets), ran(window, targets, caps={"group": 0.2}, group=everybody - 1))


@pytest.mark.parametrize("carry", [0, 1])
def test_volume_that_is_always_enough(window, carry) -> None:
    slabs = tuple(slab._replace(volume=frozen(np.full(SHAPE, 1e12))) for slab in window.slabs)
    plenty, targets = replace(window, slabs=slabs), listed_targets(WEIGHTS, SOMETIMES)
    base = ran(window, targets)
    assert same(base, ran(plenty, targets, participation=0.5, carry=carry))
    assert not same(base, ran(window, targets, participation=1e-4, carry=carry))


def test_a_halt_for_good_is_one_of_very_many_bars(window) -> None:
    targets = listed_targets(WEIGHTS, DAILY)
    halts = [
        ran(window, targets, rules={"halt_drawdown": 0.12, "halt_bars": bars}) for bars in (np.inf, 10**9, 4)
    ]
    assert counted(halts[0], "halted") > 20
    assert same(halts[0], halts[1])
    assert not same(halts[0], halts[2])


def test_no_split_and_no_dividend_is_no_event(window) -> None:
    """Zeros, ones and what is no number happen to nobody."""
    nothing = np.resize([1.0, np.nan, 0.0, -2.0, np.inf], SHAPE)
    prices = {name: getattr(window.slabs[0], name) for name in ("open", "high", "low", "close")}
    ends = np.full(N_ASSETS, 2**62), np.full(N_ASSETS, np.nan)
    bare, quiet = (
        market([prices], *ends, 252.0, **tables)
        for tables in ({}, {"split": nothing, "dividend": np.resize([0.0, np.nan], SHAPE)})
    )
    assert same(ran(bare, listed_targets(WEIGHTS, DAILY)), ran(quiet, listed_targets(WEIGHTS, DAILY)))


# ------------------------------------------------------------------------------- two ways to one end
def test_rules_inside_and_at_the_close_of_bars_of_one_price() -> None:
    """Where a bar has one price, a stop inside the bar and one on its close that fills there are the same."""
    price = 50 * np.exp(np.cumsum(RNG.normal(0, 0.03, SHAPE), axis=0))
    price[RNG.random(SHAPE) < 0.03] = np.nan
    flat = dict.fromkeys(("open", "high", "low", "close"), price)
    window = market(
        [flat], np.full(N_ASSETS, 2**62), np.full(N_ASSETS, np.nan), 252.0, atr=np.full(SHAPE, 1.5)
    )
    rules = {
        "stop_loss": 0.06,
        "take_profit": 0.12,
        "trailing": 0.08,
        "trailing_step": 0.002,
        "atr_stop": 1.8,
    }
    # Cool for a bar: after a stop inside the bar its decision might buy at the price of the exit.
    rules |= {"trailing_floor": 0.02, "cooldown": 1}
    targets = listed_targets(WEIGHTS, SOMETIMES)
    tiles = [
        run_tile(
            window,
            terms(1, fill=state.SAME_CLOSE, rules={**rules, "on_close": on_close}, margin=9.0),
            targets,
            record_bars=True,
            fill_rows=100,
        )
        for on_close in (0, 1)
    ]
    ledgers = []
    for tile in tiles:
        rows = np.column_stack([keys_of(tile)[:, 2:], tile.record.values[: tile.record.used[0], :3]])
        ledgers.append(rows[np.lexsort((rows[:, 1], rows[:, 0]))])
    for name in ("stop_loss", "take_profit", "trailing", "atr_stop"):
        assert counted(tiles[0], name) == counted(tiles[1], name) > 5
    np.testing.assert_allclose(*ledgers, rtol=1e-9)
    np.testing.assert_allclose(of_bar(tiles[0], "equity"), of_bar(tiles[1], "equity"), rtol=1e-12)


def test_the_best_names_within_a_number_of_positions() -> None:
    """The best 12 of which 5 may be held, by falling weight, are the best 5."""
    window = mixed_market()
    ids = np.argsort(-SCORE, axis=1, kind="stable")
    falling = np.full(SHAPE, np.nan)
    np.put_along_axis(falling, ids[:, :12], np.linspace(0.12, 0.05, 12)[None], axis=1)
    best = np.full(SHAPE, np.nan)
    np.put_along_axis(best, ids[:, :5], np.linspace(0.12, 0.05, 12)[None, :5], axis=1)
    everyone = replace(window, events=state.new_events(np.full(N_ASSETS, 2**62), np.full(N_ASSETS, np.nan)))
    some = ran(everyone, listed_targets(falling, SOMETIMES), caps={"positions": 5})
    assert same(some, ran(everyone, listed_targets(best, SOMETIMES)), "capped")
    counts = np.full(N_BARS, N_ASSETS)
    ranked = ran(everyone, ranked_targets(ids, counts, SOMETIMES), n=5, weight=0.1, caps={"max_weight": 0.04})
    assert same(ranked, ran(everyone, ranked_targets(ids, counts, SOMETIMES), n=5, weight=0.04), "capped")
