"""A sweep made ready in one process: panel mapped, rankings at hand, atoms in, rows out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from backtest_farm.engine.targets import ranked_depth
from backtest_farm.engine.trials import alike, data_digest, run_trials, window_of
from backtest_farm.engine.warm import compile_once
from backtest_farm.errors import PanelError, PlatformError, StoreError
from backtest_farm.factors.fields import factor_field
from backtest_farm.factors.ranks import Window
from backtest_farm.farm import rows
from backtest_farm.farm.loop import in_short
from backtest_farm.farm.worker import NONE, AtomRows, Failure
from backtest_farm.panel import Panel
from backtest_farm.strategy.own import usable
from backtest_farm.sweep import Atom, Plan, SweepSpec, inputs_of

# What ails the machine or the data ails every trial: it ends the atom, and is no result of a trial.
_NO_RESULT = (PanelError, StoreError, PlatformError, MemoryError, OSError)


class SweepJob:
    """The atoms of one plan over one mapped panel."""

    def __init__(self, plan: Plan, panel: Panel) -> None:
        self.plan = plan
        self.panel = panel
        for own in plan.own_strategies:
            usable(own)
        self.window = window_of(panel, plan.spec.window, plan.spec.strategies)
        self.depth = ranked_depth(plan.spec.strategies)
        if data_digests(panel, plan.spec, self.window) != plan.data_digests:
            raise PanelError(
                f"the data of {panel.path} ({panel.snapshot}) is not what this sweep was planned on",
                hint="restore the panel, or run the sweep file again into a new study",
            )

    def numbers(self, i: int) -> tuple[int, ...]:
        """Return the numbers of the trials of atom `i`."""
        return self.plan.atom(i).numbers

    def check_data(self) -> None:
        """Make sure that the panel's files are what was mapped."""
        self.panel.check_files()

    def run_atom(
        self, i: int, sources: Sequence[pa.Table] = (), failures: Mapping[int, Failure] = NONE
    ) -> AtomRows:
        """Return the rows of atom `i`: the same bytes whenever and wherever it is asked, and whether its
        outcomes were copied from `sources` or simulated; those of `failures` are neither."""
        began = time.process_time()
        atom = self.plan.atom(i)
        keys = self.plan.keys(atom.numbers)
        there, outcome = rows.copied(keys, sources)
        counters: Counter[str] = Counter({"trials": len(keys) - len(there)})
        seconds: Counter = Counter()
        parts, places = [outcome], list(there)
        for place, number in enumerate(atom.numbers):
            if number in failures and place not in there:
                parts.append(rows.failed(*failures[number], n_trials=1))
                places.append(place)
        settled = {*places}
        shared = self.panel, self.window, atom.universe, atom.base.strategy
        labels = alike(*shared, atom.values, len(keys))
        for label in dict.fromkeys(labels):
            missing = [at for at, each in enumerate(labels) if each == label and at not in settled]
            for at, part in self._outcomes(atom, missing, counters, seconds):
                parts.append(part)
                places += at
        in_order = pa.concat_tables(parts).take(pa.array(np.argsort(places)))
        table = rows.atom_table(self.plan, atom, keys, in_order, self.panel, self.window)
        seconds["rows"] = time.process_time() - began - seconds.total()  # type: ignore[assignment]
        return AtomRows(table, counters, seconds, len(there))

    def _outcomes(
        self, atom: Atom, at: list[int], counters: Counter, seconds: Counter
    ) -> Iterator[tuple[list[int], pa.Table]]:
        """Run the trials of an atom at some places; of those that raise, halve until each stands alone."""
        if not at:
            return

        def values(path: str) -> list:
            column = atom.values(path)
            return [column[place] for place in at]

        try:
            ran = run_trials(self.panel, self.window, atom.base, atom.universe, len(at), values, self.depth)
        except _NO_RESULT:
            raise
        except Exception as error:
            if len(at) == 1 or self._signal_raises(atom):
                yield at, rows.failed("error", in_short(error), len(at))
                return
            half = len(at) // 2
            yield from self._outcomes(atom, at[:half], counters, seconds)
            yield from self._outcomes(atom, at[half:], counters, seconds)
            return
        counters.update(ran.builds)
        seconds.update(ran.seconds)
        yield at, rows.simulated(ran.tile)

    def _signal_raises(self, atom: Atom) -> bool:
        if atom.signal is None:
            return False
        # Then all of its trials do: asking each of them would compute a signal in vain hundreds of times.
        try:
            factor_field(self.panel, atom.signal, self.window.stop)
        except Exception:
            return True
        return False


def data_digests(panel: Panel, spec: SweepSpec, window: Window) -> dict[str, str]:
    """Return for each set of inputs that a sweep's trials read the hash of what they take from a panel."""
    return {key: data_digest(panel, trial, window) for key, trial in inputs_of(spec).items()}


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
