"""Rankings: built once per node for every factor, window, universe and depth, for however many trials."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from backtest_farm.factors.fields import LIGHT, factor_field, identity, is_kept, light_rows
from backtest_farm.factors.kernels import rank_rows
from backtest_farm.factors.own import OwnFactor
from backtest_farm.factors.spec import AnyFactor
from backtest_farm.factors.stored import built_once
from backtest_farm.identity import digest
from backtest_farm.kernel.state import frozen
from backtest_farm.panel import Panel
from backtest_farm.spec import Universe

SHALLOW = 100
"""Places up to which insertion is faster than sorting each bar."""

EVERYONE = Universe()
"""All assets of a panel: the universe for which no mask is made or read."""


class Window(NamedTuple):
    """Bars of the panel that are traded: `start` included, `stop` excluded."""

    start: int
    stop: int


class Ranking(NamedTuple):
    """Each bar's best assets, in order.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_bars, depth)
        Asset ids, best first; 0 beyond the bar's count.
    counts : ndarray of int64, shape (n_bars,)
        How many assets of the bar are ranked.
    """

    ids: np.ndarray
    counts: np.ndarray


class Built(NamedTuple):
    """A ranking, whether this call had to build it, and whether it had to compute the factor for that."""

    ranking: Ranking
    fresh: bool
    fresh_factor: bool


def rank(
    values: np.ndarray,
    last_bar: np.ndarray,
    depth: int,
    member: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Ranking:
    """Rank each row of `values`, largest first, ties to the lower asset id, NaN and infinities never.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
    last_bar : ndarray of int64, shape (n_assets,)
        Last bar of each life, counted from the first row; later rows leave the asset out.
    depth : int
        Places to fill.
    member : ndarray of uint8, shape (n_bars, n_assets), optional
        1 = may be ranked; everyone may when it is not given.
    ids : ndarray of int32, shape (n_bars, depth), optional
        Zeros, where the ids are to be written.
    """
    n_bars, n_assets = values.shape
    depth, counts = min(depth, n_assets), np.zeros(n_bars, np.int64)
    ids = np.zeros((n_bars, depth), np.int32) if ids is None else ids
    if depth <= SHALLOW:
        mask = frozen(np.zeros((0, 0)) if member is None else member, np.uint8)
        rank_rows(frozen(values), frozen(last_bar, np.int64), mask, depth, ids, counts)
        return Ranking(ids, counts)
    for row in range(n_bars):
        lives = np.isfinite(values[row]) & (last_bar >= row)
        known = np.flatnonzero(lives if member is None else lives & (member[row] != 0))
        best = known[np.argsort(-values[row, known], kind="stable")][:depth]
        counts[row] = len(best)
        ids[row, : len(best)] = best
    return Ranking(ids, counts)


def ranking(
    panel: Panel,
    factor: AnyFactor | OwnFactor,
    window: Window,
    depth: int,
    universe: Universe = EVERYONE,
) -> Built:
    """Return the ranking of a factor over a window, from the node's cache or built now.

    Parameters
    ----------
    panel : Panel
    factor : AnyFactor
        Without axes.
    window : Window
        Bars before it only warm the factor.
    depth : int
        How many places the trials need at most.
    universe : Universe, default all
        Only the members of each bar are ranked; the factor itself is computed on all assets.
    """
    n_bars, depth = window.stop - window.start, min(depth, panel.shape[1])
    place = {"window": list(window), "depth": depth, "members": None}
    if universe != EVERYONE:
        place["members"] = panel.members_digest(universe, *window)
    fresh_factor = False

    def build(table: np.ndarray) -> None:
        nonlocal fresh_factor
        if isinstance(factor, LIGHT):
            pieces, fresh_factor = light_rows(panel, factor, *window), True
        else:
            values, fresh_factor = factor_field(panel, factor, window.stop)
            pieces = iter([(slice(0, n_bars), values[window.start :])])
        member = None if universe == EVERYONE else panel.members(universe)[window.start : window.stop]
        ids = table[n_bars:].reshape(n_bars, depth)
        for rows, values in pieces:
            ends = panel.ends.bar - (window.start + rows.start)
            table[rows] = rank(
                values, ends, depth, None if member is None else member[rows], ids[rows]
            ).counts
        # As for fields: what is kept must come from the data that its key names.
        panel.check_files()

    key = digest({**identity(panel, factor, window.stop), **place}) if is_kept(factor) else None
    table, fresh = built_once("ranking", key, (n_bars * (1 + depth),), np.int32, build)
    made = Ranking(table[n_bars:].reshape(n_bars, depth), table[:n_bars].astype(np.int64))
    return Built(made, fresh, fresh_factor)
