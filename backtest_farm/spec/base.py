"""The base of everything a user specifies: strict, frozen, and open to an axis at any leaf.

Strict means: an unknown key is an error, text is never read as a number, a boolean is not a number, numbers
are finite. Whole floats and numpy scalars are numbers like any other (``5``, ``5.0`` and ``np.int64(5)`` are
the same value). All faults of a specification are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    field_serializer,
    field_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails
from pydantic_core.core_schema import (
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    nullable_schema,
    tagged_union_schema,
)

from backtest_farm.errors import InputError
from backtest_farm.spec.axes import Axis, stepped, values_of
from backtest_farm.spec.inputs import is_static
from backtest_farm.spec.wording import LineOf, Place, fault, refused, shown

Stage = Literal["factor", "universe", "filter", "portfolio", "costs", "execution"]
"""What a parameter belongs to; trials are numbered with the first stage slowest."""

_MAX_INTEGER = 2**63
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
    spec_stages : mapping of str to Stage
        The stages of single leaves that belong to another one.
    spec_fixed : frozenset of str
        Fields at which no axis may stand.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    spec_stage: ClassVar[Stage] = "execution"
    spec_stages: ClassVar[Mapping[str, Stage]] = {}
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
        kind = cls.model_fields[str(info.field_name)].annotation
        listed = get_origin(kind) in (list, tuple)
        kinds = () if listed else get_args(kind) or (kind,)
        models = any(isinstance(each, type) and issubclass(each, Spec) for each in kinds)
        given = _from_file(value, listed, models) if info.context == _IN_FILE else value
        if not isinstance(given, Axis):
            return handler(_number(given))
        if info.field_name in cls.spec_fixed:
            raise fault(
                "alternatives cannot stand here: give one mapping"
                if models
                else f"an axis cannot stand here: give one value, not {shown(list(given.values))}"
            )
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
        kinds = get_args(source) or (source,)
        models = {
            tag: handler.generate_schema(model)
            for model in kinds
            if model is not NoneType
            for tag in get_args(model.model_fields[self.key].annotation)
        }
        schema: CoreSchema = tagged_union_schema(models, discriminator=self.key)
        return nullable_schema(schema) if NoneType in kinds else schema


def _from_file(value: Any, listed: bool, models: bool) -> Any:
    """Return the axis that a list or a range in a file means, anything else as it is."""
    match value:
        case {"axis": list(values), **rest} if not rest:
            return Axis(tuple(values))
        case list(values) if not listed:
            return Axis(tuple(values))
        case dict(span) if not models and not span.keys().isdisjoint(("start", "stop", "step")):
            try:
                return stepped(span)
            except InputError as error:
                raise fault(": ".join(filter(None, (error.message, error.hint)))) from None
    return value


def _read_axis(given: Axis, read: ValidatorFunctionWrapHandler) -> Axis:
    """Return the axis with its values as the field reads them; refuse wrong ones by index."""
    if not given.values:
        raise fault("an empty list makes an empty grid: give at least one value")
    values: list[Any] = []
    wrong: list[InitErrorDetails] = []
    for at, value in enumerate(given.values):
        try:
            values.append(read(_number(value)))
        except ValidationError as error:
            wrong += [placed(item, at) for item in error.errors(include_url=False)]
    if wrong:
        raise ValidationError.from_exception_data("axis", wrong)
    return Axis(tuple(values))


def placed(item: ErrorDetails, *above: int | str) -> InitErrorDetails:
    """Return an error, to be raised again, with what stands above it before its place."""
    kind: Any = fault(item["msg"]) if item["type"] == "spec" else item["type"]
    return {"type": kind, "loc": (*above, *item["loc"]), "input": item["input"], "ctx": item.get("ctx", {})}


def _number(value: Any) -> Any:
    """Return whole floats and numpy scalars as plain numbers, anything else as it is."""
    if type(value) is int:  # the usual case, asked first: axes may hold a million of them
        if abs(value) > _MAX_INTEGER:
            raise fault("a whole number of more than 64 bits is not allowed")
        return value
    if isinstance(value, (np.number, np.bool_)):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, eq=False)
class Leaf:
    """A parameter that stands in a specification: a value, an axis, or alternatives (an axis of models).

    Attributes
    ----------
    place : tuple
        The names of the fields on the way to it, and the indices of alternatives.
    stage : Stage
        The stage that its model gives it.
    value : object
        What stands there.
    """

    place: Place
    stage: Stage
    value: Any

    @cached_property
    def path(self) -> str:
        """Its dotted path, which does not say in which of several alternatives it stands."""
        return ".".join(part for part in self.place if isinstance(part, str))

    @cached_property
    def options(self) -> tuple[tuple[Leaf, ...], ...]:
        """The leaves of each alternative; empty where a value or an axis of values stands."""
        given = values_of(self.value)
        if not any(isinstance(each, Spec) for each in given):
            return ()
        return tuple(
            tuple(leaves_of(each, (*self.place, at))) if isinstance(each, Spec) else ()
            for at, each in enumerate(given)
        )


def leaves_of(spec: Spec, above: Place = ()) -> Iterator[Leaf]:
    """Yield the leaves of `spec` and of the models within it, in the order of their fields.

    What stands within alternatives is left to the caller.
    """
    for name, value in spec:
        if isinstance(value, Spec):
            yield from leaves_of(value, (*above, name))
        else:
            named = spec.spec_stage == "costs" and any(map(is_static, values_of(value)))
            # What decides which data a trial reads is shared by the trials of a group.
            stage = "filter" if named else spec.spec_stages.get(name, spec.spec_stage)
            yield Leaf((*above, name), stage, value)


def has_axes(spec: Spec, above: str = "") -> list[str]:
    """Return the dotted paths at which axes stand: empty for a specification of one single run."""
    found: list[str] = []
    for name, value in vars(spec).items():
        if isinstance(value, Axis):
            found.append(above + name)
        elif isinstance(value, Spec):
            found += has_axes(value, f"{above}{name}.")
    return found


def value_at(spec: Any, path: str) -> Any:
    """Return what stands at a dotted path, None where a model on the way is left out."""
    for name in path.split("."):
        spec = None if spec is None else getattr(spec, name)
    return spec


S = TypeVar("S", bound=Spec)


def replaced(spec: S, values: Mapping[str, Any], above: str = "") -> S:
    """Return a copy of `spec` with other values at some dotted paths.

    The values are taken as they are: they come from axes, which were checked when they were read.
    """
    update = {}
    for name, value in spec:
        path = above + name
        if path in values:
            update[name] = values[path]
        elif isinstance(value, Spec):
            update[name] = replaced(value, values, f"{path}.")
    return spec.model_copy(update=update)
