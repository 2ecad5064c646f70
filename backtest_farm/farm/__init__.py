"""Running a sweep: one scheduling loop, two executors, a worker, and what is told meanwhile."""

from backtest_farm.farm.executor import InlineExecutor
from backtest_farm.farm.harvest import RunSummary
from backtest_farm.farm.run import run_sweep
from backtest_farm.farm.worker import SweepRequest

__all__ = ["InlineExecutor", "RunSummary", "SweepRequest", "run_sweep"]
