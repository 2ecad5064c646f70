"""What is filled at once, and what becomes orders first, leave the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from backtest_farm.engine import tile as tiles
from backtest_farm.engine.tile import run_tile
from backtest_farm.kernel import state
from backtest_farm.kernel.book import DONE, advance, finish
from backtest_farm.kernel.state import WIDE, Book
from tests.kernel.rankings import N_TRIALS, Ranking, ranking, unlike

BOOKS = 800
LEAST = 20
"""So often whatever matters has to happen in them."""
POLICIES = ("scale", "greedy", "reject", "allow")
DROPPED = ("in_band", "below_lot", "below_minimum", "no_cash", "cooldown")
EXPECTED = {
    *(f"at once with {name}" for name in DROPPED),
    *(f"orders without cash: {name}" for name in POLICIES[:3]),
    "due, and filled at once",
    "due, and some orders wait on",
    "due, and cash earns",
    *(f"due before {kind}" for kind in ("joining", "leaving", "an end", "a dividend", "a split")),
    "at once at the close",
    "at once in lots for too little cash",
    "at once for too little cash on margin",
    "at once with rules",
    "at once half of the price away",
    "at once at a least commission",
    "at once beside slots that are free",
    "debt",
    "a short",
    "more names are wanted than ranked",
    "a decision on the last bar",
    *("stop_loss", "trailing", "take_profit", "atr_stop", "time_exit", "drawdown_halt", "bust", "halted"),
}
KINDS = {
    state.JOINS: "joining",
    state.LEAVES: "leaving",
    state.ENDS: "an end",
    state.DIVIDEND: "a dividend",
    state.SPLIT: "a split",
}


def walked(case: Ranking) -> tuple[list[Book], list[str]]:
    """Walk a book bar by bar, saved and restored after each; return what was saved, and the digests."""
    window, n_assets, n_bars = case.window, case.window.n_assets, case.window.n_bars
    record = state.new_record(0, N_TRIALS, 0)
    scratch = state.new_scratch(n_assets, n_assets)
    book = state.new_book(case.trials, n_assets, n_assets)
    books = []
    for until in range(1, n_bars + 1):
        slab, events = window.slabs[0], window.events
        code = advance(book, slab, case.trials, events, case.targets, record, scratch, until, n_bars)
        assert code == DONE
        books.append(state.restored(state.saved(book)))
        book = state.restored(state.saved(book))
    finish(book)
    return books, [f"{high:016x}{low:016x}" for high, low in book.digest.T.tolist()]


def happenings(case: Ranking, books: list[Book]) -> Counter[str]:
    """Return what happened to a book that was saved after each bar.

    A position that begins without its decision being written down in its slot was filled at once.
    """
    found: Counter[str] = Counter()
    events = case.window.events
    for t, (before, after) in enumerate(pairwise(books), start=1):
        kinds = {KINDS[kind] for kind in events.kind[events.bar == t].tolist()}
        for k in range(N_TRIALS):
            found.update(_of_a_bar(case, k, t, before, after, kinds))
    trials, targets = case.trials, case.targets
    for k in range(N_TRIALS):
        fires = targets.fires[:, trials.schedule[k]] == state.DECIDE
        found["more names are wanted than ranked"] += int((trials.n[k] > targets.row_length[fires]).sum())
        found["a decision on the last bar"] += int(fires[-1])
    return found


def _of_a_bar(case: Ranking, k: int, t: int, before: Book, after: Book, kinds: set[str]) -> Iterator[str]:
    """Say what happened to a trial from one bar to the next."""
    trials, used = case.trials, after.slots[k]
    costs = trials.costs[trials.cost_row[k], 0]
    slots, held = after.slot[k, :used], after.quantity[k, :used]
    counts = after.counters[:, k] - before.counters[:, k]
    counted = {name for name, count in zip(state.COUNTERS, counts.tolist(), strict=True) if count}
    yield from counted
    decided = t - (trials.fill[k] == state.NEXT_OPEN)
    began = (slots[:, state.ENTRY_BAR] == t) & (held != 0.0)
    at_once = bool((began & (slots[:, state.DECIDED] != decided)).any())
    if before.due[k] == t - 1:
        yield "due"
        yield from (f"due before {kind}" for kind in kinds)
        facts = {
            "due, and some orders wait on": after.waiting[k] > 0,
            "due, and cash earns": trials.interest[k].any(),
            "due, and filled at once": at_once,
        }
        yield from (name for name, true in facts.items() if true)
    if at_once:
        facts = {
            "at the close": trials.fill[k] == state.SAME_CLOSE,
            "in lots for too little cash": "no_cash" in counted and trials.limits[k, 3] > 0.0,
            "for too little cash on margin": "no_cash" in counted and trials.margin[k] > 0.0,
            "with rules": len(trials.rules) > 0 and trials.rules[k].any(),
            "half of the price away": costs[state.HALF_SPREAD] + costs[state.SLIPPAGE] > 0.5,
            "at a least commission": costs[state.LEAST] > 0.0,
            "beside slots that are free": (held == 0.0).any(),
        }
        yield from (f"at once {name}" for name, true in facts.items() if true)
        yield from (f"at once with {name}" for name in DROPPED if name in counted)
    elif "no_cash" in counted:
        yield f"orders without cash: {POLICIES[trials.afford[k]]}"
    if trials.afford[k] == state.ALLOW and after.cash[k] < 0.0:
        yield "debt"
    if (before.quantity[k, : before.slots[k]] < 0.0).any():
        yield "a short"


def test_at_once_and_by_orders() -> None:
    for seed in range(BOOKS):
        differences = list(unlike(ranking(seed)))
        assert not differences, f"book {seed}: {differences}"


def test_saved_after_each_bar_and_with_all_that_matters() -> None:
    found: Counter[str] = Counter()
    for seed in range(BOOKS // 2):
        case = ranking(seed)
        books, digests = walked(case)
        assert digests == run_tile(case.window, case.trials, case.targets).digests, f"book {seed}"
        found.update(happenings(case, books))
    seldom = {name: count for name, count in found.items() if count < LEAST}
    assert not seldom
    assert set(found) >= EXPECTED


def test_more_slots_than_are_filled_at_once() -> None:
    few = many = 0
    for seed in range(40):
        case = ranking(seed, n_assets=180, n_bars=12)
        differences = list(unlike(case))
        assert not differences, f"book {seed}: {differences}"
        for before, after in pairwise(walked(case)[0]):
            due = before.due >= 0
            few += int((due & (after.slots > WIDE // 2) & (after.slots <= WIDE)).sum())
            many += int((due & (after.slots > WIDE)).sum())
    assert min(few, many) > LEAST


def test_room_to_start_with(monkeypatch) -> None:
    grew = []
    grown = state.grown

    def more(book: Book, capacity: int) -> Book:
        grew.append(capacity)
        return grown(book, capacity)

    monkeypatch.setattr(state, "grown", more)
    monkeypatch.setattr(tiles, "SPARE_SLOTS", -23)
    for seed in range(60):
        differences = list(unlike(ranking(seed)))
        assert not differences, f"book {seed}: {differences}"
    assert len(grew) > LEAST
