"""Steps 1 and 2 of a bar: financing, splits, dividends, delistings, lost membership."""

from __future__ import annotations

import math

from tests.oracle.case import NAN, Case
from tests.oracle.state import Book, Fill


def financing(case: Case, book: Book, t: int) -> None:
    """Step 1: ``borrow * short value - rate * cash``, as both stood at the end of t-1 (T1)."""
    cost = 0.0
    if t > 0:
        if book.cash > 0:
            rate = case.interest_rate
        else:
            rate = case.interest_rate if case.debit_rate is None else case.debit_rate
        cost -= rate * book.cash
        for asset in book.held():
            if book.quantity[asset] < 0:
                cost += case.of("borrow_rate", asset) * -book.quantity[asset] * book.mark(asset)
        cost /= case.bars_per_year  # "per bar = annual rate / A"
    book.cash -= cost
    book.bars["financing"].append(cost)


def splits(case: Case, book: Book, t: int) -> None:
    """Carry positions, marks and what was noted before over a split (T2)."""
    for asset in range(case.n_assets):
        k = case.split_factor(t, asset)
        if k == 1:
            continue
        # "quantity x k; mark, entry, water mark / k; fractions stay"
        book.last_close[asset] /= k
        position = book.position[asset]
        if position is not None:
            book.quantity[asset] *= k
            position.entered *= k  # and with it the average entry / k
            position.left *= k
            position.base /= k
            position.water /= k
            position.atr /= k
        # "What was noted before a split (waiting quantity, ATR, ADV) is carried over it."
        order = book.waiting[asset]
        if order is not None:
            if order.target or case.kind == "quantities":
                book.count("split_waiting", t, asset, order.decision_bar)
            order.atr /= k
            if case.kind == "quantities":
                order.wanted *= k
            if order.target is not None:
                order.target *= k


def dividends(case: Case, book: Book, t: int) -> None:
    """Pay dividends: "d per new share (cash += quantity x d, a short pays)" (T2)."""
    paid = 0.0
    for asset in book.held():
        amount = book.quantity[asset] * case.dividend_per_unit(t, asset)
        position = book.position[asset]
        assert position is not None
        position.flow += amount
        paid += amount
    book.cash += paid
    book.bars["dividends"].append(paid)


def delistings(case: Case, book: Book, t: int) -> None:
    """Close what ended: "delisting on the bar after the asset's end of life" (R9)."""
    for asset in range(case.n_assets):
        end_bar, payout = case.ends.get(asset, (case.n_bars, NAN))
        if end_bar + 1 != t:
            continue
        book.cancel(t, asset)  # "its order cancelled" - also a forced exit
        # "closed at the payout price [the mark], no costs"; decision bar t-1
        if book.quantity[asset] != 0:
            price = book.mark(asset) if math.isnan(payout) else payout
            quantity = -book.quantity[asset]
            book.record(Fill(t - 1, t, asset, quantity, price, price, 0.0, 0.0, 0.0, 0.0, "delisting"))


def lost_membership(case: Case, book: Book, t: int) -> None:
    """Send out what lost membership: "its order is cancelled, a held position gets a forced exit" (S3)."""
    for asset in range(case.n_assets):
        if t == 0 or not case.is_member(t - 1, asset) or case.is_member(t, asset):
            continue
        if not book.has_forced_exit(asset):
            book.cancel(t, asset)
        if book.quantity[asset] != 0:
            # "tried from this bar on", so it was decided on the bar before
            book.force_out(t, asset, "membership", decision_bar=t - 1)
