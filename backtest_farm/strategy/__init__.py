"""What a user writes: strategies and the blocks they are made of."""

from backtest_farm.strategy.blocks import TopN

__all__ = ["TopN"]
