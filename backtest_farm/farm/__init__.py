"""Running a sweep: one scheduling loop, two executors, a worker, and what people see meanwhile."""

from backtest_farm.farm.executor import Executor, InlineExecutor, SweepRequest
from backtest_farm.farm.harvest import RunSummary
from backtest_farm.farm.progress import Progress
from backtest_farm.farm.run import run_sweep

__all__ = ["Executor", "InlineExecutor", "Progress", "RunSummary", "SweepRequest", "run_sweep"]
