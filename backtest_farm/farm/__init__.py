"""Running a sweep: one scheduling loop, two executors, a worker, and what people see meanwhile."""

from backtest_farm.farm.executor import Executor, Outcome, Shard
from backtest_farm.farm.progress import Progress
from backtest_farm.farm.run import RunSummary, SweepRequest, run_sweep

__all__ = ["Executor", "Outcome", "Progress", "RunSummary", "Shard", "SweepRequest", "run_sweep"]
