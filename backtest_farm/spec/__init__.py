"""Specifications: costs, execution, windows, axes, and the strict base that all of them share."""

from backtest_farm.spec.axes import MAX_TRIALS, Axis, axis, values_of
from backtest_farm.spec.base import ByTag, Spec, Stage, axes_of, has_axes, replaced
from backtest_farm.spec.models import Costs, Execution, Fill, Keep, Limits, Metric, Sizing, Trading, Window
from backtest_farm.spec.wording import fault
from backtest_farm.spec.yaml_file import read_yaml

__all__ = [
    "MAX_TRIALS",
    "Axis",
    "ByTag",
    "Costs",
    "Execution",
    "Fill",
    "Keep",
    "Limits",
    "Metric",
    "Sizing",
    "Spec",
    "Stage",
    "Trading",
    "Window",
    "axes_of",
    "axis",
    "fault",
    "has_axes",
    "read_yaml",
    "replaced",
    "values_of",
]
