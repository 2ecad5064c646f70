"""Constraints on the weights of a decision (T10), one function per constraint, in the order of the page.

Each changes `weights` in place and tells whether it changed one. `fixed` holds the weights of kept assets:
they count, and are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.oracle.case import Case
from tests.oracle.state import REACHED, Book

Weights = dict[int, float]


def constrained(
    case: Case, book: Book, t: int, weights: Weights, fixed: Weights, equity: float
) -> Weights | None:
    """Weights after all constraints; None where the decision is dropped.

    Parameters
    ----------
    case : Case
        Gives the caps.
    book : Book
        Gives current weights; counts `capped` and `over_limit`.
    t : int
        Bar of the decision.
    weights : dict
        Target weight by asset, without kept assets and forced exits; not changed.
    fixed : dict
        Current weight of each kept asset.
    equity : float
        Equity of step 6, money, > 0.

    Returns
    -------
    dict or None
        Target weight by asset; None where `over` is "reject" and any constraint would change a weight.
    """
    weights = dict(weights)
    steps: list[tuple[str, Callable[[], bool]]] = [
        ("positions", lambda: position_count(case, book, t, weights, fixed)),
        ("max_weight", lambda: asset_cap(case, weights)),
        ("group_cap", lambda: group_cap(case, weights, fixed)),
        ("gross", lambda: gross_cap(case, weights, fixed)),
        ("net", lambda: net_cap(case, weights, fixed)),
        ("turnover", lambda: turnover_cap(case, book, weights, equity)),
    ]
    is_changed = False
    for name, step in steps:
        if getattr(case, name) is None or not step():
            continue
        is_changed = True
        book.count(f"bound_{name}" if case.over == "scale" else f"rejected_{name}", t)
        if any(weight != 0 for weight in fixed.values()):
            book.count(f"kept_under_{name}", t)
        if case.over == "reject":  # "or reject: drop the decision"
            book.count("over_limit", t)
            return None
    if is_changed:
        book.count("capped", t)
    return weights


def current_weight(book: Book, asset: int, equity: float) -> float:
    """w0 of an asset: position x mark over the equity of step 6."""
    return book.quantity[asset] * book.mark(asset) / equity if book.quantity[asset] != 0 else 0.0


def position_count(case: Case, book: Book, t: int, weights: Weights, fixed: Weights) -> bool:
    """Count: "largest |w| stay, ties in panel order"; kept assets with a weight stay anyway."""
    assert case.positions is not None
    kept = sum(weight != 0 for weight in fixed.values())
    others = [asset for asset, weight in weights.items() if weight != 0]
    free = max(case.positions - kept, 0)
    if len(others) <= free:
        return False
    for _ in range(free):
        largest = max(abs(weights[asset]) for asset in others)
        ties = [asset for asset in others if abs(weights[asset]) >= largest * (1 - REACHED)]
        if len(ties) > 1:
            book.count("tie_in_weight", t, ties[0])
        others.remove(ties[0])
    for asset in others:
        weights[asset] = 0.0
    return True


def asset_cap(case: Case, weights: Weights) -> bool:
    """Asset cap: ``clip(w, -c, c)``."""
    cap = case.max_weight
    assert cap is not None
    is_changed = any(abs(weight) > cap + REACHED for weight in weights.values())
    for asset, weight in weights.items():
        weights[asset] = min(max(weight, -cap), cap)
    return is_changed


def group_cap(case: Case, weights: Weights, fixed: Weights) -> bool:
    """Group cap, group by group in rising id."""
    assert case.groups is not None and case.group_cap is not None
    is_changed = False
    for group in sorted(set(case.groups) - {-1}):
        members = [asset for asset in range(case.n_assets) if case.groups[asset] == group]
        is_changed = scaled_to(case.group_cap, members, weights, fixed) or is_changed
    return is_changed


def gross_cap(case: Case, weights: Weights, fixed: Weights) -> bool:
    """Gross cap: the same over all assets."""
    assert case.gross is not None
    return scaled_to(case.gross, list(range(case.n_assets)), weights, fixed)


def scaled_to(cap: float, members: list[int], weights: Weights, fixed: Weights) -> bool:
    """``if sum|w| > cap`` scale; kept holdings are not scaled, "the others get what is left"."""
    kept = sum(abs(fixed[asset]) for asset in members if asset in fixed)
    others = [asset for asset in members if asset in weights]
    total = sum(abs(weights[asset]) for asset in others)
    if total == 0 or kept + total <= cap + REACHED:
        return False
    for asset in others:
        weights[asset] *= max(cap - kept, 0.0) / total
    return True


def net_cap(case: Case, weights: Weights, fixed: Weights) -> bool:
    """Net cap: "the heavier side shrinks until |sum w| = cap"."""
    assert case.net is not None
    net = sum(fixed.values()) + sum(weights.values())
    side = 1 if net > 0 else -1
    excess = abs(net) - case.net
    heavier = [asset for asset, weight in weights.items() if side * weight > 0]
    total = sum(abs(weights[asset]) for asset in heavier)
    if excess <= REACHED or total == 0:
        return False
    for asset in heavier:
        weights[asset] *= max(0.0, (total - excess) / total)
    return True


def turnover_cap(case: Case, book: Book, weights: Weights, equity: float) -> bool:
    """Turnover cap: ``w0 + (w - w0) * cap / T`` where ``T = 1/2 sum|w - w0| > cap``."""
    assert case.turnover is not None
    current = {asset: current_weight(book, asset, equity) for asset in weights}
    turnover = 0.5 * math.fsum(abs(weights[asset] - current[asset]) for asset in weights)
    if turnover <= case.turnover + REACHED:
        return False
    for asset, w0 in current.items():
        weights[asset] = w0 + (weights[asset] - w0) * case.turnover / turnover
    return True
