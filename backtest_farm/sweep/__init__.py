"""Pure planning: from a sweep's specification to numbered trials, atoms and keys."""

from backtest_farm.sweep.atoms import Atom
from backtest_farm.sweep.plan import Plan
from backtest_farm.sweep.spec import SweepSpec, load_sweep

__all__ = ["Atom", "Plan", "SweepSpec", "load_sweep"]
