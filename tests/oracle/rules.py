"""Position rules: stops and targets inside the bar (step 4) or on the close, time exits, drawdown halt."""

from __future__ import annotations

import math

from tests.oracle.case import Case, valid
from tests.oracle.costs import priced
from tests.oracle.state import REACHED, Book, Position

COOLED = ("stop_loss", "atr_stop", "trailing", "take_profit", "time_exit")  # exits that start a cool-down


def intrabar(case: Case, book: Book, t: int) -> None:
    """Step 4: exits at the open, at the stop or at the target (T4)."""
    if case.rules_on != "intrabar" or not case.has_levels:
        return
    for asset in book.held():
        position = book.position[asset]
        assert position is not None
        if not valid(case.close[t][asset]):
            continue  # no bar, no test
        if position.entry_bar == t:
            book.count("entry_bar_tested", t, asset)
        exit_at = tested_inside(case, book, t, asset, position)
        if exit_at is None:
            # "Water ... takes in bar t's high after the test of t"
            high, low = case.high_or_close(t, asset), case.low_or_close(t, asset)
            take_in(position, high if position.side > 0 else low)
            continue
        base, reason = exit_at
        quantity = -book.quantity[asset]
        book.cancel(t, asset)  # "the exit cancels the asset's order", forced exits too
        book.count("orders", t, asset, t - 1)
        book.count(reason, t, asset, t - 1)
        book.record(priced(case, t, asset, quantity, base, t - 1, reason))
        cool(case, book, t, asset)


def tested_inside(case: Case, book: Book, t: int, asset: int, position: Position) -> tuple[float, str] | None:
    """Base price and reason of the exit inside bar `t`, if there is one."""
    opening = case.open[t][asset]
    high, low = case.high_or_close(t, asset), case.low_or_close(t, asset)
    worst, best = (low, high) if position.side > 0 else (high, low)
    stop, target = tightest_stop(case, book, t, asset, position), target_level(case, position)
    # "open at or beyond the stop, else the target -> exit at the open"; "a missing open skips its tests"
    if valid(opening):
        if stop is not None and is_stopped(position, opening, stop[0]):
            book.count("gap_through_stop", t, asset)
            return opening, stop[1]
        if target is not None and is_at_target(position, opening, target):
            book.count("target_at_open", t, asset)
            return opening, "take_profit"
    is_hit = stop is not None and is_stopped(position, worst, stop[0])
    is_gained = target is not None and is_at_target(position, best, target)
    if is_hit and is_gained:
        book.count("stop_and_target", t, asset)
    # "else low at or below the stop -> at the stop; else high at or above the target -> at the target"
    if stop is not None and is_hit:
        book.count("stop_at_level", t, asset)
        return stop
    if target is not None and is_gained:
        book.count("target_at_level", t, asset)
        return target, "take_profit"
    return None


def tightest_stop(case: Case, book: Book, t: int, asset: int, position: Position) -> tuple[float, str] | None:
    """Level and name of the stop that holds on bar `t`: "of several stops the tightest holds" (T4).

    Written for a long; `side` mirrors it for a short. Tighter is higher for a long.
    """
    side, entry = position.side, position.entry
    stops: list[tuple[float, str]] = []
    if case.stop_loss > 0:
        stops.append((entry * (1 - side * case.stop_loss), "stop_loss"))
    if case.atr_stop > 0 and valid(position.atr):
        stops.append((entry - side * case.atr_stop * position.atr, "atr_stop"))
    elif case.atr_stop > 0:
        book.count("no_atr", t, asset)
    if case.trailing > 0:
        shrunk = case.trailing - case.trailing_step * (t - position.entry_bar)
        distance = max(case.trailing_floor, shrunk)
        if distance < case.trailing:
            book.count("trailing_tightened", t, asset)
        if distance > shrunk:
            book.count("floor_reached", t, asset)
        stops.append((position.water * (1 - side * distance), "trailing"))
    tightest = stops[0] if stops else None
    for stop in stops[1:]:
        # "ties in this order": a later one must be tighter by more than rounding
        assert tightest is not None
        gap, equal = side * (stop[0] - tightest[0]), REACHED * abs(tightest[0])
        if gap > equal:
            tightest = stop
        elif gap >= -equal:
            book.count("tie_of_stops", t, asset)
    if len(stops) > 1:
        book.count("several_stops", t, asset)
    return tightest


