"""The slow reference against the ledgers computed by hand."""

import pytest

from tests.oracle.case import COUNTERS, REASONS
from tests.oracle.ledger import METRICS, TRADE_EXTRAS, Ledger, compare, load_all, rebuild

LEDGERS = load_all()
each = pytest.mark.parametrize("ledger", LEDGERS, ids=[ledger.name for ledger in LEDGERS])


@each
def test_ledger_rebuilds_itself(ledger: Ledger) -> None:
    rebuild(ledger)


@each
def test_oracle_agrees_with_hand(ledger: Ledger) -> None:
    from tests.oracle.book import Case, run

    compare(ledger, run(Case(**ledger.case)))


@each
def test_invariants_hold(ledger: Ledger) -> None:
    from tests.oracle.book import Case, run
    from tests.oracle.invariants import check

    case = Case(**ledger.case)
    check(case, run(case))


def test_there_are_enough() -> None:
    with_metrics = [ledger for ledger in LEDGERS if ledger.expect.get("metrics")]
    assert len(LEDGERS) >= 150
    assert len(with_metrics) >= 6
    assert any(set(METRICS) <= set(ledger.expect["metrics"]) for ledger in with_metrics)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fill", "next_close"),
        ("fill", "same_close"),
        ("afford", "greedy"),
        ("afford", "reject"),
        ("afford", "allow"),
        ("kind", "values"),
        ("kind", "quantities"),
        ("margin", None),
        ("per_share", None),
        ("min_commission", None),
        ("max_commission_frac", None),
        ("lot", None),
        ("lot_rounding", "down"),
        ("band", None),
        ("band_rel", None),
        ("min_notional", None),
        ("keep", None),
        ("member", None),
        *((name, None) for name in ("high", "low", "volume", "sigma", "adv", "atr", "split", "dividend")),
        *((name, None) for name in ("stop_loss", "take_profit", "trailing", "atr_stop", "trailing_step")),
        *((name, None) for name in ("trailing_floor", "max_bars", "cooldown", "halt_drawdown", "halt_bars")),
        ("rules_on", "close"),
        *((name, None) for name in ("max_weight", "group_cap", "groups", "gross", "net", "turnover")),
        ("positions", None),
        ("over", "reject"),
        ("participation", None),
        ("carry", True),
        *((name, None) for name in ("impact", "borrow_rate", "interest_rate", "debit_rate")),
    ],
)
def test_every_setting_has_a_ledger(name: str, value: object) -> None:
    used = [ledger.case[name] for ledger in LEDGERS if name in ledger.case]
    assert used if value is None else value in used


def test_every_counter_and_every_reason_has_a_ledger() -> None:
    counted = {name for ledger in LEDGERS for name, count in ledger.expect["counters"].items() if count}
    assert counted == set(COUNTERS)
    assert {row["reason"] for ledger in LEDGERS for row in ledger.expect["fills"]} == set(REASONS)


def test_all_numbers_of_a_trade_are_looked_at() -> None:
    """Negative control: each number of a trade, off by a little, must fail."""
    from tests.oracle.book import Case, run

    ledger = next(ledger for ledger in LEDGERS if ledger.name.startswith("110_"))
    for name in sorted(TRADE_EXTRAS):
        outcome = run(Case(**ledger.case))
        value = getattr(outcome.trades[0], name)
        setattr(outcome.trades[0], name, "target" if name == "reason" else value + 1e-6)
        with pytest.raises(AssertionError, match=f"trade 0 {name}"):
            compare(ledger, outcome)


@each
def test_a_wrong_number_is_noticed(ledger: Ledger) -> None:
    """Negative control: an equity off by 1e-6 of the starting cash, or a counter off by one, must fail."""
    from tests.oracle.book import Case, run

    outcome = run(Case(**ledger.case))
    equity = list(outcome.bars["equity"])
    outcome.bars["equity"] = [*equity[:-1], equity[-1] + 1e-6 * ledger.start_cash]
    with pytest.raises(AssertionError, match=f"{ledger.name}, bar {ledger.n_bars - 1}, equity"):
        compare(ledger, outcome)
    outcome.bars["equity"] = equity
    outcome.counters["expired"] = outcome.counters.get("expired", 0) + 1
    with pytest.raises(AssertionError, match="counter expired"):
        compare(ledger, outcome)
