"""Classes that users write, where a block could stand: by themselves, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails
from pydantic_core.core_schema import (
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    with_info_wrap_validator_function,
)

from backtest_farm.errors import InputError
from backtest_farm.spec import ByTag, Stage, fault, shown
from backtest_farm.spec.base import placed
from backtest_farm.spec.wording import reworded
from backtest_farm.strategy.blocks import AnyStrategy
from backtest_farm.strategy.code import find
from backtest_farm.strategy.own import DEFINED, Strategy, class_of, lacks, made


class ByTagOrClass(ByTag):
    """As `ByTag`; a strategy of the user's may stand there too: itself, or a mapping with the key ``class``.

    What a block needs for a signal of its own must be there.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        blocks = super().__get_pydantic_core_schema__(AnyStrategy, handler)
        return with_info_wrap_validator_function(self._read, blocks)

    def _read(self, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        if isinstance(value, Strategy):
            return value
        if isinstance(value, Mapping) and "class" in value:
            return _from_mapping(value, info.context)
        lines: list[InitErrorDetails] = []
        try:
            block = read(value)
            lacking = lacks(block)
        except ValidationError as error:
            lines = [placed(item) for item in error.errors(include_url=False)]
            (model,) = [one for one in get_args(AnyStrategy) if _tag(value) == one.__name__] or [None]
            lacking = [name for name in model.spec_signal if name not in value] if model else []
        missing = [InitErrorDetails(type="missing", loc=(_tag(value), name), input=value) for name in lacking]
        if missing or lines:
            raise ValidationError.from_exception_data("strategy", missing + lines)
        return block


def _tag(value: Any) -> Any:
    return value.get("kind") if isinstance(value, Mapping) else type(value).__name__


def _from_mapping(given: Mapping[str, Any], context: Any) -> Strategy:
    named, values = given["class"], {name: value for name, value in given.items() if name != "class"}
    try:
        kind = _recorded(named, values) if isinstance(named, Mapping) else own_class(named)
    except InputError as error:
        text = ": ".join(filter(None, (error.message, error.hint)))
        line = InitErrorDetails(type=fault(text), loc=("class",), input=named)
        raise ValidationError.from_exception_data("class", [line]) from error
    try:
        return kind.model_validate(values, context=context)
    except ValidationError as error:
        raise reworded(kind, error) from None


def own_class(name: Any) -> type[Strategy]:
    """Return the class of strategies that ``package.module:Name`` names.

    Raises
    ------
    InputError
        If there is none.
    """
    kind = DEFINED.get(name) if isinstance(name, str) else None
    kind = kind or find(str(name))
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        raise InputError(
            f"{name} is {shown(kind)}, and no strategy",
            hint="derive a class from bf.Strategy, or put @bf.step above the function",
        )
    return kind


def _recorded(named: Mapping[str, Any], values: Mapping[str, Any]) -> type[Strategy]:
    """Return the class that a frozen sweep names, or one in its place if that is not what it was."""
    try:
        kind = own_class(named["name"])
        if class_of(kind) == named:
            return kind
        lost = "its code has changed since"
    except InputError as error:
        lost = error.message
    other: Stage = "filter" if named["by_bar"] else "portfolio"
    parts = {
        "__module__": __name__,
        "__annotations__": dict.fromkeys(values, Any),
        "spec_name": named["name"],
        "spec_lost": (lost, dict(named)),
        "spec_stages": {name: "factor" if name in named["signal"] else other for name in values},
    }
    return made("Lost", parts)
