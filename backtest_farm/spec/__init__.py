"""Specifications: costs, execution, windows, axes, and the strict base that all of them share."""

from backtest_farm.spec.axes import MAX_TRIALS, Axis, axis, values_of
from backtest_farm.spec.base import Spec, Stage
from backtest_farm.spec.faults import Place, fault
from backtest_farm.spec.models import (
    Costs,
    Execution,
    Fill,
    Keep,
    KeptCurves,
    Limits,
    Metric,
    Sizing,
    Window,
)
from backtest_farm.spec.tree import Leaf, has_axes, leaf_at, leaves, plain, replaced
from backtest_farm.spec.yaml_file import YamlFile, read_yaml

__all__ = [
    "MAX_TRIALS",
    "Axis",
    "Costs",
    "Execution",
    "Fill",
    "Keep",
    "KeptCurves",
    "Leaf",
    "Limits",
    "Metric",
    "Place",
    "Sizing",
    "Spec",
    "Stage",
    "Window",
    "YamlFile",
    "axis",
    "fault",
    "has_axes",
    "leaf_at",
    "leaves",
    "plain",
    "read_yaml",
    "replaced",
    "values_of",
]
