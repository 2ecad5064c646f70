"""The shared equity-and-order kernel: numba, numpy and math only.

``state`` declares the arrays that a tile of trials lives in, ``book`` walks the bars, ``summary`` turns the
running sums into metrics, ``jit`` is the one place that compiles. What a backtest means is written in
``docs/accounting.md``; every stage in ``book`` names the step of that page which it carries out.
"""

RESULT_EPOCH = 3
"""Raised by one whenever a change alters the bytes of any trial's digest; part of every trial key."""

CONTRACT_VERSION = 1
"""Version of the accounting contract that results are stamped with."""
