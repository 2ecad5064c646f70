"""Factors: what they are (`spec`), how they are computed (`kernels`) and ranked (`ranks`)."""

from backtest_farm.factors.spec import Momentum, momentum

__all__ = ["Momentum", "momentum"]
