"""Factors: what they are (`spec`), how they are computed (`fields`, `kernels`, `expressions`), how they are
ranked (`ranks`), and how a node keeps them (`stored`)."""

from backtest_farm.factors import spec

# bf.factor.momentum and all others; a name that is none of them gets the nearest one.
globals().update(spec.FACTORS)
__all__ = sorted(spec.FACTORS)
__getattr__ = spec.__getattr__
