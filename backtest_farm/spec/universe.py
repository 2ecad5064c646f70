"""Universes: which assets may be held. What a user writes, and the concrete ones that a panel makes of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backtest_farm.spec.base import Spec
from backtest_farm.spec.wording import fault

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]


class UniverseSpec(Spec):
    """One entry of ``universes``: a name, or a mapping that stands for several universes.

    ``sp500`` | ``{by: sector}`` | ``{draw: 20, size: 100, seed: 1}`` | ``{each: symbol}``; the mappings take
    ``of: sp500`` too. A panel makes concrete universes of it (`Panel.expand`).

    Attributes
    ----------
    of : str
        The universe to take, or to take parts of; ``all`` are the panel's assets.
    by : str or None
        A static column: one universe for each of its values.
    draw, size, seed : int or None
        `draw` random universes of `size` names each, drawn with `seed`.
    each : "symbol" or None
        One universe for each symbol.
    """

    spec_fixed: ClassVar[frozenset[str]] = frozenset({"of", "by", "draw", "size", "seed", "each"})

    of: Name = "all"
    by: Name | None = None
    draw: Count | None = None
    size: Count | None = None
    seed: Seed | None = None
    each: Literal["symbol"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"of": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("by", "draw", "each") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise fault(f"{' and '.join(ways)} do not go together: write one entry for each")
        drawn = [name for name in ("draw", "size", "seed") if getattr(self, name) is not None]
        if len(drawn) not in (0, 3):
            raise fault(f"{' and '.join(drawn)} alone draw nothing: give draw, size and seed")
        return self


class Universe(Spec):
    """One concrete universe: all fields together say which assets it holds, in words that JSON can carry.

    Attributes
    ----------
    of : str
        The named universe whose members are taken, as of each bar.
    column, value : str or None
        Only assets whose static `column` has this `value`.
    draw, size, seed : int or None
        The draw with this number among those of `size` names with `seed`.
    symbol : str or None
        Only this asset.
    """

    of: Name = "all"
    column: str | None = None
    value: str | None = None
    draw: int | None = None
    size: int | None = None
    seed: int | None = None
    symbol: str | None = None

    @property
    def label(self) -> str:
        """Its name in results: ``sp500``, ``sector=Energy``, ``draw 3 (100 names, seed 1)``, ``AAPL``."""
        part = self.symbol
        if self.column is not None:
            part = f"{self.column}={self.value}"
        elif self.draw is not None:
            part = f"draw {self.draw} ({self.size} names, seed {self.seed})"
        if part is None:
            return self.of
        return part if self.of == "all" else f"{self.of}/{part}"
