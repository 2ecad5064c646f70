"""What rates, dividends, splits, impact and volume caps come to, where it can be written down in one line."""

from __future__ import annotations

import numpy as np
import pytest

from backtest_farm.engine.tile import TileResult, listed_targets, market, run_tile, terms
from backtest_farm.kernel import state
from tests.properties.tiles import counted, keys_of, of_bar, of_fill

RNG = np.random.default_rng(23)
FILLS = pytest.mark.parametrize("fill", [state.NEXT_OPEN, state.NEXT_CLOSE, state.SAME_CLOSE])


def lone(price: np.ndarray, quantity: float, **settings) -> TileResult:
    """Hold a quantity of one asset from bar 1 on; `settings` are the market's or the trial's."""
    tables = {name: settings.pop(name) for name in ("split", "dividend") if name in settings}
    column = price[:, None]
    window = market(
        [{"open": column, "close": column}], np.full(1, 2**62), np.full(1, np.nan), 252.0, **tables
    )
    rows = np.full((len(price), 1), np.nan)
    rows[0] = quantity
    fires = np.ones((1, len(price)), np.uint8)
    return run_tile(
        window,
        terms(1, **{"cash": 1000.0, **settings}),
        listed_targets(rows, fires, kind=state.QUANTITIES),
        record_bars=True,
        fill_rows=9,
    )


def test_buy_and_hold_with_dividends() -> None:
    """What is paid is kept in cash: the return in all is that of the price and of the sum of dividends."""
    price = 20 * np.exp(np.cumsum(RNG.normal(0, 0.02, 60)))
    paid = np.where(np.arange(60) % 7 == 0, 0.3, np.nan)
    held = np.where(np.arange(60) > 1, np.nan_to_num(paid), 0.0)  # those of bar 1 come before its open
    tile = lone(price, 10.0, dividend=paid[:, None], commission_bps=10.0)
    want = 1000.0 + 10.0 * (price - price[1] * 1.001 + np.cumsum(held))
    want[0] = 1000.0
    np.testing.assert_allclose(of_bar(tile, "equity")[:, 0], want, rtol=1e-12)
    np.testing.assert_allclose(of_bar(tile, "dividends")[:, 0], 10.0 * held, rtol=1e-12)
    short = lone(price, -10.0, dividend=paid[:, None])
    np.testing.assert_allclose(
        of_bar(short, "equity")[1:, 0], 1000.0 - 10.0 * (price - price[1] + np.cumsum(held))[1:], rtol=1e-12
    )


def test_splits_and_their_dividends_of_one_position() -> None:
    """A dividend is paid for each unit of after the split that comes with it."""
    split, dividend = np.full((12, 1), np.nan), np.full((12, 1), np.nan)
    split[4], split[8] = 3.0, 0.5
    dividend[4], dividend[9] = 1.0, 2.0
    units = np.cumprod(np.nan_to_num(split[:, 0], nan=1.0))
    tile = lone(30.0 / units, 10.0, split=split, dividend=dividend)
    np.testing.assert_array_equal(of_bar(tile, "dividends")[:, 0], [0] * 4 + [30] + [0] * 4 + [30] + [0] * 2)
    np.testing.assert_allclose(
        of_bar(tile, "equity")[:, 0], 1000.0 + of_bar(tile, "dividends")[:, 0].cumsum()
    )


def test_cash_alone_earns_its_interest() -> None:
    tile = lone(np.full(30, 5.0), 0.0, interest_rate=0.05, debit_rate=0.5)
    want = 1000.0 * (1.0 + 0.05 / 252.0) ** np.arange(30)
    np.testing.assert_allclose(of_bar(tile, "equity")[:, 0], want, rtol=1e-12)
    np.testing.assert_allclose(of_bar(tile, "financing")[1:, 0], -np.diff(want), rtol=1e-9)


