"""A sweep made ready in one process: panel mapped, rankings at hand, atoms in, rows out."""

from __future__ import annotations

import time

from backtest_farm.engine.tile import ranked_targets, run_tile
from backtest_farm.engine.trials import data_digest, market_of, terms_of, window_of
from backtest_farm.engine.warm import compile_once
from backtest_farm.errors import PanelError
from backtest_farm.factors.ranks import ranking
from backtest_farm.farm.rows import atom_table
from backtest_farm.farm.worker import AtomRows
from backtest_farm.panel import Panel
from backtest_farm.spec import values_of
from backtest_farm.sweep import Plan


class SweepJob:
    """The atoms of one plan over one mapped panel."""

    def __init__(self, plan: Plan, panel: Panel) -> None:
        self.plan = plan
        self.panel = panel
        self.window = window_of(panel, plan.spec.window)
        self.depth = max(values_of(plan.spec.strategy.n))
        found = data_digest(panel, plan.spec.strategy.fields, self.window)
        if found != plan.data_digest:
            raise PanelError(
                f"the data of {panel.path} ({panel.snapshot}) is not what this sweep was planned on",
                hint="restore the panel, or run the sweep file again into a new study",
            )
        self.market = market_of(panel, self.window)

    def run_atom(self, i: int) -> AtomRows:
        """Return the rows of atom `i`: the same bytes whenever and wherever it is asked."""
        began = time.perf_counter()
        atom = self.plan.atom(i)
        built = ranking(self.panel, atom.signal, self.window, self.depth)
        ranked = time.perf_counter()
        trials = terms_of(atom.stop - atom.first, atom.values)
        tile = run_tile(self.market, trials, ranked_targets(*built.ranking))
        simulated = time.perf_counter()
        table = atom_table(self.plan, atom, tile, self.panel, self.window)
        ended = time.perf_counter()
        fresh = int(built.fresh)
        counters = {
            "trials": atom.stop - atom.first,
            "factor_builds": fresh,
            "rank_builds": fresh,
            "rank_reuses": 1 - fresh,
        }
        seconds = {"rank": ranked - began, "simulation": simulated - ranked, "rows": ended - simulated}
        return AtomRows(table, counters, seconds)


def open_job(spec_json: str) -> SweepJob:
    """Return the job of a frozen sweep: its plan read back, its panel mapped and checked.

    Parameters
    ----------
    spec_json : str
        What `Plan.frozen_json` wrote, with the panel's path and snapshot.

    Raises
    ------
    PanelError
        If the panel is missing, damaged, or holds other data than the sweep was planned on.
    """
    plan = Plan.from_json(spec_json)
    compile_once()
    return SweepJob(plan, Panel.open(plan.panel_ref["path"], plan.panel_ref["snapshot"]))
