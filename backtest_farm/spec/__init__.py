"""Specifications: costs, execution, windows, axes, and the strict base that all of them share."""

from backtest_farm.spec.axes import MAX_TRIALS, Axis, axis, values_of
from backtest_farm.spec.base import ByTag, Leaf, Spec, Stage, has_axes, leaves_of, replaced, value_at
from backtest_farm.spec.models import (
    Costs,
    Execution,
    Fill,
    Keep,
    Limits,
    Metric,
    Reads,
    Rules,
    Sizing,
    Trading,
    Window,
)
from backtest_farm.spec.profiles import PROFILES, SWITCHES, named, profile_of, switches_of
from backtest_farm.spec.universe import Universe, UniverseSpec
from backtest_farm.spec.wording import LineOf, Place, fault, faulty, shown
from backtest_farm.spec.yaml_file import read_yaml

__all__ = [
    "MAX_TRIALS",
    "PROFILES",
    "SWITCHES",
    "Axis",
    "ByTag",
    "Costs",
    "Execution",
    "Fill",
    "Keep",
    "Leaf",
    "Limits",
    "LineOf",
    "Metric",
    "Place",
    "Reads",
    "Rules",
    "Sizing",
    "Spec",
    "Stage",
    "Trading",
    "Universe",
    "UniverseSpec",
    "Window",
    "axis",
    "fault",
    "faulty",
    "has_axes",
    "leaves_of",
    "named",
    "profile_of",
    "read_yaml",
    "replaced",
    "shown",
    "switches_of",
    "value_at",
    "values_of",
]