def test_debts_cost_the_other_rate() -> None:
    """Bought for four times what there is: bar 2 is the first on which cash was below 0 over night."""
    tile = lone(np.full(30, 5.0), 800.0, interest_rate=0.05, debit_rate=0.09, margin=9.0)
    after = 1000.0 * (1.0 + 0.05 / 252.0) - 4000.0
    want = after * (1.0 + 0.09 / 252.0) ** np.arange(29)
    np.testing.assert_allclose(of_bar(tile, "cash")[1:, 0], want, rtol=1e-12)


def test_a_short_that_stands_still_costs_its_borrowing() -> None:
    """Cash earns interest, also on what the short sale brought; the short costs the same each night."""
    tile = lone(np.full(30, 5.0), -100.0, interest_rate=0.05, borrow_rate=0.03)
    growth, cost = 1.0 + 0.05 / 252.0, 0.03 * 500.0 / 252.0
    nights = np.arange(29)
    begin = 1000.0 * growth + 500.0
    want = begin * growth**nights - cost * (growth**nights - 1.0) / (growth - 1.0)
    np.testing.assert_allclose(of_bar(tile, "cash")[1:, 0], want, rtol=1e-12)
    free = lone(np.full(30, 5.0), -100.0, borrow_rate=0.03)
    np.testing.assert_allclose(of_bar(free, "equity")[1:, 0], 1000.0 - cost * nights, rtol=1e-12)


def test_impact_is_the_square_root_law() -> None:
    """Of one order, by the volatility and volume of the bar before it."""
    bars = 5
    price = np.full((bars, 1), 10.0)
    sigma, adv = np.full((bars, 1), 0.5), np.full((bars, 1), 1e9)
    sigma[2], adv[2] = 0.02, 2500.0
    window = market(
        [{"open": price, "close": price}], np.full(1, 2**62), np.full(1, np.nan), 252.0, sigma=sigma, adv=adv
    )
    rows = np.full((bars, 1), np.nan)
    rows[2] = 100.0
    targets = listed_targets(rows, np.ones((1, bars), np.uint8), kind=state.QUANTITIES)
    tile = run_tile(window, terms(1, impact=1.5, half_spread_bps=10.0), targets, fill_rows=9)
    push = 1.5 * 0.02 * np.sqrt(100.0 / 2500.0)
    np.testing.assert_allclose(of_fill(tile, "price"), [10.0 * (1.0 + 0.001 + push)], rtol=1e-12)
    np.testing.assert_allclose(of_fill(tile, "impact"), [push * 1000.0], rtol=1e-12)


@pytest.mark.parametrize("wanted", [1000.0, -1000.0])
@FILLS
def test_a_carried_order_fills_to_the_last_unit(fill, wanted) -> None:
    """70 units a bar, far beyond the bars that an order waits for a price."""
    bars = 40
    price, volume = np.full((bars, 1), 10.0), np.full((bars, 1), 1000.0)
    window = market(
        [{"open": price, "close": price, "volume": volume}], np.full(1, 2**62), np.full(1, np.nan), 252.0
    )
    rows = np.full((bars, 1), np.nan)
    rows[3] = wanted
    targets = listed_targets(rows, np.ones((1, bars), np.uint8), kind=state.QUANTITIES)
    tile = run_tile(
        window,
        terms(1, fill=fill, participation=0.07, carry=1, max_wait=2),
        targets,
        record_bars=True,
        fill_rows=50,
    )
    sizes = of_fill(tile, "quantity") * np.sign(wanted)
    np.testing.assert_allclose(sizes, [70.0] * 14 + [20.0], rtol=1e-12)
    first = 3 if fill == state.SAME_CLOSE else 4
    assert keys_of(tile)[:, 2].tolist() == list(range(first, first + 15))
    assert of_bar(tile, "net")[-1, 0] * 1e6 / 10.0 == wanted, "exactly where the order leads"
    assert counted(tile, "no_volume") == counted(tile, "orders") == 1
    assert counted(tile, "unfilled_at_end") == counted(tile, "expired") == 0
