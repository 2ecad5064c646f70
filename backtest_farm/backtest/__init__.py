"""One backtest: run with everything recorded, and read as frames, trades and pictures."""

from backtest_farm.backtest.result import Result
from backtest_farm.backtest.single import run

__all__ = ["Result", "run"]
