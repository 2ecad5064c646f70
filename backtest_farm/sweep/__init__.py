"""Pure planning: from a sweep's specification to numbered trials, atoms and keys."""

from backtest_farm.sweep.load import load_sweep
from backtest_farm.sweep.plan import Estimate, Plan
from backtest_farm.sweep.points import PlanAxis
from backtest_farm.sweep.spec import SweepSpec, check_size
from backtest_farm.sweep.trials import ATOM_TRIALS, Atom, Trial

__all__ = [
    "ATOM_TRIALS",
    "Atom",
    "Estimate",
    "Plan",
    "PlanAxis",
    "SweepSpec",
    "Trial",
    "check_size",
    "load_sweep",
]
