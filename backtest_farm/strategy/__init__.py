"""What a user writes: strategies and the blocks they are made of."""

from backtest_farm.strategy.blocks import AnyStrategy, ContextFilter, CrossOver, Quantiles, TopN, Weights

__all__ = ["AnyStrategy", "ContextFilter", "CrossOver", "Quantiles", "TopN", "Weights"]
