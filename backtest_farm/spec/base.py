"""The base of everything a user specifies: strict, frozen, and open to an axis at any leaf.

Strict means: an unknown key is an error, text is never read as a number, a boolean is not a number, numbers
are finite. Whole floats and numpy scalars are numbers like any other (``5``, ``5.0`` and ``np.int64(5)`` are
the same value). All faults of a specification are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    field_serializer,
    field_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails
from pydantic_core.core_schema import ValidationInfo, ValidatorFunctionWrapHandler, tagged_union_schema

from backtest_farm.spec.axes import Axis
from backtest_farm.spec.wording import LineOf, fault, refused, shown

Stage = Literal["factor", "portfolio", "costs", "execution"]
"""What a parameter belongs to; trials are numbered with the first stage slowest."""

_IN_FILE = "file"
"""The context in which lists are axes."""


class Spec(BaseModel):
    """Base model of specifications.

    ``model_dump(mode="json")`` gives its plain form: dicts, text and numbers, dates as ISO text, an axis as
    ``{"axis": [...]}``. :meth:`from_file` reads that again.

    Class attributes (their names leave all plain words free for parameters)
    ------------------------------------------------------------------------
    spec_stage : Stage
        The stage to which this model's own leaves belong.
    spec_fixed : frozenset of str
        Fields at which no axis may stand.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    spec_stage: ClassVar[Stage] = "execution"
    spec_fixed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise refused(type(self), error, type(self).__name__, None) from None

    # Tells pydantic that nested mappings are validated without this __init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_file(cls, data: Mapping[str, Any], title: str, line_of: LineOf | None = None) -> Self:
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
            return cls.model_validate(data, context=_IN_FILE)
        except ValidationError as error:
            raise refused(cls, error, title, line_of) from None

    @field_validator("*", mode="wrap")
    @classmethod
    def _one_or_axis(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        given = _as_axis(value, info.context)
        if given is None:
            return handler(_number(value))
        kind = cls.model_fields[str(info.field_name)].annotation
        if any(isinstance(each, type) and issubclass(each, Spec) for each in get_args(kind) or (kind,)):
            raise fault("alternatives cannot stand here: give one mapping and put lists at its leaves")
        if info.field_name in cls.spec_fixed:
            raise fault(f"an axis cannot stand here: give one value, not {shown(list(given.values))}")
        return _read_axis(given, handler)

    @field_serializer("*")
    def _plain(self, value: Any) -> Any:
        return {"axis": value.values} if isinstance(value, Axis) else value


@dataclass(frozen=True)
class ByTag:
    """Marks a field that holds one of several models, told apart by the value of one key.

    A mapping must have that key; an instance has it by its class.
    """

    # Pydantic's Field(discriminator=...) refuses a single model, and tags that are validated as ours are.

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        models = {
            tag: handler.generate_schema(model)
            for model in get_args(source) or (source,)
            for tag in get_args(model.model_fields[self.key].annotation)
        }
        return tagged_union_schema(models, discriminator=self.key)


def _as_axis(value: Any, context: Any) -> Axis | None:
    if context == _IN_FILE:
        match value:
            case list(values):
                return Axis(tuple(values))
            case {"axis": list(values), **rest} if not rest:
                return Axis(tuple(values))
    return value if isinstance(value, Axis) else None


def _read_axis(given: Axis, read: ValidatorFunctionWrapHandler) -> Axis:
    """Return the axis with its values as the field reads them; refuse wrong and repeated ones by index."""
    if not given.values:
        raise fault("an empty list makes an empty grid: give at least one value")
    first: dict[Any, int] = {}
    wrong: list[InitErrorDetails] = []
    for at, value in enumerate(given.values):
        try:
            one = read(_number(value))
        except ValidationError as error:
            wrong += [{"type": "value_error", "loc": (at,), "input": value, "ctx": {"error": error}}]
            continue
        if first.setdefault(one, at) != at:
            text = f"{shown(one)} stands here twice: [{first[one]}] is the same value"
            wrong += [{"type": fault(text), "loc": (at,), "input": value}]
    if wrong:
        raise ValidationError.from_exception_data("axis", wrong)
    return Axis(tuple(first))


def _number(value: Any) -> Any:
    """Return whole floats and numpy scalars as plain numbers, anything else as it is."""
    if type(value) is int:  # the usual case, asked first: axes may hold a million of them
        return value
    if isinstance(value, (np.number, np.bool_)):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PlacedAxis(NamedTuple):
    """An axis and where it stands: the dotted path of its parameter, and the stage of that."""

    path: str
    stage: Stage
    values: tuple[Any, ...]


def axes_of(spec: Spec, above: str = "") -> list[PlacedAxis]:
    """Return the axes of `spec` and of the models within it, in the order of their fields."""
    found = []
    for name, value in spec:
        if isinstance(value, Spec):
            found += axes_of(value, f"{above}{name}.")
        elif isinstance(value, Axis):
            found.append(PlacedAxis(above + name, spec.spec_stage, value.values))
    return found


def has_axes(spec: Spec) -> list[str]:
    """Return the dotted paths at which axes stand: empty for a specification of one single run."""
    return [axis.path for axis in axes_of(spec)]


S = TypeVar("S", bound=Spec)


def replaced(spec: S, values: Mapping[str, Any], above: str = "") -> S:
    """Return a copy of `spec` with other values at some dotted paths.

    The values are taken as they are: they come from axes, which were checked when they were read.
    """
    update = {}
    for name, value in spec:
        path = above + name
        inside = isinstance(value, Spec)
        update[name] = replaced(value, values, f"{path}.") if inside else values.get(path, value)
    return spec.model_copy(update=update)
