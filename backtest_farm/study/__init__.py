"""What people hold in their hands: a `Sweep` to run, a `Study` to read."""

from backtest_farm.study.study import Study
from backtest_farm.study.sweep import Sweep

__all__ = ["Study", "Sweep"]
