"""The public names: all there, and none added or lost by accident."""

from __future__ import annotations

import backtest_farm as bf

PUBLIC = {
    "KEEP",
    "ContextFilter",
    "Costs",
    "CrossOver",
    "FarmError",
    "Limits",
    "Panel",
    "Quantiles",
    "Result",
    "Rules",
    "Strategy",
    "Study",
    "Sweep",
    "TopN",
    "Weights",
    "__version__",
    "axis",
    "factor",
    "run",
    "step",
    "synthetic_panel",
}


def test_the_public_names_are_these() -> None:
    assert set(bf.__all__) | {"__version__"} == PUBLIC


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in bf.__all__:
        assert getattr(bf, name) is not None
    assert set(bf.__all__) <= set(dir(bf))


def test_public_names_are_documented() -> None:
    undocumented = [
        name
        for name in bf.__all__
        if callable(getattr(bf, name)) and not (getattr(bf, name).__doc__ or "").strip()
    ]
    assert undocumented == []
