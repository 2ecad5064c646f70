"""The base of everything a user specifies: strict, frozen, and open to an axis at any leaf.

Strict means: an unknown key is an error, text is never read as a number, a boolean is not a number, numbers
are finite. Whole floats and numpy scalars are numbers like any other (``5``, ``5.0`` and ``np.int64(5)`` are
the same value). All faults of a specification are reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import InitErrorDetails
from pydantic_core.core_schema import ValidationInfo, ValidatorFunctionWrapHandler

from backtest_farm.errors import InputError, nearest
from backtest_farm.spec.axes import Axis, axis
from backtest_farm.spec.faults import Place, fault, faults
from backtest_farm.spec.wording import allowed, choices, members, refusal, shown

Stage = Literal["factor", "portfolio", "costs", "execution"]
"""What a parameter belongs to; trials are numbered with the first stage slowest."""

_CONFIG = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
_FILE = {"lists_are_axes": True}


class Spec(BaseModel):
    """Base model of specifications.

    Class attributes (their names leave all plain words free for parameters)
    ------------------------------------------------------------------------
    spec_stage : Stage
        The stage to which this model's own leaves belong.
    spec_tag : str or None
        The field that tells this model from its alternatives (``kind``, ``factor``).
    spec_fixed : frozenset of str
        Fields at which no axis may stand; the tag is always one of them.
    """

    model_config = _CONFIG

    spec_stage: ClassVar[Stage] = "execution"
    spec_tag: ClassVar[str | None] = None
    spec_fixed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(f"{type(self).__name__} is not valid", faults=faults(error)) from None

    # Tells pydantic that this __init__ only translates errors: nested mappings are validated without it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_file(
        cls, data: Mapping[str, Any], title: str, line_of: Callable[[Place], int] | None = None
    ) -> Self:
        """Build from the content of a file, in which a list at a leaf is an axis.

        Parameters
        ----------
        data : mapping
            What the file holds.
        title : str
            The first words of the message if something is wrong, such as the file's name.
        line_of : callable, optional
            Turns the place of a fault into a line of the file, counted from 1.

        Raises
        ------
        InputError
            With all faults at once.
        """
        try:
            return cls.model_validate(data, context=_FILE)
        except ValidationError as error:
            found = faults(error, title, line_of)
            count = "one fault" if len(found) == 1 else f"{len(found)} faults"
            raise InputError(f"{title}: {count}", faults=found) from None

    @model_validator(mode="wrap")
    @classmethod
    def _named_faults(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Only here is it known which class a fault belongs to, and so which names are valid.
        try:
            return handler(data)
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                cls.__name__, [_named(cls, item) for item in error.errors(include_url=False)]
            ) from None

    @field_validator("*", mode="wrap")
    @classmethod
    def _leaf_or_axis(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        field = cls.model_fields[name]
        models = [
            kind for kind in members(field.annotation) if isinstance(kind, type) and issubclass(kind, Spec)
        ]
        if models:
            return _branch(models, value, info.context)
        if (read := _as_axis(value, info.context)) is not None:
            if name in cls.spec_fixed or name == cls.spec_tag:
                raise fault(f"an axis cannot stand here: give one value, not {shown(list(read.values))}")
            return _checked(cls, name, read)
        try:
            return handler(_number(value))
        except ValidationError:
            text = refusal(value, field.annotation, field.metadata)
            if isinstance(value, (list, tuple)):
                text += "; several values are written axis([...])"
            raise fault(text) from None


def _branch(models: list[type[Spec]], value: Any, context: Any) -> Spec:
    """Read a field that holds another model: an instance, or a mapping whose tag says which one."""
    if isinstance(value, Spec) and isinstance(value, tuple(models)):
        return value
    if isinstance(value, (Axis, list, tuple)):
        raise fault("alternatives cannot stand here: give one mapping and put lists at its leaves")
    tag = models[0].spec_tag
    by_tag = {
        name: model
        for model in models
        for name in (choices(model.model_fields[tag].annotation) if tag else ())
    }
    if not isinstance(value, Mapping):
        named = (
            f" with {tag}: {' or '.join(by_tag)}"
            if tag
            else f" with the keys {', '.join(models[0].model_fields)}"
        )
        raise fault(f"{shown(value)} is not allowed: give a mapping{named}")
    model = models[0]
    if tag:
        kind = value.get(tag)
        if not isinstance(kind, str) or kind not in by_tag:
            problem = f"{shown(kind)} is no known {tag}" if tag in value else f"the key {tag} is missing"
            raise ValidationError.from_exception_data(
                model.__name__,
                [
                    InitErrorDetails(
                        type=fault(f"{problem}: {nearest(str(kind), by_tag)}"), loc=(tag,), input=kind
                    )
                ],
            )
        model = by_tag[kind]
    return model.model_validate(value, context=context)


def _as_axis(value: Any, context: Any) -> Axis | None:
    if isinstance(value, Axis):
        return value
    if not context or not context.get("lists_are_axes"):
        return None
    if isinstance(value, Mapping) and list(value) == ["axis"] and isinstance(value["axis"], list):
        value = value["axis"]
    if not isinstance(value, list):
        return None
    if not value:
        raise fault("an empty list makes an empty grid: give at least one value")
    return axis(value)


def _checked(model: type[Spec], name: str, given: Axis) -> Axis:
    """Return the axis with its values as the field reads them; refuse wrong and repeated ones by index."""
    field = model.model_fields[name]
    try:
        values = _axis_reader(model, name).validate_python([_number(value) for value in given.values])
    except ValidationError as error:
        bad = sorted({int(item["loc"][0]) for item in error.errors(include_url=False)})
        lines = [(at, refusal(given.values[at], field.annotation, field.metadata)) for at in bad]
    else:
        if len(set(values)) == len(values):
            return Axis(tuple(values))
        lines = _repeats(values)
    raise ValidationError.from_exception_data(
        model.__name__,
        [InitErrorDetails(type=fault(text), loc=(at,), input=given.values[at]) for at, text in lines],
    )


def _repeats(values: list[Any]) -> list[tuple[int, str]]:
    first: dict[Any, int] = {}
    return [
        (at, f"{shown(value)} stands here twice: [{first[value]}] is the same value")
        for at, value in enumerate(values)
        if first.setdefault(value, at) != at
    ]


@cache
def _axis_reader(model: type[Spec], name: str) -> TypeAdapter[list[Any]]:
    # One call into compiled code for the whole axis: a million values take a fraction of a second.
    field = model.model_fields[name]
    leaf: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(list[leaf], config=_CONFIG)


def _number(value: Any) -> Any:
    """Return whole floats and numpy scalars as plain numbers, anything else as it is."""
    if type(value) is int:
        return value
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def _named(model: type[Spec], item: Any) -> InitErrorDetails:
    place, kind = item["loc"], item["type"]
    field = model.model_fields.get(str(place[0])) if len(place) == 1 else None
    if kind == "missing" and field is not None:
        text = f"is missing: give {allowed(field.annotation, field.metadata)}"
    elif kind in ("extra_forbidden", "invalid_key"):
        place = (str(place[0]),)
        text = f"unknown key: {nearest(place[0], model.model_fields)}"
    else:
        text = item["msg"]
    return InitErrorDetails(type=fault(text), loc=place, input=item["input"])
