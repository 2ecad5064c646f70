"""The metrics that a specification may name are the metrics that the kernel computes."""

from __future__ import annotations

from typing import get_args

from backtest_farm.kernel.summary import METRICS
from backtest_farm.spec import Metric


def test_specifications_name_exactly_the_metrics_of_the_kernel() -> None:
    # Written out twice: a specification is read without loading the kernel and its compiler.
    assert get_args(Metric) == METRICS