def target_level(case: Case, position: Position) -> float | None:
    """``entry * (1 + g)``, for a short ``entry * (1 - g)``."""
    return position.entry * (1 + position.side * case.take_profit) if case.take_profit > 0 else None


def is_stopped(position: Position, price: float, level: float) -> bool:
    """Whether a price is at or beyond a stop, within 1e-12 relatively."""
    if position.side > 0:
        return price <= level * (1 + REACHED)
    return price >= level * (1 - REACHED)


def is_at_target(position: Position, price: float, level: float) -> bool:
    """Whether a price is at or beyond a target, within 1e-12 relatively."""
    if position.side > 0:
        return price >= level * (1 - REACHED)
    return price <= level * (1 + REACHED)


def take_in(position: Position, price: float) -> None:
    """Let the water mark follow a price to the position's good side."""
    position.water = max(position.water, price) if position.side > 0 else min(position.water, price)


def on_the_close(case: Case, book: Book, t: int) -> None:
    """Step 7: "tested in step 7 on the close (water takes in closes), the exit is an order" (T5)."""
    if case.rules_on != "close" or not case.has_levels:
        return
    for asset in book.held():
        position = book.position[asset]
        assert position is not None
        price = case.close[t][asset]
        is_entry_bar = case.fills_at_close and position.entry_bar == t
        if is_entry_bar:
            book.count("entry_bar_skipped", t, asset)
        if not valid(price) or is_entry_bar or book.has_forced_exit(asset):
            continue
        stop, target = tightest_stop(case, book, t, asset, position), target_level(case, position)
        if stop is not None and is_stopped(position, price, stop[0]):
            send_out(case, book, t, asset, stop[1])
        elif target is not None and is_at_target(position, price, target):
            send_out(case, book, t, asset, "take_profit")
        else:
            take_in(position, price)


def time_exits(case: Case, book: Book, t: int) -> None:
    """Step 7: "decided so that it is due `max_bars` bars after the entry bar" (T8)."""
    if case.max_bars <= 0:
        return
    for asset in book.held():
        position = book.position[asset]
        assert position is not None
        decided = position.entry_bar + case.max_bars - case.first_try
        if t >= decided and not book.has_forced_exit(asset):
            send_out(case, book, t, asset, "time_exit")


def send_out(case: Case, book: Book, t: int, asset: int, reason: str) -> None:
    """Queue the forced exit of a rule in step 7."""
    book.count(reason, t, asset, t)
    book.force_out(t, asset, reason, decision_bar=t)
    cool(case, book, t, asset)


def cool(case: Case, book: Book, t: int, asset: int) -> None:
    """Start the cool-down: "makes that asset's weights 0 at decisions t..t+c" (T9)."""
    if case.cooldown > 0:
        book.cooling[asset] = t + case.cooldown


def drawdown_halt(case: Case, book: Book, t: int, equity: float) -> None:
    """Step 7: "when equity/peak - 1 <= -d all positions get forced exits, decisions are dropped" (T7)."""
    if case.halt_drawdown <= 0:
        return
    if is_halted(book, t):
        return
    if book.halt_end is not None:
        # "then the peak restarts at current equity"
        book.halt_end = None
        book.peak = equity
        book.count("peak_restarted", t)
    book.peak = max(book.peak, equity)
    if equity / book.peak - 1 > -case.halt_drawdown + REACHED:
        return
    book.count("drawdown_halt", t)
    book.halt_end = math.inf if case.halt_bars is None else t + case.halt_bars
    all_out(case, book, t, "drawdown_halt")


def is_halted(book: Book, t: int) -> bool:
    """Whether decisions of bar `t` are dropped after a drawdown."""
    return book.halt_end is not None and t <= book.halt_end


def bust(case: Case, book: Book, t: int) -> None:
    """Step 7: "equity <= 0 halts for good": cancel what waits, force every position out (R10)."""
    book.is_bust = True
    book.count("bust", t)
    all_out(case, book, t, "bust")


def all_out(case: Case, book: Book, t: int, reason: str) -> None:
    """Force every position out and cancel every order; "a forced exit that waits keeps its first reason"."""
    for asset in range(case.n_assets):
        if book.quantity[asset] != 0:
            book.force_out(t, asset, reason, decision_bar=t)
        else:
            book.cancel(t, asset)
