"""The one place where specs become kernel arrays: a tile of trials in, rows and results out."""

from backtest_farm.engine.result import Result
from backtest_farm.engine.single import run

__all__ = ["Result", "run"]
