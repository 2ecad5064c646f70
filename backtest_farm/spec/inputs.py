"""What trading reads of a panel beside opens and closes, and by which setting: the one table that says so.

Everything goes by it: the stages of settings (trials of one group read the same), the data digests of trials,
what a market takes from its panel, and what is refused where a panel lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from backtest_farm.spec.axes import values_of

STATIC = "static:"
"""Before the name of a static column that stands for a number per asset."""

BY_ASSET = (
    "commission_bps", "per_share", "min_commission", "max_commission_frac", "half_spread_bps", "slippage_bps",
    "impact", "borrow_rate",
)  # fmt: skip
"""The costs that may be ``static:NAME``."""

Kind = Literal["field", "offered", "static"]
"""A field; a field that is used where the panel has it; a static column."""


class Input(NamedTuple):
    """Something that a setting makes trading read.

    Attributes
    ----------
    part, switch : str, str
        The part of a `Trading` (empty for itself) and its setting; nothing is read while that is `off`.
    kind : Kind
    by : tuple of str
        Settings of the same part, each with the name of something that is read.
    names : tuple of str
        What is read under a name of its own.
    off : object
        Beside None.
    shared : bool
        Whether trials of a group must agree about it. Of those that need not, each may read more than it has
        rules for.
    """

    part: str
    switch: str
    kind: Kind
    by: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    off: Any = 0
    shared: bool = True

    @property
    def path(self) -> str:
        """The dotted path of the switch."""
        return f"{self.part}.{self.switch}".lstrip(".")

    def on(self, values: Iterable[Any]) -> bool:
        """Return whether any of some values of the switch makes a trial read it."""
        return any(each is not None and each != self.off for each in values)


INPUTS = (
    Input("costs", "impact", "field", by=("sigma", "adv")),
    Input("rules", "atr_stop", "field", by=("atr",)),
    Input("limits", "participation", "field", names=("volume",)),
    Input("rules", "on", "offered", names=("high", "low"), shared=False),
    Input("", "events", "offered", names=("split", "dividend")),
    Input("limits", "group", "static", by=("group_by",), off=None),
)

SWITCHES = frozenset(each.path for each in INPUTS if each.shared)
"""Settings whose values decide whether a trial reads something."""


def shared(part: str) -> dict[str, Literal["filter"]]:
    """Return the settings of a part that trials of a group must agree about, with the stage that says so."""
    found = [each for each in INPUTS if each.part == part and each.shared]
    return dict.fromkeys((name for each in found for name in (each.switch, *each.by)), "filter")


def asked(spec: Any) -> Iterator[tuple[str, Kind, str, str]]:
    """Yield what the terms of some trading read: the setting's path, the kind, the name, and who names it.

    Parameters
    ----------
    spec : Trading
        Axes and all.
    """
    for one in INPUTS:
        for part in values_of(getattr(spec, one.part)) if one.part else (spec,):
            if part is None or not one.on(values_of(getattr(part, one.switch))):
                continue
            yield from ((one.path, one.kind, name, "") for name in one.names)
            for by in one.by:
                yield from ((one.path, one.kind, name, by) for name in values_of(getattr(part, by)))
    for costs in values_of(spec.costs):
        for key in BY_ASSET:
            columns = (each for each in values_of(getattr(costs, key)) if is_static(each))
            yield from ((f"costs.{key}", "static", each.removeprefix(STATIC), key) for each in columns)


def is_static(value: Any) -> bool:
    """Return whether a cost is the name of a static column."""
    return isinstance(value, str) and value.startswith(STATIC)
