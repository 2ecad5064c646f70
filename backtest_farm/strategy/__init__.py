"""What a user writes: strategies and the blocks they are made of."""

from backtest_farm.strategy.blocks import AnyStrategy, ContextFilter, CrossOver, Quantiles, TopN, Weights
from backtest_farm.strategy.own import Strategy, step

__all__ = ["AnyStrategy", "ContextFilter", "CrossOver", "Quantiles", "Strategy", "TopN", "Weights", "step"]
