"""Pure planning: from a sweep's specification to numbered trials, atoms and keys."""

from backtest_farm.sweep.atoms import Atom
from backtest_farm.sweep.plan import Plan, PlanAxis, PlannedUniverse, inputs_key, inputs_of
from backtest_farm.sweep.spec import SweepSpec, load_sweep

__all__ = [
    "Atom",
    "Plan",
    "PlanAxis",
    "PlannedUniverse",
    "SweepSpec",
    "inputs_key",
    "inputs_of",
    "load_sweep",
]
